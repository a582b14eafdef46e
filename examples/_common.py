"""What all examples share: where data lie, and how results are written."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import optax
    from matplotlib.figure import Figure


def data_folder() -> Path:
    """The folder of data sets: the environment variable CTD_DATA, else `shared/data` beside the repository."""
    if "CTD_DATA" in os.environ:
        return Path(os.environ["CTD_DATA"])
    return Path(__file__).resolve().parents[2] / "shared" / "data"


def find_data(name: str | os.PathLike) -> Path:
    """`name` itself where it is an existing file, else the file of that name in the data folder.

    Raises:
        FileNotFoundError: neither exists.
    """
    candidates = (Path(name), data_folder() / name)
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"no such file: {' or '.join(map(str, candidates))} (set CTD_DATA to the folder of data)")


def write_results(out: Path, results: Mapping[str, float]) -> None:
    """Writes `results.json` (flat: metric name → number, in the order given) into `out` and prints it as a table.

    Raises:
        ValueError: a result is not a finite number; JSON has none of the others.
    """
    numbers = {name: value.item() if hasattr(value, "item") else value for name, value in results.items()}
    bad = {name: value for name, value in numbers.items() if value - value != 0}
    if bad:
        raise ValueError(f"results must be finite numbers, got {bad}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(numbers, indent=2) + "\n")
    width = max(map(len, numbers), default=0)
    for name, value in numbers.items():
        print(f"{name:<{width}}  {value:.5g}" if isinstance(value, float) else f"{name:<{width}}  {value}")
    print(f"written to {out / 'results.json'}")


def save_figure(figure: "Figure", out: Path, name: str) -> Path:
    """Saves `figure` as `out/name.png` and returns that path."""
    path = Path(out) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    return path


def remember(settings: Any) -> None:
    """Writes `settings.json` into `settings.out`, the folder of the run that these settings describe.

    Raises:
        SystemExit: the folder holds a run with other settings, which its checkpoints would silently bring back.
    """
    fields = {name: value for name, value in dataclasses.asdict(settings).items() if name != "out"}
    fields = json.loads(json.dumps(fields))  # as they are read back: lists for tuples
    path = settings.out / "settings.json"
    if path.exists() and (before := json.loads(path.read_text())) != fields:
        changed = [
            f"{name} {before.get(name)}, now {value}" for name, value in fields.items() if before.get(name) != value
        ]
        raise SystemExit(f"{settings.out} holds another run ({'; '.join(changed)}): choose another --out, or delete it")
    settings.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields, indent=2) + "\n")


def training_times(result: Any, out: Path) -> dict[str, float]:
    """Times of a `FitResult`, kept in `out`: where the checkpoint was complete already, those of the call before."""
    path = Path(out) / "training_times.json"
    if result.train_steps:
        per_100_steps = 100 * result.train_seconds / result.train_steps
        times = {"train_seconds_per_100_steps": per_100_steps, "compile_seconds": result.compile_seconds}
        path.write_text(json.dumps(times) + "\n")
    return json.loads(path.read_text()) if path.exists() else {}


def readout(states: "np.ndarray", variables: Mapping[str, Any]) -> "np.ndarray":
    """What a recurrent network with one output reads out of flat states [n, N]: [n]."""
    weights = variables["params"]["readout"]
    return states @ weights["kernel"][:, 0] + weights["bias"][0]


def adam(
    schedule: str, num_steps: int, learning_rate: float, published: tuple[float, float]
) -> "optax.GradientTransformation":
    """Adam with gradients clipped at norm 10: "cosine" warms up to `learning_rate` and decays to 0; "published" is the
    tutorials' optimizer, eps 0.1 and `published` = (step size, its decay per step)."""
    import optax

    if schedule == "published":
        optimizer = optax.adam(optax.exponential_decay(published[0], 1, published[1]), eps=0.1)
    else:
        warmup = min(200, num_steps // 10)
        optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, num_steps))
    return optax.chain(optax.clip_by_global_norm(10.0), optimizer)


def shortened(settings: Any, **short: Any) -> Any:
    """The settings of a quick run: those that are left at their defaults are replaced."""
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    return dataclasses.replace(settings, **{k: v for k, v in short.items() if getattr(settings, k) == defaults[k]})
