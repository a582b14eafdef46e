"""Colours and legends that the figures share."""

from collections.abc import Sequence
from typing import Any

STABLE, UNSTABLE, LEADING = "black", "#E8380D", "#0072B2"
PALETTE = (STABLE, UNSTABLE, LEADING, "#E69F00", "#009E73", "#CC79A7", "#56B4E9")  # safe for the colour-blind


def legend_below(axes: Any, handles: Sequence[Any] | None = None, columns: int = 3, offset: float = -0.14) -> None:
    """A legend under the axes, where it covers no data."""
    handles = axes.get_legend_handles_labels()[0] if handles is None else handles
    columns = min(columns, max(1, len(handles)))
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, offset), "ncol": columns}
    axes.legend(handles=handles, frameon=False, fontsize="small", **place)
