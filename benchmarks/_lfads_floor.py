"""The floor of a training step of LFADS: its matrix products alone, forward and backward, in the scans that the step has.

No nonlinearity, gate, sample, loss, data or optimizer; sums where results of products join. Each product has a backward
pass of its own, which multiplies by its weights (but not for spikes, whose gradient nobody wants) and makes the gradient
of its weights, from a constant in place of the values that a real step stores for its way back.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

RATE = 1e-12  # moves the weights so little that they stay finite, but the compiler does not know


@jax.custom_vjp
def product(x: Any, weights: Any, stand_in: Any) -> Any:
    """x · W [B, O], and backward dz · Wᵀ [B, I] and xᵀ · dz [I, O] with `stand_in` [B, I] for x."""
    return x @ weights


product.defvjp(
    lambda x, weights, stand_in: (x @ weights, (weights, stand_in)),
    lambda kept, dz: (dz @ kept[0].T, kept[1].T @ dz, None),
)


@jax.custom_vjp
def product_of_data(x: Any, weights: Any, stand_in: Any) -> Any:
    """x · W, and backward xᵀ · dz only."""
    return x @ weights


product_of_data.defvjp(
    lambda x, weights, stand_in: (x @ weights, stand_in), lambda stand_in, dz: (None, stand_in.T @ dz, None)
)


def lfads_products(params: Mapping[str, Any], spikes: Any, num_steps: int, stand_in: Any) -> Any:
    """The forward products of `LFADS` with a pair of encoders of its own for the controller: the read-out [T' B, N'].

    Backward, each product of the numbers 1 to 22 becomes two, but one where its left side is spikes.

    Args:
        params: the parameters of the model.
        spikes: [T, B, N], what is read.
        num_steps: bins that are reconstructed, at least T.
        stand_in: [B, K], K at least the largest number of rows of a matrix.
    """

    def times(x, weights, data=False):
        kept = stand_in[: x.shape[0], : x.shape[1]]
        return (product_of_data if data else product)(x, weights, kept)

    def gru(weights, h, x, data=False):
        reset_h, update_h = jnp.split(
            times(h, weights["gates_recurrent_kernel"])  # [B, H] · [H, 2H]
            + times(x, weights["gates_input_kernel"], data),  # [B, I] · [I, 2H]
            2,
            axis=-1,
        )
        return update_h + (
            times(reset_h, weights["candidate_recurrent_kernel"])  # [B, H] · [H, H]
            + times(x, weights["candidate_input_kernel"], data)  # [B, I] · [I, H]
        )

    encoder, generator, controller = params["encoder"], params["generator"], params["controller"]
    batch, ends, reads = spikes.shape[1], [], []
    for pair in ("initial", "controller"):
        for direction in ("forward", "backward"):
            weights = encoder[f"{pair}_{direction}"]

            def read(h, x, weights=weights):
                h = gru(weights, h, x, data=True)  # 1.–4. for the two directions of the code's encoder, with I = N
                return h, h  # and 5.–8. for the controller's

            start = jnp.ones((batch, weights["gates_recurrent_kernel"].shape[0]))
            end, states = jax.lax.scan(read, start, spikes, reverse=direction == "backward")
            ends.append(end)
            reads.append(states)
    code = times(jnp.concatenate(ends[:2], -1), params["code_head"]["Dense_0"]["kernel"])  # 9. [B, 2H] · [2H, 2C]
    code, spread = jnp.split(code, 2, axis=-1)
    g = times(code + spread, generator["initial_map"]["kernel"])  # 10. [B, C] · [C, G]
    factors = times(g, generator["factor_kernel"])  # 11. [B, G] · [G, F]

    def step(carry, read):
        g, c, factors = carry
        c = gru(controller["rnn"], c, jnp.concatenate([read, factors], -1))  # 12.–15. I = 2E + F
        u, spread = jnp.split(times(c, controller["head"]["Dense_0"]["kernel"]), 2, axis=-1)  # 16. [B, K] · [K, 2U]
        g = gru(generator["rnn"], g, u + spread)  # 17.–20. I = U
        factors = times(g, generator["factor_kernel"])  # 21. [B, G] · [G, F]
        return (g, c, factors), factors

    reads = jnp.pad(jnp.concatenate(reads[2:], axis=-1), ((0, num_steps - len(spikes)), (0, 0), (0, 0)))
    c = jnp.ones((batch, controller["rnn"]["gates_recurrent_kernel"].shape[0]))
    _, factors = jax.lax.scan(step, (g, c, factors), reads)
    factors = factors.reshape(-1, factors.shape[-1])
    kept = jnp.broadcast_to(stand_in[0, : factors.shape[-1]], factors.shape)
    return product(factors, params["read_out"]["kernel"], kept)  # 22. [T' B, F] · [F, N']


def one_step(weights: Any, spikes: Any, num_steps: int, stand_in: Any) -> Any:
    """The weights after one step, which goes back from what it read out: so no forward product can be left out."""
    out, pull = jax.vjp(lambda weights: lfads_products(weights, spikes, num_steps, stand_in), weights)
    return jax.tree.map(lambda w, g: w - RATE * g, weights, pull(out)[0])


def floor(params: Any, spikes: Any, num_steps: int, steps: int) -> Callable[[], Any]:
    """A function that takes `steps` steps in one compiled loop, from small weights of the shapes in `params` each time.

    Args:
        params: shapes of the model's parameters.
        spikes: [B, T, N], what is read.
        num_steps: bins that are reconstructed.
        steps: training steps of one call.
    """
    matrices, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), len(matrices))
    # products of many steps have to stay finite
    weights = [
        0.1 / sum(w.shape) ** 0.5 * jax.random.normal(key, w.shape) for key, w in zip(keys, matrices, strict=True)
    ]
    weights = jax.tree.unflatten(structure, weights)
    rows = max(w.shape[0] for w in matrices)
    stand_in = 0.1 * jax.random.normal(jax.random.key(1), (spikes.shape[0], rows))
    spikes = jnp.swapaxes(jnp.asarray(spikes, jnp.float32), 0, 1)

    @jax.jit
    def run(weights, spikes, stand_in, n):
        def body(carry):
            i, weights = carry
            return i + 1, one_step(weights, spikes, num_steps, stand_in)

        return jax.lax.while_loop(lambda carry: carry[0] < n, body, (0, weights))

    return lambda: run(weights, spikes, stand_in, steps)
