"""Peers of find_fixed_points, for benchmarks/fixed_points.py: tuned Adam in JAX, and BrainPy's SlowPointFinder."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import _timing as timing
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _fixed_point_cases import Case


class AdamSetting(NamedTuple):
    """Adam on q with the step size learning_rate · decay^iteration."""

    learning_rate: float
    decay: float
    beta2: float
    epsilon: float
    iterations: int = 10_000
    """Iterations at which to give up; for BrainPy, which does not stop by itself, how many it does."""


VARIANTS = {"Adam float32": np.float32, "Adam float64": np.float64, "BrainPy": np.float32}
COMPETITORS = {  # network → its peers; BrainPy knows no bounds, and a search to q ≤ 1e-20 is left to find_fixed_points
    "tanh16": ("Adam float32", "Adam float64", "BrainPy"),
    "gru16": ("Adam float32", "Adam float64", "BrainPy"),
    "gru16_bounded": ("Adam float32", "Adam float64"),
    "decision_gru": ("Adam float32", "Adam float64"),
}
# The best of `python benchmarks/fixed_points.py --tune 40`, for a share of 0.98; on gru16 and decision_gru none reached it.
TUNED: dict[str, dict[str, AdamSetting]] = {
    "tanh16": {
        "Adam float32": AdamSetting(0.460588, 0.990059, 0.999446, 1.10373e-07),
        "Adam float64": AdamSetting(0.460588, 0.990059, 0.999446, 1.10373e-07),
        "BrainPy": AdamSetting(0.460588, 0.990059, 0.999446, 1.10373e-07, 274),
    },
    "gru16": {
        "Adam float32": AdamSetting(0.0128, 0.999, 0.978, 1.24e-08),
        "Adam float64": AdamSetting(0.0166, 1.0, 0.984, 0.0971),
        "BrainPy": AdamSetting(0.137, 1.0, 0.852, 0.312),
    },
    "gru16_bounded": {
        "Adam float32": AdamSetting(0.404994, 0.993383, 0.99593, 4.36886e-09),
        "Adam float64": AdamSetting(0.404994, 0.993383, 0.99593, 4.36886e-09),
    },
    "decision_gru": {
        "Adam float32": AdamSetting(0.925467, 0.999115, 0.998585, 3.47312e-08),
        "Adam float64": AdamSetting(1.4234, 0.998008, 0.998358, 9.62687e-09),
    },
}


class Descent(NamedTuple):
    """Where Adam ended."""

    states: Any
    iterations: Any
    arrived: Any
    """How many states are within the tolerance."""


def adam(case: Case, setting: AdamSetting, share: float, dtype: Any, freeze: bool = True) -> Descent:
    """Adam on all starts at once in one compiled loop, until the share of them is within the tolerance.

    States that have arrived no longer move, unless `freeze` is off; then the loop ends when the share is there at once.
    The loop's tolerance leaves room for rounding, eps ‖h‖ in the residual, so that the share holds in float64 as well.
    """
    with jax.enable_x64(np.dtype(dtype) == np.float64):
        F, states, inputs = case.arrays(dtype)
        low, high = case.bounds or (-np.inf, np.inf)
        needed = np.int32(math.ceil(share * len(states)))
        rounding = np.finfo(dtype).eps * np.sqrt((case.candidates**2).sum(axis=1).mean())
        tolerance = 0.5 * max(math.sqrt(2 * case.tolerance) - rounding, 0) ** 2
        limits = (tolerance, needed, low, high)
        return jax.device_get(_descend(F, states, inputs, setting, limits, freeze))


@partial(jax.jit, static_argnames="freeze")
def _descend(F, states, inputs, setting, limits, freeze):
    tolerance, needed, low, high = limits
    moments = optax.scale_by_adam(b2=setting.beta2, eps=setting.epsilon)

    def evaluate(states):
        residual, pull = jax.vjp(lambda h: jax.vmap(F, (0, None))(h, inputs) - h, states)
        return 0.5 * (residual**2).sum(axis=1) <= tolerance, pull(residual)[0]

    def unfinished(loop):
        count, _, arrived, *_ = loop
        return (arrived.sum() < needed) & (count < setting.iterations)

    def iterate(loop):
        count, states, arrived, gradient, memory = loop
        update, memory = moments.update(gradient, memory)
        moved = jnp.clip(states - setting.learning_rate * setting.decay**count * update, low, high)
        states = jnp.where((arrived & freeze)[:, None], states, moved)
        return count + 1, states, *evaluate(states), memory

    start = (0, states, *evaluate(states), moments.init(states))
    count, states, arrived, *_ = jax.lax.while_loop(unfinished, iterate, start)
    return Descent(states, count, arrived.sum())


def tune(
    case: Case, variant: str, share: float, trials: int, start: AdamSetting, rng: np.random.Generator
) -> AdamSetting:
    """The setting that takes the fewest iterations to the share, or comes closest to it: `start`, or one of random trials.

    Half of the trials are drawn anywhere, half around the best so far.
    A trial gives up at the iterations of the best, so that most are short.
    """

    def setting(z, iterations):
        return AdamSetting(*(float(v) for v in (10 ** z[0], 1 - 10 ** z[1], 1 - 10 ** z[2], 10 ** z[3])), iterations)

    best = np.log10([start.learning_rate, 1 - min(start.decay, 1 - 1e-6), 1 - start.beta2, start.epsilon])
    fewest, most, needed = start.iterations, -1, math.ceil(share * len(case.candidates))
    for trial in range(trials + 1):
        anywhere = rng.uniform([-3, -5, -3.5, -12], [0, -1, -0.7, -1])
        around = np.minimum(best + rng.normal(size=4) * [0.15, 0.25, 0.25, 0.7], [2, -0.5, -0.5, 1])
        z = best if trial == 0 else anywhere if trial <= trials // 2 else around
        descent = adam(case, setting(z, fewest), share, VARIANTS[variant], freeze=variant != "BrainPy")
        arrived = min(int(descent.arrived), needed)
        if arrived > most or (arrived == needed and descent.iterations < fewest):
            best, fewest, most = z, int(descent.iterations), arrived
    return setting(best, fewest)


def print_tuned(cases: dict[str, Case], share: float, trials: int, seed: int) -> None:
    """Prints the lines of `TUNED` for the networks in `cases`."""
    for name, variants in COMPETITORS.items():
        start = AdamSetting(0.02, 0.999, 0.99, 1e-8)
        print(f'    "{name}": {{')
        for variant in variants if name in cases else ():
            best = tune(cases[name], variant, share, trials, start, np.random.default_rng(seed))
            if variant != "BrainPy":  # the others stop by themselves
                best = best._replace(iterations=start.iterations)
            values = ", ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in best)
            print(f'        "{variant}": AdamSetting({values}),', flush=True)
            start = best._replace(iterations=start.iterations)
        print("    },")


EXTRA = 5_000  # iterations by which one of BrainPy's runs is longer


def brainpy_search(case: Case, setting: AdamSetting) -> Callable[..., tuple[np.ndarray, int]] | None:
    """search(iterations) → (states [n, d], iterations done) by BrainPy's SlowPointFinder; None, with a message, without it.

    BrainPy minimises the mean loss over starts and units, 2 / (n d) of the sum of q: epsilon is scaled, so that its
    updates are those of `adam`, apart from the first few, where epsilon weighs more. It cannot stop at a share of the
    starts. Given a number of iterations, it does these in one chunk, as it compiles each chunk anew; given None, it stops
    where its mean loss, looked at every 1,000 iterations, is that of q at the tolerance, or at 10,000.
    """
    try:
        import brainpy
    except ImportError as error:
        print(f"BrainPy is left out: {error}")
        return None
    F, candidates, inputs = case.arrays(jnp.float32)
    finder = brainpy.analysis.SlowPointFinder(lambda h: F(h, inputs), f_type="discrete", verbose=False)

    def search(iterations: int | None) -> tuple[np.ndarray, int]:
        schedule = brainpy.optim.ExponentialDecayLR(setting.learning_rate, 1, setting.decay)
        epsilon = 2 * setting.epsilon / candidates.size
        finder.find_fps_with_gd_method(
            candidates,
            tolerance=0.0 if iterations else 2 * case.tolerance / candidates.shape[1],
            num_batch=iterations or 1_000,
            num_opt=iterations or 10_000,
            optimizer=brainpy.optim.Adam(lr=schedule, beta2=setting.beta2, eps=epsilon),
        )
        return finder.fixed_points, len(finder.opt_losses)

    return search


def brainpy_runs(case: Case, setting: AdamSetting) -> dict[str, Callable[[], tuple[np.ndarray, int]]]:
    """Variant → call that returns (states, iterations); empty without BrainPy."""
    search = brainpy_search(case, setting)
    if search is None:
        return {}
    return {
        "BrainPy, iterations given": partial(search, setting.iterations),
        "BrainPy, own stop": partial(search, None),
        "BrainPy, longer": partial(search, setting.iterations + EXTRA),
    }


def after_compile(times: dict[str, timing.Times], iterations: dict[str, int]) -> None:
    """Takes the compilation, which BrainPy repeats in every call, out of its times.

    What is left is the number of iterations times the seconds of one, from two runs of different length in the same
    round. The calls as a user sees them stay under the name "…, whole call".
    """

    def each(given: Sequence[float], longer: Sequence[float]) -> list[float]:
        return [(b - a) / EXTRA for a, b in zip(given, longer, strict=True)]

    given, longer = times["BrainPy, iterations given"], times.pop("BrainPy, longer")
    wall, cpu = each(given.wall, longer.wall), each(given.cpu, longer.cpu)
    for variant in ("BrainPy, iterations given", "BrainPy, own stop"):
        count = iterations[variant]
        times[f"{variant}, whole call"] = times[variant]
        times[variant] = timing.Times([count * seconds for seconds in wall], [count * seconds for seconds in cpu])
