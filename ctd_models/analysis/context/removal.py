"""What is left of a contextual effect when the modes that carry it are removed from the state."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, no_type_check

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from ctd_models.analysis.context.effects import as_inputs, states_and_rest
from ctd_models.analysis.context.modes import leading_modes_of, mode_angles, without_modes
from ctd_models.analysis.context.readouts import Readout, as_readout, check_settle_steps
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.geometry.outcomes import check_numbers, check_points
from ctd_models.analysis.systems import System, precision, prepare


@dataclasses.dataclass(frozen=True, repr=False)
class ModeRemoval:
    """The effect of a modifier on probes with and without some modes. Axes: point n, mode k, lag l, probe p."""

    modes: Bool[np.ndarray, "n k"]
    """Which modes were removed, both members of a conjugate pair."""
    angles: Float[np.ndarray, "n k"]
    """Between the deflection and the left eigenvector of each mode [degrees] (`mode_angles`)."""
    deflections: Float[np.ndarray, "n d"]
    """State after the modifier, minus that after rest."""
    remaining: Float[np.ndarray, "n d"]
    """The deflections without these modes."""
    plain: Float[np.ndarray, "n l p"]
    """Change of the readout by a probe without the modifier."""
    modified: Float[np.ndarray, "n l p"]
    """After the modifier."""
    removed: Float[np.ndarray, "n l p"]
    """After the modifier and the removal of the modes."""

    @property
    def fractions(self) -> Float[np.ndarray, "l"]:
        """Share of the effect of the modifier that the removal takes away at each lag, 1 − ‖removed − plain‖ /
        ‖modified − plain‖ over points and probes: 1 where probes act as if there had been no modifier. An effect that is
        turned into its opposite counts as much as one that stays; negative where the removal makes it larger. NaN where the
        modifier has no effect."""
        return self._shares((0, 2))

    @property
    def fraction(self) -> float:
        """The same over all lags."""
        return float(self._shares(None))

    def _shares(self, axis: Any) -> Any:
        left, whole = _size(self.removed - self.plain, axis), _size(self.modified - self.plain, axis)
        rounding = 1e-9 * (_size(self.plain, axis) + _size(self.modified, axis))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(whole > rounding, 1 - left / whole, np.nan)

    def __repr__(self) -> str:
        n, lags, probes = self.plain.shape
        shares = ", ".join("no effect" if np.isnan(value) else f"{value:.2f}" for value in self.fractions)
        return (
            f"ModeRemoval: {self.modes.sum(axis=1).mean():.1f} eigenvalues at {n} points; of the effect on {probes} probes "
            f"is removed at lags 0 … {lags - 1}: {shares}"
        )


def _size(values: Float[np.ndarray, "n l p"], axis: Any) -> Any:
    return np.sqrt((values**2).sum(axis=axis))


@no_type_check  # it checks its arguments itself
def remove_modes(
    F: Callable[..., Any],
    points: FixedPoints,
    modifier: Float[Any, "U"],
    probes: Mapping[str, Float[Any, "U"]],
    readout: Readout,
    *,
    num_modes: int = 1,
    modes: Bool[Any, "n k"] | None = None,
    rest: Float[Any, "U"] | None = None,
    num_lags: int = 1,
    settle_steps: int = 0,
    orthogonal: bool = False,
    dtype: Any = np.float64,
) -> ModeRemoval:
    """A perturbation experiment on a map: a modifier comes, some modes are removed from its deflection, and probes follow.

    At each point the system takes a step with the modifier; the deflection of its state from where a step of rest leads
    loses its parts in the modes of the point; then follow rest and a probe. Where the modes carry the effect of the
    modifier, probes act as without it. More modes need not remove more: what is left may be larger than the deflection where
    modes are far from orthogonal. After Maheswaranathan & Sussillo (2020, arXiv:2004.08013).

    Args:
        F: `F(state, input)` → next state.
        points: linearised points, such as those along a line attractor.
        modifier: the input [U].
        probes: inputs that follow: name → [U].
        readout: weights [d], or a function state → number.
        num_modes: how many modes are removed at each point, conjugate pairs as one: those whose left eigenvectors lie
            closest to the deflection.
        modes: these modes instead, both members of a pair or none.
        rest: the input while nothing comes; None: that of the points, or zeros.
        num_lags: lags 0 … num_lags − 1, steps of rest between the removal and the probe.
        settle_steps: steps of rest between a probe and the readout.
        orthogonal: project out the left eigenvectors, the smallest change of state that leaves the modes without drive, but
            moves the others; otherwise each mode's own part r (l · δ) is taken, and the others stay.
        dtype: precision.

    Raises:
        ValueError, TypeError: arguments that do not fit, points of a flow, a modifier that does nothing at some point, or
            modes that cannot be told apart.
    """
    options = {
        "rest": rest,
        "num_lags": num_lags,
        "settle_steps": settle_steps,
        "orthogonal": orthogonal,
        "dtype": dtype,
    }
    experiment = _Experiment(F, points, modifier, probes, readout, **options)
    if modes is None:
        modes = leading_modes_of(points, experiment.deflections, num_modes)
    remaining, removed = experiment.without(np.asarray(modes))
    angles = mode_angles(points, experiment.deflections)
    plain, modified = experiment.answers(experiment.still), experiment.answers(experiment.moved)
    return ModeRemoval(np.asarray(modes), angles, experiment.deflections, remaining, plain, modified, removed)


class _Experiment:
    """What the removal of any modes has in common: where rest and the modifier lead, and how probes are answered."""

    def __init__(
        self,
        F,
        points,
        modifier,
        probes,
        readout,
        *,
        rest=None,
        num_lags=1,
        settle_steps=0,
        orthogonal=False,
        dtype=float,
    ):
        check_points(points)
        check_numbers(num_lags=num_lags)
        check_settle_steps(settle_steps)
        self.points, self.orthogonal, self.dtype = points, orthogonal, dtype
        self.counts = int(num_lags), int(settle_steps)
        modifier = as_inputs({"modifier": modifier}, "a modifier", dtype)[0]
        self.probes = as_inputs(probes, "probes", dtype)
        states, rest = states_and_rest(points, rest, len(modifier), dtype)
        self.system, flat, self.rest = prepare(F, states, rest, kind="map", dtype=dtype, what="points")
        for what, shape in (("probes", self.probes.shape[1:]), ("rest", self.rest.shape[1:])):
            if shape != modifier.shape:
                raise ValueError(f"the modifier has {modifier.shape} input features, {what} have {shape}")
        self.read = as_readout(readout, self.system, flat[0], dtype)
        with precision(dtype):
            self.still, self.moved = map(np.asarray, _stepped(self.system, flat, self.rest, modifier))
        self.deflections = self.moved - self.still
        if not (sizes := np.linalg.norm(self.deflections, axis=1)).all():
            raise ValueError(f"the modifier does nothing at point {int(sizes.argmin())}: is it the input at rest?")

    def answers(self, starts: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n l p"]:
        """By how much each probe changes the readout from these states."""
        with precision(self.dtype):
            starts = np.asarray(starts, self.dtype)
            return np.asarray(_answers(self.system, self.read, starts, self.rest, self.probes, *self.counts))

    def without(self, modes: Bool[np.ndarray, "n k"]) -> tuple[np.ndarray, np.ndarray]:
        """(deflections without these modes, answers from there)."""
        remaining = without_modes(self.points, self.deflections, modes, orthogonal=self.orthogonal)
        return remaining, self.answers(self.still + remaining)


@no_type_check  # it checks its arguments itself
def strongest_modes(
    F: Callable[..., Any],
    points: FixedPoints,
    modifier: Float[Any, "U"],
    probes: Mapping[str, Float[Any, "U"]],
    readout: Readout,
    *,
    num_modes: int = 1,
    among: int = 15,
    **options: Any,
) -> Bool[np.ndarray, "n k"]:
    """The modes at each point without which a modifier has the least effect on some probes, conjugate pairs as one.

    They are chosen one after the other, each so that with those before it the least is left of the effect: pass them to
    `remove_modes(modes=)` with other probes, for a share of the effect that the choice has not seen.

    Args:
        F, points, modifier, probes, readout: as in `remove_modes`.
        num_modes: how many.
        among: choose among so many modes at each point, those whose left eigenvectors lie closest to the deflection.
        options: those of `remove_modes`.

    Raises:
        ValueError, TypeError: as `remove_modes`, or more modes than there are.
    """
    check_numbers(among=among, num_modes=num_modes)

    experiment = _Experiment(F, points, modifier, probes, readout, **options)
    plain, angles = experiment.answers(experiment.still), mode_angles(points, experiment.deflections)
    upper = points.eigenvalues.imag > 0
    chosen = np.zeros(upper.shape, bool)
    first = points.eigenvalues.imag >= 0
    order = np.argsort(np.where(first, angles, np.inf), axis=1, kind="stable")
    most = int(first.sum(axis=1).min())
    if num_modes > most:
        raise ValueError(f"num_modes must lie in 1 … {most} (pairs count as one), got {num_modes}")
    for _ in range(num_modes):
        least, best = np.full(len(points), np.inf), chosen
        for rank in range(min(max(among, num_modes), most)):
            modes = chosen.copy()
            np.put_along_axis(modes, order[:, rank : rank + 1], True, axis=1)
            modes[:, 1:] |= modes[:, :-1] & upper[:, :-1]
            left = _size(experiment.without(modes)[1] - plain, (1, 2))
            better = (left < least) & (modes != chosen).any(axis=1)
            least, best = np.where(better, left, least), np.where(better[:, None], modes, best)
        chosen = best
    return chosen


@jax.jit
def _stepped(
    system: System, states: Float[Array, "n d"], rest: Float[Array, "n U"], modifier: Float[Array, "U"]
) -> tuple[Array, Array]:
    return jax.vmap(system.step)(states, rest), jax.vmap(system.step, (0, None))(states, modifier)


@partial(jax.jit, static_argnums=(5, 6))
def _answers(
    system: System,
    read: Any,
    states: Float[Array, "n d"],
    rest: Float[Array, "n U"],
    probes: Float[Array, "p U"],
    num_lags: int,
    settle_steps: int,
) -> Float[Array, "n l p"]:
    """By how much each probe changes the readout, after 0 … num_lags − 1 steps of rest."""

    def answer(state, probe, rest):
        state = system.step(state, probe)
        return read(jax.lax.fori_loop(0, settle_steps, lambda _, h: system.step(h, rest), state))

    def of_point(state, rest):
        def lag(state, _):
            base = answer(state, rest, rest)
            return system.step(state, rest), jax.vmap(lambda probe: answer(state, probe, rest) - base)(probes)

        return jax.lax.scan(lag, state, None, length=num_lags)[1]

    return jax.vmap(of_point)(states, rest)
