"""Prediction of neurons and of bins that a model did not read, as in the Neural Latents Benchmark."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Real

from ctd_models.analysis.metrics import bits_per_spike, check_finite, check_not_negative

PENALTIES = (1.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)


@no_type_check  # it checks its arguments itself
def cosmoothing_bits_per_spike(
    rates: Float[Any, "trials time _"],
    spikes: Real[Any, "trials time neurons"],
    heldout: Int[Any, "heldout"],
    *,
    bin_width: float | None = None,
    minimum_rate: float | None = None,
) -> float:
    """Co-smoothing of the Neural Latents Benchmark (Pei et al. 2021, arXiv:2109.04463) [bits per spike].

    `bits_per_spike` of the neurons that the model did not read. The null model is each neuron's mean count over the very
    trials and bins that are evaluated, as in the benchmark's code; so it is not a model that could be had beforehand, and a
    constant rate that was fitted on training trials scores below 0.

    Args:
        rates: predicted, of all neurons in the order of the spikes, or of the held-out ones in the order of `heldout`.
        spikes: counts of all neurons, test trials.
        heldout: indices of the neurons that were held out.
        bin_width: duration of a bin [s], where the rates are in Hz; None: they are expected counts.
        minimum_rate: see `bits_per_spike`; the benchmark's code takes 1e-9.

    Raises:
        ValueError: shapes or indices do not fit, or what `bits_per_spike` rejects.
    """
    rates, spikes, heldout = np.asarray(rates), np.asarray(spikes), _heldout(heldout, np.shape(spikes))
    if rates.ndim != 3 or rates.shape[:2] != spikes.shape[:2] or rates.shape[2] not in (spikes.shape[2], len(heldout)):
        raise ValueError(
            f"expected rates [trials, time, neurons] of all {spikes.shape[2]} neurons or of the {len(heldout)} held-out "
            f"ones, got shape {rates.shape} for spikes {spikes.shape}"
        )
    rates = rates[..., heldout] if rates.shape[2] == spikes.shape[2] else rates
    return bits_per_spike(spikes[..., heldout], rates, bin_width=bin_width, minimum_rate=minimum_rate)


@no_type_check  # it checks its arguments itself
def forward_bits_per_spike(
    rates: Float[Any, "trials time neurons"],
    spikes: Real[Any, "trials time neurons"],
    num_forward_bins: int,
    *,
    bin_width: float | None = None,
    minimum_rate: float | None = None,
) -> float:
    """Forward prediction of the Neural Latents Benchmark (Pei et al. 2021, arXiv:2109.04463) [bits per spike].

    `bits_per_spike` of all neurons, held in and held out, in the last bins, which the model did not read. The null model is
    each neuron's mean count over these bins of the evaluated trials.

    Args:
        rates: predicted, of all bins or of the last `num_forward_bins`.
        spikes: counts of all bins or of the last ones.
        num_forward_bins: bins at the end that were only predicted.
        bin_width: duration of a bin [s], where the rates are in Hz; None: they are expected counts.
        minimum_rate: see `bits_per_spike`; the benchmark's code takes 1e-9.

    Raises:
        ValueError: there are fewer bins, or what `bits_per_spike` rejects.
    """
    rates, spikes = np.asarray(rates), np.asarray(spikes)
    if rates.ndim != 3 or spikes.ndim != 3 or not 1 <= num_forward_bins <= min(rates.shape[1], spikes.shape[1]):
        raise ValueError(
            f"expected rates and spikes [trials, time, neurons] of {num_forward_bins} bins or more (num_forward_bins, 1 or "
            f"more), got shapes {rates.shape} and {spikes.shape}"
        )
    last = slice(-num_forward_bins, None)
    return bits_per_spike(spikes[:, last], rates[:, last], bin_width=bin_width, minimum_rate=minimum_rate)


@dataclasses.dataclass(frozen=True)
class PoissonGLM:
    """Expected counts from features of the same bin, λ_n = exp(((x − μ) / σ) w_n + b_n)."""

    weights: Float[np.ndarray, "features neurons"]
    """w; 0 for features that were constant and for silent neurons."""
    bias: Float[np.ndarray, "neurons"]
    """b; of a silent neuron the log of half a spike in all the bins that were fitted."""
    mean: Float[np.ndarray, "features"]
    """μ of the features that were fitted."""
    std: Float[np.ndarray, "features"]
    """σ of the features that were fitted, 1 where they are constant."""
    penalty: float
    """Weight of ½‖w_n‖²."""
    silent: Int[np.ndarray, "silent"]
    """Neurons without a spike in the bins that were fitted."""
    validation_bits: float | None = None
    """Bits per spike of this penalty on validation trials, before the final fit; None where it was not chosen."""

    def predict(self, features: Real[Any, "*samples features"]) -> Float[np.ndarray, "*samples neurons"]:
        """Expected counts per bin."""
        return np.exp((np.asarray(features, np.float64) - self.mean) / self.std @ self.weights + self.bias)


@no_type_check  # it checks its arguments itself
def fit_poisson_glm(
    features: Real[Any, "*samples features"],
    spikes: Real[Any, "*samples neurons"],
    *,
    penalty: float = 100.0,
    max_steps: int = 100,
) -> PoissonGLM:
    """Poisson regression of each neuron on z-scored features z, with a ridge penalty.

    Minimises Σ_t [λ_tn − y_tn log λ_tn] + ½ · penalty · ‖w_n‖², log λ_tn = z_t·w_n + b_n, in float64 by Newton's method with
    halved steps where a full one does not descend. The problem is convex; it is solved to the precision of the arithmetic.

    Args:
        features: such as inferred factors, in the bins of the spikes.
        spikes: counts, such as those of held-out neurons.
        penalty: weight of ½‖w_n‖², not negative. 0 may have no solution.
        max_steps: most steps of Newton's method.

    Raises:
        ValueError: shapes do not fit, a value is not finite, counts or penalty are negative.
        RuntimeError: the steps were not enough, or without penalty there is no unique solution; it names the neurons.
    """
    return _fit(*_checked(features, spikes), penalty, max_steps)


@no_type_check  # it checks its arguments itself
def select_poisson_glm(
    features: Real[Any, "trials time features"],
    spikes: Real[Any, "trials time neurons"],
    train: Int[Any, "n"],
    validation: Int[Any, "m"],
    *,
    penalties: Sequence[float] = PENALTIES,
    max_steps: int = 100,
) -> PoissonGLM:
    """`fit_poisson_glm` with the penalty that predicts validation trials best, fitted on training and validation trials.

    This makes co-smoothing of any features: `glm.predict(factors[test])` are the rates of the held-out neurons.

    Args:
        features: of all trials; those of a model that did not read these neurons.
        spikes: counts of the held-out neurons.
        train: indices of training trials.
        validation: indices of validation trials.
        penalties: to try, the same for all neurons; the best has the most bits per spike over all of them.
        max_steps: most steps of Newton's method.

    Raises:
        ValueError, RuntimeError: as `fit_poisson_glm`; training and validation share trials; no spike in validation trials.
    """
    train, validation = np.asarray(train), np.asarray(validation)
    if shared := np.intersect1d(train, validation).tolist():
        raise ValueError(f"training and validation share the trials {shared}")
    if not len(penalties):
        raise ValueError("there is no penalty to try")
    features, spikes = _checked(features, spikes)
    best, glm = (-np.inf, penalties[0]), None
    for penalty in sorted(penalties, reverse=True):  # from the easiest problem on, each starts where the last ended
        glm = _fit(features[train], spikes[train], penalty, max_steps, glm)
        best = max(best, (bits_per_spike(spikes[validation], glm.predict(features[validation])), penalty))
    both = np.concatenate([train, validation])
    return dataclasses.replace(_fit(features[both], spikes[both], best[1], max_steps), validation_bits=best[0])


def _checked(features: Any, spikes: Any) -> tuple[Float[np.ndarray, "*samples m"], Float[np.ndarray, "*samples n"]]:
    features, spikes = np.asarray(features, np.float64), np.asarray(spikes, np.float64)
    if features.shape[:-1] != spikes.shape[:-1] or features.ndim < 2 or 0 in features.shape + spikes.shape:
        raise ValueError(
            "expected features [..., features] and spikes [..., neurons] of the same samples, none empty, got shapes "
            f"{features.shape} and {spikes.shape}"
        )
    for name, values in (("features", features), ("spikes", spikes)):
        check_finite(name, values)
    check_not_negative("spikes", spikes)
    return features, spikes


def _fit(
    features: Float[np.ndarray, "*samples m"],
    spikes: Float[np.ndarray, "*samples n"],
    penalty: float,
    max_steps: int,
    start: PoissonGLM | None = None,
) -> PoissonGLM:
    if not 0 <= penalty < np.inf:
        raise ValueError(f"penalty cannot be negative, got {penalty}")
    x, counts = features.reshape(-1, features.shape[-1]), spikes.reshape(-1, spikes.shape[-1])
    mean, std = x.mean(axis=0), x.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    design = np.concatenate([(x - mean) / std, np.ones((len(x), 1))], axis=1)
    silent = np.flatnonzero(counts.sum(axis=0) == 0)
    counts = np.where(counts.sum(axis=0) == 0, 0.5 / len(x), counts)  # of silent neurons: half a spike, spread evenly
    initial = np.zeros((counts.shape[1], design.shape[1]))
    initial[:, -1] = np.log(counts.mean(axis=0))
    initial = initial if start is None else np.concatenate([start.weights, start.bias[None]]).T
    batch = int(np.clip(2**23 // design.size, 1, counts.shape[1]))  # 64 MB of weighted designs
    with jax.enable_x64(True):
        arguments = (jnp.asarray(a) for a in (design, counts.T, initial, float(penalty), max_steps))
        solution, converged = map(np.asarray, _newton(*arguments, batch))
    if not converged.all():
        raise RuntimeError(
            f"Poisson regression of the neurons {np.flatnonzero(~converged).tolist()} did not converge in {max_steps} steps "
            f"with penalty {penalty:g}: raise max_steps, or the penalty where the solution is not unique"
        )
    weights = solution[:, :-1].T.copy()
    weights[:, silent] = 0.0  # from rounding
    return PoissonGLM(weights, solution[:, -1], mean, std, float(penalty), silent)


@functools.partial(jax.jit, static_argnames="batch")
def _newton(
    design: Float[Array, "samples m"],
    counts: Float[Array, "neurons samples"],
    start: Float[Array, "neurons m"],
    penalty: Float[Array, ""],
    max_steps: Int[Array, ""],
    batch: int,
) -> tuple[Float[Array, "neurons m"], Bool[Array, "neurons"]]:
    """(weights with the bias last, whether they converged) of each neuron."""
    precision = jnp.full(design.shape[1], penalty).at[-1].set(0.0)
    idle = jnp.where((design == 0).all(axis=0), 1.0, 0.0)  # constant features: keeps the Hessian regular, moves nothing

    def solve(neuron):
        y, weights = neuron

        def objective(weights, log_rates):
            return (jnp.exp(log_rates) - y * log_rates).sum() + 0.5 * (precision * weights**2).sum()

        def step(state):
            weights, log_rates, value, _, count = state
            rates = jnp.exp(log_rates)
            gradient = design.T @ (rates - y) + precision * weights
            hessian = (design * rates[:, None]).T @ design + jnp.diag(precision + idle)
            direction = -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(hessian), gradient)
            decrement, change = -(gradient @ direction), design @ direction

            def rises(search):
                size, found = search
                bound = value - 1e-4 * size * decrement + 1e-13 * jnp.abs(value)  # the last is rounding of the sum
                return ~(found <= bound) & (size > 1e-10)

            def halve(search):
                size = 0.5 * search[0]
                return size, objective(weights + size * direction, log_rates + size * change)

            full = jnp.ones_like(value), objective(weights + direction, log_rates + change)
            size, value = jax.lax.while_loop(rises, halve, full)
            weights = weights + size * direction
            return weights, design @ weights, value, decrement, count + 1

        def goes_on(state):
            return ~(state[3] < 1e-12 * jnp.maximum(y.sum(), 1.0)) & (state[4] < max_steps)

        log_rates = design @ weights
        first = (weights, log_rates, objective(weights, log_rates), jnp.asarray(jnp.inf), 0)
        weights, _, _, decrement, _ = jax.lax.while_loop(goes_on, step, first)
        return weights, decrement < 1e-12 * jnp.maximum(y.sum(), 1.0)

    return jax.lax.map(solve, (counts, start), batch_size=batch)


def _heldout(heldout: Any, shape: tuple[int, ...]) -> Int[np.ndarray, "heldout"]:
    heldout = np.asarray(heldout)
    if len(shape) != 3:
        raise ValueError(f"expected spikes [trials, time, neurons], got shape {shape}")
    if heldout.ndim != 1 or not len(heldout) or not np.issubdtype(heldout.dtype, np.integer):
        raise ValueError(f"expected heldout [neurons] of indices, got {heldout.dtype} of shape {heldout.shape}")
    if outside := heldout[(heldout < 0) | (heldout >= shape[2])].tolist():
        raise ValueError(f"heldout names the neurons {outside}, but there are {shape[2]}, counted from 0")
    if len(np.unique(heldout)) < len(heldout):
        raise ValueError(f"heldout names a neuron twice: {heldout.tolist()}")
    return heldout
