"""States to search from, drawn from those that a system visits."""

from typing import Any, NamedTuple, no_type_check

import jax
import numpy as np
from jaxtyping import Bool, Float, Int


class SampledStates(NamedTuple):
    """States drawn from trajectories, and where they were."""

    states: Any
    """[count, d], or a pytree of arrays [count, ...] as the trajectories were."""
    trials: Int[np.ndarray, "count"]
    """Trial of each state: `conditions[trials]` are their conditions."""
    times: Int[np.ndarray, "count"]
    """Time of each state in its trial: `inputs[trials, times]` are their inputs."""


@no_type_check  # it checks its arguments itself
def sample_states(
    states: Any,
    count: int,
    *,
    rng: np.random.Generator,
    mask: Bool[Any, "trials time"] | None = None,
    noise: float = 0.0,
    replace: bool = False,
    with_indices: bool = False,
) -> Any:
    """`count` states drawn at random from trajectories, with Gaussian noise: candidates for `find_fixed_points`.

    Every valid (trial, time) is equally likely. Noise spreads the candidates around what was visited, where unstable
    points lie that trajectories pass by (Golub & Sussillo 2018, doi:10.21105/joss.01003).

    Args:
        states: [trials, time, d], or a pytree of arrays [trials, time, ...], such as an LSTM's (c, h).
        count: how many.
        rng: where the draws come from.
        mask: [trials, time], True where a state is valid, such as before the padding of a short trial; None: all.
        noise: standard deviation of what is added to each entry, in the unit of the states.
        replace: allow a state to be drawn more than once, as it must be to draw more than there are.
        with_indices: return `SampledStates`, with the trial and time of each.

    Returns:
        The states [count, d] (a pytree of [count, ...] of a pytree), or `SampledStates`.

    Raises:
        ValueError: shapes that do not fit, fewer valid states than asked for, valid states that are not finite.
        TypeError: states that are not floats, a mask not of booleans, or `rng` is no generator.
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(states)]
    if (
        not leaves
        or any(leaf.ndim < 2 + (len(leaves) == 1) for leaf in leaves)
        or len({a.shape[:2] for a in leaves}) > 1
    ):
        raise ValueError(
            "expected states [trials, time, d], or a pytree of arrays [trials, time, ...], got shapes "
            f"{[leaf.shape for leaf in leaves]}"
        )
    if any(not jax.numpy.issubdtype(leaf.dtype, np.floating) for leaf in leaves):
        raise TypeError(f"states must be floats, got {[str(leaf.dtype) for leaf in leaves]}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise is a standard deviation and cannot be negative, got {noise}")
    trials, times = np.nonzero(_valid(mask, leaves[0].shape[:2]))
    if isinstance(count, bool) or int(count) != count or count < 1:
        raise ValueError(f"count must be a whole number of at least 1, got {count}")
    if len(trials) == 0 or (count > len(trials) and not replace):
        raise ValueError(
            f"there are {len(trials):,} valid states, fewer than the {count:,} to draw"
            + ("; pass replace=True to draw some more than once" if len(trials) else "")
        )
    drawn = rng.choice(len(trials), int(count), replace=replace)
    trials, times = trials[drawn], times[drawn]
    chosen = [leaf[trials, times] for leaf in leaves]
    for leaf in chosen:
        _check_finite(leaf, trials, times)
    if noise:
        chosen = [leaf + (noise * rng.standard_normal(leaf.shape)).astype(leaf.dtype) for leaf in chosen]
    result = jax.tree.unflatten(jax.tree.structure(states), chosen)
    return SampledStates(result, trials, times) if with_indices else result


def _valid(mask: Any, shape: tuple[int, int]) -> Bool[np.ndarray, "trials time"]:
    if mask is None:
        return np.ones(shape, bool)
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"the mask must hold booleans, got {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"expected a mask [trials, time] of shape {shape}, got shape {mask.shape}")
    return mask


def _check_finite(
    leaf: Float[np.ndarray, "count *rest"], trials: Int[np.ndarray, "count"], times: Int[np.ndarray, "count"]
) -> None:
    bad = ~np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"states are not finite at trial {trials[first]}, time {times[first]}: mark what is valid by mask="
        )
