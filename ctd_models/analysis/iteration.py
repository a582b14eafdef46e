"""Running a system forward under a constant input."""

from collections.abc import Callable
from functools import partial
from typing import Any, no_type_check

import jax
import numpy as np
from jaxtyping import Float


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
    function = F if isinstance(F, jax.tree_util.Partial) else jax.tree_util.Partial(F)
    return np.asarray(_settle(function, states, inputs, num_steps))


@partial(jax.jit, static_argnums=3)
def _settle(F, states, inputs, num_steps: int):
    return jax.lax.fori_loop(0, num_steps, lambda _, h: jax.vmap(F)(h, inputs).astype(h.dtype), states)
