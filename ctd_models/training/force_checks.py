"""Checks of what FORCE learning is given, before anything is compiled."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ctd_models.training.force_state import COLLECTION


def check_memory(force: Any) -> None:
    """Raises MemoryError where the matrices of a network do not fit."""
    N = force.model.hidden_size
    matrices = {"W_rec": N * N, "P": 0 if force.rule == "nlms" else N * N}
    if force.recurrent:
        matrices["W_rec of the second network"] = N * N
    needed, available = 4 * sum(matrices.values()), _available_bytes()
    if available is not None and needed > available:
        listed = ", ".join(f"{name} {4 * size / 1e9:.3g} GB" for name, size in matrices.items() if size)
        raise MemoryError(
            f"a network of {N} units needs {needed / 1e9:.3g} GB ({listed}), {available / 1e9:.3g} GB are available"
        )


def _available_bytes() -> int | None:
    """Memory that the default device has left; None: unknown."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return 1024 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None


def check_variables(variables: Any) -> None:
    """Raises unless these are the finite variables of a reservoir."""
    if not isinstance(variables, Mapping) or not {"params", COLLECTION} <= set(variables):
        raise TypeError(f"variables must be Flax's whole dictionary, {{'params': ..., {COLLECTION!r}: ...}}")
    for name in ("params", COLLECTION):
        for leaf, values in variables[name].items():
            check_finite_values(f"{name}[{leaf!r}]", values)


def known_zero(values: Any) -> bool:
    """Whether all values are known to be 0; those inside `jax.jit` and `jax.vmap` are not known."""
    return not isinstance(values, jax.core.Tracer) and not np.any(np.asarray(values))


def concrete_leaves(tree: Any) -> list[Any]:
    """Leaves that hold values, which those inside `jax.jit` and `jax.vmap` do not."""
    return [leaf for leaf in jax.tree.leaves(tree) if not isinstance(leaf, jax.core.Tracer)]


def checked_inputs(model: nn.Module, inputs: Any, num_steps: int | None) -> Any:
    """Inputs [time, U] of so many steps, those of a network without inputs [time, 0]."""
    if inputs is None:
        if model.input_size:
            raise ValueError(f"the network has {model.input_size} inputs: give inputs [time, {model.input_size}]")
        if num_steps is None or num_steps < 1:
            raise ValueError(f"num_steps, the length of the run, must be at least 1, got {num_steps}")
        return jnp.zeros((num_steps, 0))
    shape = np.shape(inputs)
    if len(shape) != 2 or shape[1] != model.input_size or not shape[0]:
        hint = "" if model.input_size else ": this network has none, name targets= or num_steps="
        raise ValueError(f"expected inputs [time, {model.input_size}], got shape {shape}{hint}")
    if num_steps not in (None, shape[0]):
        raise ValueError(f"inputs have {shape[0]} steps, expected {num_steps}")
    check_finite_values("inputs", inputs)
    return jnp.asarray(inputs)


def check_finite_values(name: str, values: Any) -> None:
    if isinstance(values, jax.core.Tracer):
        return
    values = np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"expected numbers as {name}, got the type {values.dtype}")
    largest = np.inf if jax.config.jax_enable_x64 else np.finfo(np.float32).max
    bad = np.argwhere(~(np.abs(values.astype(float)) <= min(largest, np.finfo(float).max)))
    if len(bad):
        index = tuple(bad[0].tolist())
        raise ValueError(f"expected finite {name}, got {values[index]} at index {index}")
