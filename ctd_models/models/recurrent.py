"""Recurrent networks: a cell, a learned initial state and a linear readout, unrolled over time by one compiled scan."""

from typing import Any, NamedTuple, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ctd_models.models.cells import ContinuousRNNCell, GRUCell, VanillaRNNCell, output_of
from ctd_models.models.initializers import WeightInit, as_initializer


class Trajectory(NamedTuple):
    """A network's run over time."""

    states: Any
    """States after each step [B, T, N]; a pytree of such arrays where the state is one (an LSTM's (c, h))."""
    outputs: Float[Array, "B T O"]
    """Readouts after each step."""


class _Recurrent(nn.Module):
    """Behaviour of a recurrent network. Subclasses declare its fields and, in `setup`, make `cell` before the rest."""

    def __post_init__(self):
        super().__post_init__()
        if self.output_size < 1:
            raise ValueError(f"output_size must be at least 1, got {self.output_size}")
        if self.initial_state_std < 0:
            raise ValueError(f"initial_state_std cannot be negative, got {self.initial_state_std}")
        if not 0 <= self.state_noise < float("inf"):
            raise ValueError(f"state_noise cannot be negative, got {self.state_noise}")

    def setup(self):
        self.readout = nn.Dense(self.output_size, kernel_init=as_initializer(self.readout_init))
        zeros = self.cell.initialize_carry(jax.random.key(0), (1,))
        if self.learn_initial_state:
            leaves, structure = jax.tree.flatten(zeros)
            names = ["initial_state"] if len(leaves) == 1 else [f"initial_state_{i}" for i in range(len(leaves))]
            init = nn.initializers.normal(self.initial_state_std)
            params = [self.param(name, init, leaf.shape) for name, leaf in zip(names, leaves, strict=True)]
            self.start = lambda: jax.tree.unflatten(structure, params)
        else:
            self.start = lambda: zeros

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Any:
        """The state before the first step [*batch_shape, N].

        It is the parameter `initial_state`, drawn from N(0, initial_state_std²) and learned (one parameter a leaf,
        `initial_state_0` … , where the state is a pytree), or the cell's zeros if `learn_initial_state` is False.
        """
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)), self.start())

    def step(self, state: Any, inputs: Float[Any, "*batch U"]) -> tuple[Any, Float[Array, "*batch O"]]:
        """One step, (state [*batch, N], inputs [*batch, U]) → (next state [*batch, N], output [*batch, O]).

        The whole network is this function, repeated: override it to change the network.
        """
        state, features = self.cell(state, inputs)
        return state, self.readout(features)

    def read_out(self, state: Any) -> Float[Array, "*batch O"]:
        """The output in a state [*batch, N], as after the step that led there."""
        return self.readout(output_of(self.cell, state))

    def perturb(self, state: Any) -> Any:
        """The state that a step of the unrolled network begins with: with `state_noise` added, from the stream `noise`."""
        if self.deterministic or self.state_noise == 0:
            return state
        leaves, structure = jax.tree.flatten(state)
        keys = jax.random.split(self.make_rng("noise"), len(leaves))
        noise = [jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(structure, [x + self.state_noise * e for x, e in zip(leaves, noise, strict=True)])

    @no_type_check  # it checks its arguments itself
    def __call__(self, inputs: Float[Array, "B T U"], initial_state: Any = None) -> Trajectory:
        """Runs the network over `inputs`, from `initial_state` ([B, N] or one [N] for all; None: the learned one).

        Raises:
            ValueError: inputs are not [batch, time, features], or have another number of features than the weights.
        """
        if inputs.ndim != 3 or 0 in inputs.shape:
            raise ValueError(f"expected inputs [batch, time, features] with no empty axis, got shape {inputs.shape}")
        state = self.initial_state(inputs.shape[:1])
        if initial_state is not None:
            state = jax.tree.map(_broadcast_state, initial_state, state)

        def step(network, state, inputs):
            state, output = network.step(network.perturb(state), inputs)
            return state, Trajectory(state, output)

        rollout = nn.scan(
            step,
            variable_broadcast=True,
            split_rngs={"params": False, nn.DenyList("params"): True},
            in_axes=1,
            out_axes=1,
        )
        _, trajectory = rollout(self, state, inputs)
        return trajectory


def _broadcast_state(given: Float[Any, "..."], like: Float[Array, "..."]) -> Float[Array, "..."]:
    given = jnp.asarray(given)
    if given.shape not in (like.shape, like.shape[1:]):
        raise ValueError(f"expected an initial state of shape {like.shape} or {like.shape[1:]}, got {given.shape}")
    return jnp.broadcast_to(given, like.shape)


class RecurrentNetwork(_Recurrent):
    """Any recurrent cell with a learned initial state and a linear readout, o_t = features_t W_out + b_out.

    `cell` is any `flax.linen.RNNCellBase`: ours, Flax's own (LSTM included), or yours.
    """

    cell: nn.RNNCellBase
    """The cell, whose output is read out."""
    output_size: int
    """Number of outputs O."""
    learn_initial_state: bool = True
    """Whether the initial state is a parameter; otherwise it is the cell's (zeros)."""
    initial_state_std: float = 0.1
    """Standard deviation of the learned state before training."""
    readout_init: WeightInit = 1.0
    """Of W_out [N, O]; a number g is N(0, g²/N)."""
    state_noise: float = 0.0
    """Standard deviation of Gaussian noise on every entry of the state before each step, from the rng stream `noise`, unless
    `deterministic`."""
    deterministic: bool = False
    """Whether noise is off."""


class VanillaRNN(_Recurrent):
    """`RecurrentNetwork` with a `VanillaRNNCell`: h_t = φ(h_{t−1} W_rec + x_t W_in + b), o_t = h_t W_out + b_out."""

    hidden_size: int
    """Number of units N."""
    output_size: int
    """Number of outputs O."""
    activation: str = "tanh"
    """Name of φ in `flax.linen`."""
    recurrent_init: WeightInit = 0.85
    """Of W_rec [N, N]; a number g is N(0, g²/N)."""
    input_init: WeightInit = 1.0
    """Of W_in [U, N]; a number g is N(0, g²/U)."""
    learn_initial_state: bool = True
    """Whether the initial state is a parameter; otherwise it is zero."""
    initial_state_std: float = 0.1
    """Standard deviation of the learned state before training."""
    readout_init: WeightInit = 1.0
    """Of W_out [N, O]; a number g is N(0, g²/N)."""
    state_noise: float = 0.0
    """Standard deviation of Gaussian noise on every entry of the state before each step, from the rng stream `noise`, unless
    `deterministic`."""
    deterministic: bool = False
    """Whether noise is off."""

    def setup(self):
        self.cell = VanillaRNNCell(
            self.hidden_size,
            activation=self.activation,
            recurrent_init=self.recurrent_init,
            input_init=self.input_init,
        )
        super().setup()


class GRU(_Recurrent):
    """`RecurrentNetwork` with our `GRUCell` (reset gate before the matrix product)."""

    hidden_size: int
    """Number of units N."""
    output_size: int
    """Number of outputs O."""
    update_bias: float = 0.5
    """Constant added to the update gate's drive."""
    recurrent_init: WeightInit = 1.0
    """Of the recurrent matrices; a number g is N(0, g²/N)."""
    input_init: WeightInit = 1.0
    """Of the input matrices; a number g is N(0, g²/U)."""
    learn_initial_state: bool = True
    """Whether the initial state is a parameter; otherwise it is zero."""
    initial_state_std: float = 0.1
    """Standard deviation of the learned state before training."""
    readout_init: WeightInit = 1.0
    """Of W_out [N, O]; a number g is N(0, g²/N)."""
    state_noise: float = 0.0
    """Standard deviation of Gaussian noise on every entry of the state before each step, from the rng stream `noise`, unless
    `deterministic`."""
    deterministic: bool = False
    """Whether noise is off."""

    def setup(self):
        self.cell = GRUCell(
            self.hidden_size,
            update_bias=self.update_bias,
            recurrent_init=self.recurrent_init,
            input_init=self.input_init,
        )
        super().setup()


CELLS = ("vanilla", "gru", "lstm", "continuous")


def make_network(cell: str, hidden_size: int, output_size: int, *, cell_options: Any = None, **options: Any) -> Any:
    """A recurrent network of a cell given by name, for scripts that let their user choose.

    Args:
        cell: "vanilla" (`VanillaRNNCell`), "gru" (`GRUCell`), "lstm" (`flax.linen.OptimizedLSTMCell`) or "continuous"
            (`ContinuousRNNCell`).
        hidden_size: number of units.
        output_size: number of outputs.
        cell_options: fields of the cell, a mapping.
        options: fields of `RecurrentNetwork`.

    Raises:
        ValueError: an unknown name.
    """
    return RecurrentNetwork(make_cell(cell, hidden_size, **(cell_options or {})), output_size, **options)


def make_cell(cell: str, hidden_size: int, **options: Any) -> Any:
    """A recurrent cell by the names of `make_network`, with these fields.

    Raises:
        ValueError: an unknown name.
    """
    cells = dict(zip(CELLS, (VanillaRNNCell, GRUCell, nn.OptimizedLSTMCell, ContinuousRNNCell), strict=True))
    if cell not in cells:
        raise ValueError(f"cell must be one of {CELLS}, got {cell!r}")
    return cells[cell](hidden_size, **options)
