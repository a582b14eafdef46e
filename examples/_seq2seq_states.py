"""What the state from which decoding begins knows of the sequence that was read."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Reading:
    """What the state from which decoding begins knows of the sequence."""

    states: Any
    """Flat states [n, d] after sequences of the task."""
    values: dict[str, Any]
    """What they may be coloured by: name → [n]."""
    r2: dict[str, tuple[Any, Any]]
    """Name of a curve → (places or names of contents, R² of a linear reader on sequences that it was not fitted to)."""


def initial_states(settings: Any, model: Any, variables: Any, count: int = 2_000) -> Reading | None:
    """States before the first output against the contents of sequences; None for a Transformer, which has none."""
    import _seq2seq as seq2seq
    import jax
    import numpy as np
    from _seq2seq_dynamics import flat

    if settings.attention == "self":
        return None
    encode = jax.jit(lambda *a: model.apply(variables, *a, method="encode")[1])

    def sample(length=None):
        pairs = seq2seq.make_task(settings, length).sample(jax.random.key(settings.seed + 2), count)
        return pairs, flat(encode(pairs.inputs, pairs.input_lengths))

    pairs, states = sample()
    if settings.task == "boxes":
        values = boxes(np.asarray(pairs.inputs)[..., 0])
        r2 = read(states, np.stack(list(values.values()), axis=1)[:, :, None])
        names = [f"{name} {i}" for i in (1, 2) for name in ("place", "width", "height")]
        return Reading(states, {n: values[n] for n in names if n.startswith("height")}, {"box": (names, r2)})
    tokens, curves = np.asarray(pairs.inputs), {}
    if settings.task == "addition":
        first, second = numbers_of(tokens)
        values, lengths = {"first number": first, "sum": first + second}, [settings.longest]
    else:
        values = {"symbols in the sequence": np.asarray(pairs.input_lengths), "first symbol": tokens[:, 0] - 3}
        lengths = sorted({max(1, settings.longest // 4), max(1, settings.longest // 2), settings.longest})
    for length in lengths:
        same, at_end = sample(length)
        size = int(same.input_lengths[0])
        symbols = np.asarray(same.inputs)[:, :size] - 3
        kinds = np.arange(8) if settings.task != "addition" else np.arange(11)
        contents = symbols[..., None] >> kinds & 1 if settings.task != "addition" else symbols[..., None] == kinds
        unit = "digits each" if settings.task == "addition" else "symbols"
        curves[f"{length} {unit}"] = (np.arange(1, size + 1), read(at_end, contents.astype(float)))
    return Reading(states, values, curves)


def read(states: Any, contents: Any) -> Any:
    """R² [k] of linear readers of contents [n, k, m], fitted to one half, tested on the other; NaN of what is constant."""
    import numpy as np

    from ctd_models.analysis import fit_ridge, r2_score

    half = len(states) // 2
    found = np.full(contents.shape[1], np.nan)
    varies = (contents[:half].std(axis=0) > 0) & (contents[half:].std(axis=0) > 0)
    for i in np.flatnonzero(varies.any(axis=1)):
        target = contents[:, None, i, varies[i]]
        reader = fit_ridge(states[:half, None].astype(float), target[:half], penalty=1.0)
        found[i] = r2_score(target[half:], reader.predict(states[half:, None]))
    return found


def boxes(signals: Any) -> dict[str, Any]:
    """Place, width and height of both boxes in signals [n, S]."""
    import numpy as np

    heights = np.stack([row[row > 0][[0, -1]] for row in signals])
    inside = [signals == heights[:, [i]] for i in (0, 1)]
    return {
        f"{name} {i + 1}": value
        for i in (0, 1)
        for name, value in (
            ("place", inside[i].argmax(axis=1)),
            ("width", inside[i].sum(axis=1)),
            ("height", heights[:, i]),
        )
    }


def numbers_of(tokens: Any) -> tuple[Any, Any]:
    """The two numbers that are written in tokens of `Addition`."""
    import numpy as np

    written = ["".join("0123456789+"[token - 3] for token in row if token) for row in tokens]
    return tuple(np.array([int(text.split("+")[i]) for text in written]) for i in (0, 1))
