"""Delayed grasps: what is seen when, and movements whose shape is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.tasks import DelayedGrasp, go_step_of

TASK = DelayedGrasp()


def trials(objects, memory_steps, **options):
    return jax.tree.map(np.asarray, TASK.trials(jax.random.key(0), jnp.asarray(objects), memory_steps, **options))


def test_what_is_seen_and_when():
    made = trials([0, 17, 40], jnp.array([15, 20, 35]), feature_noise=0.0)
    assert made.inputs.shape == (3, TASK.num_steps, 21) and made.targets.shape == (3, TASK.num_steps, 50)
    for inputs, shown, memory_steps in zip(made.inputs, [0, 17, 40], [15, 20, 35], strict=True):
        epochs = TASK.epochs(memory_steps)
        assert [s.stop - s.start for s in epochs.values()] == [10, 20, memory_steps, 38, 10]
        np.testing.assert_array_equal(inputs[epochs["cue"], :20], np.tile(TASK.features[shown], (20, 1)))
        dark = np.delete(inputs[:, :20], np.r_[epochs["cue"]], axis=0)
        assert (dark == 0).all()
        assert (inputs[: epochs["movement"].start, 20] == 1).all() and (
            inputs[epochs["movement"].start :, 20] == 0
        ).all()
    np.testing.assert_array_equal(go_step_of(made), [45, 50, 65])
    np.testing.assert_array_equal(TASK.object_of(made), [0, 17, 40])
    assert (made.mask == 1).all()


def test_features_are_principal_components():
    features = TASK.features.astype(float)
    covariance = features.T @ features / 48
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-5)
    assert (np.diff(np.diag(covariance)) <= 0).all() and np.trace(covariance) == pytest.approx(20, rel=1e-5)


def test_noise_is_one_draw_a_trial_with_its_deviation():
    made = trials(np.zeros(4000, int), 15)
    cue = made.inputs[:, TASK.epochs(15)["cue"], :20]
    assert (cue == cue[:, :1]).all()
    assert (cue[:, 0] - TASK.features[0]).std() == pytest.approx(0.2, rel=0.02)


def test_movement_starts_after_the_reaction_and_ends_in_the_posture():
    made = trials(np.arange(48), 25)
    onset = TASK.epochs(25)["movement"].start + round(TASK.reaction / TASK.dt)
    end = onset + round(TASK.movement / TASK.dt)
    assert (made.targets[:, :onset] == 0).all() and (made.targets[:, onset] != 0).any()
    held = made.targets[:, end - 1 :]
    np.testing.assert_allclose(held, np.broadcast_to(TASK.postures[:, None], held.shape), atol=1e-6)
    assert (made.targets[:, -1].astype(float) ** 2).mean() == pytest.approx(1, rel=1e-5)


def test_the_reach_has_minimum_jerk():
    fine = DelayedGrasp(dt=0.0005, movement=0.6, reaction=0.0005)
    targets = np.asarray(fine.trials(jax.random.key(0), jnp.array([5]), fine.memory_range[0]).targets, float)[0, :, 0]
    go = fine.epochs(fine.memory_range[0])["movement"].start
    u = np.clip(((np.arange(len(targets)) + 1 - go) * 0.0005 - 0.0005) / 0.6, 0, 1)
    np.testing.assert_allclose(targets, (10 * u**3 - 15 * u**4 + 6 * u**5) * fine.postures[5, 0], atol=1e-5)
    speed = np.abs(np.gradient(targets, 0.0005))
    peak = speed.argmax()
    assert u[peak] == pytest.approx(0.5, abs=0.02)  # bell-shaped: largest halfway, 1.875 times the mean speed
    assert speed[peak] == pytest.approx(1.875 * abs(fine.postures[5, 0]) / 0.6, rel=2e-2)


def test_the_aperture_overshoots_and_follows_the_size():
    from ctd_models.tasks.grasp import ARM, _world

    made, synergies = trials(np.arange(48), 25), _world(TASK).synergies
    np.testing.assert_allclose(synergies @ synergies.T, np.eye(9), atol=1e-6)
    aperture = made.targets @ synergies[ARM]
    final, largest = aperture[:, -1], aperture.max(axis=1)
    assert (largest > final + 0.1).all()
    assert (np.diff(final.reshape(6, 8), axis=1) > 0).all()  # each shape, by size
    when = aperture.argmax(axis=1) * TASK.dt - 0.02 * 50
    assert (when < 0.16 + 0.6).all() and (when > 0.16 + 0.3).all()


def test_movements_are_smooth_but_not_linear_in_what_is_seen():
    """Neighbouring sizes are grasped alike; a linear map from noisy features explains the postures but in part."""
    postures = TASK.postures.astype(float).reshape(6, 8, -1)
    steps = np.linalg.norm(np.diff(postures, axis=1), axis=-1)
    assert (steps.max(axis=1) < 0.35 * np.linalg.norm(postures[:, -1] - postures[:, 0], axis=-1)).all()
    made = trials(np.tile(np.arange(48), 60), 15)
    seen, done = made.inputs[:, 15, :20], made.targets[:, -1]
    design = np.c_[seen, np.ones(len(seen))]
    left = done - design @ np.linalg.lstsq(design, done, rcond=None)[0]
    assert 0.05 < left.var(axis=0).sum() / done.var(axis=0).sum() < 0.15


def test_samples_are_drawn_from_the_chosen_objects_with_memories_over_the_range():
    task = DelayedGrasp(objects=(3, 20, 41))
    sample = jax.jit(task.sample, static_argnums=1)
    made = sample(jax.random.key(0), 600)
    objects, counts = np.unique(task.object_of(made), return_counts=True)
    assert objects.tolist() == [3, 20, 41] and counts.min() > 150
    assert np.unique(np.asarray(go_step_of(made)) - 30).tolist() == list(range(15, 36))
    again = sample(jax.random.key(0), 600)
    np.testing.assert_array_equal(made.inputs, again.inputs)
    assert (np.asarray(sample(jax.random.key(1), 600).inputs) != made.inputs).any()
    other = DelayedGrasp(seed=1)
    assert np.abs(other.postures - TASK.postures).max() > 0.1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_features": 48}, "48 objects have at most 47 features, got 48"),
        ({"num_muscles": 3}, "num_muscles must be a whole number of at least 12, got 3"),
        ({"memory": (0.5, 0.3)}, r"a shortest and a longest time \[s\], got \(0.5, 0.3\)"),
        ({"cue": 0.001}, r"cue must last a step \(dt = 0.02 s\) or more, got 0.001 s"),
        ({"objects": (48,)}, r"objects must be among 0 … 47, got \(48,\)"),
        ({"feature_noise": -1.0}, "feature_noise cannot be negative"),
        ({"dt": 0.0}, "dt must be positive"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        DelayedGrasp(**fields)


def test_bad_trials():
    for objects, memory_steps, message in (
        ([48], 20, "objects must lie in 0 … 47, got 48"),
        ([1], 36, "memory_steps must lie in 15 … 35, got 36"),
        ([1.0], 20, r"objects \[B\] of integers, got float32"),
        ([1, 2], jnp.array([20]), r"memory_steps \(2,\) or one, integers, got int32 of shape \(1,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            trials(objects, memory_steps)
    with pytest.raises(ValueError, match=r"expected targets \[B, 113, 50\], got shape \(1, 113, 49\)"):
        made = trials([1], 20)
        TASK.object_of(made._replace(targets=made.targets[..., 1:]))
