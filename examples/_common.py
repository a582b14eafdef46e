"""What all examples share: where data lie, and how results are written."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
