"""The contextual integrator behind examples/lfads_contextual.py: its spikes, and scores of contexts found."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LEAD_IN = 8  # steps that the network runs before the first bin, so that trials start from different integrals
UNUSED = 0.05  # weight, or share of trials, below which a component of a mixture counts as unused
NOISE_STD, BIAS = 0.1, 0.04  # four times those of the tutorials: at these, single spikes say little about the inputs


def write_data(path: str | os.PathLike, key: Any, num_trials: int, num_steps: int, num_units: int = 64) -> None:
    """Trains a vanilla RNN on `ContextualIntegration` for `num_steps` steps and writes spikes of its units on fresh trials
    in the layout "simulation", of every ten trials eight to train, one to validate, one to test on.

    `condition` is the context, `inputs` the two streams; the attribute `network_error` is the network's squared error on
    these trials, as a share of the variance of the targets.
    """
    import dataclasses

    import _common as common
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ctd_models import Trainer, VanillaRNN, step_function
    from ctd_models.data import write_datasets
    from ctd_models.tasks import ContextualIntegration, context_of, network_spikes
    from ctd_models.training import mean_squared_error

    task, network = ContextualIntegration(noise_std=NOISE_STD, bias=BIAS), VanillaRNN(num_units, output_size=1)
    train_key, trial_key, spike_key = jax.random.split(key, 3)
    optimizer = common.adam("cosine", num_steps, 3e-3, published=(0.025, 0.99975))
    trainer = Trainer(network, mean_squared_error(network, l2=2e-4), optimizer, batch_size=128)
    variables = trainer.fit(task, num_steps, train_key).state.variables
    steps = task.num_steps + LEAD_IN
    longer = dataclasses.replace(task, num_steps=steps, duration=steps * task.dt)
    trials = jax.jit(longer.sample, static_argnums=1)(trial_key, num_trials)
    trajectory = jax.jit(network.apply)(variables, trials.inputs)
    error = jnp.mean((trajectory.outputs - trials.targets) ** 2) / trials.targets.var()
    F, start, context = step_function(network, variables), trajectory.states[:, LEAD_IN - 1], context_of(trials)
    options = {"max_rate_hz": 80.0, "bin_width_s": task.dt, "labels": context}
    simulated = network_spikes(spike_key, F, trials.inputs[:, LEAD_IN:], start, **options)
    arrays = {
        "spikes": np.asarray(simulated.spikes, np.uint8),
        "rates": simulated.rates,
        "condition": simulated.condition,
        "inputs": trials.inputs[:, LEAD_IN:, :2],
        "split": np.maximum(0, np.arange(num_trials) % 10 - 7).astype(np.int8),
    }
    units = {"spikes": "spikes/bin", "rates": "spikes/bin"}
    descriptions = {
        "condition": "context: the stream that is integrated",
        "inputs": "the two streams of noise",
        "split": "0 train, 1 validation, 2 test",
    }
    attributes = {"bin_width_s": task.dt, "network_error": float(error), "title": "A trained contextual integrator"}
    write_datasets(path, arrays, units=units, descriptions=descriptions, attributes=attributes)


def agreement(groups: "np.ndarray", labels: "np.ndarray") -> float:
    """Share of trials whose group [trials] is that of their label, under the best assignment of one group to each label."""
    import numpy as np
    import scipy.optimize

    counts = np.zeros((groups.max() + 1, labels.max() + 1), int)
    np.add.at(counts, (groups, labels), 1)
    return counts[scipy.optimize.linear_sum_assignment(counts, maximize=True)].sum() / len(labels)


def information_bits(responsibilities: "np.ndarray", labels: "np.ndarray") -> float:
    """Mutual information [bits] of the component, drawn from its probabilities [trials, K], and the label [trials]."""
    import numpy as np
    from scipy.special import rel_entr

    joint = np.eye(labels.max() + 1)[labels].T @ np.asarray(responsibilities, float) / len(labels)
    return rel_entr(joint, np.outer(joint.sum(axis=1), joint.sum(axis=0))).sum() / np.log(2)


def kmeans_scores(codes: "np.ndarray", context: "np.ndarray", seed: int) -> dict[str, float]:
    """`agreement` of the context [trials] with clusters of codes [trials, C] by k-means, two and four of them."""
    import numpy as np
    from scipy.cluster.vq import kmeans2

    scores = {}
    for name, count in (("kmeans", 2), ("kmeans4", 4)):
        _, groups = kmeans2(codes, count, minit="++", rng=np.random.default_rng(seed))
        scores[f"{name}_accuracy"] = agreement(groups, context)
    return scores


def mixture_scores(name: str, responsibilities: "np.ndarray", context: "np.ndarray") -> dict[str, float]:
    """`agreement` of the context [trials] with the most probable component of each trial, mutual information, and how many
    components are the most probable one of 5 % of the trials or more; of probabilities [trials, K]."""
    import numpy as np

    groups = responsibilities.argmax(axis=1)
    return {
        f"{name}_accuracy": agreement(groups, context),
        f"{name}_information_bits": information_bits(responsibilities, context),
        f"{name}_components_used": (np.bincount(groups) >= UNUSED * len(groups)).sum(),
    }


def input_scores(inferred: "np.ndarray", inputs: "np.ndarray", context: "np.ndarray") -> dict[str, float]:
    """Squared correlation of the relevant and of the irrelevant stream with their linear regression on inferred inputs, over
    all bins and trials of a context; the mean of both contexts, each with a regression of its own.

    Args:
        inferred: [trials, time, U].
        inputs: the streams [trials, time, 2].
        context: [trials], the relevant stream.
    """
    import numpy as np

    from ctd_models.analysis import fit_ridge, r2_score

    scores = []
    for relevant in (0, 1):
        mine = context == relevant
        true = inputs[mine][..., [relevant, 1 - relevant]]
        fitted = fit_ridge(inferred[mine], true, penalty=0.0).predict(inferred[mine])
        scores.append([r2_score(true[..., [i]], fitted[..., [i]]) for i in (0, 1)])
    return dict(zip(("relevant_input_r2", "irrelevant_input_r2"), np.mean(scores, axis=0), strict=True))
