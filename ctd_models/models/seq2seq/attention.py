"""Attention: which of the remembered vectors a query calls up.

Modules of one form, `attention(query, keys, values, mask) -> (context, weights)`, with `keys = attention.keys(values)` made
once for a sequence. Inject another of that form to change it.
"""

from typing import no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class _Attention(nn.Module):
    """What all forms share: weights = softmax of the scores where the mask is True, context = Σ weights · values."""

    def keys(self, values: Float[Array, "*batch S H"]) -> Float[Array, "*batch S K"]:
        """What queries are compared with."""
        return values

    def scores(self, query: Float[Array, "*batch N"], keys: Float[Array, "*batch S K"]) -> Float[Array, "*batch S"]:
        """How well the query fits each key. Override it to change the attention."""
        raise NotImplementedError

    @no_type_check  # it checks its arguments itself
    def __call__(
        self,
        query: Float[Array, "*batch N"],
        keys: Float[Array, "*batch S K"],
        values: Float[Array, "*batch S H"],
        mask: Bool[Array, "*batch S"],
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch S"]]:
        """(context, weights): the weights are 0 where the mask is False, and add up to 1.

        Raises:
            ValueError: there is not one key and one entry of the mask for each value.
        """
        mask = jnp.asarray(mask)
        if not jnp.shape(mask) == jnp.shape(keys)[:-1] == jnp.shape(values)[:-1] or mask.dtype != bool:
            raise ValueError(
                f"expected keys [*batch, S, K], values [*batch, S, H] and a mask [*batch, S] of bools, got shapes "
                f"{jnp.shape(keys)}, {jnp.shape(values)}, {jnp.shape(mask)} and {jnp.result_type(mask)}"
            )
        scores = self.scores(query, keys)
        weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min), axis=-1)
        return jnp.einsum("...s,...sh->...h", weights, values), weights


class AdditiveAttention(_Attention):
    """score = vᵀ tanh(W q + U k) (Bahdanau, Cho & Bengio 2015, arXiv:1409.0473)."""

    features: int
    """Size of v."""

    def __post_init__(self):
        super().__post_init__()
        if self.features < 1:
            raise ValueError(f"features must be at least 1, got {self.features}")

    def setup(self):
        self.of_query = nn.Dense(self.features, use_bias=False)
        self.of_key = nn.Dense(self.features)
        self.v = self.param("v", nn.initializers.normal(self.features**-0.5), (self.features,))

    def keys(self, values):
        return self.of_key(values)

    def scores(self, query, keys):
        def combined(query, keys, v):
            return (jnp.tanh(query[..., None, :] + keys) * v).sum(axis=-1)

        # hidden vectors of every pair of steps are made again in the backward pass, and not kept
        return jax.checkpoint(combined)(self.of_query(query), keys, self.v)


class GeneralAttention(_Attention):
    """score = qᵀ W k (Luong, Pham & Manning 2015, arXiv:1508.04025)."""

    features: int
    """Size N of the query."""

    def setup(self):
        self.of_key = nn.Dense(self.features, use_bias=False)

    def keys(self, values):
        return self.of_key(values)

    def scores(self, query, keys):
        if query.shape[-1] != keys.shape[-1]:
            raise ValueError(f"GeneralAttention({self.features}) is asked with queries of {query.shape[-1]} features")
        return jnp.einsum("...n,...sn->...s", query, keys)


class DotAttention(_Attention):
    """score = qᵀ k / √N, of queries and values of one size (Luong, Pham & Manning 2015, arXiv:1508.04025; unscaled)."""

    scaled: bool = True
    """Whether scores are divided by √N, which keeps the softmax from saturating (Vaswani et al. 2017, arXiv:1706.03762)."""

    def scores(self, query, keys):
        if query.shape[-1] != keys.shape[-1]:
            raise ValueError(
                f"DotAttention compares vectors of one size, but queries have {query.shape[-1]} and encoded inputs "
                f"{keys.shape[-1]} features: use GeneralAttention"
            )
        scale = query.shape[-1] ** -0.5 if self.scaled else 1.0
        return scale * jnp.einsum("...n,...sn->...s", query, keys)
