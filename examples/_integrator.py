"""What is known of the integrator behind the data of examples/lfads_integrator.py."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ctd_models.analysis import FixedPoints


def true_rates(
    path: str | os.PathLike, indices: "np.ndarray", inputs: "np.ndarray", max_rate_hz: float, bin_width_s: float
) -> "np.ndarray":
    """True rates [trials, time, units] of an integrator [spikes/bin], of the hidden states that the file holds or of the
    network in it, h_t = tanh(W_in x_t + W_rec h_{t−1} + b), run on `inputs` from `h0s`.

    Raises:
        SystemExit: the file has neither.
    """
    import h5py
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ctd_models.tasks import rates_from_states

    with h5py.File(path) as file:
        if "hiddens" in file:
            return np.asarray(rates_from_states(file["hiddens"][indices], max_rate_hz, bin_width_s))
        if "h0s" not in file or "network" not in file:
            raise SystemExit(f"{path} has neither 'hiddens' nor 'h0s' and 'network': its true rates are unknown")
        start, weights = file["h0s"][indices], {name: values[()] for name, values in file["network"].items()}

    def step(h, x):
        h = jnp.tanh(x @ weights["W_in"].T + h @ weights["W_rec"].T + weights["b"])
        return h, h

    _, states = jax.lax.scan(step, start, inputs.swapaxes(0, 1))
    return np.asarray(rates_from_states(states.swapaxes(0, 1), max_rate_hz, bin_width_s))


def line_numbers(
    F: Callable[..., Any],
    slow: "FixedPoints",
    states: "np.ndarray",
    inputs: "np.ndarray",
    factors: Callable[[Any], "np.ndarray"],
) -> dict[str, float]:
    """How much of a line attractor a generator has, seen along the first principal component of the factors of trials.

    `line_coverage` is the share of 25 equal parts of the range that trials visit that have a slow point;
    `line_variance_share` is that of the slow points along their own first component; `held_after_a_trial` is the slope by
    which the position without input after the steps of a trial depends on that at its start, from the states in which
    trials end and after 5 steps for fast modes to decay: 1 for a perfect integrator, less for a leaky one.

    Args:
        F: (state, input) → next state of the generator.
        slow: its slow points, linearised.
        states: [trials, time, N] that trials visit.
        inputs: [U] without input.
        factors: the map from states to factors.
    """
    import numpy as np

    from ctd_models.analysis import PCA, simulate

    main, num_steps = PCA.fit(factors(states), 1), states.shape[1]

    def position(states):
        return main.transform(factors(states))[..., 0]

    after = position(simulate(F, states[:, -1], inputs, num_steps=5 + num_steps).astype(np.float32))
    parts = np.linspace(*np.quantile(position(states), (0.01, 0.99)), 26)
    results = {
        "held_after_a_trial": np.polyfit(after[:, 5], after[:, -1], 1)[0],
        "line_coverage": np.mean(np.histogram(position(slow.states), parts)[0] > 0),
    }
    if len(slow) > 2:
        sizes = np.abs(slow.eigenvalues)
        results["line_variance_share"] = PCA.fit(factors(slow.states), 1).explained_variance_ratio[0]
        results |= {"top_eigenvalue_median": np.median(sizes[:, 0]), "second_eigenvalue_median": np.median(sizes[:, 1])}
    return results
