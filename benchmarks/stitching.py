"""Cost of a training step over several stitched sessions, as ratios to a step of one session with the same total batch.

    python benchmarks/stitching.py [--record]

In one process, in turn: LFADS of one session that reads its spikes directly; the same model around S sessions, each of as
many neurons, whose maps are gathered for each trial (what `SessionReadIn` does); and, for comparison, maps applied once a
session to batches whose trials are sorted by session, which only works while every session has equally many trials in
every batch.
"""

import dataclasses
import sys
from typing import Any

import _timing as timing
import tyro


@dataclasses.dataclass
class Settings:
    sessions: tuple[int, ...] = (1, 4, 16)
    """Numbers of sessions."""
    batch_size: int = 48
    """Trials in a batch, of all sessions together."""
    num_bins: int = 30
    """Bins of a trial."""
    num_neurons: int = 24
    """Neurons of each session."""
    size: int = 24
    """Dimensions of the space that the read-ins share."""
    hidden_size: int = 64
    """Units of the generator, the controller and each direction of the encoder; and factors."""
    rounds: int = 7
    """Rounds, in each of which every variant runs once."""
    steps: int = 50
    """Training steps of one run of a variant."""
    seed: int = 0
    """Seed of weights and trials."""
    record: bool = False
    """Append the table to RESULTS.md."""
    quick: bool = False
    """Sizes of a few units, to see that everything runs."""


def main(settings: Settings) -> None:
    if settings.quick:
        small = {"sessions": (1, 2), "batch_size": 4, "num_bins": 3, "num_neurons": 3, "size": 2, "hidden_size": 4}
        settings = dataclasses.replace(settings, **small, rounds=1, steps=2)
    facts = {
        "command": " ".join(["python benchmarks/stitching.py", *sys.argv[1:]]),
        "commit, seed": f"{timing.commit()}, {settings.seed}",
        "machine": f"{timing.machine()}; {timing.load()} at the start",
        "conditions": f"float32, batch {settings.batch_size}, {settings.num_bins} bins, {settings.num_neurons} neurons a "
        f"session, {settings.hidden_size} units; {settings.rounds} rounds of {settings.steps} steps in turn; "
        "median (minimum to maximum)",
    }
    runs = {"one session, reads spikes": runner(settings, 1, None)}
    for count in settings.sessions:
        for how in ("gathered", "grouped"):
            runs[f"{count} stitched, {how}"] = runner(settings, count, how)
    times = timing.interleaved(runs, settings.rounds)
    base = times["one session, reads spikes"]
    rows = [
        [
            name,
            timing.spread([1e3 * value / settings.steps for value in t.cpu]),
            timing.spread(timing.ratios(t.cpu, base.cpu)),
            timing.spread(timing.ratios(t.wall, base.wall)),
        ]
        for name, t in times.items()
    ]
    body = timing.table(["step", "CPU [ms]", "ratio [CPU]", "ratio [wall]"], rows)
    print(body)
    if settings.record:
        timing.append_section("stitching.py", facts, body)


def runner(settings: Settings, count: int, how: str | None) -> Any:
    """A function that takes the training steps of a variant; `how` None: a model without sessions."""
    import jax
    import numpy as np
    import optax

    from ctd_models import LFADS, Trainer
    from ctd_models.data import SpikeTrials, stitch_trials
    from ctd_models.models.lfads import (
        AutoregressivePrior,
        Controller,
        Encoder,
        Gaussian,
        Generator,
        SessionReadIn,
        SessionReadOut,
    )
    from ctd_models.training import elbo

    rng, names = np.random.default_rng(settings.seed), tuple(str(i) for i in range(count))
    shape = (2 * settings.batch_size // count, settings.num_bins, settings.num_neurons)
    trials = stitch_trials({name: SpikeTrials.from_spikes(rng.poisson(1.0, shape)) for name in names})
    options: dict[str, Any] = {}
    if how is not None:
        read_in, readout = (SessionReadIn, SessionReadOut) if how == "gathered" else grouped()
        options["read_in"] = read_in(names, settings.num_neurons, settings.size)
        options["readout"] = readout(names, settings.num_neurons)
    else:
        trials = trials._replace(sessions=None, mask=None)
    h = settings.hidden_size
    model = LFADS(
        settings.num_neurons,
        Encoder(h, dropout=0.1),
        Generator(h, h, Gaussian(), dropout=0.1),
        Controller(h, 4, AutoregressivePrior(), dropout=0.1),
        **options,
    )
    trainer = Trainer(model, elbo(model), optax.adam(1e-3), batch_size=settings.batch_size, progress=False)
    return lambda: trainer.fit(trials, settings.steps, jax.random.key(settings.seed)).variables


def grouped() -> tuple[Any, Any]:
    """Read-in and read-out for batches in which trial i belongs to session i modulo S."""
    import jax.numpy as jnp
    from flax import linen as nn

    from ctd_models.models.lfads import SessionReadIn, SessionReadOut
    from ctd_models.models.lfads.sessions import _stacked

    def apply_own(self, values, sessions, fan_in, fan_out, frozen):
        count = len(self.sessions)
        kernel = self.param("kernel", _stacked, (count, fan_in, fan_out))
        bias = self.param("bias", nn.initializers.zeros, (count, fan_out))
        parted = jnp.asarray(values, jnp.float32).reshape(-1, count, *values.shape[1:])
        mapped = jnp.einsum("bstn,snk->bstk", parted, kernel) + bias[:, None]
        return mapped.reshape(*values.shape[:2], fan_out)

    return type("GroupedReadIn", (SessionReadIn,), {"apply_own": apply_own}), type(
        "GroupedReadOut", (SessionReadOut,), {"apply_own": apply_own}
    )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
