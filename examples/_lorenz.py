"""The Lorenz system behind the data of examples/lfads_lorenz.py: its spikes, and its fixed points beside a model's."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from ctd_models.analysis import FixedPoints

LORENZ = ("sigma", "rho", "beta", "time_per_bin")
"""What describes the Lorenz system in the attributes of a file, after "lorenz_"."""


def write_data(path: str | os.PathLike, key: Any, trials_per_condition: int = 20) -> None:
    """Spikes of the Lorenz system in the layout "simulation", of every ten trials eight to train, one to validate, one to
    test on."""
    import jax
    import numpy as np

    from ctd_models.data import write_datasets
    from ctd_models.tasks import LorenzSpikes

    system = LorenzSpikes()
    trials = jax.jit(system.sample, static_argnums=1)(key, trials_per_condition)
    arrays = {
        "spikes": np.asarray(trials.spikes, np.uint8),
        "rates": trials.rates[::trials_per_condition],
        "latents": trials.latents[::trials_per_condition],
        "condition": trials.condition,
        "split": np.maximum(0, np.arange(len(trials.spikes)) % 10 - 7).astype(np.int8),
    }
    units = {"spikes": "spikes/bin", "rates": "spikes/bin"}
    descriptions = {
        "split": "0 train, 1 validation, 2 test",
        "rates": "of each condition",
        "latents": "of each condition, standardised",
    }
    attributes = {f"lorenz_{name}": getattr(system, name) for name in LORENZ}
    attributes |= {"bin_width_s": system.bin_width_s, "title": "Neurons driven by the Lorenz system"}
    write_datasets(path, arrays, units=units, descriptions=descriptions, attributes=attributes)


def true_points(latents: "np.ndarray", attributes: Mapping[str, Any]) -> "FixedPoints":
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

    system = LorenzSpikes(**{name: float(attributes[f"lorenz_{name}"]) for name in LORENZ})
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


def compare_points(
    path: str | os.PathLike, found: "FixedPoints", places: Any, factors: Any, latents: Any, out: Path
) -> dict[str, float]:
    """How far fixed points of a generator lie from those of the Lorenz system [standard deviations of the latents], and the
    unstable modes of both; with a figure. Nothing where the file does not tell of Lorenz, or no point was found.

    Args:
        path: the file.
        found: the points of the generator.
        places: their factors [n, F].
        factors: [trials, time, F], from which an affine map onto the latents is fitted.
        latents: [trials, time, 3].
        out: folder of the figure.
    """
    import _common as common
    import h5py
    import numpy as np

    with h5py.File(path) as file:
        attributes = dict(file.attrs)
    if not len(found) or not {f"lorenz_{name}" for name in LORENZ} <= set(attributes):
        return {}
    flat, known = factors.reshape(-1, factors.shape[-1]), true_points(latents, attributes)
    weights = np.linalg.lstsq(np.c_[flat, np.ones(len(flat))], latents.reshape(-1, 3))[0]
    mapped = np.c_[places, np.ones(len(places))] @ weights
    distances = np.linalg.norm(known.states[:, None] - mapped, axis=2)
    nearest, results = distances.argmin(axis=1), {}
    for k, name in enumerate(("left", "origin", "right")):
        results[f"{name}_point_distance"] = distances[k, nearest[k]]
        results[f"{name}_point_unstable_modes"] = found.num_unstable[nearest[k]]
        results[f"{name}_point_unstable_modes_true"] = known.num_unstable[k]
    common.save_figure(plot_points(latents, known, mapped, found, nearest), out, "lorenz_fixed_points")
    return results


def plot_points(latents: Any, known: "FixedPoints", mapped: Any, found: "FixedPoints", nearest: Any) -> "Figure":
    """True fixed points and the generator's [n, 3] among the latents, and the eigenvalues of the nearest of these."""
    import matplotlib.pyplot as plt

    from ctd_models.plots import plot_eigenvalues

    figure = plt.figure(figsize=(10, 4.6), layout="constrained")
    figure.get_layout_engine().set(wspace=0.12)
    space = figure.add_subplot(1, 2, 1, projection="3d")
    for path in latents[:: max(1, len(latents) // 40)]:
        space.plot(*path.T, color="0.75", lw=0.4, zorder=1)
    shown = {"depthshade": False, "zorder": 4}
    space.scatter(*mapped.T, marker="D", s=22, facecolors="none", edgecolors="black", label="of the generator", **shown)
    plane = figure.add_subplot(1, 2, 2)
    for k, (name, color) in enumerate({"left": "C0", "origin": "C1", "right": "C2"}.items()):
        space.scatter(*known.states[k], marker="+", s=120, color=color, label=f"true, {name}", **shown)
        style = {"color": color, "ls": "none", "alpha": 1.0}
        plot_eigenvalues(known.eigenvalues[k], axes=plane, label=f"true, {name}", marker="+", ms=14 - 3 * k, **style)
        plot_eigenvalues(
            found.eigenvalues[nearest[k]],
            axes=plane,
            label="the generator's nearest" if k == 2 else None,
            marker="o",
            ms=4,
            mfc="none",
            **style,
        )
    space.set(xlabel="x (SD)", ylabel="y (SD)", zlabel="z (SD)", title="fixed points among the latents")
    plane.set_title("their eigenvalues, a step of one bin")
    space.legend(frameon=False, fontsize="small", loc="upper left")
    plane.legend(frameon=False, fontsize="small", loc="center")
    return figure
