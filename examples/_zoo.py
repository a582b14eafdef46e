"""What the examples of trained networks share: settings, training one network or many, and the spread of results."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

Cell = Literal["vanilla", "gru", "lstm", "continuous"]


@dataclasses.dataclass
class ZooSettings:
    """Settings of every example of the zoo; each has its own defaults."""

    out: Path = Path("results/zoo")
    """Folder for results, figures and checkpoints; a run that was interrupted continues."""
    cell: Cell = "gru"
    """The recurrent cell."""
    hidden_size: int = 64
    """Units."""
    num_steps: int = 5_000
    """Training steps."""
    learning_rate: float = 5e-3
    """Peak of the cosine schedule of Adam."""
    batch_size: int = 64
    """Trials in a batch."""
    l2: float = 0.0
    """Weight of the sum of squared parameters."""
    num_networks: int = 1
    """Networks with different seeds, trained by one compiled program; results are then means, with their deviations."""
    seed: int = 0
    """Seed of everything random."""
    quick: bool = False
    """A short run of the same code."""


def train(
    settings: ZooSettings, model: Any, task: Any, make_loss: Callable[..., Any] | None = None, validation: Any = None
) -> tuple[Any, Any]:
    """Trains the networks on a task, or on arrays with other arrays for `validation`: (loss, results of training)."""
    import _common as common
    import jax

    from ctd_models import Trainer
    from ctd_models.training import mean_squared_error

    if settings.num_steps < 1:
        raise SystemExit(f"--num-steps must be at least 1, got {settings.num_steps}")
    common.remember(settings)
    loss = (make_loss or mean_squared_error)(model, settings.l2)
    optimizer = common.adam("cosine", settings.num_steps, settings.learning_rate, published=(0.0, 1.0))
    trainer = Trainer(model, loss, optimizer, batch_size=settings.batch_size)
    keys = jax.random.split(jax.random.key(settings.seed), settings.num_networks)
    options = {"checkpoint_dir": settings.out / "checkpoints", "validation": task if validation is None else validation}
    if settings.num_networks == 1:
        return loss, [trainer.fit(task, settings.num_steps, keys[0], **options)]
    return loss, trainer.fit_many(task, settings.num_steps, keys, **options)


def load(settings: ZooSettings, number: int) -> tuple[Any, Any]:
    """(model, variables) of a network, as its checkpoint has it."""
    from ctd_models import load_checkpoint

    folder = settings.out / "checkpoints"
    return load_checkpoint(folder if settings.num_networks == 1 else folder / f"network_{number}", "best")


def spread(results: list[dict[str, float]]) -> dict[str, float]:
    """Results of one network, or mean and standard deviation (n − 1) of each over several, of those that have it."""
    import numpy as np

    if len(results) == 1:
        return results[0]
    found = {}
    for name in dict.fromkeys(name for each in results for name in each):
        values = [float(each[name]) for each in results if name in each]
        found[name] = float(np.mean(values))
        found[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return found


def continuous(settings: ZooSettings) -> dict[str, float] | None:
    """Fields of a continuous cell that steps by half its time constant; None for the other cells."""
    return {"tau": 1.0, "dt": 0.5, "recurrent_init": 1.5} if settings.cell == "continuous" else None


def candidates(settings: Any, states: Any, count: int) -> Any:
    """Some of the states [B, T, N] that trials visit, flat over trials and time: a pytree of [count, N]."""
    import jax
    import numpy as np

    flat = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, leaf.shape[-1]), states)
    total = len(jax.tree.leaves(flat)[0])
    chosen = np.random.default_rng(settings.seed).choice(total, min(count, total), replace=False)
    return jax.tree.map(lambda leaf: leaf[chosen], flat)


def bounds(settings: Any) -> tuple[float, float] | None:
    """(low, high) that no entry of a state leaves, of cells that have such."""
    return (-1.0, 1.0) if settings.cell in ("vanilla", "gru") else None


def slow_points(
    F: Callable[..., Any], candidates: Any, inputs: Any, tolerance: float, fewest: int, **options: Any
) -> Any:
    """Linearised slow points, at least `fewest`: where fewer are as slow as `tolerance`, faster ones too, up to 1e5 times.

    Raises:
        SystemExit: even so there are fewer.
    """
    from ctd_models.analysis import find_fixed_points, linearize

    for speed in [tolerance * 10.0**k for k in range(6)]:
        points = find_fixed_points(F, candidates, inputs, tolerance=speed, **options)
        if len(points) >= fewest:
            return linearize(F, points)
    raise SystemExit(f"only {len(points)} slow points up to a speed of {speed:.0e}: train longer, or search more")


def readout_of(model: Any, variables: Any) -> Callable[[Any], Any]:
    """What a network reads out of flat states [..., d], such as those of fixed points: → [..., outputs]."""
    import jax
    import numpy as np

    from ctd_models.models import readout_function

    readout = readout_function(model, variables)
    start = model.apply(variables, method="initial_state")
    leaves, structure = jax.tree.flatten(start)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    many = jax.jit(jax.vmap(lambda flat: readout(jax.tree.unflatten(structure, jax.numpy.split(flat, ends)))))

    def read(states):
        states = np.asarray(states, np.float32)
        values = np.asarray(many(states.reshape(-1, states.shape[-1])))
        return values.reshape(*states.shape[:-1], values.shape[-1])

    return read
