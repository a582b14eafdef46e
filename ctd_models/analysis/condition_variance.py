"""How much of activity is due to time, to the condition, to both together, and to single trials."""

import dataclasses
import warnings
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Int

from ctd_models.analysis.conditions import condition_means
from ctd_models.analysis.metrics import check_finite

PARTS = ("time", "condition", "interaction", "residual")


@dataclasses.dataclass(frozen=True, repr=False)
class ConditionVariance:
    """Marginalised variance of each unit, in its unit squared; the four parts add up to `total`."""

    time: Float[np.ndarray, "units"]
    """Of the mean over all trials about its mean over time: what does not depend on the condition."""
    condition: Float[np.ndarray, "units"]
    """Of the conditions' means over trials and time: what does not depend on time."""
    interaction: Float[np.ndarray, "units"]
    """Of what else the averages of the conditions do: condition × time."""
    residual: Float[np.ndarray, "units"]
    """Of single trials about the average of their condition."""
    time_course: Float[np.ndarray, "time units"]
    """At each time, (mean over all trials − mean over time)²: the mean of this over time is `time`."""
    condition_course: Float[np.ndarray, "time units"]
    """At each time, the variance of the conditions' averages: the mean of this over time is `condition` + `interaction`."""
    residual_course: Float[np.ndarray, "time units"]
    """At each time, the variance of trials about the average of their condition: its mean over time is `residual`."""

    @property
    def total(self) -> Float[np.ndarray, "units"]:
        """Variance over all trials and times."""
        return self.time + self.condition + self.interaction + self.residual

    @property
    def shares(self) -> dict[str, float]:
        """Shares of time, condition, interaction and residual in the variance of all units together; they add up to 1.

        Raises:
            ValueError: nothing varies.
        """
        if not (total := self.total.sum()) > 0:
            raise ValueError("the activity does not vary")
        return {name: float(getattr(self, name).sum() / total) for name in PARTS}

    def __repr__(self) -> str:
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.shares.items())
        return f"ConditionVariance: {len(self.total)} units, {shares}"


@no_type_check  # it checks its arguments itself
def condition_variance(activity: Float[Any, "trials time units"], conditions: Int[Any, "trials"]) -> ConditionVariance:
    """Splits the variance of activity into what time, the condition, both together, and the single trial bring.

        x = x̄ + (x̄_t − x̄) + (x̄_c − x̄) + (x̄_ct − x̄_t − x̄_c + x̄) + (x − x̄_ct)

    with the mean x̄ over trials and time, x̄_t over trials, x̄_c over time and the trials of a condition, and x̄_ct over these
    trials. Every trial weighs the same, whatever its condition: so the parts are orthogonal and their variances (means of
    squares over trials and time) add up exactly, also where conditions have different numbers of trials. This is the
    marginalisation of demixed principal components (Kobak et al. 2016, doi:10.7554/eLife.10989).

    Averages over few trials keep some noise: n trials in each condition move about 1/n of the true residual variance into
    the parts of the condition. Align the trials first: a go signal at another time in each trial is residual variance. For
    an epoch pass `activity[:, start:stop]`.

    Args:
        activity: rates, states, or any other signal.
        conditions: label of each trial.

    Raises:
        ValueError: shapes that do not fit or are empty, or values that are not finite.

    Warns:
        RuntimeWarning: conditions with a single trial.
    """
    activity = np.asarray(activity, np.float64)
    if activity.ndim != 3 or 0 in activity.shape:
        raise ValueError(f"expected activity [trials, time, units] with no empty axis, got shape {activity.shape}")
    check_finite("activity", activity)
    labels, averages = condition_means(activity, conditions)
    if (lone := (np.unique(conditions, return_counts=True)[1] == 1).sum()) and len(labels) > 1:
        warnings.warn(
            f"{lone} of {len(labels)} conditions have one trial only: what is its own counts as the condition's",
            RuntimeWarning,
            stacklevel=2,
        )
    members = np.searchsorted(labels, np.asarray(conditions))
    weights = np.bincount(members) / len(activity)
    over_trials = np.einsum("c,ctu->tu", weights, averages)
    over_time = averages.mean(axis=1)
    mean = over_trials.mean(axis=0)
    own = over_time - mean
    deviation = averages - over_trials
    time_course = (over_trials - mean) ** 2
    condition_course = np.einsum("c,ctu->tu", weights, deviation**2)
    residual_course = ((activity - averages[members]) ** 2).mean(axis=0)
    return ConditionVariance(
        time=time_course.mean(axis=0),
        condition=weights @ own**2,
        interaction=np.einsum("c,ctu->u", weights, (deviation - own[:, None]) ** 2) / activity.shape[1],
        residual=residual_course.mean(axis=0),
        time_course=time_course,
        condition_course=condition_course,
        residual_course=residual_course,
    )
