"""How is a number held in memory? By points, a line or a ring that attract, or by a state that moves on.

Builds a network for each of these mechanisms, mistunes it at random, and lets one function name the mechanism; then trains
networks to compare two stimuli across a delay, and asks how these remember.
"""

import dataclasses
from pathlib import Path

import tyro
from _zoo import ZooSettings


@dataclasses.dataclass
class Settings(ZooSettings):
    out: Path = Path("results/persistent_activity")
    num_steps: int = 3_000
    l2: float = 1e-5
    state_noise: float = 0.02
    """Standard deviation of the noise on every unit in training."""
    same_delay: bool = False
    """The same delay in all trials, instead of one of 10 to 50 steps."""
    tuning_noise: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    """Standard deviations of the noise in the connections of the built networks, relative to 1 / √units. Results are of the
    first, under which all of them still hold their values; the others show what breaks."""
    num_tunings: int = 20
    """Random tunings of each built network, at each noise."""
    num_values: int = 100
    """Values that are to be held."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import _persistent as persistent
    import _zoo as zoo
    import jax
    import numpy as np

    from ctd_models.models import make_network
    from ctd_models.tasks import ParametricWorkingMemory

    if settings.num_values < 10 or settings.num_tunings < 1 or not min(settings.tuning_noise, default=-1) >= 0:
        raise SystemExit(
            "expected num_values ≥ 10, num_tunings ≥ 1 and tuning_noise of one number or more, not negative"
        )
    if settings.quick:
        settings = common.shortened(settings, num_steps=400, hidden_size=32, num_tunings=3, num_values=60)
    task = ParametricWorkingMemory()
    if settings.same_delay:
        task = dataclasses.replace(task, shortest_delay=task.longest_delay)
    options = {"cell_options": zoo.continuous(settings), "state_noise": settings.state_noise}
    model = make_network(settings.cell, settings.hidden_size, 1, **options)
    loss, fits = zoo.train(settings, model, task)
    built, named = persistent.built_networks(settings)
    trials, found = jax.jit(task.sample, static_argnums=1)(jax.random.key(settings.seed + 1), 4_000), []
    for number, fit in enumerate(fits):
        model, variables = zoo.load(settings, number)
        network = model.clone(deterministic=True)
        outputs = jax.jit(network.apply)(variables, trials.inputs).outputs
        right = (np.sign(outputs) == trials.targets)[np.asarray(trials.mask) > 0]
        error = loss(variables, trials, {}, 0, False)[1]["mse"]
        held = persistent.trained_network(settings, task, network, variables)
        numbers = {"loss": float(error), "comparison_accuracy": float(right.mean())} | persistent.numbers_of(held)
        found.append(numbers)
        print(f"network {number}: {held.mechanism}")
        if number == 0:
            held.mechanism.points.save(settings.out / "delay_states.h5")
            persistent.draw(settings, fit.history, trials, outputs, [*built, held], named)
    results = persistent.accuracies(named) | zoo.spread(found)
    common.write_results(settings.out, results)
    return results


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
