"""Candidates on their way to fixed points: solvers in turn, and a run forward for those that got stuck."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ctd_models.analysis.fixed_points.pool import Solution, batch_sizes, compile_batch, solve
from ctd_models.analysis.fixed_points.solvers import CONVERGED, NON_FINITE, STALLED, Limits, Solver
from ctd_models.analysis.systems import System

RUNS_FORWARD = (20, 200)  # steps before the first and the second new attempt of a stalled candidate


@dataclasses.dataclass
class Outcome:
    """Where each start ended."""

    states: Float[np.ndarray, "n d"]
    """The last state."""
    status: Int[np.ndarray, "n"]
    """How it ended, as in `solvers`."""
    iterations: Int[np.ndarray, "n"]
    """Iterations of all attempts together."""
    stalls: Float[np.ndarray, "n d"]
    """Where the first attempt stalled; NaN where it did not."""

    @property
    def converged(self) -> Bool[np.ndarray, "n"]:
        return self.status == CONVERGED


@dataclasses.dataclass(frozen=True)
class Pursuit:
    """How starts are pursued: what is the same for all of them."""

    solvers: tuple[Solver, ...]
    """The first is tried before and after each run forward; what is still stalled goes to the others."""
    system: System
    limits: Limits
    count: int
    """Number of candidates, which sets the sizes of batches: later, smaller calls compile nothing new."""
    progress: bool | None = None
    retries: int = len(RUNS_FORWARD)
    """New attempts of a candidate that stalled, after running it forward."""
    largest_batch: int | None = None
    """Size of the only batch of a pursuit that is expected to see few states; None: as many as there is room for."""

    def __call__(
        self, starts: Float[np.ndarray, "n d"], rows: Float[np.ndarray, "n U"], description: str = "fixed points"
    ) -> Outcome:
        self._compile(rows.shape[1], starts.dtype)
        first, *others = self.solvers
        starts = np.clip(starts, self.limits.low, self.limits.high)
        result = self.solve(first, starts, rows, description)
        outcome = Outcome(result.states, result.status, result.iterations, np.full_like(starts, np.nan))
        stuck = outcome.status == STALLED
        outcome.stalls[stuck] = outcome.states[stuck]
        for steps in RUNS_FORWARD[: self.retries]:
            stuck = np.flatnonzero(outcome.status == STALLED)
            if len(stuck):
                ahead = self.run_forward(starts[stuck], rows[stuck], steps)
                sound = np.isfinite(ahead).all(axis=1) & (np.abs(ahead - starts[stuck]).max(axis=1) > 0)
                self._try_again(first, outcome, stuck[sound], ahead[sound], rows, description)
        for solver in others:
            stuck = np.flatnonzero(outcome.status != CONVERGED)
            stuck = stuck[outcome.status[stuck] != NON_FINITE]
            if len(stuck):
                self._try_again(solver, outcome, stuck, outcome.states[stuck], rows, description)
        return outcome

    def solve(self, solver: Solver, starts: np.ndarray, rows: np.ndarray, description: str) -> Solution:
        """One attempt of one solver."""
        sizes = self._sizes(solver, starts.shape[1])
        return solve(solver, self.system, starts, rows, self.limits, self.progress, sizes, description)

    def _try_again(self, solver, outcome, which, starts, rows, description) -> None:
        """Another attempt of some starts; one that fails again changes nothing but the count of iterations."""
        if not len(which):
            return
        again = self.solve(solver, starts, rows[which], description)
        outcome.iterations[which] += again.iterations
        better = again.status == CONVERGED
        outcome.states[which[better]] = again.states[better]
        outcome.status[which[better]] = CONVERGED

    def run_forward(
        self, states: Float[np.ndarray, "n d"], rows: Float[np.ndarray, "n U"], steps: int
    ) -> Float[np.ndarray, "n d"]:
        """States after `steps` steps of a map, or of a flow's Runge-Kutta method with a step that suits its Jacobian."""
        batch = self._forward_batch(states.shape[1])
        result = []
        for start in range(0, len(states), batch):
            chosen = np.minimum(np.arange(start, start + batch), len(states) - 1)
            result.append(np.asarray(_run_forward(self.system, states[chosen], rows[chosen], np.int32(steps))))
        return np.clip(np.concatenate(result)[: len(states)], self.limits.low, self.limits.high)

    def _sizes(self, solver: Solver, size: int) -> tuple[int, ...]:
        """Sizes of batches; one small one for solvers that see few states."""
        sizes = batch_sizes(self.count, size, solver.uses_jacobian)
        largest = self.largest_batch if solver == self.solvers[0] else 16
        return sizes if largest is None else (max(sizes[0], min(largest, self.count)),)

    def _forward_batch(self, size: int) -> int:
        sizes = batch_sizes(self.count, size, False)
        return sizes[-2] if len(sizes) > 1 else sizes[-1]

    def _compile(self, num_inputs: int, dtype: Any) -> None:
        """Compiles whatever may be needed, once for each system and shape, so that what a search meets on its way
        decides on nothing that takes seconds."""
        size = self.system.structure.size
        signature = (self.solvers, jax.tree.structure(self.system), size, num_inputs, np.dtype(dtype), self.count)
        signature += (self.retries, self.largest_batch)
        if signature in _COMPILED:
            return
        _COMPILED.add(signature)
        state, row = np.zeros((1, size), dtype), np.zeros((1, num_inputs), dtype)
        for solver in self.solvers:
            for batch in self._sizes(solver, size):
                compile_batch(solver, self.system, state, row, self.limits, batch)
        if self.retries:
            self.run_forward(state, row, 0)


_COMPILED: set[Any] = set()


@jax.jit
def _run_forward(system: System, states: Float[Array, "n d"], inputs: Float[Array, "n U"], steps: Any):
    def one(state, inputs):
        dt = 1.0
        if system.flow:
            dt = 0.5 / jnp.maximum(largest_gain(lambda h: system.step(h, inputs), state), 1e-6)
        return jax.lax.fori_loop(0, steps, lambda _, h: system.advance(h, inputs, dt), state)

    return jax.vmap(one)(states, inputs)


def largest_gain(function: Any, state: Float[Array, "d"]) -> Float[Array, ""]:
    """An estimate of the Jacobian's largest singular value, by power iteration."""
    _, push = jax.linearize(function, state)
    transpose = jax.linear_transpose(push, state)

    def power(_, v):
        return transpose(push(v / jnp.maximum(jnp.linalg.norm(v), jnp.finfo(state.dtype).tiny)))[0]

    start = jnp.cos(jnp.arange(1.0, len(state) + 1, dtype=state.dtype))
    return jnp.sqrt(jnp.linalg.norm(jax.lax.fori_loop(0, 8, power, start)))
