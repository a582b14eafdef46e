"""Context-dependent integration of one of two streams of white noise."""

import dataclasses
from typing import no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ctd_models.tasks.integration import Integration
from ctd_models.tasks.trials import Trials


@dataclasses.dataclass(frozen=True)
class ContextualIntegration(Integration):
    """Integrate the one of two noisy inputs that the context names: target_t = Σ_{s ≤ t} x_s[c], c = 0 or 1.

    The inputs are the two streams x[0] and x[1], each with a bias and noise of its own as in `Integration`, and two
    context lines, of which line c is 1 and the other 0 throughout the trial. Both contexts are equally frequent.

    The contextual integrator of Sussillo et al.'s computation-through-dynamics tutorials; the idea is that of Mante,
    Sussillo, Shenoy & Newsome, Nature 2013, doi:10.1038/nature12742.
    """

    def sample_inputs(self, key: PRNGKeyArray, batch_size: int) -> Float[Array, "B T 4"]:
        """Two streams of biased white noise, then the two context lines."""
        stream_key, context_key = jax.random.split(key)
        streams = jnp.concatenate(jnp.split(super().sample_inputs(stream_key, 2 * batch_size), 2), axis=-1)
        context = jax.random.bernoulli(context_key, shape=(batch_size, 1)).astype(jnp.int32)
        lines = jnp.broadcast_to(jax.nn.one_hot(context, 2), streams.shape)
        return jnp.concatenate([streams, lines], axis=-1)

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Trials:
        """Fresh trials: inputs [B, T, 4], targets [B, T, 1], every step counts. `context_of` gives their context."""
        inputs = self.sample_inputs(key, batch_size)
        relevant = (inputs[..., :2] * inputs[..., 2:]).sum(axis=-1, keepdims=True)
        return Trials(inputs, jnp.cumsum(relevant, axis=1), jnp.ones_like(relevant))


@no_type_check  # it checks its arguments itself
def context_of(trials: Trials) -> Int[Array, "B"]:
    """Context of each trial of `ContextualIntegration`: 0 where the first stream is to be integrated, 1 for the second.

    Pure, and compiles inside `jax.jit`.

    Raises:
        ValueError: the inputs are not two streams and two context lines.
    """
    inputs = jnp.asarray(trials.inputs)
    if inputs.ndim != 3 or inputs.shape[2] != 4:
        raise ValueError(f"expected inputs [B, T, 4], two streams and two context lines, got shape {inputs.shape}")
    return jnp.argmax(inputs[:, 0, 2:], axis=-1)
