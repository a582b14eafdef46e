"""The floor of a training step: its matrix products alone, in the loops that the step has.

Each function is one training step of a network: a scan forward and a scan back in time, whose products feed each other
through what the scans carry, so that none can be left out or moved out of its loop. No nonlinearity, loss, data or
optimizer; sums where results of products join. `last` stands for the states that a real step stores for its way back.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

RATE = 1e-12  # moves the weights so little that they stay finite, but the compiler does not know


def rnn_products(weights: dict[str, Any], h: Any, x: Any) -> tuple[dict[str, Any], Any]:
    """The eight products a time step of `VanillaRNN`: (next weights, next state). x [T, B, U], h [B, N]."""

    def forward(h, x):
        h = (
            h @ weights["recurrent"]  # 1. [B, N] · [N, N]
            + x @ weights["input"]  # 2. [B, U] · [U, N]
        )
        return h, h @ weights["readout"]  # 3. [B, N] · [N, O]

    def backward(carry, x_and_do):
        dz, gradient = carry
        x, do = x_and_do
        products = {
            "recurrent": last.T @ dz,  # 4. [N, B] · [B, N]
            "input": x.T @ dz,  # 5. [U, B] · [B, N]
            "readout": last.T @ do,  # 6. [N, B] · [B, O]
        }
        dz = (
            dz @ weights["recurrent"].T  # 7. [B, N] · [N, N]
            + do @ weights["readout"].T  # 8. [B, O] · [O, N]
        )
        return (dz, jax.tree.map(jnp.add, gradient, products)), None

    last, outputs = jax.lax.scan(forward, h, x)
    return _backward(backward, last, weights, x, outputs)


def gru_products(weights: dict[str, Any], h: Any, x: Any) -> tuple[dict[str, Any], Any]:
    """The thirteen products a time step of `GRU`: (next weights, next state). Both gates share their matrices."""

    def forward(h, x):
        gates = (
            h @ weights["gates_recurrent"]  # 1. [B, N] · [N, 2N]
            + x @ weights["gates_input"]  # 2. [B, U] · [U, 2N]
        )
        reset_h, update_h = jnp.split(gates, 2, axis=-1)
        h = update_h + (
            reset_h @ weights["candidate_recurrent"]  # 3. [B, N] · [N, N]
            + x @ weights["candidate_input"]  # 4. [B, U] · [U, N]
        )
        return h, h @ weights["readout"]  # 5. [B, N] · [N, O]

    def backward(carry, x_and_do):
        dc, gradient = carry
        x, do = x_and_do
        dr = dc @ weights["candidate_recurrent"].T  # 6. [B, N] · [N, N]
        dg = jnp.concatenate([dr, dc], axis=-1)
        products = {
            "candidate_recurrent": last.T @ dc,  # 7. [N, B] · [B, N]
            "candidate_input": x.T @ dc,  # 8. [U, B] · [B, N]
            "gates_recurrent": last.T @ dg,  # 9. [N, B] · [B, 2N]
            "gates_input": x.T @ dg,  # 10. [U, B] · [B, 2N]
            "readout": last.T @ do,  # 11. [N, B] · [B, O]
        }
        dc = (
            dg @ weights["gates_recurrent"].T  # 12. [B, 2N] · [2N, N]
            + do @ weights["readout"].T  # 13. [B, O] · [O, N]
        )
        return (dc, jax.tree.map(jnp.add, gradient, products)), None

    last, outputs = jax.lax.scan(forward, h, x)
    return _backward(backward, last, weights, x, outputs)


def _backward(step, h, weights, x, outputs):
    start = (h, jax.tree.map(jnp.zeros_like, weights))
    (dh, gradient), _ = jax.lax.scan(step, start, (x, outputs), reverse=True)
    return jax.tree.map(lambda w, g: w - RATE * g, weights, gradient), dh


def floor(products: Callable[..., Any], shapes: dict[str, tuple[int, int]], x: Any, steps: int) -> Callable[[], Any]:
    """A function that takes `steps` steps in one compiled loop, from small weights of these shapes each time."""
    keys = jax.random.split(jax.random.key(0), len(shapes))
    weights = {
        name: 0.3 / sum(shape) ** 0.5 * jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    h = jnp.ones((x.shape[1], shapes["readout"][0]))

    @jax.jit
    def run(weights, h, x, n):
        def body(carry):
            i, weights, h = carry
            return i + 1, *products(weights, h, x)

        return jax.lax.while_loop(lambda carry: carry[0] < n, body, (0, weights, h))

    return lambda: run(weights, h, x, steps)
