"""The parts of `persistent_activity.py`: built networks and their tunings, the trained network, numbers and figures."""

import itertools
from typing import Any, NamedTuple


class Held(NamedTuple):
    """Values in memory, and how they are held."""

    title: str
    values: Any
    """[n, k]"""
    states: Any
    """During the delay [n, T + 1, d]."""
    mechanism: Any


def built_networks(settings):
    """(each built network, well tuned; {mechanism: what its mistuned copies were named [noise][tuning]})."""
    import numpy as np
    from tqdm.auto import tqdm

    from ctd_models.analysis import memory_mechanism
    from ctd_models.analysis.constructed import (
        delay_trajectories,
        discrete_attractors,
        line_attractor,
        mistuned,
        ring_attractor,
        rotating_memory,
    )

    values = np.linspace(-1, 1, settings.num_values, endpoint=False)
    systems = [
        build(seed=settings.seed) for build in (discrete_attractors, line_attractor, ring_attractor, rotating_memory)
    ]

    def hold(system, F):
        num_steps, dt = (100, None) if system.kind == "map" else (200, 0.1)  # of a flow 20 units of time
        states, held = delay_trajectories(system, values, num_steps, function=F, dt=dt or 1.0)
        mechanism = memory_mechanism(F, states, held, np.zeros(system.num_inputs), kind=system.kind, dt=dt)
        return Held(system.name, held, states, mechanism)

    named = {system.name: [[] for _ in settings.tuning_noise] for system in systems}
    runs = list(itertools.product(systems, enumerate(settings.tuning_noise), range(settings.num_tunings)))
    for system, (level, noise), tuning in tqdm(runs, desc="tunings", disable=None):
        F = mistuned(system, noise, settings.seed * 1_000 + tuning)
        named[system.name][level].append(hold(system, F).mechanism.name)
    return [hold(system, mistuned(system, 0.0, 0)) for system in systems], named


def trained_network(settings, task, network, variables):
    """How a trained network holds the first stimulus over the longest delay."""
    import jax
    import numpy as np

    from ctd_models import step_function
    from ctd_models.analysis import memory_mechanism

    first = np.linspace(-1, 1, settings.num_values, dtype=np.float32)
    trials = task.trials(first, np.zeros_like(first), np.full(len(first), task.longest_delay))
    states = task.delay_states(jax.jit(network.apply)(variables, trials.inputs).states)
    mechanism = memory_mechanism(step_function(network, variables), states, first, np.zeros(2))
    flat = np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(states)], axis=-1)
    return Held("trained network", first[:, None], flat, mechanism)


def numbers_of(held):
    """Results of a trained network, `is_…` 1 for the mechanism that was named."""
    import numpy as np

    from ctd_models.analysis.memory import MECHANISMS

    mechanism = held.mechanism
    return {
        "decoding_at_end": float(mechanism.decoding[-1]),
        "decoding_as_at_middle": float(mechanism.cross_decoding[len(mechanism.times) // 2, -1]),
        "motion": mechanism.motion,
        "num_slow_modes": mechanism.num_slow,
        "leading_eigenvalue": float(np.median(np.abs(mechanism.points.eigenvalues[:, 0]))),
        **{f"trained_is_{name.replace(' ', '_')}": int(name == mechanism.name) for name in MECHANISMS},
    }


def shares(named):
    """{mechanism: share of its mistuned copies that are named so, at each noise}."""
    return {true: [sum(n == true for n in names) / len(names) for names in levels] for true, levels in named.items()}


def accuracies(named):
    """Shares of networks with the least tuning noise whose mechanism was named right: all, and those of each mechanism."""
    first = {true: levels[0] for true, levels in shares(named).items()}
    each = {f"accuracy_{true.replace(' ', '_')}": share for true, share in first.items()}
    return {"mechanism_accuracy": sum(first.values()) / len(first)} | each


def draw(settings, history, trials, outputs, columns, named) -> None:
    import _common as common
    import matplotlib.pyplot as plt
    import numpy as np

    from ctd_models.plots import plot_history, plot_memory, plot_trials

    common.save_figure(plot_history(history, "mse").figure, settings.out, "loss")
    targets = np.where(np.asarray(trials.mask) > 0, trials.targets, np.nan)
    figure = plot_trials(trials.inputs, targets, outputs)
    figure.axes[0].legend(["strength f", "stimulus on"], frameon=False, fontsize="small")
    common.save_figure(figure, settings.out, "trials")
    figure, panels = plt.subplots(3, len(columns), figsize=(2.9 * len(columns), 8.2), layout="constrained")
    for i, (column, held) in enumerate(zip(panels.T, columns, strict=True)):
        plot_memory(held.mechanism, held.states, held.values, axes=column, first=i == 0)
        column[0].set_title(
            held.title if i < len(named) else f"{held.title}:\n{held.mechanism.name}", fontsize="medium"
        )
    common.save_figure(figure, settings.out, "mechanisms")
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for i, (name, levels) in enumerate(shares(named).items()):
        axes.plot(
            settings.tuning_noise, levels, "os^D"[i % 4], ls=("-", "--", "-.", ":")[i % 4], ms=9 - 2 * i, label=name
        )
    axes.set(xscale="log", ylim=(-0.04, 1.04), xlabel="noise in the connections (× 1/√units)")
    axes.set_ylabel("networks that are still named so")
    axes.legend(frameon=False, fontsize="small")
    common.save_figure(figure, settings.out, "tuning")
