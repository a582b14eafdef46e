"""Runs of the generator of an LFADS, by itself or with the controller that infers its inputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ctd_models.models.lfads.distributions import DiagonalGaussian


class Rollout(NamedTuple):
    """A run of the generator."""

    initial: Any
    states: Any
    factors: Any
    input_posterior: DiagonalGaussian | None = None
    inputs: Any = None


def roll_out(model: nn.Module, code: Any, inputs: Float[Array, "trials steps E"]) -> Rollout:
    """The generator driven by known inputs."""
    state, bias = model.generator.initial_state(code), model.generator.bias(code)

    def step(generator, state, inputs):
        state, features = generator.advance(state, jnp.concatenate([inputs, bias], axis=-1))
        return state, (state, features)

    _, (states, features) = _scan(step)(model.generator, state, inputs)
    return Rollout(state, states, model.generator.factors(features))


def roll_out_controlled(model: nn.Module, code: Any, evidence: Any, noise: Float[Any, "trials steps U"]) -> Rollout:
    """The generator driven by the inputs that the controller infers from the encoder's states and the factors."""
    initial, bias = model.generator.initial_state(code), model.generator.bias(code)

    def step(model, carry, xs):
        state, controller_state, factors = carry
        read, known, noise = xs
        read = jnp.concatenate([read, factors], axis=-1)
        controller_state, q = model.controller.step(controller_state, read)
        inputs = q.mean + q.std * noise
        state, factors = model.generator.step(state, jnp.concatenate([inputs, known, bias], axis=-1))
        return (state, controller_state, factors), (state, factors, q, inputs)

    controller_state = model.controller.initial_state(noise.shape[:1])
    carry = (initial, controller_state, model.generator.state_factors(initial))
    _, (states, factors, q, inputs) = _scan(step)(model, carry, (evidence.read, evidence.inputs, noise))
    return Rollout(initial, states, factors, q, inputs)


def _scan(step: Callable[..., Any]) -> Callable[..., Any]:
    return nn.scan(
        step,
        variable_broadcast="params",
        split_rngs={"params": False, nn.DenyList("params"): True},
        in_axes=1,
        out_axes=1,
    )
