"""How a system holds a value over a delay: by attractors that are points, a line, a ring, or by states that move on."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.lines import order_line
from ctd_models.analysis.geometry.manifolds import CONSENSUS, Manifold, classify_manifold, manifold_dimension
from ctd_models.analysis.geometry.slow_manifolds import find_slow_manifold
from ctd_models.analysis.orbits.simulation import settle, step_duration
from ctd_models.analysis.systems import Structure, prepare

MECHANISMS = (
    "no memory",
    "decaying memory",
    "dynamic representation",
    "discrete attractors",
    "line attractor",
    "ring attractor",
    "plane attractor",
    "attractor of higher dimension",
    "mixed",
)
READABLE = 0.5  # R² below which a value counts as lost
MOVING = 0.5  # motion over the second half of the delay, relative to the spread, from which a state counts as moving
MISSED = 0.05  # error of one step, relative to the spread, from which trajectories count as those of something else
MOST_TIMES = 50  # times at which the value is read
MOST_POINTS = 200  # of a slow manifold, more than twice those of a ring


@dataclasses.dataclass(frozen=True, repr=False)
class MemoryMechanism:
    """The name of a mechanism, with its evidence."""

    name: str
    """One of `MECHANISMS`."""
    times: Int[np.ndarray, "t"]
    """Steps of the delay at which the value is read."""
    decoding: Float[np.ndarray, "t"]
    """R² with which the value is read from the state at each time, cross-validated; of several values the mean."""
    cross_decoding: Float[np.ndarray, "t t"]
    """R² of a reader that was fitted at one time (row) at another (column); its diagonal is `decoding`."""
    decoding_of_each: Float[np.ndarray, "k"]
    """R² of each value at the end."""
    motion: float
    """Root mean square distance that states move in the second half of the delay, relative to their largest spread; without
    the motion that all trials share."""
    common_motion: float
    """Distance that the mean over trials moves then, relative to the same."""
    points: FixedPoints
    """The states at the end of the delay, linearised, as points of a map (one step)."""
    num_slow: int
    """Modes there that are slow, |λ − 1| T < 1, over the delay of T steps: as many as four of five states have at least."""
    dimension: int
    """Directions in which the end states spread, each among its nearest neighbours; the most common number."""
    num_attractors: int | None
    """Stable states at which the memories end; only of states without such modes, else None."""
    manifold: Manifold | None
    """What the slow points form that are found from these states; only where these lie along an open line, with one slow
    mode at almost all of them, else None."""

    def __repr__(self) -> str:
        slowest = np.median(np.abs(self.points.eigenvalues[:, 0]))
        middle, k = len(self.times) // 2, len(self.decoding_of_each)
        each = "" if k == 1 else f" (each: {', '.join(f'{r2:.3f}' for r2 in self.decoding_of_each)})"
        lines = [
            f"MemoryMechanism: {self.name}, of {len(self.points)} states over {int(self.times[-1])} steps",
            f"  R² {'of the value' if k == 1 else f'of {k} values, mean,'} at the end {self.decoding[-1]:.3f}{each}, "
            f"read as at the middle {self.cross_decoding[middle, -1]:.3f}",
            f"  motion in the second half {self.motion:.3f} of the spread, shared by all trials {self.common_motion:.3f}",
            f"  slow modes {self.num_slow}, largest |λ| {slowest:.4f} (median); end states spread in {self.dimension} "
            f"direction{'s' * (self.dimension != 1)}",
        ]
        if self.num_attractors is not None:
            lines.append(f"  stable states at which they end: {self.num_attractors}")
        if self.manifold is not None:
            no_ring = "" if self.manifold.verdict in ("line", "ring") else ", no ring"
            lines.append(f"  followed beyond the end states, slow points form: {self.manifold.verdict}{no_ring}")
        return "\n".join(lines)


@no_type_check  # it checks its arguments itself
def memory_mechanism(
    F: Callable[..., Any],
    trajectories: Any,
    values: Float[Any, "n *k"],
    inputs: Float[Any, "U"] | None = None,
    *,
    kind: str = "map",
    dt: float | None = None,
    resolution: float = 0.05,
    dtype: Any = np.float64,
) -> MemoryMechanism:
    """Names the mechanism by which a system holds a graded value over a delay (Brody, Romo & Kepecs 2003,
    doi:10.1016/S0959-4388(03)00050-3).

    In this order, over a delay of T steps:

    - "no memory": no value can be read from the states at the end (R² < 0.5);
    - "dynamic representation": one can, but states still move, in the second half by more than half of their spread; motion
      that all trials share does not count;
    - "discrete attractors": they stand still, at most of them every mode decays within the delay, and they end at several
      stable states, so that nearby values become the same; "decaying memory": all end at one;
    - "line attractor", "ring attractor": at four of five states or more there is a slow mode, |λ − 1| T < 1, and the states
      form an open line, or a closed one; closed is also what closes beyond them along slow points. A mistuned line that
      drifts little over the delay is still one. There may be more slow modes, along which nothing is held;
    - "plane attractor", "attractor of higher dimension": the states spread in two directions, or more, and have as many slow
      modes;
    - "mixed": some states have slow modes, some none; or fewer than directions in which they spread.

    The value is read by linear regression on the states of all but a fifth of the trials. Readers get noise of `resolution`
    times the spread of the states at the start in every direction, or else a vanishing trace would count as memory.

    Args:
        F: `F(state)` or `F(state, input)` → next state of a map, time derivative of a flow.
        trajectories: states during the delay [n, T + 1, d], or a pytree of such arrays, of n trials with different values;
            50 or more show a shape. Without noise, which blurs shapes ("mixed") and counts as motion.
        values: the value in each trial, [n] or [n, k]; of an angle its cosine and sine.
        inputs: [U], the constant input of the delay; None: F takes the state alone.
        kind: "map" or "flow".
        dt: time between the states of the trajectories of a flow, in its unit of time.
        resolution: relative noise of the readers, above 0.
        dtype: precision.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.

    Warns:
        RuntimeWarning: the trajectories are not those of F, but of another input, kind, dt, or with noise.
    """
    flat, structure = _flat(trajectories, dtype)
    values = np.asarray(values, float)
    values = values[:, None] if values.ndim == 1 else values
    _check(flat, values, resolution)
    ends = structure.unravel(flat[:, -1])
    if inputs is not None and np.ndim(inputs) != 1:
        raise ValueError(f"expected inputs [U], held over the delay, got shape {np.shape(inputs)}")
    system, _, rows = prepare(F, ends, inputs, kind=kind, dtype=dtype, what="trajectories")
    duration = step_duration(kind, dt, dtype)

    G = jax.tree_util.Partial(_one_step, system, rows[0], duration)  # the map of one step, also of a flow
    num_steps = flat.shape[1] - 1
    times = np.unique(np.linspace(0, num_steps, min(MOST_TIMES, num_steps + 1)).round().astype(int))
    each = _cross_decoding(flat[:, times], values, resolution)
    cross = each.mean(axis=2)
    about = flat - flat.mean(axis=0)
    spread = np.sqrt((about**2).sum(axis=2).mean(axis=0)).max()
    moved = np.sqrt(((about[:, -1] - about[:, num_steps // 2]) ** 2).sum(axis=1).mean()) / spread
    common = np.linalg.norm(flat[:, -1].mean(axis=0) - flat[:, num_steps // 2].mean(axis=0)) / spread
    _warn_of_others(G, flat, spread, dtype)
    points = linearize(G, flat[:, -1], dtype=dtype)
    slow, local = manifold_dimension(points, near=1 / num_steps)
    num_slow, dimension = int(np.quantile(slow, 1 - CONSENSUS, method="lower")), int(np.bincount(local).argmax())
    name, count, manifold = "mixed", None, None
    if each[-1, -1].max() < READABLE:
        name = "no memory"
    elif moved > MOVING:
        name = "dynamic representation"
    elif num_slow and (local == dimension).mean() >= CONSENSUS and dimension <= num_slow:
        name = {1: "line attractor", 2: "plane attractor"}.get(dimension, "attractor of higher dimension")
        if dimension == 1:
            line = order_line(points)
            closed = bool(line.closed[line.pieces].mean() > 0.5)
            if not closed and (slow == 1).mean() >= CONSENSUS:
                manifold = _manifold(G, flat[:, -1], spread, num_steps, dtype)
                closed = manifold is not None and manifold.verdict == "ring"
            name = "ring attractor" if closed else name
    elif (slow == 0).mean() >= CONSENSUS:
        count = _num_stable(G, flat[:, -1], spread, num_steps, dtype)
        name = "discrete attractors" if count > 1 else "decaying memory" if count else "mixed"
    points = dataclasses.replace(points, structure=structure)
    return MemoryMechanism(
        name=name,
        times=times,
        decoding=np.diag(cross),
        cross_decoding=cross,
        decoding_of_each=each[-1, -1],
        motion=float(moved),
        common_motion=float(common),
        points=points,
        num_slow=num_slow,
        dimension=dimension,
        num_attractors=count,
        manifold=manifold,
    )


def _one_step(system: Any, row: Float[Any, "U"], dt: Any, state: Float[Array, "d"]) -> Float[Array, "d"]:
    return system.advance(state, jnp.asarray(row), dt)


def _flat(trajectories: Any, dtype: Any) -> tuple[Float[np.ndarray, "n time d"], Structure]:
    leaves = [np.asarray(leaf, dtype) for leaf in jax.tree.leaves(trajectories)]
    if not leaves or any(leaf.ndim < 3 for leaf in leaves) or len({leaf.shape[:2] for leaf in leaves}) > 1:
        raise ValueError(
            "expected trajectories [n, time, d], or a pytree of arrays [n, time, ...] of one n and time, got shapes "
            f"{[leaf.shape for leaf in leaves]}"
        )
    structure = Structure.of(jax.tree.map(lambda leaf: np.asarray(leaf)[0, 0], trajectories))
    return np.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=2), structure


def _check(flat: np.ndarray, values: np.ndarray, resolution: float) -> None:
    if flat.shape[1] < 3 or len(flat) < 10:
        raise ValueError(f"expected 10 trials or more, of 3 times or more, got trajectories of shape {flat.shape}")
    if values.ndim != 2 or len(values) != len(flat):
        raise ValueError(f"expected values [{len(flat)}] or [{len(flat)}, k], one for each trial, got {values.shape}")
    for name, array in (("trajectories", flat), ("values", values)):
        if not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(f"{name} hold {array[index]} at index {index}")
    if (values.std(axis=0) == 0).any():
        raise ValueError("the values do not vary over trials")
    if not flat[:, 0].std(axis=0).any():
        raise ValueError("the trajectories all begin at the same state, which holds no value")
    if not 0 < resolution < np.inf:
        raise ValueError(f"resolution must be positive, got {resolution}")


def _cross_decoding(
    states: Float[np.ndarray, "n t d"], values: Float[np.ndarray, "n k"], resolution: float
) -> Float[np.ndarray, "t t k"]:
    """R² of the values, of readers fitted at each time (row) with noise in the states, at each time."""
    _, times, d = states.shape
    noise = resolution * np.sqrt(((states[:, 0] - states[:, 0].mean(axis=0)) ** 2).sum(axis=1).mean())
    fold = np.argsort(np.argsort(values[:, 0], kind="stable"), kind="stable") % 5  # every fold sees the whole range
    errors = np.zeros((times, times, values.shape[1]))
    for k in range(5):
        train, test = fold != k, fold == k
        x_mean, y_mean = states[train].mean(axis=0), values[train].mean(axis=0)
        x = (states[train] - x_mean).swapaxes(0, 1)  # [t, n, d]
        gram = x.swapaxes(1, 2) @ x + noise**2 * train.sum() * np.eye(d)
        weights = np.linalg.solve(gram, x.swapaxes(1, 2) @ (values[train] - y_mean))  # [t, d, k]
        offsets = y_mean - np.einsum("td,tdk->tk", x_mean, weights)
        read = np.einsum("nsd,tdk->tsnk", states[test], weights) + offsets[:, None, None]
        errors += ((read - values[test]) ** 2).sum(axis=2) + test.sum() * noise**2 * (weights**2).sum(axis=1)[:, None]
    return 1 - errors / ((values - values.mean(axis=0)) ** 2).sum(axis=0)


def _warn_of_others(G: Any, flat: Float[np.ndarray, "n time d"], spread: float, dtype: Any) -> None:
    """Tells trajectories that F would not make."""
    some = np.unique(np.linspace(0, flat.shape[1] - 2, 8).round().astype(int))
    before, after = (flat[:, some + k].reshape(-1, flat.shape[2]) for k in (0, 1))
    missed = np.sqrt(((settle(G, before, num_steps=1, dtype=dtype) - after) ** 2).sum(axis=1).mean())
    if not missed <= MISSED * spread:
        warnings.warn(
            f"one step of F misses the next state of the trajectories by {missed / spread:.2g} of the spread of states: "
            "they have another input, kind or dt, or noise, and the mechanism is named as if they had not",
            RuntimeWarning,
            stacklevel=3,
        )


def _num_stable(G: Any, ends: Float[np.ndarray, "n d"], spread: float, num_steps: int, dtype: Any) -> int:
    """How many states that stand still the memories end at, ten delays later."""
    final = settle(G, ends, num_steps=10 * num_steps, dtype=dtype)
    after = settle(G, final, num_steps=1, dtype=dtype)
    left = final[np.linalg.norm(after - final, axis=1) < 1e-6 * spread]
    count = 0
    while len(left):
        left = left[np.linalg.norm(left - left[0], axis=1) > 1e-2 * spread]
        count += 1
    return count


def _manifold(G: Any, ends: Float[np.ndarray, "n d"], spread: float, num_steps: int, dtype: Any) -> Manifold | None:
    """The slow points around those of the memories, and what they form; None where nothing is as slow."""
    options = {
        "speed": 0.5 * (MOVING * spread / num_steps) ** 2,
        "near": 1 / num_steps,
        "spacing": spread / 12,
        "reach": 3 * spread,
        "max_points": MOST_POINTS,
        "outlier_factor": None,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the slow manifold goes on")  # it is no line then, nor a ring
        slow = find_slow_manifold(G, ends, dtype=dtype, progress=False, **options)
    return classify_manifold(slow, near=1 / num_steps) if len(slow) else None
