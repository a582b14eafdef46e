"""Tasks and models of the example of sequence to sequence."""

import dataclasses
from typing import Any

LONGEST = {"copy": 20, "reverse": 20, "sort": 10, "addition": 3, "boxes": 100}
NUM_STEPS = {"copy": 2_500, "reverse": 2_500, "sort": 8_000, "addition": 12_000, "boxes": 2_000}  # boxes, none: 8,000


def filled(settings: Any) -> Any:
    """The settings with what was left open, and with what makes them quick."""
    if settings.longest is not None and (settings.task == "boxes" or settings.longest < 1):
        raise SystemExit("--longest is a number of symbols or digits, at least 1; signals of boxes have 100 steps")
    if settings.attention == "self" and settings.sampling_rate:
        raise SystemExit("--attention self gives all outputs at once: there is no --sampling-rate")
    transformer, boxes = settings.attention == "self", settings.task == "boxes"
    # at the larger rate attention becomes sharp: 0.98 of the weight on the symbol that is copied, 0.86 at the smaller
    looks_back = settings.task in ("copy", "reverse", "sort") and settings.attention != "none"
    quick_longest = {"copy": 5, "reverse": 5, "sort": 4, "addition": 1, "boxes": 100}
    steps = 8_000 if boxes and settings.attention == "none" else NUM_STEPS[settings.task]
    open_ones = {
        "longest": (quick_longest if settings.quick else LONGEST)[settings.task],
        "num_steps": (150 if boxes else 400) if settings.quick else steps,
        "hidden_size": 64 if boxes or transformer else 128,
        "batch_size": 32 if boxes else 64,
        "learning_rate": 2e-3 if transformer else 8e-3 if looks_back else 4e-3,
    }
    return dataclasses.replace(settings, **{k: v for k, v in open_ones.items() if getattr(settings, k) is None})


def make_task(settings: Any, length: int | None = None) -> Any:
    """The task of training, or with sequences of one length (numbers of so many digits, signals of so many steps)."""
    from ctd_models.tasks import Addition, CopySequence, ReverseSequence, SortSequence, TwoBoxes

    if settings.task == "boxes":
        return TwoBoxes(num_steps=length or settings.longest)
    size = None if length is None else lengths_of(settings)[-1]
    shortest, longest = (1, settings.longest) if length is None else (length, length)
    if settings.task == "addition":
        return Addition(longest, shortest, size)
    tasks = {"copy": CopySequence, "reverse": ReverseSequence, "sort": SortSequence}
    return tasks[settings.task](256, shortest, longest, size)


def lengths_of(settings: Any) -> list[int]:
    """The lengths at which accuracy is measured: up to twice those of training."""
    if settings.task == "boxes":
        return [60, 80, 100, 120, 150, 200]
    return list(range(1, 2 * settings.longest + 1))


def make_model(settings: Any) -> Any:
    """A recurrent encoder and decoder with the attention that was asked for, or a Transformer."""
    from ctd_models.models import make_cell, seq2seq

    size, half = settings.hidden_size, settings.hidden_size // 2
    heads = 4 if settings.attention == "self" else 2  # or the directions of the encoder, of which each has half
    if size < 2 or size % heads:
        raise SystemExit(f"--hidden-size must be a multiple of {heads}, got {size}")
    if settings.task == "boxes":
        source, target = seq2seq.Signals(1), seq2seq.Signals(1, fed_back=False)  # else the last output is all it takes
    elif settings.task == "addition":
        source, target = seq2seq.Tokens(14, 32), seq2seq.Tokens(14, 32)
    else:
        source, target = seq2seq.BitTokens(8), seq2seq.BitTokens(8)
    if settings.attention == "self":
        return seq2seq.TransformerSeq2Seq(source, target, features=size, num_layers=max(2, settings.num_layers))
    above, residual = range(settings.num_layers - 1), settings.num_layers > 1
    encoder = (make_cell(settings.cell, half), *(make_cell(settings.cell, size) for _ in above))
    decoder = tuple(make_cell(settings.cell, size) for _ in range(settings.num_layers))
    attention = {
        "none": lambda: None,
        "additive": lambda: seq2seq.AdditiveAttention(half),
        "dot": seq2seq.DotAttention,
        "general": lambda: seq2seq.GeneralAttention(size),
    }[settings.attention]()
    return seq2seq.Seq2Seq(
        source,
        target,
        seq2seq.RecurrentEncoder(encoder, num_bidirectional=1, residual=residual),
        seq2seq.RecurrentDecoder(decoder, residual=residual),
        attention,
    )
