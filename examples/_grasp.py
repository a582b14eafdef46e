"""The analysis of examples/modular_grasp.py."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from _grasp_trials import Problem

    from ctd_models.analysis import ConditionVariance, LatentComparison


class Story(NamedTuple):
    """What was found in a network."""

    outputs: "np.ndarray"
    """Kinematics in the aligned trials."""
    averages: dict[str, "np.ndarray"]
    """Module → rates averaged over the trials of each object [objects, time, units]."""
    variances: dict[str, "ConditionVariance"]
    """Module → its variance over the trial."""
    lesions: dict[str, float]
    """What was cut → normalised error."""
    comparisons: dict[tuple[str, str], "LatentComparison"]
    """Pair of modules, or module and recording → how their latents compare."""
    numbers: dict[str, float]
    """Results."""


def analyse(settings: Any, problem: "Problem", model: Any, variables: Any) -> Story:
    """Errors with and without links, what modules know of the object, and how they compare."""
    import itertools

    import jax
    import numpy as np

    from ctd_models.analysis import (
        compare_latents,
        condition_means,
        condition_variance,
        normalized_error,
        participation_ratio,
    )

    cell, run = model.cell, jax.jit(model.apply)

    def error(trials, *cut):
        outputs = run(cell.lesion(variables, *cut), trials.inputs).outputs
        return normalized_error(trials.targets, outputs, trials.mask)

    cuts = {"feedforward": cell.feedforward, "feedback": cell.feedback}
    cuts |= {f"{source}_to_{target}": ((source, target),) for source, target in cell.links}
    lesions = {"none": error(problem.test)} | {name: error(problem.test, *links) for name, links in cuts.items()}
    numbers = {"normalized_error": lesions["none"]}
    if problem.unseen is not None:
        numbers["unseen_objects_error"] = error(problem.unseen)
    numbers |= {f"lesion_{name}_error": lesions[name] for name in cuts}
    blocks = {pair: np.asarray(block) for pair, block in cell.blocks(variables).items()}
    present = sum((blocks[link] != 0).sum() for link in cell.links) / sum(blocks[link].size for link in cell.links)
    numbers["link_density"] = float(present)
    trajectory = run(variables, problem.aligned.inputs)
    rates = {name: np.asarray(values) for name, values in cell.rates(trajectory.states).items()}
    averages, variances, comparisons = {}, {}, {}
    for name, activity in rates.items():
        averages[name] = condition_means(activity, problem.objects)[1]
        variances[name] = condition_variance(activity, problem.objects)
        numbers[f"mean_rate_{name}"] = float(activity.mean())
        numbers[f"dimension_{name}"] = participation_ratio(averages[name])
        for epoch, steps in problem.epochs.items():
            parts = condition_variance(activity[:, steps], problem.objects)
            of_object, total = (parts.condition + parts.interaction).sum(), parts.total.sum()
            numbers[f"object_share_{name}_{epoch}"] = (
                of_object / total if of_object > 1e-12 * total else 0.0
            )  # silent: 0
    others = {name: condition_means(values, problem.objects)[1] for name, values in problem.recordings.items()}
    pairs = (*itertools.combinations(averages, 2), *itertools.product(averages, others))
    for a, b in pairs:
        X, Y = averages[a], {**averages, **others}[b]
        rng, count = np.random.default_rng(settings.seed), min(settings.num_latents, X.shape[-1], Y.shape[-1])
        found = comparisons[a, b] = compare_latents(X, Y, count, rng=rng, subtract_mean=True)
        numbers |= {f"cca_{a}_{b}": found.correlations.mean(), f"cca_{a}_{b}_held_out": found.held_out.mean()}
        numbers |= {f"cca_{a}_{b}_chance": found.null.mean(), f"procrustes_{a}_{b}": found.disparity}
    return Story(np.asarray(trajectory.outputs), averages, variances, lesions, comparisons, numbers)
