"""Averages over the trials of each condition, and where to look for the fixed points that belong to them."""

from typing import Any, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Int


class ConditionCandidates(NamedTuple):
    """States to search for fixed points from, each with the mean input of its condition."""

    states: Float[np.ndarray, "n d"]
    """States visited in trials of the condition."""
    inputs: Float[np.ndarray, "n U"]
    """Mean input over the trials and time of the condition, the same for all of its states."""
    conditions: Int[np.ndarray, "n"]
    """Labels of the conditions."""


@no_type_check  # it checks its arguments itself
def condition_means(
    values: Float[Any, "trials *rest"], conditions: Int[Any, "trials"]
) -> tuple[Int[np.ndarray, "conditions"], Float[np.ndarray, "conditions *rest"]]:
    """(labels in rising order, mean of `values` over the trials of each)."""
    values, conditions = np.asarray(values), np.asarray(conditions)
    if conditions.shape != values.shape[:1]:
        raise ValueError(f"expected one condition for each of {len(values)} trials, got shape {conditions.shape}")
    labels = np.unique(conditions)
    return labels, np.stack([values[conditions == label].mean(axis=0) for label in labels])


@no_type_check  # it checks its arguments itself
def condition_candidates(
    states: Float[Any, "trials time d"],
    inputs: Float[Any, "trials time U"],
    conditions: Int[Any, "trials"],
    count: int,
    rng: np.random.Generator,
) -> ConditionCandidates:
    """`count` states of each condition, drawn at random (with replacement) from its trials, with its mean input.

    Args:
        states: flat states over time.
        inputs: inputs at the same times.
        conditions: label of each trial.
        count: candidates of each condition.
        rng: where the draws come from.

    Raises:
        ValueError: shapes do not fit, or no time bin is left.
    """
    states, inputs, conditions = (np.asarray(a) for a in (states, inputs, conditions))
    if states.ndim != 3 or inputs.ndim != 3 or states.shape[:2] != inputs.shape[:2] or 0 in states.shape:
        raise ValueError(
            "expected states [trials, time, d] and inputs [trials, time, U] of the same trials and times, none empty, "
            f"got shapes {states.shape} and {inputs.shape}"
        )
    labels, means = condition_means(inputs.mean(axis=1), conditions)
    visited = [states[conditions == label].reshape(-1, states.shape[-1]) for label in labels]
    drawn = np.concatenate([rng.choice(of_condition, count) for of_condition in visited])
    return ConditionCandidates(drawn, np.repeat(means, count, axis=0), np.repeat(labels, count))
