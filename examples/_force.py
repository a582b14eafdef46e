"""The periodic half of the FORCE example: a network that goes on with a signal, and the limit cycle behind it."""

import dataclasses
from typing import Any

import _common as common


def follow_period(settings: Any, key: Any) -> dict[str, float]:
    """Learns a sum of sines, runs on for two periods more, and finds the cycle of the network as a flow."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ctd_models import ContinuousESN, step_function
    from ctd_models.analysis import find_fixed_points, find_limit_cycles, linearize
    from ctd_models.tasks import SumOfSines
    from ctd_models.training import Force

    esn = ContinuousESN(settings.periodic_size, 1, gain=settings.gain)
    task = SumOfSines(dt=esn.dt)
    period = task.steps_per_period
    taught = settings.num_periods * period
    targets = dataclasses.replace(task, num_steps=taught + 2 * period).signal(key).targets
    force = Force(esn, alpha=settings.alpha, every=settings.every, recurrent=settings.full_force)
    state = force.init(key)
    for _ in range(10):
        state, _ = force.fit(state, targets=targets[:taught])
    run = force.run(state, num_steps=len(targets))
    error = np.abs(np.asarray(run.outputs - targets))

    F = step_function(esn, state.variables, inputs=jnp.zeros(0))  # a step of Euler's method, dt long
    flow = jax.tree_util.Partial(_velocity, F, esn.dt)
    options = {"dt": esn.dt, "max_period": 1.5 * task.period, "transient": 0, "num_segments": 4, "periods": task.period}
    cycles = find_limit_cycles(flow, run.states[-1:], **options)
    print(cycles)
    points = linearize(F, find_fixed_points(F, run.states[:: max(1, len(targets) // 40)]), dt=esn.dt)
    print(points)
    points.save(settings.out / "fixed_points.h5")
    draw(settings, esn, targets, run, cycles, points)
    results = {
        "periodic_mean_abs_error": error[:taught].mean(),
        "continued_mean_abs_error": error[taught:].mean(),
        "continued_max_abs_error": error[taught:].max(),
        "num_limit_cycles": len(cycles),
        "num_fixed_points": len(points),
    }
    if len(cycles):
        results["cycle_period_s"] = cycles.periods[0]
        results["target_period_s"] = task.period
        results["largest_multiplier"] = np.abs(cycles.multipliers[0]).max()
    return results


def _velocity(F: Any, dt: float, state: Any) -> Any:
    return (F(state) - state) / dt


def draw(settings: Any, esn: Any, targets: Any, run: Any, cycles: Any, points: Any) -> None:
    """The run and the cycle in the principal components of the rates, with fixed points; and outputs over time."""
    import matplotlib.pyplot as plt
    import numpy as np

    from ctd_models.analysis import PCA
    from ctd_models.plots import plot_eigenvalues

    figure = plt.figure(figsize=(11, 4.4), layout="constrained")
    figure.get_layout_engine().set(wspace=0.08)
    space, plane, trace = (
        figure.add_subplot(1, 3, 1, projection="3d"),
        figure.add_subplot(1, 3, 2),
        figure.add_subplot(1, 3, 3),
    )
    states = np.tanh(np.asarray(run.states))
    pca = PCA.fit(states, 3)
    space.plot(*pca.transform(states).T, color="0.7", lw=0.8, label="run")
    for number, orbit in enumerate(cycles.orbits):
        closed = np.concatenate([orbit, orbit[:1]])
        space.plot(*pca.transform(np.tanh(closed)).T, color="C0", lw=2, label="limit cycle" if number == 0 else None)
    if len(points):
        kept = pca.transform(np.tanh(points.states))
        for stable, style in ((True, {"mfc": "C3"}), (False, {"mfc": "none"})):
            label = "stable fixed point" if stable else "unstable fixed point"
            chosen = kept[points.is_stable == stable]
            if len(chosen):
                space.plot(*chosen.T, "D", ms=5, color="C3", label=label, **style)
    space.set(xlabel="PC 1", ylabel="PC 2", zlabel="PC 3")
    space.legend(frameon=False, fontsize="small", loc="upper left")
    if len(cycles):
        plot_eigenvalues(cycles.multipliers[0], kind="map", axes=plane)
    plane.set_title("Floquet multipliers of the cycle", fontsize="medium")
    time = esn.dt * np.arange(1, len(targets) + 1)
    trace.plot(time, targets[:, 0], color="black", lw=1.6, label="target")
    trace.plot(time, np.asarray(run.outputs)[:, 0], color="C1", lw=1, label="output")
    trace.axvline(esn.dt * settings.num_periods * round(30.0 / esn.dt), color="0.5", ls=":", label="taught up to here")
    trace.set(xlabel="time (s)", ylabel="output")
    trace.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    common.save_figure(figure, settings.out, "cycle")
