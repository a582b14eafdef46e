"""The analysis of examples/context_integration.py."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from ctd_models.analysis import FixedPoints, TargetedAxes

CONTEXTS = ("motion", "color")


class Story(NamedTuple):
    """What was found in a network."""

    points: dict[str, "FixedPoints"]
    """Context → its slow points without evidence, linearised, by rising readout."""
    readouts: dict[str, "np.ndarray"]
    """Context → what is read out at each."""
    weights: dict[str, "np.ndarray"]
    """Context → |selection vector · input of motion, colour| at each point [n, 2]."""
    axes: "TargetedAxes"
    """Directions of choice, motion and colour."""
    averages: dict[str, "np.ndarray"]
    """Context → trajectories along these directions, averaged over trials of one relevant coherence [c, T, 3]."""
    levels: dict[str, "np.ndarray"]
    """Context → these coherences [c]."""
    numbers: dict[str, float]
    """Results."""


def analyse(settings: Any, task: Any, model: Any, variables: Any, trials: Any) -> Story:
    """Lines of slow points, selection vectors and mean trajectories of both contexts."""
    import _zoo as zoo
    import jax
    import numpy as np

    from ctd_models import step_function
    from ctd_models.analysis import targeted_axes

    F, readout = step_function(model, variables), zoo.readout_of(model, variables)
    trajectory = jax.jit(model.apply)(variables, trials.inputs)
    states = np.concatenate([np.asarray(s) for s in jax.tree.leaves(trajectory.states)], axis=-1)
    evidence = np.asarray(trials.inputs[..., :2]).mean(axis=1)
    context = np.asarray(trials.inputs[:, 0, 2:]).argmax(axis=1)
    choice = np.asarray(trajectory.outputs[:, -1, 0])
    variables_ = {"choice": np.sign(choice), "motion": evidence[:, 0], "color": evidence[:, 1], "context": context}
    axes = targeted_axes(states, variables_, num_components=min(12, states.shape[-1]))
    points, readouts, weights, averages, levels, numbers = {}, {}, {}, {}, {}, {}
    directions, selections = {}, {}
    for i, name in enumerate(CONTEXTS):
        held, mine = np.eye(4)[2 + i], context == i
        visited = jax.tree.map(lambda s, mine=mine: s[mine], trajectory.states)
        candidates = zoo.candidates(settings, visited, settings.num_candidates)
        options = {"bounds": zoo.bounds(settings), "unique_distance": 1e-2}
        slow = zoo.slow_points(F, candidates, held, settings.tolerance, fewest=5, **options)
        values = readout(slow.states)[:, 0]
        order = np.argsort(values)
        slow, values = slow[order], values[order]
        mode = np.abs(slow.eigenvalues - 1).argmin(axis=1)[:, None]
        eigenvalue = np.take_along_axis(slow.eigenvalues, mode, axis=1)[:, 0].real
        others = np.sort(np.abs(np.where(np.arange(slow.eigenvalues.shape[1]) == mode, 0, slow.eigenvalues)), axis=1)
        left = np.take_along_axis(slow.left_eigenvectors, mode[:, None], axis=2)[:, :, 0].real
        right = np.take_along_axis(slow.right_eigenvectors, mode[:, None], axis=2)[:, :, 0].real
        through = np.abs(np.einsum("nd,ndu->nu", left, slow.input_jacobians[:, :, :2]))
        middle = np.abs(values) < 0.7 * np.abs(values).max()  # where trials decide, not where they have decided
        relevant, irrelevant = np.median(through[middle], axis=0)[[i, 1 - i]]
        directions[name], selections[name] = mean_direction(right[middle]), mean_direction(left[middle])
        numbers |= {
            f"num_slow_points_{name}": len(slow),
            f"line_eigenvalue_{name}": float(np.median(eigenvalue)),
            f"second_mode_size_{name}": float(np.median(others[:, -1])),
            f"selection_ratio_{name}": float(relevant / irrelevant),
        }
        points[name], readouts[name], weights[name] = slow, values, through
        averages[name], levels[name] = means_by(evidence[mine, i], axes.transform(states[mine])[..., :3])
    both = [numbers[f"line_eigenvalue_{name}"] for name in CONTEXTS]
    numbers["line_eigenvalue"] = max(both, key=lambda value: abs(value - 1))
    for what, vectors in (("line", directions), ("selection", selections)):
        cosine = abs(vectors["motion"] @ vectors["color"])
        numbers[f"angle_between_{what}s_deg"] = float(np.degrees(np.arccos(min(cosine, 1.0))))
    return Story(points, readouts, weights, axes, averages, levels, numbers)


def mean_direction(vectors: "np.ndarray") -> "np.ndarray":
    """The unit vector along which vectors [n, d] lie, whatever their signs and lengths."""
    import numpy as np

    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.linalg.svd(vectors, full_matrices=False)[2][0]


def means_by(values: "np.ndarray", trajectories: "np.ndarray", count: int = 6) -> tuple["np.ndarray", "np.ndarray"]:
    """(mean trajectories, mean values) of `count` groups of trials with similar values, as many trials in each."""
    import numpy as np

    groups = np.array_split(np.argsort(values), count)
    return np.stack([trajectories[group].mean(axis=0) for group in groups]), np.array(
        [values[g].mean() for g in groups]
    )


def psychometric(settings: Any, task: Any, model: Any, variables: Any) -> dict[str, "np.ndarray"]:
    """Context → share of choices +1 for each signed coherence of motion (first row) and of colour [2, coherences]."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    levels, count = signed(task), settings.num_trials
    run = jax.jit(lambda v, inputs: model.apply(v, inputs).outputs[:, -1, 0])
    make, found = jax.jit(task.trials), {}
    for i, name in enumerate(CONTEXTS):
        rows = np.zeros((2, len(levels)))
        for kind in range(2):
            for j, level in enumerate(levels):
                key = jax.random.fold_in(jax.random.key(settings.seed + 2), 100 * i + 20 * kind + j)
                sizes = jax.random.choice(key, jnp.asarray(levels), (count, 2)).at[:, kind].set(level)
                trials = make(key, sizes, jnp.full(count, i))
                rows[kind, j] = float((run(variables, trials.inputs) > 0).mean())
        found[name] = rows
    return found


def signed(task: Any) -> "np.ndarray":
    """All signed coherences, rising."""
    import numpy as np

    sizes = np.sort(task.coherences)
    return np.concatenate([-sizes[::-1], sizes])


def accuracies(task: Any, curves: dict[str, "np.ndarray"]) -> dict[str, float]:
    """Share of correct choices by relevant coherence, the largest distance from the ideal, and the irrelevant influence."""
    import numpy as np

    levels, results, gaps = signed(task), {}, []
    for i, name in enumerate(CONTEXTS):
        correct = np.where(levels > 0, curves[name][i], 1 - curves[name][i])
        for size in np.sort(task.coherences):
            share = float(correct[np.isclose(np.abs(levels), size)].mean())
            results[f"accuracy_{name}_{size:g}"] = share
            gaps.append(float(task.ideal_accuracy(size)) - share)
        results[f"irrelevant_influence_{name}"] = float(np.ptp(curves[name][1 - i]))
    highest = [results[f"accuracy_{name}_{max(task.coherences):g}"] for name in CONTEXTS]
    return {"accuracy_high_coherence": min(highest), "largest_gap_to_ideal": max(gaps)} | results
