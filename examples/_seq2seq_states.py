"""What the state from which decoding begins knows of the sequence that was read."""

import dataclasses
from typing import Any

COMPONENTS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What the state from which decoding begins knows of the sequence."""

    states: Any
    """Flat states [n, d] after sequences of the task."""
    values: dict[str, Any]
    """What they may be coloured by: name → [n]."""
    curves: dict[str, dict[str, tuple[Any, Any]]]
    """What is on the abscissa → name of a curve → (abscissa, R² of linear readers on sequences they were not fitted to)."""


def initial_states(settings: Any, model: Any, variables: Any, count: int = 3_000) -> Reading | None:
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
        return np.asarray(pairs.inputs), np.asarray(pairs.input_lengths), flat(encode(*pairs[:2]))

    inputs, lengths, states = sample()
    contents = contents_of(settings, inputs, lengths)
    curves = {"number of leading principal components": by_components(states, contents)}
    shown = {"addition": ("sum", "first number"), "boxes": ("place of box 1", "place of box 2")}
    if settings.task != "boxes":
        places = {}
        for length in sorted({max(1, settings.longest // 4), max(1, settings.longest // 2), settings.longest}):
            symbols, (size, *_), at_end = sample(length)
            name = f"{length} digit{'s' * (length > 1)}" if settings.task == "addition" else f"length {length}"
            r2 = [read(at_end, as_features(settings, symbols[:, i])) for i in range(size)]
            places[name] = np.arange(1, size + 1), np.array(r2)
        curves["place of the symbol in the input"] = places
    return Reading(states, {name: contents[name][:, 0] for name in shown.get(settings.task, ("length",))}, curves)


def as_features(settings: Any, tokens: Any) -> Any:
    """Symbols as the numbers that are read: 8 bits each, or which of the digits it is [n, features]."""
    import numpy as np

    symbols = tokens[:, None] - 3
    return (symbols == np.arange(11) if settings.task == "addition" else symbols >> np.arange(8) & 1).astype(float)


def contents_of(settings: Any, inputs: Any, lengths: Any) -> dict[str, Any]:
    """What may be known of sequences: name → numbers [n, features]."""
    import numpy as np

    if settings.task == "boxes":
        return {name: value[:, None].astype(float) for name, value in boxes(inputs[..., 0]).items()}
    if settings.task == "addition":
        first, second = numbers_of(inputs)
        return {"first number": first[:, None], "second number": second[:, None], "sum": (first + second)[:, None]}
    ends = inputs[:, 0], inputs[np.arange(len(inputs)), lengths - 1]
    symbols = {f"{name} symbol": as_features(settings, end) for name, end in zip(("first", "last"), ends, strict=True)}
    return {"length": lengths[:, None].astype(float)} | symbols


def by_components(states: Any, contents: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """R² of each content from the leading principal components, by their number."""
    import numpy as np

    from ctd_models.analysis import PCA

    numbers = np.array([*(k for k in COMPONENTS if k < states.shape[1]), states.shape[1]])
    scores = PCA.fit(states, states.shape[1]).transform(states)
    return {
        name: (numbers, np.array([read(scores[:, :k], value) for k in numbers])) for name, value in contents.items()
    }


def read(states: Any, contents: Any) -> float:
    """R² of linear readers of contents [n, m] fitted to two thirds, on the rest; NaN where these are constant."""
    import numpy as np

    from ctd_models.analysis import fit_decoder, r2_score

    third = len(states) // 3
    varies = (contents[: 2 * third].std(axis=0) > 0) & (contents[2 * third :].std(axis=0) > 0)
    if not varies.any():
        return float("nan")
    features, targets = states[:, None].astype(float), contents[:, None, varies].astype(float)
    fit = fit_decoder(features, targets, np.arange(third), np.arange(third, 2 * third), lags=[0])
    return r2_score(targets[2 * third :], fit.predict(features[2 * third :]))


def boxes(signals: Any) -> dict[str, Any]:
    """Place, width and height of both boxes in signals [n, S]."""
    import numpy as np

    heights = np.stack([row[row > 0][[0, -1]] for row in signals])
    inside = [signals == heights[:, [i]] for i in (0, 1)]
    return {
        f"{name} of box {i + 1}": value
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
