"""FORCE learning: an echo state network learns the outputs of a chaotic network, and then a periodic signal.

The readout of a random network is learned by recursive least squares while its own output is fed back. After 15 passes over
300 steps of 20 units of another chaotic network it makes them by itself. A second, smaller network learns a sum of sines; it
is run for two periods more than it was taught, and its limit cycle is found, with its stability.
"""

import dataclasses
from pathlib import Path

import _common as common
import tyro


@dataclasses.dataclass
class Settings:
    out: Path = Path("results/force_esn")
    """Folder for results, figures and checkpoints."""
    hidden_size: int = 500
    """Units of the network."""
    gain: float = 1.5
    """Gain g of its recurrent weights."""
    num_outputs: int = 20
    """Units of the other network that are the targets."""
    num_steps: int = 300
    """Steps of a pass."""
    num_passes: int = 15
    """Passes over the targets."""
    alpha: float = 1.0
    """P begins as alpha times the identity."""
    every: int = 1
    """Weights change in every so many steps."""
    full_force: bool = False
    """Learn recurrent weights as well (full-FORCE)."""
    periodic_size: int = 300
    """Units of the network that learns the periodic signal."""
    num_periods: int = 4
    """Periods in a pass over it."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code: a smaller network for the periodic signal."""


def main(settings: Settings) -> dict[str, float]:
    import jax

    if min(settings.num_passes, settings.num_steps, settings.num_periods) < 1:
        raise SystemExit("--num-passes, --num-steps and --num-periods must be at least 1")
    given = settings
    if settings.quick:
        settings = common.shortened(settings, periodic_size=100)
    common.remember(given)
    chaotic_key, periodic_key = jax.random.split(jax.random.key(settings.seed))
    results = follow_chaos(settings, chaotic_key) | follow_period(settings, periodic_key)
    common.write_results(settings.out, results)
    return results


def follow_chaos(settings, key):
    """Learns the outputs of a chaotic network, as published."""
    import time

    import jax
    import numpy as np

    from ctd_models import ContinuousESN
    from ctd_models.plots.force import plot_outputs, plot_reservoir
    from ctd_models.tasks import ChaoticOutputs
    from ctd_models.training import Force

    network_key, target_key = jax.random.split(key)
    esn = ContinuousESN(settings.hidden_size, settings.num_outputs, gain=settings.gain)
    force = Force(esn, alpha=settings.alpha, every=settings.every, recurrent=settings.full_force)
    targets = np.asarray(ChaoticOutputs(settings.num_steps, settings.num_outputs).signal(target_key).targets)
    state = force.init(network_key)
    phases = {"before": force.run(state, num_steps=len(targets)).outputs}
    matrices, changes, seconds = {"before": effective_matrix(state.variables)}, [], []
    for number in range(settings.num_passes):
        start = time.perf_counter()
        state, learned = jax.block_until_ready(force.fit(state, targets=targets))
        seconds.append(time.perf_counter() - start)
        changes.append(learned.weight_change)
        if number == 0:
            phases["first pass of learning"] = learned.outputs
    matrices["after"] = effective_matrix(state.variables)
    force.save(settings.out / "checkpoints", state)
    run = force.run(state, num_steps=len(targets))
    phases["by itself, after learning"] = run.outputs
    error = np.abs(np.asarray(run.outputs) - targets)
    common.save_figure(plot_outputs(targets, phases, dt=esn.dt), settings.out, "outputs")
    rates = np.tanh(np.asarray(run.states))
    common.save_figure(plot_reservoir(rates, error.mean(axis=1), changes, dt=esn.dt), settings.out, "reservoir")
    plot_spectra(matrices, settings.out)
    fastest = min(seconds[1:], default=seconds[0])
    return {
        "mean_abs_error": error.mean(),
        "max_abs_error": error.max(),
        "steps_per_second": len(targets) / fastest,
        "compile_seconds": seconds[0] - fastest,
    }


def effective_matrix(variables):
    """W_rec + W_out W_fb [from, to], which acts on the rates once the output is fed back."""
    fixed = variables["reservoir"]
    return fixed["recurrent_kernel"] + variables["params"]["readout"] @ fixed["feedback_kernel"]


def plot_spectra(matrices, out):
    """Eigenvalues of the effective matrices."""
    import matplotlib.pyplot as plt
    import numpy as np

    shape = {"figsize": (4.4 * len(matrices), 4.4), "sharex": True, "sharey": True, "layout": "constrained"}
    figure, axes = plt.subplots(1, len(matrices), **shape)
    every = {name: np.linalg.eigvals(np.asarray(matrix, float)) for name, matrix in matrices.items()}
    for axis, (name, eigenvalues) in zip(axes, every.items(), strict=True):
        axis.axvline(1, color="0.6", lw=0.8)  # right of it, a mode about the origin grows
        axis.plot(eigenvalues.real, eigenvalues.imag, ".", ms=4, color="C0")
        axis.set(xlabel="Re λ", ylabel="Im λ")
        axis.set_title(f"W_rec + W_out W_fb, {name} learning", fontsize="medium")
        axis.set_aspect("equal")
    common.save_figure(figure, out, "eigenvalues")


def follow_period(settings, key):
    """Learns a sum of sines, and finds the limit cycle that the network then has."""
    import _force

    return _force.follow_period(settings, key)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
