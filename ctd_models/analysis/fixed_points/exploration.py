"""Looking for fixed points that no candidate led to, from where the known ones suggest them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.spatial import cKDTree

from ctd_models.analysis.fixed_points.pursuit import Pursuit
from ctd_models.analysis.fixed_points.unique import merge_duplicates
from ctd_models.analysis.systems import System

FORWARD_STATES, FORWARD_STEPS, LONGEST_PERIOD = 32, 256, 8


def midpoints(points: Float[np.ndarray, "m d"], fresh: int, most: int, apart: float) -> Float[np.ndarray, "k d"]:
    """Midpoints of pairs of points: where saddles lie between attractors.

    Pairs have one of the last `fresh` points; the nearest pairs are taken where there are more than `most`. Midpoints
    closer than `apart` to each other or to a point count once, or not at all.
    """
    count = len(points)
    if count < 2 or fresh < 1:
        return np.zeros((0, points.shape[1]))
    near = min(count, max(2, 2 * most // fresh + 1))
    tree = cKDTree(points)
    _, partners = tree.query(points[count - fresh :], near)
    first = np.repeat(np.arange(count - fresh, count), near)
    pairs = np.unique(np.sort(np.stack([first, partners.reshape(-1)], axis=1), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    middles = points[pairs].mean(axis=1)
    middles = middles[tree.query(middles)[0] > apart]
    if len(middles):
        order = np.argsort(np.linalg.norm(middles - points.mean(axis=0), axis=1), kind="stable")
        middles = middles[np.unique(merge_duplicates(middles, np.argsort(order).astype(float), apart))]
    return middles[:most]


def forward_fates(
    pursuit: Pursuit, states: Float[np.ndarray, "n d"], rows: Float[np.ndarray, "n U"]
) -> tuple[dict[str, int], np.ndarray, np.ndarray]:
    """(where states of a map end when they are run forward → how many, last states, their inputs).

    Evenly chosen states are run `FORWARD_STEPS` steps; a period is the smallest one after which they come back.
    """
    chosen = np.unique(np.linspace(0, len(states) - 1, FORWARD_STATES).round().astype(int))
    padded = np.resize(chosen, FORWARD_STATES)
    last, returns = jax.device_get(_returns(pursuit.system, states[padded], rows[padded]))
    last, returns = last[: len(chosen)], returns[: len(chosen)]
    scale = 1e-5 * (1 + np.linalg.norm(last, axis=1))
    back = returns < scale[:, None]
    periods = np.where(back.any(axis=1), back.argmax(axis=1) + 1, 0)
    finite = np.isfinite(last).all(axis=1)
    fates = {"diverged": int((~finite).sum()), "moving": int((finite & (periods == 0)).sum())}
    for period in np.unique(periods[finite & (periods > 0)]):
        name = "fixed point" if period == 1 else f"cycle of period {period}"
        fates[name] = int((finite & (periods == period)).sum())
    return {name: count for name, count in fates.items() if count}, last[finite], rows[chosen][finite]


@jax.jit
def _returns(system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"]) -> tuple[Any, Any]:
    """(last states, distance [n, P] from the state 1 … P steps before)."""
    step = jax.vmap(system.step)
    before = jax.lax.fori_loop(0, FORWARD_STEPS - LONGEST_PERIOD, lambda _, h: step(h, inputs), states)

    def visit(h, _):
        return step(h, inputs), h

    last, visited = jax.lax.scan(visit, before, None, length=LONGEST_PERIOD)
    return last, jnp.linalg.norm(visited[::-1] - last, axis=-1).T
