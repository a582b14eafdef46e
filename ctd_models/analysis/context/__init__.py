"""How inputs change what later inputs do: contextual effects, the modes that carry them, and what removing these does."""
