"""A network with a memory of several bits: stable states, the saddles between them, and who is whose neighbour.

Trains networks to hold the sign of the last pulse on each of several channels, finds all fixed points without input, and
follows the unstable directions of the saddles to the memories that they join.
"""

import dataclasses
from pathlib import Path

import tyro
from _zoo import ZooSettings


@dataclasses.dataclass
class Settings(ZooSettings):
    out: Path = Path("results/flip_flop")
    num_bits: int = 3
    """Channels N, of which a network has 2^N memories."""
    hidden_size: int = 32
    num_steps: int = 2_500
    l2: float = 1e-5
    state_noise: float = 0.1
    """Standard deviation of the noise on every unit in training, without which memories need not be stable for long."""
    num_candidates: int = 500
    """States to search from."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import _zoo as zoo
    import jax

    from ctd_models.models import make_network
    from ctd_models.tasks import FlipFlop

    if settings.quick:
        settings = common.shortened(settings, num_steps=1_000, num_candidates=200)
    task = FlipFlop(num_bits=settings.num_bits, starts_with_pulse=True)
    model = make_network(
        settings.cell,
        settings.hidden_size,
        settings.num_bits,
        cell_options=zoo.continuous(settings),
        state_noise=settings.state_noise,
    )
    loss, fits = zoo.train(settings, model, task)
    trials = jax.jit(task.sample, static_argnums=1)(jax.random.key(settings.seed + 1), 1_000)
    found = []
    for number, fit in enumerate(fits):
        model, variables = zoo.load(settings, number)
        trajectory = jax.jit(model.clone(deterministic=True).apply)(variables, trials.inputs)
        error = loss(variables, trials, {}, 0, False)[1]["mse"]
        points, connections, numbers = analyse(settings, model, variables, trajectory.states)
        found.append({"loss": float(error)} | numbers)
        if number == 0:
            points.save(settings.out / "fixed_points.h5")
            draw(settings.out, fit.history, trials, trajectory, points, connections)
    results = zoo.spread(found)
    common.write_results(settings.out, results)
    return results


def analyse(settings, model, variables, states):
    """(fixed points without input, ways out of the unstable ones, numbers) of one network."""
    import _zoo as zoo
    import numpy as np

    from ctd_models import step_function
    from ctd_models.analysis import find_attractors, find_fixed_points, linearize, saddle_connections

    F, rest = step_function(model, variables), np.zeros(settings.num_bits)
    candidates = zoo.candidates(settings, states, settings.num_candidates)
    points = linearize(F, find_fixed_points(F, candidates, rest, bounds=zoo.bounds(settings)))
    ends, connections = find_attractors(F, candidates, rest), saddle_connections(F, points)
    graph, memories = connections.transition_graph(), points[points.is_stable]
    held = zoo.readout_of(model, variables)(memories.states)
    corners = {tuple(np.sign(row)) for row in held if np.abs(np.abs(row) - 1).max() < 0.3}
    numbers = {
        "num_stable_memories": len(corners),
        "num_fixed_points": len(points),
        "num_stable_points": len(memories),
        **{f"num_saddles_{k}": int((points.num_unstable == k).sum()) for k in range(1, settings.num_bits + 1)},
        "num_transitions": len(graph),
        "num_two_cycles": sum(period == 2 for period in ends.periods),
    }
    print(points, graph, ends, sep="\n")
    if cycles := numbers["num_two_cycles"]:
        print(f"{cycles} attractors are cycles of two states, not fixed points: these memories alternate")
    return points, connections, numbers


def draw(out, history, trials, trajectory, points, connections) -> None:
    import _common as common
    import jax
    import matplotlib.pyplot as plt
    import numpy as np

    from ctd_models.plots import plot_eigenvalues, plot_fixed_points, plot_history, plot_transition_graph, plot_trials

    states = np.concatenate([np.asarray(s) for s in jax.tree.leaves(trajectory.states)], axis=-1)
    common.save_figure(plot_history(history, "mse").figure, out, "loss")
    common.save_figure(plot_trials(trials.inputs, trials.targets, trajectory.outputs), out, "trials")
    common.save_figure(plot_fixed_points(points, trajectories=states[:20], color="index").figure, out, "fixed_points")
    common.save_figure(plot_eigenvalues(points, values="point").figure, out, "eigenvalues")
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    plot_transition_graph(connections, points, axes[0])
    plot_transition_graph(connections.transition_graph(), points, axes[1], layout="graph", max_unstable=1)
    common.save_figure(figure, out, "transitions")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
