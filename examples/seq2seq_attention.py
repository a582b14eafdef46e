"""One sequence is turned into another, by networks that look back at what they read, or cannot.

Trains a recurrent encoder and decoder, or a Transformer, to copy, reverse or sort symbols, to add numbers written in digits,
or to order two boxes in a signal. Shows where attention looks, how accuracy falls beyond the lengths of training, what the
state that decoding begins from knows of the sequence, and the fixed points of encoder and decoder.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro
from _zoo import ZooSettings

OUT = Path("results/seq2seq_attention")


@dataclasses.dataclass
class Settings(ZooSettings):
    out: Path = OUT
    """Folder for results, figures and checkpoints; left as it is, each task and attention has a folder in it."""
    task: Literal["copy", "reverse", "sort", "boxes", "addition"] = "copy"
    """Copy, reverse, sort: vectors of 8 bits, 1 to 20 of them (sort: up to 10); addition: of two numbers of up to 3 digits;
    boxes: a signal of 100 steps, whose lower box is to come first."""
    attention: Literal["none", "additive", "dot", "general", "self"] = "additive"
    """What the decoder looks back with; "self" is a Transformer, "none" has only the state after the last input."""
    hidden_size: int | None = None
    """Units of the decoder; the encoder has half as many in each direction. Features of a Transformer. None: 128; for boxes,
    and of a Transformer, 64."""
    batch_size: int | None = None
    """Sequences in a batch; None: 64, boxes 32."""
    num_layers: int = 1
    """Layers of encoder and decoder, residual above the lowest (a Transformer has at least 2)."""
    longest: int | None = None
    """Most symbols of a training sequence, or digits of a number; None: as published, or as `task` says."""
    num_steps: int | None = None
    """Training steps; None: 2,500 for copying and reversing, more where the task is harder."""
    learning_rate: float | None = None
    """Peak of the cosine schedule of Adam; None: 8e-3 where symbols are looked back at, else 4e-3; Transformers 2e-3."""
    sampling_rate: float = 0.0
    """Probability in training that an output follows the network's own last one (not of a Transformer)."""


def main(settings: Settings) -> dict[str, float]:
    import _common as common
    import _seq2seq as seq2seq
    import _seq2seq_figures as figures
    import _seq2seq_scores as scores
    import _zoo as zoo
    import jax
    from _seq2seq_dynamics import study
    from _seq2seq_states import initial_states

    from ctd_models.training import sequence_loss

    settings = seq2seq.filled(settings)
    if settings.out == OUT:
        settings = dataclasses.replace(settings, out=OUT / f"{settings.task}_{settings.attention}")
    task = seq2seq.make_task(settings)
    model = seq2seq.make_model(settings)
    _, fits = zoo.train(settings, model, task, lambda model, l2: sequence_loss(model, l2, settings.sampling_rate))
    fresh = jax.jit(task.sample, static_argnums=1)(jax.random.key(settings.seed + 1), 1_000)
    found = []
    for number, fit in enumerate(fits):
        model, variables = zoo.load(settings, number)
        answers = scores.with_states(model, variables, fresh, scores.answers_of(model, variables, fresh))
        by_length = scores.by_length(settings, model, variables)
        reading, dynamics = (
            initial_states(settings, model, variables),
            study(settings, model, variables, fresh, answers),
        )
        found.append(scores.numbers(settings, fresh, answers, by_length) | (dynamics.numbers if dynamics else {}))
        if number == 0:
            figures.draw(settings, fit.history, fresh, answers, by_length, reading, dynamics)
    results = zoo.spread(found)
    common.write_results(settings.out, results)
    return results


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
