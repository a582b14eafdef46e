"""Lyapunov exponents of maps and flows, from the growth of tangent vectors that are orthonormalised again and again."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ctd_models.analysis.orbits.simulation import step_duration
from ctd_models.analysis.systems import System, precision, prepare

NUM_BLOCKS = 64  # of time; their means give the running estimate and the standard errors


@dataclasses.dataclass(frozen=True, repr=False)
class LyapunovSpectrum:
    """Lyapunov exponents of trajectories. Slicing, integer arrays and boolean masks choose trajectories."""

    exponents: Float[np.ndarray, "n k"]
    """Largest first: per step of a map, per unit of time of a flow. −∞ where a direction is lost entirely (a singular
    Jacobian); NaN where the trajectory left the finite numbers."""
    standard_errors: Float[np.ndarray, "n k"]
    """Standard error of each time average: the largest that 16, 32 and 64 blocks of time give."""
    running: Float[np.ndarray, "n blocks k"]
    """The estimate from the start to `times`, to see whether it has converged."""
    times: Float[np.ndarray, "blocks"]
    """Time since the end of the transient [steps of a map, units of time of a flow]."""
    final_states: Float[np.ndarray, "n d"]
    """Where the trajectories ended."""
    kind: str = "map"
    """"map" or "flow"."""

    def __len__(self) -> int:
        return len(self.exponents)

    def __getitem__(self, index: Any) -> "LyapunovSpectrum":
        index = np.atleast_1d(np.arange(len(self))[index])
        names = ("exponents", "standard_errors", "running", "final_states")
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in names})

    @property
    def is_finite(self) -> Bool[np.ndarray, "n"]:
        """Whether the trajectory stayed finite, so that its exponents mean something."""
        return ~np.isnan(self.exponents).any(axis=1)

    @property
    def kaplan_yorke_dimension(self) -> Float[np.ndarray, "n"]:
        """D = j + Σ_{i≤j} λ_i / |λ_{j+1}|, with j the largest number of leading exponents whose sum is not negative.

        d where the sum of all is not negative; NaN where that cannot be told from the k exponents at hand. An exponent
        that is zero in theory (along a flow) is a small number here, and its sign decides between D = 0 and D = 1.
        """
        n, k = self.exponents.shape
        sums = np.cumsum(self.exponents, axis=1)
        j = np.logical_and.accumulate(sums >= 0, axis=1).sum(axis=1)
        rows = np.arange(n)
        total = np.where(j > 0, sums[rows, np.maximum(j, 1) - 1], 0.0)
        dimension = j + total / np.abs(self.exponents[rows, np.minimum(j, k - 1)])
        whole = k if k == self.final_states.shape[1] else np.nan
        return np.where(self.is_finite, np.where(j == k, whole, dimension), np.nan)

    @property
    def entropy(self) -> Float[np.ndarray, "n"]:
        """Sum of the positive exponents [nats per step or unit of time]: what the entropy rate cannot exceed (Ruelle),
        and equals for smooth measures along the unstable directions (Pesin)."""
        return np.where(self.is_finite, np.maximum(self.exponents, 0).sum(axis=1), np.nan)

    def __repr__(self) -> str:
        n, k = self.exponents.shape
        unit = "step" if self.kind == "map" else "unit of time"
        lines = [
            f"LyapunovSpectrum: {k} of {self.final_states.shape[1]} exponents of {n:,} trajectories of a {self.kind}"
        ]
        good = self[self.is_finite]
        if len(good):
            leading = good.exponents[:, 0]
            lines.append(
                f"  largest exponent: median {np.median(leading):.4g} per {unit}, from {leading.min():.4g} to "
                f"{leading.max():.4g}; positive beyond two standard errors in "
                f"{(leading > 2 * good.standard_errors[:, 0]).sum():,}"
            )
        if len(good) < n:
            lines.append(f"  {n - len(good):,} trajectories left the finite numbers")
        return "\n".join(lines)


@no_type_check  # it checks its arguments itself
def lyapunov_spectrum(
    F: Callable[..., Any],
    states: Any,
    inputs: Float[Any, "*n U"] | None = None,
    *,
    kind: str = "map",
    num_steps: int,
    transient: int = 0,
    dt: float | None = None,
    num_exponents: int | None = None,
    qr_every: int = 1,
    dtype: Any = np.float64,
) -> LyapunovSpectrum:
    """The k largest Lyapunov exponents along the trajectory of each state, under its constant input.

    With J_t the derivative of one step at h_t, k tangent vectors follow Y = J_t Q_t and are orthonormalised, Y = Q_{t+1}
    R_{t+1}; λ_i = ⟨log |R_ii|⟩ / duration of a step. The derivative is that of the discrete step, exactly; for a flow
    of the Runge-Kutta step of fourth order and length `dt`.

    Args:
        F: `F(state)` or `F(state, input)` → next state of a map, time derivative of a flow.
        states: [n, d], or a pytree of arrays [n, ...].
        inputs: None (F takes the state alone), [U] for all, or [n, U], one per state.
        kind: "map" or "flow".
        num_steps: steps over which growth is averaged, after the transient. A multiple of `qr_every`.
        transient: steps before, in which the trajectory and its tangent vectors settle (up to a multiple of `qr_every`).
        dt: step of a flow, in its unit of time.
        num_exponents: k; None: all d.
        qr_every: steps between orthonormalisations. More is faster, and loses exponents that lie more than about
            30 / qr_every below the largest, per step.
        dtype: precision.

    Returns:
        The exponents, largest first, with their standard errors (block averaging, Flyvbjerg & Petersen 1989,
        doi:10.1063/1.457480) and the running estimate.

    Raises:
        ValueError, TypeError: arguments that do not fit, before anything is compiled.

    Sources: Benettin et al. 1980, doi:10.1007/BF02128236; Shimada & Nagashima 1979, doi:10.1143/PTP.61.1605; dimension:
    Kaplan & Yorke 1979, doi:10.1007/BFb0064319.
    """
    for name, value, least in (("num_steps", num_steps, 1), ("transient", transient, 0), ("qr_every", qr_every, 1)):
        if isinstance(value, bool) or int(value) != value or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
    if num_steps % qr_every:
        raise ValueError(f"num_steps must be a multiple of qr_every = {qr_every}, got {num_steps}")
    system, flat, rows = prepare(F, states, inputs, kind=kind, dtype=dtype, what="states")
    dt = step_duration(kind, dt, dtype)
    k = flat.shape[1] if num_exponents is None else num_exponents
    if isinstance(k, bool) or int(k) != k or not 1 <= k <= flat.shape[1]:
        raise ValueError(f"num_exponents must be between 1 and the dimension {flat.shape[1]}, got {num_exponents}")
    num_blocks = min(NUM_BLOCKS, num_steps // qr_every)
    ends = np.round(np.linspace(0, num_steps // qr_every, num_blocks + 1)).astype(np.int32)
    lengths = np.diff(ends)
    first = np.int32(-(-int(transient) // int(qr_every)))
    with precision(dtype):
        basis = _generic_basis(flat.shape[1], int(k)).astype(dtype)
        final, sums = jax.device_get(_growth(system, flat, rows, dt, basis, first, lengths, int(qr_every)))
    durations = lengths * int(qr_every) * float(dt)
    times = np.cumsum(durations)
    with np.errstate(invalid="ignore"):
        running = np.cumsum(sums, axis=1) / times[None, :, None]
        order = np.argsort(-running[:, -1], axis=1, kind="stable")
        running, sums = (np.take_along_axis(values, order[:, None], axis=2) for values in (running, sums))
        errors = _standard_errors(sums, durations)
    lost = ~np.isfinite(final).all(axis=1) | np.isposinf(running).any(axis=(1, 2))
    running[lost], errors[lost] = np.nan, np.nan
    return LyapunovSpectrum(running[:, -1], errors, running, times, final, kind)


def _generic_basis(d: int, k: int) -> Float[np.ndarray, "d k"]:
    """Orthonormal columns in general position: none is likely to be invariant under anybody's Jacobian."""
    entries = np.arange(1, d * k + 1) * (np.sqrt(5) - 1) / 2
    return np.linalg.qr((entries % 1 - 0.5).reshape(d, k))[0]


@partial(jax.jit, static_argnums=7)
def _growth(
    system: System,
    states: Float[Array, "n d"],
    inputs: Float[Array, "n U"],
    dt: Any,
    basis: Float[Array, "d k"],
    transient: Any,
    lengths: Int[Array, "blocks"],
    qr_every: int,
) -> tuple[Float[Array, "n d"], Float[Array, "n blocks k"]]:
    """(final states, summed logarithms of growth in each block); `lengths` counts orthonormalisations."""

    def push(_, carry, x):
        state, vectors = carry
        state, tangent = jax.linearize(lambda h: system.advance(h, x, dt), state)
        return state, jax.vmap(tangent, 1, 1)(vectors)

    def stretch(_, carry, x):
        state, vectors, total = carry
        state, vectors = jax.lax.fori_loop(0, qr_every, partial(push, x=x), (state, vectors))
        vectors, triangle = jnp.linalg.qr(vectors)
        return state, vectors, total + jnp.log(jnp.abs(jnp.diagonal(triangle)))

    def trajectory(state, x):
        zeros = jnp.zeros(basis.shape[1], state.dtype)
        state, vectors, _ = jax.lax.fori_loop(0, transient, partial(stretch, x=x), (state, basis, zeros))

        def block(carry, length):
            *carry, total = jax.lax.fori_loop(0, length, partial(stretch, x=x), (*carry, zeros))
            return tuple(carry), total

        (state, _), sums = jax.lax.scan(block, (state, vectors), lengths)
        return state, sums

    return jax.vmap(trajectory)(states, inputs)


def _standard_errors(sums: Float[np.ndarray, "n blocks k"], durations: Float[np.ndarray, "blocks"]) -> np.ndarray:
    """The largest standard error over blocks of growing length: too short blocks are correlated and give too small ones."""
    n, count, k = sums.shape
    if count < NUM_BLOCKS:
        rates = sums / durations[:, None]
        return rates.std(axis=1, ddof=1) / np.sqrt(count) if count > 1 else np.full((n, k), np.nan)
    errors = []
    for blocks in (NUM_BLOCKS, NUM_BLOCKS // 2, NUM_BLOCKS // 4):
        totals = sums.reshape(n, blocks, -1, k).sum(axis=2)
        rates = totals / durations.reshape(blocks, -1).sum(axis=1)[:, None]
        errors.append(rates.std(axis=1, ddof=1) / np.sqrt(blocks))
    return np.max(errors, axis=0)
