"""A continuous-time echo state network: a fixed random reservoir whose linear readout is fed back."""

import warnings
from typing import Any, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ctd_models.models.activations import activation_named
from ctd_models.models.recurrent import Trajectory, _broadcast_state

COLLECTION = "reservoir"


class ContinuousESN(nn.Module):
    """A random rate network whose output drives it, τ da/dt = −leak · a + h W_rec + x W_in + z W_fb + noise, by Euler steps.

        h = φ(a),   z = h W_out,   a' = a + (dt/τ) (−leak · a + h W_rec + x W_in + z W_fb) + √(2 dt/τ) σ ξ

    What is fed back in a step is the output before it. Only W_out, the parameter `readout`, is meant to be learned, by
    `ctd_models.training.Force`; the other weights and the initial state lie in a collection of their own, "reservoir". The
    state is the activation a. Jaeger (2001, GMD report 148); Sussillo & Abbott (2009, doi:10.1016/j.neuron.2009.07.018).
    """

    hidden_size: int
    """Units N of the reservoir."""
    output_size: int
    """Outputs O."""
    input_size: int = 0
    """Inputs U; 0: none."""
    gain: float = 1.5
    """g; W_rec has entries N(0, g²/(p N)) where a share p of them is there, so that its spectral radius is about g."""
    tau: float = 1.0
    """Time constant τ [s]."""
    dt: float = 0.1
    """Euler step [s]. With dt > τ steps overshoot, which raises a warning."""
    leak: float = 1.0
    """Factor on −a; 1: τ is the time constant of a unit by itself."""
    feedback_scale: float = 1.0
    """Standard deviation of W_fb [O, N]."""
    input_scale: float = 1.0
    """W_in [U, N] has entries N(0, input_scale²/U)."""
    readout_scale: float = 1.0
    """W_out [N, O] begins with entries N(0, readout_scale²/N)."""
    sparsity: float = 0.0
    """Share of W_rec that is 0, in [0, 1); every unit has equally many inputs."""
    spectral_radius: float | None = None
    """Largest |eigenvalue| of W_rec, which is scaled to have it exactly, in place of `gain`; None: not scaled."""
    noise: float = 0.0
    """σ, the standard deviation that the noise alone would give a unit. Drawn from the rng stream `noise`."""
    activation: str = "tanh"
    """Name of φ: a function of `flax.linen`, or "rectified_tanh"."""
    initial_state_std: float = 0.25
    """Standard deviation of the activations from which every run begins."""
    deterministic: bool = False
    """True switches the noise off."""

    def __post_init__(self):
        super().__post_init__()
        for name, least in (("hidden_size", 1), ("output_size", 1), ("input_size", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("gain", "leak", "feedback_scale", "input_scale", "readout_scale", "noise", "initial_state_std"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        for name in ("tau", "dt"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive [s], got {getattr(self, name)}")
        for name in ("noise", "initial_state_std"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a standard deviation and cannot be negative, got {getattr(self, name)}")
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity, the share of weights that are 0, must lie in [0, 1), got {self.sparsity}")
        if self.spectral_radius is not None and not self.spectral_radius > 0:
            raise ValueError(f"spectral_radius must be positive or None, got {self.spectral_radius}")
        activation_named(self.activation)
        if self.dt > self.tau:
            warnings.warn(
                f"dt = {self.dt} s exceeds tau = {self.tau} s: Euler steps of dt / tau > 1 overshoot", stacklevel=3
            )

    def setup(self):
        N, U, outputs = self.hidden_size, self.input_size, self.output_size
        fixed = {
            "recurrent_kernel": lambda k: self.recurrent_weights(k[0]),
            "feedback_kernel": lambda k: self.feedback_scale * jax.random.normal(k[1], (outputs, N)),
            "initial_state": lambda k: self.initial_state_std * jax.random.normal(k[2], (N,)),
        }
        if U:
            fixed["input_kernel"] = lambda k: self.input_scale / U**0.5 * jax.random.normal(k[3], (U, N))
        drawn = jax.random.split(self.make_rng("params"), 4) if self.is_initializing() else None
        self.fixed = {name: self.variable(COLLECTION, name, make, drawn) for name, make in fixed.items()}
        readout_init = nn.initializers.normal(self.readout_scale / N**0.5)
        self.readout_kernel = self.param("readout", readout_init, (N, outputs))

    def recurrent_weights(self, key: PRNGKeyArray) -> Float[Array, "N N"]:
        """W_rec [from, to]. Override it for another reservoir."""
        N, weight_key = self.hidden_size, key
        present = max(1, round((1 - self.sparsity) * N))
        if present < N:
            weight_key, place_key = jax.random.split(key)
            order = jnp.argsort(jax.random.uniform(place_key, (N, N)), axis=0)
        weights = self.gain / present**0.5 * jax.random.normal(weight_key, (N, N))
        if present < N:
            weights = jnp.where(order < present, weights, 0.0)
        if self.spectral_radius is None:
            return weights
        radius = jax.pure_callback(_radius, jax.ShapeDtypeStruct((), weights.dtype), weights, vmap_method="sequential")
        return weights * (self.spectral_radius / radius)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Float[Array, "*batch_shape N"]:
        """The activations from which runs begin, the same for all."""
        state = self.fixed["initial_state"].value
        return jnp.broadcast_to(state, (*batch_shape, *state.shape))

    def rates(self, state: Float[Any, "*batch N"]) -> Float[Array, "*batch N"]:
        """h = φ(a)."""
        return activation_named(self.activation)(state)

    def readout(self, state: Float[Any, "*batch N"]) -> Float[Array, "*batch O"]:
        """The output z of a state."""
        return self.rates(state) @ self.readout_kernel

    def advance(
        self,
        state: Float[Any, "*batch N"],
        inputs: Float[Any, "*batch U"],
        feedback: Float[Any, "*batch O"],
        drive: Float[Any, "*batch N"] | float = 0.0,
    ) -> Float[Array, "*batch N"]:
        """The state after a step in which `feedback` is fed back; `drive` is added to what units receive."""
        if inputs.shape[-1] != self.input_size:
            raise ValueError(f"expected inputs with {self.input_size} features, got {inputs.shape[-1]}")
        alpha = self.dt / self.tau
        drive = drive + self.rates(state) @ self.fixed["recurrent_kernel"].value
        drive = drive + feedback @ self.fixed["feedback_kernel"].value
        if self.input_size:
            drive = drive + inputs @ self.fixed["input_kernel"].value
        state = (1 - alpha * self.leak) * state + alpha * drive
        if self.noise > 0 and not self.deterministic:
            noise = jax.random.normal(self.make_rng("noise"), state.shape, state.dtype)
            state = state + (2 * alpha) ** 0.5 * self.noise * noise
        return state

    def step(
        self, state: Float[Any, "*batch N"], inputs: Float[Any, "*batch U"]
    ) -> tuple[Float[Array, "*batch N"], Float[Array, "*batch O"]]:
        """One step of the closed loop, (state, inputs) → (next state, output)."""
        state = self.advance(state, inputs, self.readout(state))
        return state, self.readout(state)

    @no_type_check  # it checks its arguments itself
    def __call__(
        self,
        inputs: Float[Array, "B T U"],
        initial_state: Float[Array, "B N"] | Float[Array, "N"] | None = None,
        feedback: Float[Array, "B T O"] | None = None,
    ) -> Trajectory:
        """Runs the closed loop or, with `feedback`, the open one.

        Args:
            inputs: without features ([B, T, 0]) where the network has none.
            initial_state: of each run, or one for all; None: the network's own.
            feedback: outputs to feed back in place of the network's own, such as targets (teacher forcing): step t is given
                that of step t − 1; step 0 is given the network's own.

        Returns:
            States and outputs after each step.

        Raises:
            ValueError: a shape does not fit.
        """
        if inputs.ndim != 3 or 0 in inputs.shape[:2] or inputs.shape[2] != self.input_size:
            raise ValueError(f"expected inputs [batch, time, {self.input_size}], got shape {inputs.shape}")
        state = self.initial_state(inputs.shape[:1])
        if initial_state is not None:
            state = _broadcast_state(initial_state, state)
        shifted = None
        if feedback is not None:
            expected = (*inputs.shape[:2], self.output_size)
            if feedback.shape != expected:
                raise ValueError(f"expected feedback {expected} [batch, time, outputs], got shape {feedback.shape}")
            shifted = jnp.concatenate([self.readout(state)[:, None], feedback[:, :-1]], axis=1)

        def step(network, state, xs):
            inputs, given = xs
            if given is None:
                state, output = network.step(state, inputs)
            else:
                state = network.advance(state, inputs, given)
                output = network.readout(state)
            return state, Trajectory(state, output)

        rollout = nn.scan(
            step,
            variable_broadcast=True,
            split_rngs={"params": False, nn.DenyList("params"): True},
            in_axes=1,
            out_axes=1,
        )
        return rollout(self, state, (inputs, shifted))[1]


def _radius(weights: Any) -> Any:
    """The largest |eigenvalue|."""
    return np.abs(np.linalg.eigvals(np.asarray(weights, np.float64))).max().astype(weights.dtype)
