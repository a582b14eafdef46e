"""Running a system forward under a constant input."""

from collections.abc import Callable
from typing import Any, no_type_check

import jax
import numpy as np
from jaxtyping import Array, Float

from ctd_models.analysis.systems import System, precision, prepare


@no_type_check  # it checks its arguments itself
def settle(
    F: Callable[..., Any], states: Float[Any, "n d"], inputs: Float[Any, "n U"], num_steps: int
) -> Float[np.ndarray, "n d"]:
    """States after `num_steps` steps of the map h' = F(h, x) from `states`, each under its constant input.

    They lie near stable fixed points, also where these attract so slowly that a search from afar stalls on the way. To
    find unstable points as well, search from the original states too.

    Raises:
        ValueError: states and inputs are not [n, d] and [n, U], or num_steps is negative.
    """
    if np.ndim(states) != 2 or np.ndim(inputs) != 2 or len(states) != len(inputs):
        raise ValueError(
            f"expected states [n, d] and inputs [n, U], got shapes {np.shape(states)} and {np.shape(inputs)}"
        )
    if num_steps < 0:
        raise ValueError(f"num_steps cannot be negative, got {num_steps}")
    with precision(np.float64):
        system, flat, rows = prepare(F, states, inputs, kind="map", dtype=np.float64, what="states")
        return np.asarray(_settle(system, flat, rows, np.int32(num_steps)))


@jax.jit
def _settle(system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"], num_steps: Any):
    return jax.lax.fori_loop(0, num_steps, lambda _, h: jax.vmap(system.step)(h, inputs), states)
