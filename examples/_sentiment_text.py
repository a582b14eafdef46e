"""Training and analysis of examples/sentiment_text.py."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from ctd_models.analysis import ContextualEffects, FixedPoints

REACH = 4  # words after a modifier that are looked at


class Story(NamedTuple):
    """What was found in the network of a fold."""

    points: "FixedPoints"
    """Slow points where no word comes, linearised."""
    values: "np.ndarray"
    """What is read out at each [log odds]."""
    words: dict[str, float]
    """Frequent word → what it adds to the readout from the middle of the line [log odds]."""
    weights: dict[str, float]
    """Frequent word → its weight in the bag of words [log odds]."""
    effects: "ContextualEffects"
    """Of the modifiers, from the middle of the line."""
    numbers: dict[str, float]
    """Results."""


def as_trials(tokens: "np.ndarray", labels: "np.ndarray") -> dict[str, "np.ndarray"]:
    """Sentences with their label, ±1, as the target after the last word."""
    import numpy as np

    from ctd_models.data import last_word

    mask = last_word(tokens)[..., None].astype(np.float32)
    return {"inputs": tokens, "targets": (2.0 * labels[:, None, None] - 1) * np.ones_like(mask), "mask": mask}


def fit(settings: Any, vocabulary: Any, tokens: "np.ndarray", labels: "np.ndarray", key: Any, folder: Any) -> Any:
    """Trains the network."""
    import optax

    from ctd_models import GRUCell, Trainer
    from ctd_models.models import TextNetwork
    from ctd_models.training.losses import binary_cross_entropy

    dropout = {name: getattr(settings, name) for name in ("word_dropout", "input_dropout", "output_dropout")}
    cell = GRUCell(settings.hidden_size, update_bias=1.0)
    model = TextNetwork(cell, 1, words=vocabulary.words, embedding_size=settings.embedding_size, **dropout)
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.num_steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    trainer = Trainer(model, binary_cross_entropy(model), optimizer, batch_size=min(settings.batch_size, len(tokens)))
    data = as_trials(tokens, labels.astype("float32"))
    return trainer.fit(data, settings.num_steps, key, checkpoint_dir=folder)


def log_odds(model: Any, variables: Any, tokens: "np.ndarray") -> "np.ndarray":
    """What the network says after the last word of each sentence."""
    import jax
    import numpy as np

    from ctd_models.data import last_word

    outputs = jax.jit(model.clone(deterministic=True).apply)(variables, tokens).outputs[..., 0]
    return np.asarray(outputs)[last_word(tokens)]


def analyse(settings: Any, vocabulary: Any, tokens: Any, labels: Any, test: Any) -> Story:
    """The line where no word comes, what words do there, and what modifiers change."""
    import _zoo as zoo
    import jax
    import numpy as np
    import scipy.stats

    from ctd_models import load_checkpoint, step_function
    from ctd_models.analysis import (
        contextual_effects,
        fit_logistic,
        manifold_dimension,
        word_features,
    )
    from ctd_models.models import readout_function

    model, variables = load_checkpoint(settings.out / "checkpoints_fold0")
    F, R = step_function(model, variables), readout_function(model, variables)
    train = np.setdiff1d(np.arange(len(labels)), test)
    states = jax.jit(model.clone(deterministic=True).apply)(variables, tokens[train]).states
    visited = np.asarray(states)[tokens[train] > 0]
    candidates = np.random.default_rng(settings.seed).choice(
        visited, min(settings.num_candidates, len(visited)), replace=False
    )
    nothing = np.zeros(settings.embedding_size)
    points = zoo.slow_points(F, candidates, nothing, settings.tolerance, fewest=10, bounds=(-1, 1))
    values = np.asarray(jax.vmap(R)(points.states.astype(np.float32)))[:, 0]
    middle = points[np.argsort(np.abs(values - np.median(values)))[:5]]

    embedded = np.asarray(variables["params"]["embedding"]["embedding"], float)
    counts = np.bincount(tokens[train].ravel(), minlength=len(vocabulary))
    frequent = {word: embedded[i] for i, word in enumerate(vocabulary.words) if i > 1 and counts[i] >= 10}
    modifiers = {word: embedded[vocabulary.number(word)] for word in settings.modifiers if word in vocabulary}
    alone = contextual_effects(F, middle, {"nothing": nothing}, frequent, R)
    words = dict(zip(frequent, alone.plain.mean(axis=(0, 1)).tolist(), strict=True))
    ranked = sorted((word for word in words if word not in modifiers), key=words.get)
    probes = {word: frequent[word] for word in ranked[: settings.num_probes] + ranked[-settings.num_probes :]}
    effects = contextual_effects(F, middle, modifiers, probes, R, num_lags=REACH)

    bag = fit_logistic(word_features(tokens[train], len(vocabulary), padding=0), labels[train], penalty=1.0)
    weights = {word: float(bag.weights[vocabulary.number(word)]) for word in words}
    sizes = np.sort(np.abs(points.eigenvalues), axis=1)[:, ::-1]
    numbers = {
        "num_slow_points": len(points),
        "max_speed": float(points.speeds.max()),
        "line_attractor_dimension": int(np.median(manifold_dimension(points).near_unit)),
        "largest_mode_size": float(np.median(sizes[:, 0])),
        "second_mode_size": float(np.median(sizes[:, 1])),
        "readout_range": float(np.ptp(values)),
        "word_effect_correlation_with_bag": float(scipy.stats.pearsonr([*words.values()], [*weights.values()])[0]),
    }
    for name, factors in zip(effects.modifiers, effects.factors, strict=True):
        numbers |= {f"{name}_factor_{lag + 1}": float(value) for lag, value in enumerate(factors)}
    return Story(points, values, words, weights, effects, numbers)
