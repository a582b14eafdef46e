"""Initialisers that can be written to a checkpoint: frozen dataclasses, or a number in their place."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ctd_models.configuration import Configurable


@dataclasses.dataclass(frozen=True)
class Initializer(Configurable):
    """Base of weight initialisers. A subclass has `__call__(key, shape, dtype) -> weights`, as in `jax.nn.initializers`.

    Matrices have the shape [fan in, fan out].
    """

    gain: float = 1.0
    """Factor on the weights."""

    def __call__(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype=jnp.float32) -> Float[Array, "..."]:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class ScaledNormal(Initializer):
    """Independent weights W ~ N(0, gain² / fan_in): a random recurrent matrix has spectral radius ≈ gain."""

    def __call__(self, key, shape, dtype=jnp.float32):
        return self.gain / jnp.sqrt(jnp.asarray(shape[0], dtype)) * jax.random.normal(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Orthogonal(Initializer):
    """A random orthogonal matrix times gain: every singular value equals gain."""

    def __call__(self, key, shape, dtype=jnp.float32):
        return jax.nn.initializers.orthogonal(self.gain)(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Identity(Initializer):
    """The identity matrix times gain (Le, Jaitly & Hinton 2015, arXiv:1504.00941)."""

    def __call__(self, key, shape, dtype=jnp.float32):
        return self.gain * jnp.eye(*shape, dtype=dtype)


WeightInit = float | Initializer
"""A field that initialises a matrix: a number g stands for `ScaledNormal(g)`."""


def as_initializer(init: WeightInit) -> Initializer:
    """`init` itself, or `ScaledNormal(init)` where a number was given.

    Raises:
        TypeError: `init` is neither a number nor an `Initializer`.
    """
    if isinstance(init, Initializer):
        return init
    if isinstance(init, (int, float)):
        return ScaledNormal(float(init))
    raise TypeError(f"expected a number g (for N(0, g²/fan_in)) or an Initializer, got {init!r}")
