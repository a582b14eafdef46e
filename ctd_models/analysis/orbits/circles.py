"""Invariant circles: whether a long orbit of a map runs on a closed curve, and how fast it turns."""

import dataclasses
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Float, Int

LARGEST_GAP = 0.05  # of the phases, in turns of the strongest line: with larger ones the curve is not seen
HARMONICS = 4  # the strongest line of a spectrum may be the base frequency, or one of its first multiples
GOLDEN = (np.sqrt(5) - 1) / 2


@dataclasses.dataclass(frozen=True)
class ClosedCurves:
    """What the test of each orbit for a closed curve found."""

    rotation_numbers: Float[np.ndarray, "n"]
    """Turns per step, in (0, ½]: the sense of rotation is a choice."""
    residuals: Float[np.ndarray, "n"]
    """Largest distance of a point from the line between its neighbours in phase, relative to the size of the orbit (its
    standard deviation). Small on a smooth closed curve, 1 and more elsewhere; infinite where the phases leave a gap, as
    on a periodic orbit."""
    orders: Int[np.ndarray, "n time"]
    """The time indices of the orbit, in order of phase: `orbit[orders[i]]` runs once round the curve."""

    def __len__(self) -> int:
        return len(self.residuals)


@no_type_check  # it checks its arguments itself
def closed_curves(orbits: Float[Any, "n time d"], *, tolerance: float = 0.05) -> ClosedCurves:
    """Tests orbits of a map, once they have settled, for motion on an invariant closed curve.

    On such a curve the state is a smooth function of one phase, h_t = H(ρ t mod 1), with ρ the rotation number. ρ is the
    frequency of the strongest line in the spectrum (of the entry that varies most, refined by maximising the windowed
    Fourier integral: Laskar 1993, doi:10.1016/0167-2789(93)90210-R), or a fraction of it where that line is a harmonic:
    with the strongest at f, ρ = (f + j) / m. The points are sorted by phase; if they then follow each other along a curve,
    the residual is small. The smallest m whose residual is within `tolerance` is taken, or else the smallest residual.

    The accuracy of ρ rises with the fourth power of the orbit's length; 2,000 steps give about ten digits. A periodic
    orbit of more than twenty points looks like a curve, too: its leading Lyapunov exponent is negative, and that along
    a circle is zero.

    Args:
        orbits: [n, time, d], successive states of a map, at least 64; of a flow, successive returns to a section.
        tolerance: the residual of a closed curve.

    Raises:
        ValueError: the shape does not fit, or a value is not finite.
    """
    orbits = np.asarray(orbits)
    if orbits.ndim != 3 or orbits.shape[1] < 64 or 0 in orbits.shape:
        raise ValueError(f"expected orbits [n, time, d] of at least 64 steps, got shape {orbits.shape}")
    if not np.isfinite(orbits).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(orbits))[0])
        raise ValueError(f"orbits hold {orbits[index]} at index {index}")
    n, time, _ = orbits.shape
    entry = orbits.var(axis=1).argmax(axis=1)
    line = strongest_frequencies(np.take_along_axis(orbits, entry[:, None, None], axis=2)[:, :, 0].astype(float))
    rotation, residuals = np.full(n, np.nan), np.full(n, np.inf)
    orders = np.tile(np.arange(time), (n, 1))
    for m in range(1, HARMONICS + 1):
        for j in range(m):
            frequency = (line + j) / m
            order, residual = _smoothness(orbits, frequency, LARGEST_GAP / m)
            better = (residuals > tolerance) & (residual < residuals)
            rotation[better], residuals[better], orders[better] = frequency[better], residual[better], order[better]
    return ClosedCurves(np.minimum(rotation % 1, -rotation % 1), residuals, orders)


def strongest_frequencies(signals: Float[np.ndarray, "n time"]) -> Float[np.ndarray, "n"]:
    """Frequency of the strongest line of each signal [cycles per sample], between the grid points of the spectrum too."""
    time = signals.shape[1]
    window = np.hanning(time + 1)[:-1]
    windowed = window * (signals - (window @ signals.T / window.sum())[:, None])
    peak = np.abs(np.fft.rfft(windowed, axis=1))[:, 1:].argmax(axis=1) + 1
    low, high = (peak - 1) / time, (peak + 1) / time

    def amplitude(frequency: np.ndarray) -> np.ndarray:
        return np.abs(np.einsum("nt,nt->n", windowed, np.exp(-2j * np.pi * frequency[:, None] * np.arange(time))))

    for _ in range(45):  # golden sections
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        goes_left = amplitude(left) > amplitude(right)
        low, high = np.where(goes_left, low, left), np.where(goes_left, right, high)
    return (low + high) / 2


def _smoothness(
    orbits: Float[np.ndarray, "n time d"], frequency: Float[np.ndarray, "n"], largest_gap: float
) -> tuple[Int[np.ndarray, "n time"], Float[np.ndarray, "n"]]:
    """(order by phase, residual) of each orbit, with the phase `frequency` · t."""
    phases = frequency[:, None] * np.arange(orbits.shape[1]) % 1
    order = np.argsort(phases, axis=1, kind="stable")
    phases = np.take_along_axis(phases, order, axis=1)
    points = np.take_along_axis(orbits, order[:, :, None], axis=1)
    before, after = np.roll(points, 1, axis=1), np.roll(points, -1, axis=1)
    gap_before, gap_after = (phases - np.roll(phases, 1, axis=1)) % 1, (np.roll(phases, -1, axis=1) - phases) % 1
    share = gap_before / np.maximum(gap_before + gap_after, np.finfo(float).tiny)
    misses = points - (before + share[:, :, None] * (after - before))
    size = orbits.var(axis=1).sum(axis=1)
    seen = gap_before.max(axis=1) <= largest_gap
    residuals = np.sqrt((misses**2).sum(axis=2).max(axis=1) / np.maximum(size, np.finfo(float).tiny))
    return order, np.where(seen, residuals, np.inf)


def repeated_curves(
    orbits: Float[np.ndarray, "n time d"], max_period: int, tolerance: float
) -> tuple[Int[np.ndarray, "n"], ClosedCurves, Bool[np.ndarray, "n"]]:
    """(number q of curves that follow each other, the test of every q-th point, whether it passed).

    q is the smallest for which the orbit of F^q runs on one closed curve. Orders index the whole orbit.
    """
    n, time, _ = orbits.shape
    periods, found = np.ones(n, int), closed_curves(orbits, tolerance=tolerance)
    rotation, residuals = found.rotation_numbers.copy(), found.residuals.copy()
    orders = found.orders.copy()
    for q in range(2, min(max_period, time // 128) + 1):
        rows = np.flatnonzero(residuals > tolerance)
        if not len(rows):
            break
        sub = closed_curves(orbits[rows, ::q], tolerance=tolerance)
        passed = sub.residuals <= tolerance
        rows, sub_orders = rows[passed], sub.orders[passed] * q
        periods[rows], rotation[rows], residuals[rows] = q, sub.rotation_numbers[passed], sub.residuals[passed]
        orders[rows] = -1
        orders[rows[:, None], np.arange(sub_orders.shape[1])] = sub_orders
    return periods, ClosedCurves(rotation, residuals, orders), residuals <= tolerance
