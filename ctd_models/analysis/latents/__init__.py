"""Low-dimensional views of trajectories: principal components, and how subspaces compare."""
