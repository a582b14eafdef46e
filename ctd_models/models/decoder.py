"""A recurrent decoder of behaviour from spike counts: dropout against overfitting, and its own units of measurement."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from ctd_models.models.recurrent import RecurrentNetwork


class Standardize(nn.Module):
    """z = (x − mean) / std of each feature, or x = z std + mean if `inverse`.

    Mean and std [features] are variables of the collection `statistics`, which training leaves alone.
    """

    inverse: bool = False
    """Whether to go back from z to x."""

    @nn.compact
    def __call__(self, x: Float[Any, "*batch features"]) -> Float[Any, "*batch features"]:
        mean = self.variable("statistics", "mean", jnp.zeros, x.shape[-1:]).value
        std = self.variable("statistics", "std", jnp.ones, x.shape[-1:]).value
        return x * std + mean if self.inverse else (x - mean) / std


class Decoder(RecurrentNetwork):
    """A `RecurrentNetwork` that is regularised by dropout and keeps the statistics of its data.

        z_t = (x_t − μ_x) / σ_x,    h_t = cell(h_{t−1}, D_in z_t),    o_t = σ_y (D_out h_t W_out + b_out) + μ_y

    D_in and D_out set units to zero at random in every step of training (Srivastava et al. 2014, JMLR 15). x are spike
    counts and o is behaviour in its own unit: a checkpoint of this model needs no other file. It is causal: o_t depends
    on x_1 … x_t only. Give it the statistics of the training data by `with_statistics`.
    """

    input_dropout: float = 0.0
    """Probability that an input is dropped, from the rng stream `dropout`."""
    output_dropout: float = 0.0
    """Probability that a unit is hidden from the readout, from the rng stream `dropout`."""
    deterministic: bool = False
    """Whether dropout and noise are off."""

    def setup(self):
        super().setup()
        self.standardize = Standardize()
        self.unstandardize = Standardize(inverse=True)
        self.drop_inputs = nn.Dropout(self.input_dropout, deterministic=self.deterministic)
        self.drop_outputs = nn.Dropout(self.output_dropout, deterministic=self.deterministic)

    def step(self, state: Any, inputs: Float[Any, "*batch U"]) -> tuple[Any, Float[Array, "*batch O"]]:
        """One step, (state [*batch, N], spike counts [*batch, U]) → (next state, behaviour [*batch, O])."""
        state, features = self.cell(state, self.drop_inputs(self.standardize(inputs)))
        return state, self.unstandardize(self.readout(self.drop_outputs(features)))

    def read_out(self, state: Any) -> Float[Array, "*batch O"]:
        """The behaviour in a state [*batch, N], as after the step that led there."""
        return self.unstandardize(super().read_out(state))


def with_statistics(
    variables: Mapping[str, Any], inputs: Real[np.ndarray, "... U"], outputs: Real[np.ndarray, "... O"]
) -> dict[str, Any]:
    """`variables` of a `Decoder` with the mean and standard deviation of training data.

    Input features that hardly vary, such as silent channels, are divided by a tenth of the largest standard deviation,
    so that their rare events are not blown up. All outputs share one standard deviation, so that their errors keep
    their proportions.
    """
    means, stds = _moments(inputs)
    output_means, output_stds = _moments(outputs)
    smallest = 0.1 * stds.max() or 1.0
    shared = np.sqrt(np.mean(output_stds**2)) or 1.0
    statistics = {
        "standardize": {"mean": means, "std": np.maximum(stds, smallest)},
        "unstandardize": {"mean": output_means, "std": np.full_like(output_stds, shared)},
    }
    return {**variables, "statistics": statistics}


def _moments(values: Real[np.ndarray, "... features"]) -> tuple[np.ndarray, np.ndarray]:
    samples = np.asarray(values, np.float32).reshape(-1, np.shape(values)[-1])
    return samples.mean(axis=0), samples.std(axis=0)
