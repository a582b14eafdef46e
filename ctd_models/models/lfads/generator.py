"""The generator: the dynamical system that is taken to have made the data."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ctd_models.models.cells import ContinuousRNNCell, GRUCell, VanillaRNNCell, output_of
from ctd_models.models.initializers import ScaledNormal
from ctd_models.models.lfads.priors import Prior


class Generator(nn.Module):
    """A recurrent network whose initial state is decoded from a latent code, and its factors.

        g_0 = W_0 z + b_0,   g_t = cell(g_{t−1}, [u_t, x_t, b]),   f_t = Ŵ g_t

    z is the latent code of a trial, u_t inferred and x_t external inputs, b an inferred bias that is constant over the
    trial; the rows of Ŵ have unit length. `step_function(model, variables, part="generator")` is this system.
    """

    hidden_size: int
    """Units."""
    num_factors: int
    """Factors F."""
    prior: Prior | None
    """Prior of the latent code (the initial condition's and the bias's together); None: none."""
    code_size: int | None = None
    """Dimensions of the code of the initial condition; None: hidden_size."""
    bias_size: int = 0
    """Dimensions of the inferred bias."""
    cell: nn.RNNCellBase | None = None
    """Cell with `hidden_size` features; None: `GRUCell` with an update bias of 1 and states clipped to ±5."""
    normalize_factors: bool = True
    """Whether the rows of the factors' map have unit length."""
    dropout: float = 0.0
    """Probability that a dimension of the code, or a unit in the factors' map, is dropped, from the rng stream `dropout`."""
    deterministic: bool = False
    """Whether dropout is off."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("hidden_size", "num_factors"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        check_cell(self)
        if self.bias_size < 0:
            raise ValueError(f"bias_size cannot be negative, got {self.bias_size}")

    @property
    def initial_size(self) -> int:
        """Dimensions of the code of the initial condition."""
        return self.hidden_size if self.code_size is None else self.code_size

    def setup(self):
        self.rnn = own_cell(self)
        self.state_shapes = jax.eval_shape(lambda: self.rnn.initialize_carry(jax.random.key(0), (1,)))
        size = sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(self.state_shapes))
        self.initial_map = nn.Dense(size, kernel_init=ScaledNormal(1.0))
        self.factor_kernel = self.param("factor_kernel", ScaledNormal(1.0), (self.hidden_size, self.num_factors))
        self.drop = nn.Dropout(self.dropout, deterministic=self.deterministic)

    def initial_state(self, code: Float[Any, "*batch C"]) -> Any:
        """g_0 [*batch, N], the state before the first step; a pytree where the cell's state is one."""
        flat = self.initial_map(self.drop(code[..., : self.initial_size]))
        leaves, structure = jax.tree.flatten(self.state_shapes)
        ends = np.cumsum([np.prod(leaf.shape, dtype=int) for leaf in leaves])[:-1]
        parts = jnp.split(flat, ends, axis=-1)
        parts = [part.reshape(*flat.shape[:-1], *leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(structure, parts)

    def bias(self, code: Float[Any, "*batch C"]) -> Float[Array, "*batch b"]:
        """The inferred bias, the last part of the latent code."""
        return code[..., self.initial_size :]

    def factors(self, features: Float[Any, "*batch N"]) -> Float[Array, "*batch F"]:
        """f = Ŵ g of the cell's output g."""
        kernel = self.factor_kernel
        if self.normalize_factors:
            kernel = kernel / jnp.linalg.norm(kernel, axis=0)
        return self.drop(features) @ kernel

    def state_factors(self, state: Any) -> Float[Array, "*batch F"]:
        """Factors of a state, by what the cell puts out in it."""
        return self.factors(output_of(self.rnn, state))

    def step(self, state: Any, inputs: Float[Any, "*batch U"] | None = None) -> tuple[Any, Float[Array, "*batch F"]]:
        """One step, (state, inputs) → (next state, factors). Inputs [*batch, U]: inferred ones, external ones, the class of
        the trial (one-hot), the inferred bias, as far as the model has them; None: no inputs, or all of them 0."""
        state, features = self.advance(state, inputs)
        return state, self.factors(features)

    def advance(self, state: Any, inputs: Float[Any, "*batch U"] | None) -> tuple[Any, Float[Array, "*batch N"]]:
        """One step, → (next state, the cell's output, of which `factors` are made)."""
        if inputs is None:
            inputs = jnp.zeros((*jax.tree.leaves(state)[0].shape[:-1], 0))
        if not inputs.shape[-1] and not isinstance(self.rnn, (GRUCell, VanillaRNNCell, ContinuousRNNCell)):
            inputs = jnp.zeros((*inputs.shape[:-1], 1))  # Flax's cells need an input: this one is always 0
        return self.rnn(state, inputs)


def own_cell(module: Any) -> nn.RNNCellBase:
    """A copy of the cell that a generator or controller was given, so that no weights are shared; else the default."""
    return module.cell.clone(parent=None) if module.cell else GRUCell(module.hidden_size, update_bias=1.0, clip=5.0)


def check_cell(module: Any) -> None:
    """Raises ValueError where the cell of a generator or controller has not `hidden_size` features."""
    features = getattr(module.cell, "features", module.hidden_size)
    if isinstance(features, int) and features != module.hidden_size:
        raise ValueError(
            f"the cell has {features} features, but hidden_size is {module.hidden_size}: give "
            f"{type(module).__name__}(hidden_size={features}) or another cell"
        )
