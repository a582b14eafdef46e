"""Figures of examples/lfads_contextual.py: latent codes and the components of a mixture, by context."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#E69F00")
UNUSED = 0.05  # weight below which a component counts as unused


def plot_codes(
    codes: Mapping[str, "np.ndarray"], priors: Mapping[str, Mapping[str, "np.ndarray"]], context: "np.ndarray"
) -> "Figure":
    """Means of the latent code of each trial in their first two principal components, a panel a model, with the ellipses of
    two standard deviations of the prior's components; dotted, and perhaps outside, where a mixture hardly uses one.

    Args:
        codes: model → [trials, C].
        priors: model → parameters of its prior: mean and log_variance ([C] or [K, C]), of a mixture logits [K] too.
        context: [trials].
    """
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.lines import Line2D
    from scipy.special import softmax

    from ctd_models.analysis import PCA

    figure, axes = plt.subplots(1, len(codes), figsize=(3.3 * len(codes), 3.7), layout="constrained", squeeze=False)
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = 2 * np.stack([np.cos(angle), np.sin(angle)])
    for panel, (name, code) in zip(axes[0], codes.items(), strict=True):
        pca = PCA.fit(code, 2)
        panel.scatter(*pca.transform(code).T, c=np.take(COLORS, context), s=6, alpha=0.5, linewidths=0)
        means, variances = (np.atleast_2d(priors[name][part]) for part in ("mean", "log_variance"))
        weights = softmax(priors[name]["logits"]) if "logits" in priors[name] else np.ones(len(means))
        for mean, variance, weight in zip(pca.transform(means), np.exp(variances), weights, strict=True):
            root = np.linalg.cholesky((pca.components * variance) @ pca.components.T)
            used = weight >= UNUSED  # the others may lie far away
            style = {"color": "black", "lw": 1.2, "ls": "-" if used else ":", "scalex": used, "scaley": used}
            panel.plot(*(mean[:, None] + root @ circle), **style)
        panel.set(title=name, xlabel="PC 1 of the code", ylabel="PC 2 of the code")
    dots = [Line2D([], [], color=color, marker="o", ls="none", label=f"context {i}") for i, color in enumerate(COLORS)]
    dots.append(Line2D([], [], color="black", label="component of the prior, 2 std"))
    if any("logits" in prior for prior in priors.values()):
        dots.append(Line2D([], [], color="black", ls=":", label=f"weight < {UNUSED:g}"))
    figure.legend(handles=dots, frameon=False, ncols=4, loc="outside lower center")
    return figure


def plot_responsibilities(responsibilities: Mapping[str, "np.ndarray"], context: "np.ndarray") -> "Figure":
    """Probability of each component given the code, trials [trials, K] sorted by their true context; a panel a mixture."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(
        len(responsibilities), 1, figsize=(7, 1 + 1.3 * len(responsibilities)), layout="constrained", squeeze=False
    )
    order, border = np.argsort(context, kind="stable"), (context == 0).sum()
    for panel, (name, values) in zip(axes[:, 0], responsibilities.items(), strict=True):
        extent = (0, len(order), values.shape[1] - 0.5, -0.5)
        style = {"aspect": "auto", "interpolation": "nearest", "cmap": "Greys", "vmin": 0, "vmax": 1}
        image = panel.imshow(values[order].T, extent=extent, **style)
        panel.axvline(border, color="#E8380D", lw=1.5)
        panel.set(title=name, ylabel="component", yticks=range(values.shape[1]))
    panel.set_xlabel("held-out trial, sorted by context: 0 left of the line, 1 right of it")
    figure.colorbar(image, ax=axes, label="p(component | code)")
    return figure
