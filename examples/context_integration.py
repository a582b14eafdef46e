"""A network decides about motion or colour, as the context says, and a selection vector explains how.

Trains networks on context-dependent decisions, draws their psychometric curves, finds the line attractor of each context,
and compares what the selection vector (left eigenvector of the slow mode) lets through of both kinds of evidence.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro
from _zoo import ZooSettings


@dataclasses.dataclass
class Settings(ZooSettings):
    out: Path = Path("results/context_integration")
    task: Literal["decision", "white_noise"] = "decision"
    """Decide about the sign of the relevant evidence (Mante et al.), or integrate the relevant stream of white noise."""
    num_steps: int = 2_500
    learning_rate: float = 3e-3
    batch_size: int = 128
    l2: float = 3e-5
    tolerance: float = 1e-5
    """Largest speed q of a slow point."""
    num_candidates: int = 400
    """States to search from in each context."""
    num_trials: int = 2_000
    """Trials for each point of a psychometric curve."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import _context as context
    import _zoo as zoo
    import jax
    from _context_figures import draw

    from ctd_models.models import make_network
    from ctd_models.tasks import ContextDecision, ContextualIntegration

    if settings.quick:
        settings = common.shortened(settings, num_steps=700, hidden_size=48, num_candidates=100, num_trials=500)
    continuous = settings.cell == "continuous"
    task = ContextDecision(dt=0.005 if continuous else 0.01) if settings.task == "decision" else ContextualIntegration()
    options = {"tau": 0.01 if settings.task == "decision" else 0.1, "dt": task.dt} if continuous else None
    model = make_network(settings.cell, settings.hidden_size, 1, cell_options=options)
    loss, fits = zoo.train(settings, model, task)
    trials, found = jax.jit(task.sample, static_argnums=1)(jax.random.key(settings.seed + 1), 2_000), []
    for number, fit in enumerate(fits):
        model, variables = zoo.load(settings, number)
        results = {"loss": float(loss(variables, trials, {}, 0, False)[1]["mse"])}
        story = context.analyse(settings, task, model, variables, trials)
        results |= story.numbers
        if settings.task == "decision":
            curves = context.psychometric(settings, task, model, variables)
            results |= context.accuracies(task, curves)
        found.append(results)
        if number == 0:
            draw(settings, task, fit.history, story, curves if settings.task == "decision" else None)
            for name, points in story.points.items():
                points.save(settings.out / f"fixed_points_{name}.h5")
    results = zoo.spread(found)
    common.write_results(settings.out, results)
    return results


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
