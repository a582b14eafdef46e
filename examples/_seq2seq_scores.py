"""How well sequences are answered, at which lengths, and where attention looks."""

from typing import Any, NamedTuple


class Given(NamedTuple):
    """Answers that a network gave by itself, and whether they are right."""

    outputs: Any
    """Tokens [B, T], or a signal [B, T, 1]."""
    lengths: Any
    """Of each answer [B]."""
    right: Any
    """Of each token or step of the right answer [B, T]; True behind its end."""
    attention: Any = None
    """Weights on the inputs [B, T, S]."""
    states: Any = None
    """Of the decoder along the answer."""


def answers_of(model: Any, variables: Any, pairs: Any) -> Given:
    """Answers to inputs: the most probable tokens, or the signal of a free run.

    A token is right where it is the same; a step of a signal where it is within 0.1 of the target there or one step beside.
    """
    import numpy as np

    from ctd_models.models.seq2seq import free_run, greedy
    from ctd_models.tasks import length_mask

    given, size = (variables, pairs.inputs, pairs.input_lengths), pairs.targets.shape[1]
    if model.target.discrete:
        found = greedy(model, *given, max_length=size)
        outputs, lengths = found.tokens, found.lengths
        right = np.asarray(outputs == pairs.targets)
    else:
        outputs, lengths = free_run(model, *given, num_steps=size).outputs, pairs.target_lengths
        ends = np.pad(pairs.targets[..., 0], ((0, 0), (1, 1)), mode="edge")
        beside = np.stack([ends[:, i : i + size] for i in range(3)])
        right = np.abs(beside - np.asarray(outputs)[..., 0]).min(axis=0) <= 0.1
    right = right | ~np.asarray(length_mask(pairs.target_lengths, size))
    return Given(outputs, lengths, right)


def with_states(model: Any, variables: Any, pairs: Any, given: Given) -> Given:
    """The same answers with what happened along them."""
    import jax

    along = jax.jit(model.apply)(variables, pairs.inputs, pairs.input_lengths, given.outputs)
    return given._replace(attention=along.attention, states=along.states)


def accuracies(pairs: Any, given: Given) -> tuple[float, float]:
    """(share of sequences that are right, share of tokens)."""
    import numpy as np

    counts = np.asarray(pairs.target_lengths).sum()
    return float(given.right.all(axis=1).mean()), float(1 - (~given.right).sum() / counts)


def by_length(settings: Any, model: Any, variables: Any, count: int = 200) -> dict[str, Any]:
    """Accuracy of sequences and of tokens at each length, those beyond training included."""
    import _seq2seq as seq2seq
    import jax
    import jax.numpy as jnp
    import numpy as np

    lengths, found = seq2seq.lengths_of(settings), []
    for length in lengths:
        pairs = seq2seq.make_task(settings, length).sample(jax.random.key(settings.seed + 1_000 + length), count)
        if settings.task == "boxes":  # of one size, so that one program answers all
            pad = ((0, 0), (0, lengths[-1] - length), (0, 0))
            pairs = pairs._replace(inputs=jnp.pad(pairs.inputs, pad), targets=jnp.pad(pairs.targets, pad))
        found.append(accuracies(pairs, answers_of(model, variables, pairs)))
    whole, each = np.array(found).T
    return {"length": np.array(lengths), "sequence_accuracy": whole, "token_accuracy": each}


def attention_on_answer(settings: Any, pairs: Any, given: Given) -> float | None:
    """Mean weight on the place whose symbol is said (sorting: the places that hold it); None where there is none."""
    import numpy as np

    from ctd_models.tasks import length_mask

    if given.attention is None or settings.task not in ("copy", "reverse", "sort"):
        return None
    weights, lengths = np.asarray(given.attention)[:, :-1], np.asarray(pairs.input_lengths)
    place = np.arange(weights.shape[2])
    if settings.task == "sort":
        looked_at = np.asarray(pairs.targets)[:, :-1, None] == np.asarray(pairs.inputs)[:, None]
    else:
        answered = place + 0 * lengths[:, None] if settings.task == "copy" else lengths[:, None] - 1 - place
        looked_at = answered[..., None] == place
    on = (weights * looked_at).sum(axis=2)
    return float(on[np.asarray(length_mask(pairs.input_lengths, len(place)))].mean())


def numbers(settings: Any, pairs: Any, given: Given, by_length: dict[str, Any]) -> dict[str, float]:
    """The results of one network: on fresh sequences, at the longest of training, and beyond."""
    from ctd_models.analysis import normalized_error

    whole, each = accuracies(pairs, given)
    longest, beyond = by_length["length"] == settings.longest, by_length["length"] > settings.longest
    found = {
        "sequence_accuracy": whole,
        "token_accuracy": each,
        "accuracy_at_longest": float(by_length["sequence_accuracy"][longest][0]),
        "accuracy_length_extrapolation": float(by_length["sequence_accuracy"][beyond].mean()),
        "token_accuracy_length_extrapolation": float(by_length["token_accuracy"][beyond].mean()),
    }
    if settings.task == "boxes":
        found["normalized_error"] = normalized_error(pairs.targets, given.outputs)  # 1: the mean of all targets
    weight = attention_on_answer(settings, pairs, given)
    return found if weight is None else found | {"attention_on_answer": weight}
