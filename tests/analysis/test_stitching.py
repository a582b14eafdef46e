"""Sessions are aligned by principal-component regression."""

import numpy as np
import pytest

from ctd_models.analysis import principal_component_weights


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
    for own in principal_component_weights(spikes, conditions, 2):
        np.testing.assert_allclose(own.read_out @ own.read_in, np.eye(2), atol=1e-10)


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
        (lambda s, c: (s, [c[0][:5], *c[1:]], 2), r"session 0: expected spikes \[trials, 30 bins, neurons\]"),
        (lambda s, c: ([s[0][:, :9], *s[1:]], c, 2), r"session 1: expected spikes \[trials, 9 bins, neurons\]"),
        (lambda s, c: (s, [np.zeros(len(c[0]), int), *c[1:]], 2), r"the sessions share the conditions \[0\]"),
        (lambda s, c: (s, c, 41), "num_components must lie in 1 … 40, got 41"),
    ],
)
def test_bad_input(change, message):
    spikes, conditions, _ = sessions(np.random.default_rng(0))
    spikes, conditions, size = change(spikes, conditions)
    with pytest.raises(ValueError, match=message):
        principal_component_weights(spikes, conditions, size)
