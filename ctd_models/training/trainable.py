"""Which parameters are updated, and the split of the variables that follows from it."""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

Trainable = None | str | Sequence[str] | Callable[[str, Any], bool] | Any
"""What `fit(trainable=…)` takes: None for all parameters; names such as "readout" or "cell/bias" or patterns such as
"*/bias", or several of them; a function of (name, array); or a pytree of bools like the parameters."""

Names = tuple[tuple[str, ...], ...]


def trainable_names(params: dict[str, Any], trainable: Trainable) -> Names:
    """Paths of the parameters that `trainable` selects.

    Raises:
        ValueError: nothing is selected, or a name matches no parameter; the parameters' names are listed.
    """
    flat = traverse_util.flatten_dict(params)
    if trainable is None:
        return tuple(flat)
    if isinstance(trainable, str) or (
        isinstance(trainable, Sequence) and all(isinstance(name, str) for name in trainable)
    ):
        patterns = [trainable] if isinstance(trainable, str) else list(trainable)

        def matches(path, pattern):
            name = "/".join(path)
            return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}/*")

        unused = [pattern for pattern in patterns if not any(matches(path, pattern) for path in flat)]
        if unused:
            raise ValueError(f"trainable={unused} matches none of the parameters {_listing(flat)}")
        names = tuple(path for path in flat if any(matches(path, pattern) for pattern in patterns))
    elif callable(trainable):
        names = tuple(path for path, value in flat.items() if trainable("/".join(path), value))
    else:
        if jax.tree.structure(trainable) != jax.tree.structure(params):
            raise ValueError(
                f"trainable must be a pytree of bools with the structure of the parameters {_listing(flat)}"
            )
        names = tuple(path for path, value in traverse_util.flatten_dict(trainable).items() if np.asarray(value).all())
    if not names:
        raise ValueError(f"trainable selects none of the parameters {_listing(flat)}")
    return names


def _listing(flat) -> list[str]:
    return ["/".join(path) for path in flat]


def split(params: dict[str, Any], names: Names) -> tuple[dict[str, Any], dict[str, Any]]:
    """(trainable, frozen) parts of the parameters, as nested dictionaries."""
    flat = traverse_util.flatten_dict(params)
    chosen = {path: value for path, value in flat.items() if path in set(names)}
    rest = {path: value for path, value in flat.items() if path not in chosen}
    return traverse_util.unflatten_dict(chosen), traverse_util.unflatten_dict(rest)


def merge(trainable: dict[str, Any], frozen: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `split`."""
    return traverse_util.unflatten_dict({**traverse_util.flatten_dict(frozen), **traverse_util.flatten_dict(trainable)})
