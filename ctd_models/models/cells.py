"""Recurrent cells: one step of a network, `cell(carry, inputs) -> (carry, output)`, as `flax.linen.RNNCellBase`.

They run under `flax.linen.RNN` and under our `RecurrentNetwork`. States may carry any number of leading batch axes; inputs
without features ([*batch, 0]) make an autonomous cell, without input weights.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ctd_models.models.activations import activation_named
from ctd_models.models.initializers import WeightInit, as_initializer


class Cell(nn.RNNCellBase):
    """What our cells share: a state that is one vector of `features`, and weights initialised by fields."""

    def initialize_carry(self, rng: PRNGKeyArray, input_shape: tuple[int, ...]) -> Float[Array, "*batch N"]:
        """A state of zeros for inputs of `input_shape` [*batch, U]."""
        return jnp.zeros((*input_shape[:-1], self.features))

    @property
    def num_feature_axes(self) -> int:
        return 1

    def kernel(self, name: str, init: WeightInit, shape: tuple[int, int]) -> Float[Array, "fan_in fan_out"]:
        """The weight matrix `name`, after a check that it fits vectors of size `shape[0]`."""
        if self.has_variable("params", name):
            expected = self.get_variable("params", name).shape[0]
            if expected != shape[0]:
                what = "inputs" if name.endswith("input_kernel") else "a state"
                raise ValueError(f"{type(self).__name__} expected {what} with {expected} features, got {shape[0]}")
        return self.param(name, as_initializer(init), shape)

    def input_drive(self, inputs: Float[Any, "*batch U"]) -> Float[Array, "*batch N"] | float:
        """x W_in with the matrix `input_kernel`; 0 for inputs without features ([*batch, 0])."""
        if not inputs.shape[-1]:
            return 0.0
        return inputs @ self.kernel("input_kernel", self.input_init, (inputs.shape[-1], self.features))

    def activate(self, x: Float[Any, "..."]) -> Float[Array, "..."]:
        """The nonlinearity. Override it to change it."""
        return activation_named(self.activation)(x)

    def output(self, carry: Float[Any, "*batch N"]) -> Float[Any, "*batch N"]:
        """What the cell puts out in a state."""
        return carry

    def __post_init__(self):
        super().__post_init__()
        if self.features < 1:
            raise ValueError(f"features must be at least 1, got {self.features}")
        activation_named(getattr(self, "activation", "tanh"))


class VanillaRNNCell(Cell):
    """The vanilla recurrent cell, h' = φ(h W_rec + x W_in + b).

    Defaults are those of the integrator of Sussillo et al.'s computation-through-dynamics tutorials.
    """

    features: int
    """Number of units N."""
    activation: str = "tanh"
    """Name of φ: a function of `flax.linen`, or "rectified_tanh"."""
    recurrent_init: WeightInit = 0.85
    """Of W_rec [N, N]; a number g is N(0, g²/N)."""
    input_init: WeightInit = 1.0
    """Of W_in [U, N]; a number g is N(0, g²/U)."""
    bias_init: float = 0.0
    """Initial value of b [N]."""

    @nn.compact
    def __call__(
        self, carry: Float[Any, "*batch N"], inputs: Float[Any, "*batch U"]
    ) -> tuple[Float[Array, "*batch N"], Float[Array, "*batch N"]]:
        driven = self.input_drive(inputs)
        recurrent_kernel = self.kernel("recurrent_kernel", self.recurrent_init, (carry.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.constant(self.bias_init), (self.features,))
        carry = self.activate(carry @ recurrent_kernel + driven + bias)
        return carry, carry


class GRUCell(Cell):
    """A gated recurrent unit whose reset gate multiplies the state before the matrix product.

        r = σ(h W_r + x U_r + b_r + reset_bias)
        u = σ(h W_u + x U_u + b_u + update_bias)
        c = φ((r ∘ h) W_c + x U_c + b_c)
        h' = u ∘ h + (1 − u) ∘ c

    This is the form of Cho et al. (2014, arXiv:1406.1078) with the update gate of the computation-through-dynamics
    tutorials; `flax.linen.GRUCell` multiplies by r after the product instead. r and u share their matrices, in this order.
    Inputs without features ([*batch, 0]) leave out the terms of x.
    """

    features: int
    """Number of units N."""
    update_bias: float = 0.5
    """Constant added to the update gate's drive: larger keeps the state longer at the start of training."""
    activation: str = "tanh"
    """Name of φ: a function of `flax.linen`, or "rectified_tanh"."""
    recurrent_init: WeightInit = 1.0
    """Of the recurrent matrices [N, 2N] and [N, N]; a number g is N(0, g²/N)."""
    input_init: WeightInit = 1.0
    """Of the input matrices [U, 2N] and [U, N]; a number g is N(0, g²/U)."""
    reset_bias: float = 0.0
    """Constant added to the reset gate's drive."""
    clip: float | None = None
    """Bound on the size of the state, −clip … clip; None: no bound."""

    def __post_init__(self):
        super().__post_init__()
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be positive or None, got {self.clip}")

    @nn.compact
    def __call__(
        self, carry: Float[Any, "*batch N"], inputs: Float[Any, "*batch U"]
    ) -> tuple[Float[Array, "*batch N"], Float[Array, "*batch N"]]:
        N, U, zeros = self.features, inputs.shape[-1], nn.initializers.zeros
        weights = {
            "gates_recurrent": self.kernel("gates_recurrent_kernel", self.recurrent_init, (carry.shape[-1], 2 * N)),
            "gates": self.param("gates_bias", zeros, (2 * N,)),
            "candidate_recurrent": self.kernel("candidate_recurrent_kernel", self.recurrent_init, (N, N)),
            "candidate": self.param("candidate_bias", zeros, (N,)),
        }
        if U:
            weights["gates_input"] = self.kernel("gates_input_kernel", self.input_init, (U, 2 * N))
            weights["candidate_input"] = self.kernel("candidate_input_kernel", self.input_init, (U, N))
        # Gradients recompute the cheap products of a step: its memory halves, and it is a sixth faster.
        carry = jax.checkpoint(self._advance, prevent_cse=False, policy=_worth_saving)(weights, carry, inputs)
        return carry, carry

    def _advance(self, weights: dict[str, Any], carry: Any, inputs: Any) -> Any:
        gates, candidate = carry @ weights["gates_recurrent"] + weights["gates"], weights["candidate"]
        if "gates_input" in weights:
            gates = gates + inputs @ weights["gates_input"]
            candidate = candidate + inputs @ weights["candidate_input"]
        reset, update = jnp.split(gates, 2, axis=-1)
        reset, update = nn.sigmoid(reset + self.reset_bias), nn.sigmoid(update + self.update_bias)
        candidate = self.activate((reset * carry) @ weights["candidate_recurrent"] + candidate)
        carry = update * carry + (1 - update) * candidate
        return carry if self.clip is None else jnp.clip(carry, -self.clip, self.clip)


def _worth_saving(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name in ("logistic", "tanh", "dot_general")


class ContinuousRNNCell(Cell):
    """A leaky continuous-time rate network, τ dx/dt = −x + φ(x) W_rec + u W_in + b + noise, by Euler steps of dt.

    With α = dt/τ:  x' = (1 − α) x + α (φ(x) W_rec + u W_in + b) + √(2α) σ ξ,  ξ ~ N(0, 1);  the output is φ(x').
    Without recurrent weights the noise gives x the stationary variance σ² / (1 − α/2), so that σ keeps its meaning
    when dt changes (Song, Yang & Wang 2016, doi:10.1371/journal.pcbi.1004792).
    """

    features: int
    """Number of units N."""
    tau: float = 0.1
    """Time constant τ [s]."""
    dt: float = 0.01
    """Euler step [s], at most tau."""
    noise: float = 0.0
    """σ, the standard deviation that the noise alone would give a unit. Drawn from the rng stream `noise`."""
    activation: str = "tanh"
    """Name of φ: a function of `flax.linen`, or "rectified_tanh"."""
    recurrent_init: WeightInit = 1.0
    """Of W_rec [N, N]; a number g is N(0, g²/N), chaotic for g > 1 (Sompolinsky, Crisanti & Sommers 1988)."""
    input_init: WeightInit = 1.0
    """Of W_in [U, N]; a number g is N(0, g²/U)."""
    bias_init: float = 0.0
    """Initial value of b [N]."""
    deterministic: bool = False
    """True switches the noise off."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.dt <= self.tau:
            raise ValueError(f"dt must lie in (0, tau = {self.tau}] s for stable Euler steps, got {self.dt}")
        if self.noise < 0:
            raise ValueError(f"noise is a standard deviation and cannot be negative, got {self.noise}")

    @nn.compact
    def __call__(
        self, carry: Float[Any, "*batch N"], inputs: Float[Any, "*batch U"]
    ) -> tuple[Float[Array, "*batch N"], Float[Array, "*batch N"]]:
        driven = self.input_drive(inputs)
        recurrent_kernel = self.kernel("recurrent_kernel", self.recurrent_init, (carry.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.constant(self.bias_init), (self.features,))
        alpha = self.dt / self.tau
        drive = self.activate(carry) @ recurrent_kernel + driven + bias
        carry = (1 - alpha) * carry + alpha * drive
        if self.noise > 0 and not self.deterministic:
            noise = jax.random.normal(self.make_rng("noise"), carry.shape, carry.dtype)
            carry = carry + (2 * alpha) ** 0.5 * self.noise * noise
        return carry, self.output(carry)

    def rates(self, state: Float[Any, "*batch N"]) -> Float[Array, "*batch N"]:
        """The rates φ(x) in a state."""
        return self.activate(state)

    def output(self, carry: Float[Any, "*batch N"]) -> Float[Array, "*batch N"]:
        """The rates φ(x)."""
        return self.rates(carry)


def output_of(cell: nn.RNNCellBase, state: Any) -> Float[Any, "*batch N"]:
    """What a cell puts out in a state: of cells that do not tell, the state's last leaf, as h of an LSTM."""
    return cell.output(state) if isinstance(cell, Cell) else jax.tree.leaves(state)[-1]
