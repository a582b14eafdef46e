"""Whether two populations share their latents: canonical correlations against chance and on held-out conditions."""

import dataclasses
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float

from ctd_models.analysis.latents.pca import PCA
from ctd_models.analysis.latents.subspaces import cca, procrustes
from ctd_models.analysis.metrics import check_finite


@dataclasses.dataclass(frozen=True, repr=False)
class LatentComparison:
    """How the latents of two populations compare over the same conditions and times; made by `compare_latents`."""

    correlations: Float[np.ndarray, "k"]
    """Canonical correlations on the conditions that they were fitted on: biased upward."""
    held_out: Float[np.ndarray, "k"]
    """Correlations along such directions, of conditions that they were not fitted on, mean over folds; may be negative."""
    null: Float[np.ndarray, "shuffles k"]
    """Canonical correlations when the conditions of Y are shuffled: what time courses and fitting alone give."""
    disparity: float
    """Squared distance that a rotation with a scale leaves between the latents, 0 … 1 (`procrustes`)."""
    null_disparity: Float[np.ndarray, "shuffles"]
    """The same when the conditions of Y are shuffled."""
    explained: tuple[float, float]
    """Shares of the variance of X and of Y that the latents hold."""

    @property
    def p_value(self) -> float:
        """Share of the shuffles, the data themselves counted as one, whose mean correlation is at least that found."""
        at_least = (self.null.mean(axis=1) >= self.correlations.mean()).sum()
        return float((1 + at_least) / (1 + len(self.null)))

    def __repr__(self) -> str:
        return (
            f"LatentComparison: {len(self.correlations)} latents, mean canonical correlation "
            f"{self.correlations.mean():.3f} ({self.held_out.mean():.3f} held out, {self.null.mean():.3f} "
            f"by chance, p = {self.p_value:.2g}), Procrustes disparity {self.disparity:.3f} "
            f"({self.null_disparity.mean():.3f} by chance)"
        )


@no_type_check  # it checks its arguments itself
def compare_latents(
    X: Float[Any, "conditions time p"],
    Y: Float[Any, "conditions time q"],
    num_components: int,
    *,
    rng: np.random.Generator,
    num_shuffles: int = 100,
    num_folds: int = 5,
    subtract_mean: bool = False,
) -> LatentComparison:
    """Compares two populations by the averages of their conditions: two modules, or a module and a recording.

    Each is reduced to `num_components` principal components over conditions and times; these latents are compared by `cca`
    and by `procrustes`. Canonical correlations are biased upward, and any two populations that follow one time course
    correlate: so the same is done with the conditions of Y shuffled (`null`), and with components and directions that are
    fitted on all folds of the conditions but one and evaluated on this one (`held_out`). Raghu, Gilmer, Yosinski &
    Sohl-Dickstein (2017, arXiv:1706.05806); Gallego, Perich, Chowdhury, Solla & Miller (2020,
    doi:10.1038/s41593-019-0555-4).

    Args:
        X, Y: averages over the trials of each condition (`condition_means`), at the same times. Give the times of a network
            and those of a recording the same bins first.
        num_components: latents k.
        rng: where the shuffles and the folds come from.
        num_shuffles: shuffles of the conditions, in which none stays in its place.
        num_folds: folds of the conditions; of fewer conditions, each is a fold.
        subtract_mean: take away the mean over conditions at each time, so that only what differs between conditions counts;
            of held-out conditions the mean of the fitted ones.

    Raises:
        ValueError: shapes that do not fit, fewer than 3 conditions, values that are not finite, fewer dimensions than
            components, folds or shuffles out of range.
    """
    X, Y = np.asarray(X, np.float64), np.asarray(Y, np.float64)
    if X.ndim != 3 or Y.ndim != 3 or X.shape[:2] != Y.shape[:2] or 0 in (*X.shape, *Y.shape) or len(X) < 3:
        raise ValueError(
            "expected X [conditions, time, p] and Y [conditions, time, q] of the same 3 or more conditions and the same "
            f"times, got shapes {X.shape} and {Y.shape}"
        )
    for name, values in (("X", X), ("Y", Y)):
        check_finite(name, values)
    if num_folds < 2:
        raise ValueError(f"num_folds must be at least 2, got {num_folds}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}")
    if num_shuffles < 1:
        raise ValueError(f"num_shuffles must be at least 1, got {num_shuffles}")
    everything = [_Latents(values, num_components, subtract_mean) for values in (X, Y)]
    x, y = (latents(values) for latents, values in zip(everything, (X, Y), strict=True))
    shuffled = [y[_derangement(len(y), rng)] for _ in range(num_shuffles)]
    folds = np.array_split(rng.permutation(len(X)), min(num_folds, len(X)))
    return LatentComparison(
        correlations=cca(x, y).correlations,
        held_out=np.mean([_held_out(X, Y, fold, num_components, subtract_mean) for fold in folds], axis=0),
        null=np.stack([cca(x, other).correlations for other in shuffled]),
        disparity=procrustes(x, y).disparity,
        null_disparity=np.array([procrustes(x, other).disparity for other in shuffled]),
        explained=tuple(float(latents.pca.explained_variance_ratio.sum()) for latents in everything),
    )


class _Latents:
    """The way from averages [conditions, time, d] to latents, fitted on some."""

    def __init__(self, values: Float[np.ndarray, "conditions time d"], count: int, subtract_mean: bool):
        self.mean = values.mean(axis=0) if subtract_mean else 0.0
        self.pca = PCA.fit(values - self.mean, count)
        variances = self.pca.explained_variance
        if not (variances > 1e-12 * variances[0]).all():
            rank = int((variances > 1e-12 * variances[0]).sum())
            raise ValueError(f"only {rank} components of {values.shape[2]} units vary, {count} are asked for")

    def __call__(self, values: Float[np.ndarray, "conditions time d"]) -> Float[np.ndarray, "conditions time k"]:
        return self.pca.transform(values - self.mean)


def _held_out(X: Any, Y: Any, fold: Any, count: int, subtract_mean: bool) -> Float[np.ndarray, "k"]:
    """Correlations along the canonical directions of the other conditions, of the conditions of a fold."""
    kept = np.setdiff1d(np.arange(len(X)), fold)
    x, y = (_Latents(values[kept], count, subtract_mean) for values in (X, Y))
    found = cca(x(X[kept]), y(Y[kept]))
    u = found.transform_x(x(X[fold])).reshape(-1, len(found.correlations))
    v = found.transform_y(y(Y[fold])).reshape(-1, len(found.correlations))
    u, v = u - u.mean(axis=0), v - v.mean(axis=0)
    sizes = np.sqrt((u**2).sum(axis=0) * (v**2).sum(axis=0))
    return np.divide((u * v).sum(axis=0), sizes, out=np.zeros(len(sizes)), where=sizes > 0)


def _derangement(count: int, rng: np.random.Generator) -> np.ndarray:
    """A random order in which no one keeps their place."""
    while True:
        order = rng.permutation(count)
        if (order != np.arange(count)).all():
            return order
