"""Simulated spikes whose true rates and latent states are known: ground truth for models of neural populations."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

Key = PRNGKeyArray | None
Loadings = tuple[Float[Array, "3 N"], Float[Array, "N"]]


class SimulatedSpikes(NamedTuple):
    """Trials of spike counts, and where they come from. Trials of one condition have the same rates and other spikes."""

    spikes: Int[Array, "trials time neurons"]
    """Counts."""
    rates: Float[Array, "trials time neurons"]
    """True rates [spikes / bin]."""
    latents: Float[Array, "trials time dims"] | None
    """True state of the system behind the rates; None: it is not one array."""
    condition: Shaped[Array, "trials"]
    """Condition of each trial."""


@no_type_check  # it checks its arguments itself
def spikes_from_rates(key: PRNGKeyArray, rates: Float[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Poisson counts of the given rates [spikes / bin].

    Raises:
        ValueError: a rate is negative or not finite (inside `jax.jit`, where values are not known, this is not seen).
    """
    rates = jnp.asarray(rates)
    _check_values("rates", rates, lambda r: np.isfinite(r) & (r >= 0), "finite rates of at least 0 spikes / bin")
    return jax.random.poisson(key, rates)


@no_type_check  # it checks its arguments itself
def rates_from_states(states: Float[Array, "*shape"], max_rate_hz: float, bin_width_s: float) -> Float[Array, "*shape"]:
    """Rates [spikes / bin] of units with activity h in [−1, 1], such as tanh or GRU units: max_rate · (h + 1)/2 · dt.

    Args:
        states: activities.
        max_rate_hz: rate at h = 1 [Hz]; it is 0 at h = −1.
        bin_width_s: dt [s].

    Raises:
        ValueError: an activity lies outside [−1, 1] (not seen inside `jax.jit`), or a number is not positive.
    """
    _check_positive(max_rate_hz=max_rate_hz, bin_width_s=bin_width_s)
    states = jnp.asarray(states)
    _check_values("states", states, lambda h: np.abs(h) <= 1, "activities in [−1, 1]")
    return max_rate_hz * bin_width_s * (states + 1) / 2


@no_type_check  # it checks its arguments itself
def network_spikes(
    key: PRNGKeyArray,
    step: Callable[[Any, Any], Any],
    inputs: Float[Array, "conditions time U"],
    initial_states: Any,
    trials_per_condition: int = 1,
    *,
    max_rate_hz: float,
    bin_width_s: float,
    activity: Callable[[Any], Float[Array, "N"]] | None = None,
    labels: Shaped[Array, "conditions"] | None = None,
) -> SimulatedSpikes:
    """Spikes of the units of a network that runs on the inputs of a task: h_t = step(h_{t−1}, x_t), rates of h_t.

    With an integrator of white noise these are the data of the LFADS tutorials (`rates_from_states` gives the rates).

    Args:
        key: randomness of the spikes; the rest is given.
        step: `step(state, input [U]) -> next state`, unbatched; a state is an array or a pytree of arrays.
        inputs: one sequence of inputs for each condition.
        initial_states: the states before the first step, with the conditions as first axis of every array.
        trials_per_condition: how often each condition is repeated, with other spikes.
        max_rate_hz: rate of a unit of activity 1 [Hz].
        bin_width_s: length of a step of the network [s].
        activity: state → activity of its units, in [−1, 1]; None: the state itself.
        labels: what `condition` names each condition, such as `context_of(trials)`; None: its index.

    Returns:
        The trials, those of a condition one after another. The latents are the states, if they are one array.

    Raises:
        ValueError: shapes do not fit; an activity is outside [−1, 1]; a number is not positive.
    """
    _check_positive(max_rate_hz=max_rate_hz, bin_width_s=bin_width_s, trials_per_condition=trials_per_condition)
    inputs = jnp.asarray(inputs)
    if inputs.ndim != 3 or 0 in inputs.shape[:2]:
        raise ValueError(f"expected inputs [conditions, time, U] of at least one condition, got shape {inputs.shape}")
    labels = jnp.arange(len(inputs)) if labels is None else jnp.asarray(labels)
    for name, array in [("labels", labels), *(("initial_states", leaf) for leaf in jax.tree.leaves(initial_states))]:
        if np.shape(array)[:1] != inputs.shape[:1] or (name == "labels" and labels.ndim != 1):
            raise ValueError(f"inputs have {len(inputs)} conditions, {name} the shape {np.shape(array)}")

    def trajectory(state, inputs):
        return jax.lax.scan(lambda h, x: (step(h, x),) * 2, state, inputs)[1]

    states = jax.vmap(trajectory)(initial_states, inputs)
    activities = states if activity is None else jax.vmap(jax.vmap(activity))(states)
    shapes = [leaf.shape[2:] for leaf in jax.tree.leaves(activities)]
    if len(shapes) != 1 or len(shapes[0]) != 1 or not isinstance(activities, jax.Array):
        raise ValueError(f"expected one vector [N] of activities, got shapes {shapes}: say which by activity=")
    rates = rates_from_states(activities, max_rate_hz, bin_width_s)
    latents = states if isinstance(states, jax.Array) and states.ndim == 3 else None
    return _repeated_trials(key, rates, latents, labels, trials_per_condition)


@dataclasses.dataclass(frozen=True)
class LorenzSpikes:
    """Neurons driven by the Lorenz system: ẋ = σ(y − x), ẏ = x(ρ − z) − y, ż = xy − βz.

    Each condition is a trajectory on the attractor. The latents z are the three coordinates, standardised over all
    conditions and bins. Neuron n fires at min(max_rate, exp(w_nᵀ z + b_n)): w_n has a random direction and a length
    drawn from `loading_norm`; b_n is set so that the mean rate over all conditions and bins is a draw from
    `mean_rate_hz`. After Sussillo, Jozefowicz, Abbott & Pandarinath 2016 (LFADS), arXiv:1608.06315.
    """

    num_neurons: int = 30
    """Neurons of a session."""
    num_conditions: int = 65
    """Trajectories, from different initial states."""
    num_bins: int = 100
    """Bins in a trial."""
    bin_width_s: float = 0.01
    """Length of a bin [s]."""
    time_per_bin: float = 0.03
    """Length of a bin in the time of the Lorenz system."""
    substeps: int = 10
    """Steps of the classical Runge-Kutta method in a bin."""
    burn_in: float = 6.0
    """Time of the Lorenz system before the first bin, for the way to the attractor."""
    sigma: float = 10.0
    """σ"""
    rho: float = 28.0
    """ρ, above 1: below, every trajectory ends at the origin."""
    beta: float = 8 / 3
    """β"""
    loading_norm: tuple[float, float] = (0.7, 1.3)
    """Shortest and longest loading w_n [log Hz per standard deviation of the latents]."""
    mean_rate_hz: tuple[float, float] = (5.0, 20.0)
    """Lowest and highest mean rate of a neuron [Hz], below max_rate_hz."""
    max_rate_hz: float = 200.0
    """Cap of the rates [Hz]."""

    def __post_init__(self):
        _check_positive(**vars(self))
        if self.rho <= 1:
            raise ValueError(f"rho must exceed 1, else every trajectory ends at the origin; got {self.rho}")
        if self.mean_rate_hz[1] >= self.max_rate_hz:
            raise ValueError(f"mean rates up to {self.mean_rate_hz[1]} Hz cannot reach the cap, {self.max_rate_hz} Hz")

    def derivative(self, state: Float[Array, "3"]) -> Float[Array, "3"]:
        """Velocity of a state (x, y, z)."""
        return lorenz_velocity(state, self.sigma, self.rho, self.beta)

    def step(self, state: Float[Array, "3"]) -> Float[Array, "3"]:
        """The state one bin later."""
        dt = self.time_per_bin / self.substeps
        return jax.lax.fori_loop(0, self.substeps, lambda _, s: runge_kutta_step(self.derivative, s, dt), state)

    def states(self, condition_key: PRNGKeyArray) -> Float[Array, "C T 3"]:
        """A trajectory (x, y, z) for each condition."""
        num_burn_in = round(self.burn_in / self.time_per_bin)

        def trajectory(state):
            state = jax.lax.fori_loop(0, num_burn_in, lambda _, s: self.step(s), state)
            return jax.lax.scan(lambda s, _: (self.step(s), s), state, length=self.num_bins)[1]

        start = self.sigma * jax.random.normal(condition_key, (self.num_conditions, 3))
        return jax.vmap(trajectory)(start + jnp.array([0.0, 0.0, self.rho - 1]))

    def latents(self, condition_key: PRNGKeyArray) -> Float[Array, "C T 3"]:
        """The trajectories, standardised over all conditions and bins."""
        states = self.states(condition_key)
        return (states - states.mean(axis=(0, 1))) / states.std(axis=(0, 1))

    def loadings(self, loading_key: PRNGKeyArray, latents: Float[Array, "C T 3"]) -> Loadings:
        """Loadings w and offsets b [log Hz] of a session's neurons; w depends on the key alone, b on the latents too."""
        direction_key, norm_key, mean_key = jax.random.split(loading_key, 3)
        directions = jax.random.normal(direction_key, (3, self.num_neurons))
        directions = directions / jnp.linalg.norm(directions, axis=0)
        weights = directions * jax.random.uniform(norm_key, (self.num_neurons,), float, *self.loading_norm)
        mean_rates = jax.random.uniform(mean_key, (self.num_neurons,), float, *self.mean_rate_hz)
        return weights, _offsets(latents @ weights, mean_rates, self.max_rate_hz)

    def rates(self, latents: Float[Array, "C T 3"], loadings: Loadings) -> Float[Array, "C T N"]:
        """Rates [spikes / bin] of the neurons along trajectories of latents."""
        weights, offsets = loadings
        return self.bin_width_s * jnp.minimum(self.max_rate_hz, jnp.exp(latents @ weights + offsets))

    def sample(
        self, key: PRNGKeyArray, trials_per_condition: int, *, loading_key: Key = None, condition_key: Key = None
    ) -> SimulatedSpikes:
        """Trials, num_conditions · trials_per_condition of them. Pure, and compiles inside `jax.jit`.

        Keys that are not given are split from `key`. The same condition_key with another loading_key is another session,
        with other neurons, of the same trajectories; both the same and another key: more trials of the same session.
        """
        _check_positive(trials_per_condition=trials_per_condition)
        spike_key, new_loading_key, new_condition_key = jax.random.split(key, 3)
        latents = self.latents(new_condition_key if condition_key is None else condition_key)
        loadings = self.loadings(new_loading_key if loading_key is None else loading_key, latents)
        rates = self.rates(latents, loadings)
        return _repeated_trials(spike_key, rates, latents, jnp.arange(self.num_conditions), trials_per_condition)


@dataclasses.dataclass(frozen=True)
class ChaoticSpikes:
    """Spikes of a chaotic rate network: x ← (1 − dt/τ) x + (dt/τ) g J tanh(x), J_ij ~ N(0, 1/N), dt one bin.

    tanh(x) of each unit is rescaled to rates from 0 to max_rate in every condition; conditions differ in the initial
    state, N(0, initial_std²). The latents are x. After Sussillo, Jozefowicz, Abbott & Pandarinath 2016 (LFADS),
    arXiv:1608.06315; chaos for g > 1: Sompolinsky, Crisanti & Sommers 1988, doi:10.1103/PhysRevLett.61.259.
    """

    num_units: int = 50
    """Units N, all recorded."""
    num_conditions: int = 400
    """Trajectories, from different initial states."""
    num_bins: int = 100
    """Bins in a trial, at least 2."""
    bin_width_s: float = 0.01
    """Length of a bin and of an Euler step, dt [s]; at most tau_s."""
    tau_s: float = 0.025
    """Time constant τ [s]."""
    gain: float = 1.5
    """g"""
    max_rate_hz: float = 30.0
    """Highest rate of every unit in every condition [Hz]; the lowest is 0."""
    initial_std: float = 1.0
    """Standard deviation of the initial states, one step before the first bin."""

    def __post_init__(self):
        _check_positive(**vars(self))
        if self.num_bins < 2:
            raise ValueError(f"num_bins must be at least 2, since rates are scaled over them; got {self.num_bins}")
        if self.bin_width_s > self.tau_s:
            raise ValueError(f"bin_width_s, the Euler step, must not exceed tau_s = {self.tau_s}: {self.bin_width_s}")

    def weights(self, network_key: PRNGKeyArray) -> Float[Array, "N N"]:
        """Recurrent weights J, without the gain."""
        return jax.random.normal(network_key, (self.num_units, self.num_units)) / self.num_units**0.5

    def step(self, weights: Float[Array, "N N"], state: Float[Array, "N"]) -> Float[Array, "N"]:
        """The state one bin later."""
        return state + self.bin_width_s / self.tau_s * (self.gain * weights @ jnp.tanh(state) - state)

    def states(self, weights: Float[Array, "N N"], initial: Float[Array, "N"]) -> Float[Array, "time N"]:
        """The trajectory x that follows the state `initial`."""
        return jax.lax.scan(lambda x, _: (self.step(weights, x),) * 2, initial, length=self.num_bins)[1]

    def rates(self, states: Float[Array, "time N"]) -> Float[Array, "time N"]:
        """Rates [spikes / bin] of one trajectory: tanh(x) of each unit, scaled so that it runs from 0 to max_rate."""
        activity = jnp.tanh(states)
        low, high = activity.min(axis=0), activity.max(axis=0)
        scale = jnp.where(high > low, high - low, 1.0)  # a unit saturated throughout, in rounded numbers, is silent
        return self.max_rate_hz * self.bin_width_s * (activity - low) / scale

    def sample(
        self, key: PRNGKeyArray, trials_per_condition: int, *, network_key: Key = None, condition_key: Key = None
    ) -> SimulatedSpikes:
        """Trials, num_conditions · trials_per_condition of them. Pure, and compiles inside `jax.jit`.

        Keys that are not given are split from `key`. The same network_key and another condition_key: other trajectories
        of the same network; both the same and another key: more trials of the same conditions.
        """
        _check_positive(trials_per_condition=trials_per_condition)
        spike_key, new_network_key, new_condition_key = jax.random.split(key, 3)
        weights = self.weights(new_network_key if network_key is None else network_key)
        condition_key = new_condition_key if condition_key is None else condition_key
        initial = self.initial_std * jax.random.normal(condition_key, (self.num_conditions, self.num_units))
        states = jax.vmap(self.states, in_axes=(None, 0))(weights, initial)
        rates = jax.vmap(self.rates)(states)
        return _repeated_trials(spike_key, rates, states, jnp.arange(self.num_conditions), trials_per_condition)


def lorenz_velocity(state: Float[Array, "3"], sigma: float, rho: float, beta: float) -> Float[Array, "3"]:
    """ẋ = σ(y − x), ẏ = x(ρ − z) − y, ż = xy − βz (Lorenz 1963)."""
    x, y, z = state
    return jnp.array([sigma * (y - x), x * (rho - z) - y, x * y - beta * z])


def runge_kutta_step(derivative: Callable, state: Float[Array, "d"], dt: float) -> Float[Array, "d"]:
    """One step of length dt of ẋ = derivative(x) by the classical Runge-Kutta method of fourth order."""
    k1 = derivative(state)
    k2 = derivative(state + dt / 2 * k1)
    k3 = derivative(state + dt / 2 * k2)
    k4 = derivative(state + dt * k3)
    return state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _offsets(drive: Float[Array, "C T N"], mean_rates: Float[Array, "N"], max_rate: float) -> Float[Array, "N"]:
    """Offsets b for which the mean over conditions and bins of min(max_rate, exp(drive + b)) is mean_rates."""

    def halve(_, ends):
        middle = (ends[0] + ends[1]) / 2
        too_low = jnp.minimum(max_rate, jnp.exp(drive + middle)).mean(axis=(0, 1)) < mean_rates
        return jnp.where(too_low, middle, ends[0]), jnp.where(too_low, ends[1], middle)

    # The mean rises with b. At the lower end all rates lie below it, at the upper end above.
    ends = jnp.log(mean_rates) - drive.max(axis=(0, 1)), jnp.log(mean_rates) - drive.min(axis=(0, 1))
    low, high = jax.lax.fori_loop(0, 40, halve, ends)
    return (low + high) / 2


def _repeated_trials(key, rates, latents, labels, num_repeats: int) -> SimulatedSpikes:
    """Every condition num_repeats times, one trial after another, each with spikes of its own."""
    rates, latents, labels = jax.tree.map(lambda a: jnp.repeat(a, num_repeats, axis=0), (rates, latents, labels))
    return SimulatedSpikes(spikes_from_rates(key, rates), rates, latents, labels)


def _check_positive(**numbers) -> None:
    """Raises ValueError unless every number is positive; a pair is a range, from its lower to its upper limit."""
    for name, value in numbers.items():
        low, high = value if isinstance(value, tuple) else (value, value)
        if not 0 < low <= high < np.inf:
            expected = "a rising range of positive numbers" if isinstance(value, tuple) else "positive and finite"
            raise ValueError(f"{name} must be {expected}, got {value}")


def _check_values(name: str, values: Array, is_good: Callable[[np.ndarray], np.ndarray], expected: str) -> None:
    """Raises ValueError with the first value that is not good, and its index; values inside `jax.jit` are unknown."""
    if isinstance(values, jax.core.Tracer):
        return
    bad = np.argwhere(~is_good(np.asarray(values)))
    if len(bad):
        index = tuple(bad[0].tolist())
        raise ValueError(f"expected {expected}, got {name}[{index}] = {float(values[index])} ({len(bad)} such values)")
