"""Contextual effects: how an input changes the effect of the inputs that follow it."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ctd_models.analysis.context.readouts import Readout, as_readout, check_settle_steps
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.outcomes import check_numbers
from ctd_models.analysis.systems import System, precision, prepare


@dataclasses.dataclass(frozen=True, repr=False)
class ContextualEffects:
    """What modifiers do to the system and to the effects of probes that follow them.

    Axes: modifier m, place n (a state from which all of this starts), lag k (0: the probe follows the modifier at once;
    k: after k steps of rest), probe p. Everything is a difference to the same steps with rest instead of the modifier.
    """

    modifiers: tuple[str, ...]
    """Names of the modifiers."""
    probes: tuple[str, ...]
    """Names of the probes."""
    states: Float[np.ndarray, "m n k d"]
    """After the modifier and k steps of rest."""
    deflections: Float[np.ndarray, "m n k d"]
    """By how much these states are off those without the modifier."""
    barcodes: Float[np.ndarray, "m n k p"]
    """Change of the input Jacobian, projected on the readout, for each probe: ∂/∂ε of the readout after the input
    rest + ε (probe − rest), with the modifier minus without. What the modifier does to each probe, to first order."""
    changes: Float[np.ndarray, "m n k p"]
    """The same without the approximation: change of the readout by the probe, with the modifier minus without."""
    plain: Float[np.ndarray, "n k p"]
    """Change of the readout by the probe without a modifier."""
    jacobian_changes: Float[np.ndarray, "m n k"]
    """‖J(with) − J(without)‖ / ‖J(without)‖ of the input Jacobians J = ∂F/∂x at rest, in Frobenius norms: how strong a
    modifier is, whatever is read out. NaN where J(without) is zero."""

    @property
    def factors(self) -> Float[np.ndarray, "m k"]:
        """By which a modifier multiplies the effects of the probes at each lag: the slope through the origin of the effects
        with it on those without it, over places and probes (1: no effect, −1: negation). NaN where no probe has an effect
        without it."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1 + (self.changes * self.plain).sum(axis=(1, 3)) / (self.plain**2).sum(axis=(0, 2))

    def __repr__(self) -> str:
        count, places, lags, _ = self.states.shape
        lines = [f"ContextualEffects: {count} modifiers at {places} states, {lags} lags, {len(self.probes)} probes"]
        for name, row in zip(self.modifiers[:10], self.factors[:10], strict=True):
            lines.append(f"  {name}: multiplies the probes by {', '.join(f'{value:.2f}' for value in row[:6])}")
        return "\n".join(lines)


@no_type_check  # it checks its arguments itself
def contextual_effects(
    F: Callable[..., Any],
    states: Any,
    modifiers: Mapping[str, Float[Any, "U"]],
    probes: Mapping[str, Float[Any, "U"]],
    readout: Readout,
    *,
    rest: Float[Any, "U"] | None = None,
    num_lags: int = 1,
    settle_steps: int = 0,
    dtype: Any = np.float64,
) -> ContextualEffects:
    """How each modifier of a map changes the effects of probes, from each of some states, such as those of a line attractor.

    After Maheswaranathan & Sussillo (2020, arXiv:2004.08013), whose modifier barcodes are `barcodes` at one lag.

    Args:
        F: `F(state, input)` → next state.
        states: `FixedPoints`, or states [n, d] (or a pytree), from which the modifiers start.
        modifiers: inputs whose effect on others is asked for: name → [U].
        probes: inputs that follow: name → [U].
        readout: weights [d], or a function state → number.
        rest: the input while nothing comes, [U] or one for each state [n, U]; None: that of the points, else zeros.
        num_lags: K, lags 0 … K − 1 between modifier and probe.
        settle_steps: steps of rest between a probe and the readout; 0: read out right after it.
        dtype: precision.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.
    """
    check_numbers(num_lags=num_lags)
    check_settle_steps(settle_steps)
    given, asked = as_inputs(modifiers, "modifiers", dtype), as_inputs(probes, "probes", dtype)
    states, rest = states_and_rest(states, rest, given.shape[1], dtype)
    for what, values in (("probes", asked), ("rest", np.atleast_2d(rest))):
        if values.shape[1:] != given.shape[1:]:
            raise ValueError(f"modifiers have {given.shape[1]} input features, {what} have shape {values.shape[1:]}")
    system, flat, rows = prepare(F, states, rest, kind="map", dtype=dtype, what="states")
    read = as_readout(readout, system, flat[0], dtype)
    with precision(dtype):
        found = _effects(system, read, flat, given, asked, rows, int(num_lags), int(settle_steps))
    return ContextualEffects(tuple(modifiers), tuple(probes), *map(np.asarray, found))


@no_type_check  # it checks its arguments itself
def states_and_rest(states: Any, rest: Any, num_inputs: int, dtype: Any) -> tuple[Any, Float[np.ndarray, "... U"]]:
    """(states in the model's own form, the input while nothing comes) of `FixedPoints` or plain states.

    Raises:
        ValueError: the points are those of a flow.
    """
    if isinstance(states, FixedPoints):
        if states.kind == "flow":
            raise ValueError(
                "contextual effects are those of a map, these are points of a flow: pass a step of it as F"
            )
        rest = states.inputs if rest is None else rest
        states = states.unravel(states.states)
    return states, np.zeros(num_inputs, dtype) if rest is None else np.asarray(rest, dtype)


@no_type_check  # it checks its arguments itself
def as_inputs(inputs: Mapping[str, Any], what: str, dtype: Any) -> Float[np.ndarray, "m U"]:
    """The inputs of a mapping name → [U], as rows.

    Raises:
        TypeError: it is no mapping.
        ValueError: it is empty, or inputs are not vectors of one size and finite.
    """
    if not isinstance(inputs, Mapping):
        raise TypeError(f"{what} must map names to inputs [U], got {type(inputs).__name__}")
    rows = {name: np.asarray(value, dtype) for name, value in inputs.items()}
    if not rows or len({row.shape for row in rows.values()}) > 1 or next(iter(rows.values())).ndim != 1:
        raise ValueError(f"expected {what} [U] of one size, got { {name: row.shape for name, row in rows.items()} }")
    bad = [name for name, row in rows.items() if not np.isfinite(row).all()]
    if bad:
        raise ValueError(f"{what} must be finite, got {bad[0]!r} = {rows[bad[0]]}")
    return np.stack(list(rows.values()))


@partial(jax.jit, static_argnums=(6, 7))
def _effects(
    system: System,
    read: Any,
    states: Float[Array, "n d"],
    modifiers: Float[Array, "m U"],
    probes: Float[Array, "p U"],
    rest: Float[Array, "n U"],
    num_lags: int,
    settle_steps: int,
) -> tuple[Array, ...]:
    def waited(state, rest):  # [k, d]
        def wait(state, _):
            return system.step(state, rest), state

        return jax.lax.scan(wait, state, None, length=num_lags)[1]

    def answer(state, inputs, rest):
        state = system.step(state, inputs)
        return read(jax.lax.fori_loop(0, settle_steps, lambda _, h: system.step(h, rest), state))

    def responses(state, rest):  # effects of the probes, to first order and whole, and the input Jacobian
        base, slope = jax.value_and_grad(answer, argnums=1)(state, rest, rest)
        whole = jax.vmap(lambda probe: answer(state, probe, rest) - base)(probes)
        return (probes - rest) @ slope, whole, jax.jacfwd(system.step, argnums=1)(state, rest)

    everywhere = jax.vmap(jax.vmap(responses, (0, None)))
    still = jax.vmap(lambda h, x: waited(system.step(h, x), x))(states, rest)
    first, plain, jacobians = everywhere(still, rest)
    sizes = jnp.linalg.norm(jacobians, axis=(2, 3))

    def of_modifier(modifier):
        moved = jax.vmap(lambda h, x: waited(system.step(h, modifier), x))(states, rest)
        mine, whole, changed = everywhere(moved, rest)
        return (
            moved,
            moved - still,
            mine - first,
            whole - plain,
            jnp.linalg.norm(changed - jacobians, axis=(2, 3)) / sizes,
        )

    moved, deflections, barcodes, changes, strengths = jax.lax.map(of_modifier, modifiers)
    return moved, deflections, barcodes, changes, plain, strengths
