"""The networks that benchmarks/fixed_points.py searches: trained ones, and random ones of any size."""

import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Case:
    """A network to search, from where, and how far."""

    F: Callable[..., Any]
    """Step function, a JAX pytree."""
    candidates: np.ndarray
    """States to start from [n, d]."""
    inputs: np.ndarray
    """Input held while searching [U]."""
    tolerance: float
    """Speed q at which a start has arrived."""
    bounds: tuple[float, float] | None = None
    """Bounds on the state, for every method."""
    known: np.ndarray | None = None
    """Every fixed point of the network [k, d], where they are known."""

    def arrays(self, dtype: Any, states: Any = None) -> tuple[Callable[..., Any], Any, Any]:
        """(F, the candidates or other states, inputs) of JAX arrays in this precision."""
        states = self.candidates if states is None else states
        return jax.tree.map(lambda a: jnp.asarray(a, dtype), (self.F, states, self.inputs))

    def share(self, states: Any) -> float:
        """Share of the states whose speed, in float64, is within the tolerance."""
        return float((speeds(self, states) <= self.tolerance).mean())

    def points_found(self, states: Any) -> int | None:
        """How many of the known points have a state within 1e-3 whose speed is within the tolerance."""
        if self.known is None:
            return None
        arrived = np.asarray(states)[speeds(self, states) <= self.tolerance]
        distance = np.linalg.norm(arrived[None] - self.known[:, None], axis=-1)
        return int((distance.min(axis=1, initial=np.inf) < 1e-3).sum())


def speeds(case: Case, states: Any) -> np.ndarray:
    """q = ½‖F(h, x) − h‖² of states [n, d], in float64."""
    with jax.enable_x64(True):
        F, states, inputs = case.arrays(jnp.float64, states)
        following = jax.vmap(F, (0, None))(states, inputs)
        return np.asarray(0.5 * ((following - states) ** 2).sum(axis=1))


def tanh_step(weights: dict[str, Any], state: Any, inputs: Any) -> Any:
    """h' = tanh(Wh h + Wx u + b)."""
    return jnp.tanh(weights["Wh"] @ state + weights["Wx"] @ inputs + weights["b"])


def gru_step(weights: dict[str, Any], state: Any, inputs: Any) -> Any:
    """The GRU whose reset gate acts on the product with the state."""
    xr, xz, xn = jnp.split(weights["Wx"] @ inputs + weights["bi"], 3)
    hr, hz, hn = jnp.split(weights["Wh"] @ state + weights["bh"], 3)
    z = jax.nn.sigmoid(xz + hz)
    return (1 - z) * jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn) + z * state


REFERENCES = {  # network → file, step function, tolerance, bounds
    "tanh16": ("ff_tanh16_s1.npz", tanh_step, 1e-12, None),
    "gru16": ("ff_gru16_s0.npz", gru_step, 1e-12, None),
    "gru16_bounded": ("ff_gru16_s0.npz", gru_step, 1e-12, (-1, 1)),
    "vrnn100": ("vrnn_int100.npz", tanh_step, 1e-20, None),
}


def data_folder() -> Path:
    """The folder of data sets: the environment variable CTD_DATA, else `shared/data` beside the repository."""
    return Path(os.environ.get("CTD_DATA", ROOT.parent / "shared" / "data"))


def reference_case(name: str, count: int) -> Case | None:
    """A trained network with an exhaustive list of its fixed points; None, with a message, where its file is absent."""
    file, step, tolerance, bounds = REFERENCES[name]
    path = data_folder() / "reference_networks" / file
    if not path.is_file():
        print(f"{name} is left out: no file {path} (set CTD_DATA to the folder of data)")
        return None
    with np.load(path, allow_pickle=False) as npz:
        weights = {key[2:]: npz[key] for key in npz if key.startswith("w_")}
        F = jax.tree_util.Partial(step, weights)
        return Case(F, npz["x0"][:count], npz["input_u"], tolerance, bounds, npz["fixed_points"])


def decision_case(folder: Path, train_steps: int | None, count: int, seed: int) -> Case:
    """The GRU of examples/decision_gru.py in `folder`, from states of its trials.

    With `train_steps` it is trained there first, where that is not done yet.
    """
    from ctd_models import load_checkpoint, step_function
    from ctd_models.tasks import BinaryDecision

    if train_steps and not (folder / "results.json").is_file():
        options = ["--schedule", "published", "--num-steps", str(train_steps), "--out", str(folder)]
        print(f"training {folder} for {train_steps} steps", flush=True)
        command = [sys.executable, str(ROOT / "examples" / "decision_gru.py"), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={"MPLBACKEND": "Agg", **os.environ})
    model, variables = load_checkpoint(folder / "checkpoints", "best")
    trials = BinaryDecision().sample(jax.random.key(seed), 1_000)
    visited = np.asarray(jax.jit(model.apply)(variables, trials.inputs).states)
    visited = visited.reshape(-1, visited.shape[-1])
    candidates = np.random.default_rng(seed).choice(visited, count, replace=False)
    return Case(step_function(model, variables), candidates, np.zeros(1), 5e-5, bounds=(-1, 1))


def block_step(weights: dict[str, Any], state: Any) -> Any:
    """h' = tanh(W h + b)."""
    return jnp.tanh(weights["W"] @ state + weights["b"])


BLOCKS, GAIN, COUPLING = 3, 1.5, 0.2


def block_network(
    count: int, size: int, seed: int, coupling: float = COUPLING
) -> tuple[Callable[..., Any], np.ndarray]:
    """(F, candidates [n, d]) of h' = tanh(W h), W = gain Σ_k ξ_k ξ_kᵀ / |ξ_k|² + g G / √d, with 3^BLOCKS fixed points.

    The patterns ξ_k of signs live on disjoint blocks of units. Without the Gaussian G each block stands still at 0 or at
    ±m ξ_k, m = tanh(gain m), independently of the others; none of these is near a bifurcation, so that all persist under
    a weak G (g is `coupling`). Candidates are patterns with amplitudes from −1 to 1 and noise.
    """
    rng = np.random.default_rng(seed)
    block = np.arange(size) * BLOCKS // size
    patterns = np.where(block == np.arange(BLOCKS)[:, None], rng.choice([-1.0, 1.0], size), 0)
    W = GAIN * (patterns / (patterns**2).sum(axis=1, keepdims=True)).T @ patterns
    W += coupling / math.sqrt(size) * rng.normal(size=(size, size))
    candidates = rng.uniform(-1, 1, (count, BLOCKS)) @ patterns + 0.2 * rng.normal(size=(count, size))
    return jax.tree_util.Partial(block_step, {"W": W, "b": np.zeros(size)}), candidates
