"""Checks of arguments that may be traced."""

from typing import Any

import jax
import numpy as np


def check_range(name: str, values: Any, low: int, high: int) -> None:
    """Refuses concrete values beyond low … high; of traced ones nothing is known.

    Raises:
        ValueError: with the value and its index.
    """
    if isinstance(values, jax.core.Tracer):
        return
    values = np.asarray(values)
    if (bad := (values < low) | (values > high)).any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name} must lie in {low} … {high}, got {values[index]} at index {index}")
