"""Sessions are aligned by principal-component regression."""

import numpy as np
import pytest

from ctd_models.analysis import principal_component_weights, regression_weights


def sessions(rng, neurons=(12, 20, 8), trials=(60, 90, 45), noise=0.3):
    """Different neurons that see the same two latents in three conditions."""
    time, phases = np.linspace(0, 2 * np.pi, 30), np.array([0.0, 2.0, 4.0])
    latents = np.stack([np.sin(time + phases[:, None]), 0.5 * np.cos(2 * time + phases[:, None])], axis=-1)
    spikes, conditions, seen = [], [], []
    for n, count in zip(neurons, trials, strict=True):
        which = np.arange(count) % 3
        mean = 3.0 + latents[which] @ rng.normal(size=(2, n))
        spikes.append(mean + noise * rng.normal(size=mean.shape))
        conditions.append(which)
        seen.append(latents[which])
    return spikes, conditions, seen


def test_components_of_all_sessions_are_the_same_map_of_the_latents():
    """One affine map, fitted on one session, gives the latents of the others."""
    spikes, conditions, latents = sessions(np.random.default_rng(0), noise=0.1)
    weights = principal_component_weights(spikes, conditions, 2, width=0.5)
    shared = [(s - own.mean) @ own.read_in for s, own in zip(spikes, weights, strict=True)]
    design = [np.c_[s.reshape(-1, 2), np.ones(s[..., 0].size)] for s in shared]
    fit = np.linalg.lstsq(design[0], latents[0].reshape(-1, 2))[0]
    for d, truth in zip(design[1:], latents[1:], strict=True):
        flat = truth.reshape(-1, 2)
        assert 1 - ((d @ fit - flat) ** 2).sum() / ((flat - flat.mean(0)) ** 2).sum() > 0.95


def test_the_read_out_undoes_the_read_in():
    spikes, conditions, _ = sessions(np.random.default_rng(1))
    for own in principal_component_weights(spikes, conditions, 2, ridge=1e-9):
        np.testing.assert_allclose(own.read_out @ own.read_in, np.eye(2), atol=1e-6)
    weights = principal_component_weights(spikes, conditions, 8)  # more components than there are latents
    assert max(np.abs(own.read_out).max() for own in weights) < 1 < 3 < np.abs(np.linalg.pinv(weights[2].read_in)).max()


def test_a_session_that_comes_later_is_mapped_to_the_same_components():
    spikes, conditions, _ = sessions(np.random.default_rng(3), noise=0.1)
    weights = principal_component_weights(spikes, conditions, 2, width=0.5)
    shared = [(s - own.mean) @ own.read_in for s, own in zip(spikes, weights, strict=True)]
    components, labels = 5.0 + np.concatenate(shared[:2]), np.concatenate(conditions[:2])  # wherever their mean lies
    later = regression_weights(spikes[2], conditions[2], components, labels, width=0.5)
    mapped = later.offset + (spikes[2] - later.mean) @ later.read_in
    np.testing.assert_allclose(mapped, 5.0 + shared[2], atol=0.1 * shared[2].std())
    with pytest.raises(ValueError, match=r"the session shares the conditions \[\] with the others"):
        regression_weights(spikes[2], conditions[2] + 7, components, labels)
    with pytest.raises(ValueError, match=r"components: expected \[trials, 29 bins, dims\]"):
        regression_weights(spikes[2][:, 1:], conditions[2], components, labels)


def test_without_conditions_the_average_over_all_trials_aligns():
    """One condition, so that the latents are locked to the event: known or not, the weights are the same."""
    spikes, conditions, _ = sessions(np.random.default_rng(4))
    one = [s[c == 0] for s, c in zip(spikes, conditions, strict=True)]
    found = principal_component_weights(one, None, 2)
    shared = [(s - own.mean) @ own.read_in for s, own in zip(one, found, strict=True)]
    means = np.stack([s.mean(axis=0) for s in shared])
    np.testing.assert_allclose(means[1:], np.broadcast_to(means[0], means[1:].shape), atol=0.2)
    with pytest.raises(ValueError, match=r"share the conditions \[0\].*conditions=None"):
        principal_component_weights(one, [np.zeros(len(s), int) for s in one], 2)


def test_only_shared_conditions_align():
    spikes, conditions, _ = sessions(np.random.default_rng(2))
    weights = principal_component_weights(spikes, conditions, 2)
    extra = np.concatenate([spikes[0], 50 + spikes[0][:5]]), np.concatenate([conditions[0], np.full(5, 9)])
    changed = principal_component_weights([extra[0], *spikes[1:]], [extra[1], *conditions[1:]], 2)
    np.testing.assert_allclose(changed[0].read_in, weights[0].read_in)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, c: (s, c[:2], 2), "got 2 for 3 sessions"),
        (lambda s, c: (s, [c[0][:5], *c[1:]], 2), r"session 0: expected \[trials, time, dims\]"),
        (lambda s, c: ([s[0][:, :9], *s[1:]], c, 2), r"session 1: expected \[trials, 9 bins, dims\]"),
        (lambda s, c: (s, [np.zeros(len(c[0]), int), *c[1:]], 2), r"the sessions share the conditions \[0\]"),
        (lambda s, c: ([0 * s[0], *s[1:]], c, 2), "a session's averages do not vary: has it no spikes"),
        (lambda s, c: (s, c, 41), "num_components must lie in 1 … 40, got 41"),
    ],
)
def test_bad_input(change, message):
    spikes, conditions, _ = sessions(np.random.default_rng(0))
    spikes, conditions, size = change(spikes, conditions)
    with pytest.raises(ValueError, match=message):
        principal_component_weights(spikes, conditions, size)
