"""The compiled part of FORCE learning: a pass is one scan over blocks of steps."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ctd_models.training import least_squares
from ctd_models.training.force_state import COLLECTION, ForceState, Learning
from ctd_models.training.least_squares import SymmetricMatrix, Updates


@functools.partial(jax.jit, static_argnums=0)
def init_variables(model: nn.Module, key: PRNGKeyArray) -> dict[str, Any]:
    keys = jax.random.split(key)
    return model.init({"params": keys[0], "noise": keys[1]}, jnp.zeros((1, 1, model.input_size)))


@functools.partial(jax.jit, static_argnums=0)
def run_network(model: nn.Module, variables: Any, inputs: Any, initial_state: Any) -> Any:
    trajectory = model.apply(variables, inputs[None], initial_state)
    return jax.tree.map(lambda values: values[0], trajectory)


@functools.partial(jax.jit, static_argnums=(0, 5))
def solve_ridge(model: nn.Module, variables: Any, inputs: Any, targets: Any, penalty: Any, washout: int) -> Any:
    states = model.apply(variables, inputs[None], feedback=targets[None]).states[0]
    rates = model.apply(variables, states, method="rates")
    return least_squares.ridge(rates[washout:], targets[washout:], penalty)


@functools.partial(jax.jit, static_argnums=(0, 5), donate_argnums=1)
def learn_pass(
    force: Any, inverse: SymmetricMatrix | None, state: ForceState, inputs: Any, targets: Any, restart: bool
) -> tuple[ForceState, Learning]:
    """A pass in blocks of steps of about `block_size`; steps that fill the last block change nothing."""
    model, steps = force.model, len(targets)
    if restart:
        start = model.apply(state.variables, method="initial_state")
        output = model.apply(state.variables, start, method="readout")
        driver = None if state.driver is None else (start, *state.driver[1:])
        state = state.replace(activation=start, output=output, driver=driver)
    blocks = -(-steps // force.block_size)
    block = -(-steps // blocks)
    missing = blocks * block - steps
    alive = jnp.arange(blocks * block) < steps
    xs = [jnp.pad(values, [(0, missing), (0, 0)]) for values in (inputs, targets)]
    xs = [values.reshape(blocks, block, *values.shape[1:]) for values in (*xs, alive)]
    always = not missing and force.every == 1
    key = jax.random.wrap_key_data(state.key_data)

    def learn_block(carry, xs):
        inverse, state = carry
        step = functools.partial(_step, force, inverse, key, always, state)
        pending = _Pending.none(force, block, state)
        readout = state.variables["params"]["readout"]
        inner = readout, state.activation, state.output, state.driver and state.driver[0], state.step, pending
        (readout, activation, output, driven, count, pending), learned = jax.lax.scan(step, inner, tuple(xs))
        variables = {**state.variables, "params": {**state.variables["params"], "readout": readout}}
        if force.recurrent:
            fixed = variables[COLLECTION]
            kernel = fixed["recurrent_kernel"] - pending.gains.T @ pending.errors
            variables = {**variables, COLLECTION: {**fixed, "recurrent_kernel": kernel}}
        if inverse is not None:
            inverse = least_squares.flushed(inverse, pending.updates, force.forgetting)
        state = state.replace(
            variables=variables,
            activation=activation,
            output=output,
            driver=state.driver and (driven, *state.driver[1:]),
            step=count,
        )
        return (inverse, state), learned

    (inverse, state), learned = jax.lax.scan(learn_block, (inverse, state), tuple(xs))
    learned = jax.tree.map(lambda values: values.reshape(blocks * block, *values.shape[2:])[:steps], learned)
    return state.replace(inverse=inverse), learned


class _Pending(NamedTuple):
    """What the updates of a block will change at its end."""

    updates: Updates | None
    gains: Any
    """Of the recurrent weights, W_rec ← W_rec − gainsᵀ errors."""
    errors: Any

    @classmethod
    def none(cls, force: Any, block: int, state: ForceState) -> "_Pending":
        updates = None if force.rule == "nlms" else Updates.none(block, state.activation)
        rows = jnp.zeros((block, *state.activation.shape), state.activation.dtype) if force.recurrent else None
        return cls(updates, rows, rows)


def _step(
    force: Any, inverse: SymmetricMatrix | None, key: Any, always: bool, begun: ForceState, carry: Any, xs: Any
) -> tuple[Any, Learning]:
    """One step of the network, and the update that follows it; `begun` is the state at the beginning of the block."""
    model, variables = force.model, begun.variables
    readout, activation, output, driven, step, pending = carry
    inputs, target, alive = xs
    rngs = {"noise": jax.random.fold_in(key, step)} if model.noise > 0 and not model.deterministic else {}
    drive = 0.0 if pending.gains is None else -(pending.gains @ _rates(model, variables, activation)) @ pending.errors
    moved = model.apply(variables, activation, inputs, output, drive, method="advance", rngs=rngs)
    rates = _rates(model, variables, moved)
    found = rates @ readout
    error = found - target

    def update(updates):
        return least_squares.gain(inverse, updates, rates, force.forgetting)

    due = alive if force.every == 1 else alive & (step % force.every == 0)
    updates = pending.updates
    if force.rule == "nlms":
        change = force.learning_rate * rates / jnp.maximum(rates @ rates, 1e-12)
        change = jnp.where(due, change, 0.0)
    elif always:
        change, updates = update(updates)
    else:
        change, updates = jax.lax.cond(due, update, lambda updates: (jnp.zeros_like(rates), updates), updates)
    readout = readout - jnp.outer(change, error)
    learned = Learning(found, jnp.linalg.norm(change) * jnp.linalg.norm(error))

    output, teacher = found, driven
    if force.recurrent:
        output = target  # what the second network is driven by in the next step; the first one has no feedback
        shown = _as_second(variables, begun.driver)
        teacher = model.apply(shown, driven, inputs, carry[2], method="advance", rngs=rngs)
        weights = shown[COLLECTION]
        wanted = _rates(model, variables, teacher) @ weights["recurrent_kernel"] + target @ weights["feedback_kernel"]
        received = rates @ variables[COLLECTION]["recurrent_kernel"] - (pending.gains @ rates) @ pending.errors
        place = jnp.where(
            due, updates.count - 1, len(pending.gains) - 1
        )  # the last row is free unless every step is due
        pending = pending._replace(
            gains=pending.gains.at[place].set(change), errors=pending.errors.at[place].set(received - wanted)
        )
    moved, output, teacher = (
        (moved, output, teacher)
        if always
        else jax.tree.map(
            lambda new, old: jnp.where(alive, new, old), (moved, output, teacher), (activation, carry[2], driven)
        )
    )
    step = step + alive.astype(jnp.int32)
    return (readout, moved, output, teacher, step, pending._replace(updates=updates)), learned


def _as_second(variables: Any, driver: Any) -> dict[str, Any]:
    """Variables of the target-generating network."""
    fixed = {**variables[COLLECTION], "recurrent_kernel": driver[1], "feedback_kernel": driver[2]}
    return {**variables, COLLECTION: fixed}


def _rates(model: nn.Module, variables: Any, activation: Any) -> Any:
    return model.apply(variables, activation, method="rates")
