"""A chain of modules looks at an object, keeps it in mind and grasps it, as AIP, F5 and M1 do.

Trains networks of three modules that are joined by sparse links to turn what an object looks like into the kinematics of the
arm and the hand that grasp it; asks what each module knows of the object and when, what cutting links does, and whether the
modules share their latents. Objects and movements are simulated, or come from a file of yours (--data; its layout is in
`ctd_models.data.load_grasp`).
"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro
from _zoo import ZooSettings


@dataclasses.dataclass
class Settings(ZooSettings):
    out: Path = Path("results/modular_grasp")
    cell: Literal["modular"] = "modular"
    """The recurrent cell."""
    data: str | None = None
    """HDF5 file of inputs, kinematics and objects, and of recordings to compare modules with; None: simulated."""
    dt: float = 0.02
    """Length of a step [s], where the file does not tell."""
    modules: tuple[str, ...] = ("AIP", "F5", "M1")
    """A chain of modules: the first is given the inputs, the last one moves."""
    hidden_size: int = 100
    """Units in each module."""
    density: float = 0.1
    """Share of the weights between neighbours that are there."""
    tau: float = 0.1
    """Time constant of a unit [s]."""
    num_steps: int = 2_000
    learning_rate: float = 2e-3
    batch_size: int = 32
    l2: float = 1e-6
    rate_penalty: float = 1e-3
    """Weight of the mean squared rate."""
    num_latents: int = 6
    """Principal components of each module that are compared."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import _grasp as grasp
    import _zoo as zoo
    from _grasp_figures import draw
    from _grasp_trials import recorded, simulated

    from ctd_models.models import ModularRNNCell, RecurrentNetwork, chain
    from ctd_models.training import rate_penalized_error

    if len(settings.modules) < 2:
        raise SystemExit(f"a chain needs two modules or more, got {' '.join(settings.modules)}")
    if settings.quick:
        settings = common.shortened(settings, num_steps=500, learning_rate=4e-3, dt=0.04)
    problem = recorded(settings) if settings.data else simulated(settings)
    cell = ModularRNNCell(
        modules=settings.modules,
        sizes=(settings.hidden_size,) * len(settings.modules),
        links=chain(*settings.modules),
        inputs_to=settings.modules[:1],
        output_from=settings.modules[-1:],
        density=settings.density,
        tau=settings.tau,
        dt=problem.dt,
    )
    model = RecurrentNetwork(cell, problem.test.targets.shape[-1])
    _, fits = zoo.train(
        settings,
        model,
        problem.training,
        make_loss=lambda model, l2: rate_penalized_error(model, l2, settings.rate_penalty),
        validation=problem.validation,
    )
    found = []
    for number, fit in enumerate(fits):
        model, variables = zoo.load(settings, number)
        story = grasp.analyse(settings, problem, model, variables)
        found.append(story.numbers)
        for pair, comparison in story.comparisons.items():
            print(*pair, comparison)
        if number == 0:
            draw(settings.out, fit.history, problem, story)
    results = zoo.spread(found)
    common.write_results(settings.out, results)
    return results


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
