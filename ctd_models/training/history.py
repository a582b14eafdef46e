"""Metrics over training, in memory and as JSON lines that survive the process."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

FILE_NAME = "metrics.jsonl"


class History:
    """Rows of metrics, each with its step. With a directory they are also lines of `metrics.jsonl`.

    A resumed run starts from the lines up to its checkpoint, so that file and history are those of an uninterrupted run.
    """

    def __init__(self, directory: Path | None, up_to_step: int = 0, tensorboard: bool = False):
        self._columns: dict[str, list[float | int]] = {}
        self._board = _tensorboard_writer(directory, up_to_step) if tensorboard else None
        self._path = directory / FILE_NAME if directory else None
        if self._path is None:
            return
        rows = _read_rows(self._path, up_to_step)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
        os.replace(temporary, self._path)
        for row in rows:
            self._remember(row)

    def append_steps(self, first_step: int, metrics: dict[str, np.ndarray]) -> None:
        """One row for each of the steps first_step, first_step + 1, …; values are arrays [steps]."""
        count = len(next(iter(metrics.values())))
        columns = {name: [_shortest(value) for value in values] for name, values in metrics.items()}
        self._append(
            [{"step": first_step + i} | {name: values[i] for name, values in columns.items()} for i in range(count)]
        )

    def append_validation(self, step: int, metrics: dict[str, Any]) -> None:
        """One row of validation metrics."""
        self._append(
            [{"validation/step": step} | {f"validation/{name}": _shortest(value) for name, value in metrics.items()}]
        )

    def _append(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._remember(row)
        if self._path is not None:
            with self._path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        if self._board is not None:
            for row in rows:
                step = row.get("step", row.get("validation/step"))
                for name in row.keys() - {"step", "validation/step"}:
                    self._board.add_scalar(name, row[name], step)
            self._board.flush()

    def _remember(self, row: dict[str, Any]) -> None:
        for name, value in row.items():
            self._columns.setdefault(name, []).append(value)

    def arrays(self) -> dict[str, np.ndarray]:
        """Metric name → array of its values."""
        return {name: np.asarray(values) for name, values in self._columns.items()}

    def column(self, name: str) -> list[float | int]:
        """The values of one metric so far."""
        return self._columns.get(name, [])


def _tensorboard_writer(directory: Path, up_to_step: int) -> Any:
    """A writer of event files into the folder `tensorboard`; later steps of a killed run disappear from view."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError('tensorboard=True needs tensorboardX: pip install "ctd_models[tensorboard]"') from error
    return SummaryWriter(os.fspath(directory / "tensorboard"), purge_step=up_to_step + 1)


def _shortest(value: Any) -> float:
    """The float with the fewest digits that names the same float32."""
    return float(str(np.asarray(value).astype(np.float32)[()]))


def _read_rows(path: Path, up_to_step: int) -> list[dict[str, Any]]:
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break  # a line that was being written when the process was killed
            if row.get("step", row.get("validation/step", 0)) <= up_to_step:
                rows.append(row)
    return rows
