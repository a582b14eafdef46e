"""Cost of generating reviews of the toy language inside the training step, and of many reviews at once.

    python benchmarks/sentiment.py [--record]

In one process, in turn: training steps on fresh reviews, made inside the compiled loop; the same steps on reviews that were
made before and lie on the device; and a compiled loop that only makes the reviews.
"""

import dataclasses
import statistics
import sys
from typing import Any

import _timing as timing
import tyro


@dataclasses.dataclass
class Settings:
    hidden_size: int = 100
    """Units of the GRU."""
    batch_size: int = 128
    """Reviews in a batch."""
    rounds: int = 7
    """Rounds, in each of which every variant runs once."""
    steps: int = 100
    """Training steps of one run of a variant."""
    num_reviews: int = 100_000
    """Reviews that are made at once."""
    seed: int = 0
    """Seed of weights and reviews."""
    record: bool = False
    """Append the table to RESULTS.md."""
    quick: bool = False
    """Sizes of a few units, to see that everything runs."""


def main(settings: Settings) -> None:
    import jax
    import optax

    from ctd_models import GRU, Trainer
    from ctd_models.tasks import ToySentiment
    from ctd_models.training import mean_squared_error

    if settings.quick:
        small = {"hidden_size": 4, "batch_size": 4, "rounds": 1, "steps": 2, "num_reviews": 10}
        settings = dataclasses.replace(settings, **small)
    task, key, size = ToySentiment(), jax.random.key(settings.seed), settings.batch_size
    facts = {
        "command": " ".join(["python benchmarks/sentiment.py", *sys.argv[1:]]),
        "commit, seed": f"{timing.commit()}, {settings.seed}",
        "machine": f"{timing.machine()}; {timing.load()} at the start",
        "conditions": f"GRU of {settings.hidden_size} units, float32, batch {size}, {task.num_words} words a review; "
        f"{settings.rounds} rounds of {settings.steps} steps in turn; median (minimum to maximum)",
    }
    model = GRU(settings.hidden_size, 1, state_noise=0.003)
    loss = mean_squared_error(model, 1e-4)
    trainers = [Trainer(model, loss, optax.adam(1e-3), batch_size=size, progress=False) for _ in range(2)]
    stored = jax.device_get(task.sample(key, 2 * size))

    def generate():
        def one(total, step):
            trials = task.sample(jax.random.fold_in(key, step), size)
            return total + trials.inputs.sum() + trials.targets.sum(), None

        return jax.lax.scan(one, 0.0, jax.numpy.arange(settings.steps))[0]

    many = jax.jit(lambda key: task.sample(key, settings.num_reviews))
    _, first, _ = timing.timed(lambda: many(key))
    times = timing.interleaved(
        {
            "train on fresh reviews": lambda: trainers[0].fit(task, settings.steps, key).variables,
            "train on stored reviews": lambda: trainers[1].fit(stored, settings.steps, key).variables,
            "make reviews only": jax.jit(generate),
            "make many at once": lambda: many(key),
        },
        settings.rounds,
    )
    fresh, kept, only, at_once = times.values()
    rows = [[name, ms(t.wall, settings.steps), ms(t.cpu, settings.steps)] for name, t in list(times.items())[:3]]
    body = timing.table(["step", "wall [ms]", "CPU [ms]"], rows)
    share, seconds = timing.ratios(only.cpu, fresh.cpu), statistics.median(at_once.wall)
    added = [value - 1 for value in timing.ratios(fresh.cpu, kept.cpu)]
    targets = [
        [
            "reviews alone, share of a training step [CPU]",
            timing.spread(share),
            verdict(statistics.median(share), 0.05),
        ],
        ["fresh against stored reviews, added [CPU]", timing.spread(added), verdict(statistics.median(added), 0.05)],
        [f"{settings.num_reviews:,} reviews at once [s]", timing.spread(at_once.wall), verdict(seconds, 1.0)],
        ["the same with compilation [s]", f"{first:.3g}", ""],
    ]
    body += "\n\n" + timing.table(["quantity", "value", "target"], targets)
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), body, sep="\n")
    if settings.record:
        timing.append_section("sentiment.py", facts, body)


def ms(seconds: list[float], steps: int) -> Any:
    """Milliseconds of a step."""
    return timing.spread([1e3 * value / steps for value in seconds])


def verdict(value: float, target: float) -> str:
    """Whether a target is met."""
    return f"<= {target:g}: {'met' if value <= target else 'MISSED'}"


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
