"""Speed of FORCE learning: a step against the memory traffic that it needs, SciPy's BLAS in place, and reservoirpy.

    python benchmarks/force.py [--record]

In one process on one core, in turn. The floor of a step is the bytes that it must move at the bandwidth of an in-place
update (x ← x + 1) of a matrix of that size, measured in the same rounds: 16 n² bytes where the whole P is updated in every
step (W_rec read, P read for P h, P read and written), 10 n² with half of it, 8 n² for the block form, which only reads P.
Matrices that lie in a cache are faster than this. `Force` keeps half of P in both forms.
"""

import dataclasses
import functools
import os
import sys
import time
from typing import Any

import _timing as timing
import tyro


@dataclasses.dataclass
class Settings:
    sizes: tuple[int, ...] = (500, 1000, 2000)
    """Units of the networks."""
    num_outputs: int = 20
    """Outputs."""
    steps: tuple[int, ...] = (1200, 300, 100)
    """Steps of a run at each size."""
    rounds: int = 7
    """Rounds, in each of which every variant runs once."""
    cores: int = 1
    """Cores that this process may use, and threads of BLAS."""
    seed: int = 0
    """Seed of weights and targets."""
    record: bool = False
    """Append the tables to RESULTS.md."""
    quick: bool = False
    """Sizes of a few units, to see that everything runs."""


TARGETS = {
    "block form / per step, whole P [CPU]": {500: 0.8, 1000: 1.0, 2000: 1.0},
    "block form / per step [CPU]": {500: 0.8, 1000: 1.0, 2000: 1.0},
    "per step / floor of 16 n² [CPU]": {500: 2.0, 1000: 2.0, 2000: 2.0},
    "block form / BLAS in place [CPU]": {500: 1.0, 1000: 1.0, 2000: 1.0},
    "block form / reservoirpy [CPU]": {500: 0.1},
}


def main(settings: Settings) -> None:
    if settings.quick:
        settings = dataclasses.replace(settings, sizes=(8,), num_outputs=2, steps=(10,), rounds=1)
    facts = {
        "command": " ".join(["python benchmarks/force.py", *sys.argv[1:]]),
        "commit, seed": f"{timing.commit()}, {settings.seed}",
        "machine": f"{timing.machine()}; {settings.cores} core(s) used; {timing.load()} at the start",
        "conditions": f"float32, {settings.num_outputs} outputs; {settings.rounds} rounds in turn; "
        "median (minimum to maximum)",
    }
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
    rows, ratios = [], []
    for size, steps in zip(settings.sizes, settings.steps, strict=True):
        runs, per_run = variants(settings, size, steps)
        times = timing.interleaved(runs, settings.rounds)
        micro = {name: [1e6 * value / per_run[name] for value in t.cpu] for name, t in times.items()}
        byte = [value / (8 * size * size) for value in micro["in-place update"]]  # µs a byte
        for name, values in micro.items():
            moved = {"per step, whole P": 16, "per step": 10, "block form": 8, "BLAS in place": 10}.get(name)
            floor = "" if moved is None else timing.spread([moved * size**2 * b for b in byte])
            rows.append([size, name, timing.spread(values), floor])
        compared = {
            "block form / per step, whole P [CPU]": (micro["block form"], micro["per step, whole P"]),
            "block form / per step [CPU]": (micro["block form"], micro["per step"]),
            "per step / floor of 16 n² [CPU]": (micro["per step"], [16 * size**2 * b for b in byte]),
            "block form / floor of 8 n² [CPU]": (micro["block form"], [8 * size**2 * b for b in byte]),
            "block form / BLAS in place [CPU]": (micro["block form"], micro["BLAS in place"]),
        }
        if "reservoirpy" in micro:
            compared["block form / reservoirpy [CPU]"] = (micro["block form"], micro["reservoirpy"])
        for name, pair in compared.items():
            values = timing.ratios(*pair)
            target = TARGETS.get(name, {}).get(size)
            middle = sorted(values)[len(values) // 2]
            verdict = "" if target is None else f"<= {target:g}: {'met' if middle <= target else 'MISSED'}"
            ratios.append([size, name, timing.spread(values), verdict])
    for steps in (300, 30_000) if not settings.quick else (10, 20):
        seconds = compilation(settings, settings.sizes[0], steps)
        verdict = f"<= 3: {'met' if seconds <= 3 else 'MISSED'}"
        ratios.append([settings.sizes[0], f"compile a pass of {steps} steps [s]", f"{seconds:.3g}", verdict])
    facts["machine"] += f", {timing.load()} at the end"
    body = "\n\n".join(
        [
            timing.table(["units", "variant", "CPU [µs/step]", "floor [µs/step]"], rows),
            timing.table(["units", "quantity", "value", "target"], ratios),
        ]
    )
    print(f"\n{body}")
    if settings.record:
        timing.append_section("force.py", facts, body)


def variants(settings: Settings, size: int, steps: int) -> tuple[dict[str, Any], dict[str, int]]:
    """(name → function that runs once, name → how many steps this is)."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ctd_models import ContinuousESN
    from ctd_models.training import Force
    from ctd_models.training.least_squares import SymmetricMatrix

    targets = np.sin(np.linspace(0, 20, steps)[:, None] + np.arange(settings.num_outputs)).astype(np.float32)
    model, key = ContinuousESN(size, settings.num_outputs), jax.random.key(settings.seed)
    runs, per_run = {}, {}

    def learner(force, panels=None):
        state = [force.init(key)]
        if panels is not None:
            state[0] = state[0].replace(inverse=SymmetricMatrix.identity(size, 1.0, panels))

        def run():
            state[0], learned = force.fit(state[0], targets=targets)
            return learned.outputs

        return run

    for name, force in (("per step", Force(model, block_size=1)), ("block form", Force(model))):
        runs[name], per_run[name] = learner(force), steps
    runs["per step, whole P"] = learner(Force(model, block_size=1), panels=1)
    per_run["per step, whole P"] = steps
    variables = jax.tree.map(np.asarray, Force(model).init(key).variables)
    runs["BLAS in place"] = functools.partial(in_place, variables, targets)
    per_run["BLAS in place"] = steps
    add = jax.jit(lambda x: x + 1.0, donate_argnums=0)
    matrix, repeats = [jnp.zeros((size, size))], 20

    def update():
        for _ in range(repeats):
            matrix[0] = add(matrix[0])
        return matrix[0]

    runs["in-place update"], per_run["in-place update"] = update, repeats
    if size <= 500 and (other := reservoirpy_run(size, settings, targets[: min(steps, 100)])):
        runs["reservoirpy"], per_run["reservoirpy"] = other, min(steps, 100)
    return runs, per_run


def in_place(variables: Any, targets: Any) -> Any:
    """The same learning by SciPy's BLAS, symmetric and in place: ssymv, ssyr and a matrix-vector product."""
    import numpy as np
    from scipy.linalg import blas

    fixed, readout = variables["reservoir"], variables["params"]["readout"].copy()
    recurrent = np.asfortranarray(fixed["recurrent_kernel"])
    P = np.asfortranarray(np.eye(len(readout), dtype=np.float32))
    a = fixed["initial_state"].copy()
    h, z = np.tanh(a), np.tanh(a) @ readout
    feedback = fixed["feedback_kernel"]
    for target in targets:
        drive = blas.sgemv(1.0, recurrent, h, trans=1)
        drive += z @ feedback
        a += 0.1 * (drive - a)
        h = np.tanh(a)
        z = h @ readout
        k = blas.ssymv(1.0, P, h, lower=1)
        c = 1 / (1 + h @ k)
        P = blas.ssyr(-c, k, lower=1, a=P, overwrite_a=1)
        readout -= np.outer(c * k, z - target)
    return readout


def reservoirpy_run(size: int, settings: Settings, targets: Any) -> Any:
    """Recursive least squares of reservoirpy on a reservoir of its own; None where it is not installed."""
    try:
        from reservoirpy.nodes import RLS, Reservoir
    except ImportError:
        return None
    import numpy as np

    reservoir = Reservoir(size, lr=0.1, sr=1.5, rc_connectivity=1.0, seed=settings.seed)
    states = reservoir.run(np.zeros((len(targets), 1)) + 0.1)
    readout = RLS(alpha=1.0)

    def run():
        if hasattr(readout, "partial_fit"):
            readout.partial_fit(states, targets)
        else:
            readout.train(states, targets)
        return reservoir.run(np.zeros((len(targets), 1)))

    return run


def compilation(settings: Settings, size: int, steps: int) -> float:
    """Wall seconds to trace and compile a pass."""
    import jax
    import numpy as np

    from ctd_models import ContinuousESN
    from ctd_models.training import Force

    force = Force(ContinuousESN(size, settings.num_outputs, gain=1.49))
    state = force.init(jax.random.key(settings.seed))
    jax.clear_caches()
    start = time.perf_counter()
    jax.jit(lambda state, targets: force.fit(state, targets=targets)).lower(
        state, jax.ShapeDtypeStruct((steps, settings.num_outputs), np.float32)
    ).compile()
    return time.perf_counter() - start


def restrict(cores: int) -> None:
    """Leaves this process only so many cores, BLAS included; before JAX and NumPy are loaded."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(cores)
    if cores == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


if __name__ == "__main__":
    chosen = tyro.cli(Settings, description=__doc__)
    restrict(chosen.cores)
    main(chosen)
