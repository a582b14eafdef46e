"""What is true of the simulated data of the LFADS examples."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ctd_models.analysis import FixedPoints


def integrator_rates(
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


def lorenz_points(latents: "np.ndarray", attributes: Mapping[str, Any]) -> "FixedPoints":
    """The fixed points of the Lorenz system (left, origin, right), as a map from bin to bin, where latents are standardised.

    These are z = (s − m) / σ of states s of the system. m and σ, which a file does not hold, are those with which the
    latents obey the equations from bin to bin.

    Args:
        latents: [trials, time, 3].
        attributes: of the file: `lorenz_sigma`, `lorenz_rho`, `lorenz_beta`, `lorenz_time_per_bin`.
    """
    import jax
    import numpy as np
    import scipy.optimize

    from ctd_models.analysis import FixedPoints, linearize
    from ctd_models.tasks import LorenzSpikes

    names = ("sigma", "rho", "beta", "time_per_bin")
    system = LorenzSpikes(**{name: float(attributes[f"lorenz_{name}"]) for name in names})
    pairs = np.stack([latents[:, :-1], latents[:, 1:]], axis=2).reshape(-1, 2, 3)
    before, after = pairs[:: max(1, len(pairs) // 2_000)].swapaxes(0, 1)
    step = jax.jit(jax.vmap(system.step))

    def error(parameters):
        m, s = parameters[:3], parameters[3:]
        return np.ravel((np.asarray(step(m + s * before)) - m) / s - after)

    guess = np.array([0, 0, 0.85 * system.rho, 8, 9, 8.6])  # about those of the attractor of Lorenz
    m, s = np.split(scipy.optimize.least_squares(error, guess, diff_step=1e-3).x, 2)
    c, top = (system.beta * (system.rho - 1)) ** 0.5, system.rho - 1
    points = FixedPoints.from_arrays((np.array([[-c, -c, top], [0, 0, 0], [c, c, top]]) - m) / s)
    return linearize(lambda z: (system.step(m + s * z) - m) / s, points)
