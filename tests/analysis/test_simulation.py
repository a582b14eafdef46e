import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from ctd_models.analysis.orbits.simulation import settle, simulate


def test_a_linear_map_settles_at_its_fixed_point():
    rng = np.random.default_rng(0)
    A = 0.9 * np.linalg.qr(rng.normal(size=(3, 3)))[0].astype(np.float32)
    h, x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    expected = np.linalg.solve(np.eye(3) - A, x.T).T
    np.testing.assert_allclose(settle(lambda h, x: A @ h + x, h, x, 300), expected, rtol=1e-4, atol=1e-5)


def test_it_takes_the_steps_it_is_told():
    h, x = np.arange(4.0, dtype=np.float32).reshape(2, 2), np.array([[1.0], [2.0]], np.float32)
    assert settle(lambda h, x: h + x, h, x, 3).tolist() == [[3, 4], [8, 9]]
    assert settle(lambda h, x: h + x, h, x, 0).tolist() == h.tolist()


def test_trajectories_hold_every_step_and_end_where_settle_does():
    rng = np.random.default_rng(1)
    W, h = rng.normal(size=(4, 4)), rng.normal(size=(6, 4))

    def F(h):
        return jnp.tanh(W @ h)

    trajectories = simulate(F, h, num_steps=7)
    assert trajectories.shape == (6, 8, 4)
    np.testing.assert_array_equal(trajectories[:, 0], h)
    for t in range(7):
        np.testing.assert_allclose(trajectories[:, t + 1], np.tanh(trajectories[:, t] @ W.T), atol=1e-11)
    np.testing.assert_allclose(settle(F, h, num_steps=7), trajectories[:, -1], atol=1e-11)


def test_a_flow_follows_its_exponential_to_fourth_order():
    A, h = np.array([[-0.5, 2.0], [-2.0, -0.5]]), np.array([[1.0, 0.0], [0.3, -2.0]])
    errors = [
        np.abs(settle(lambda h: A @ h, h, num_steps=n, kind="flow", dt=1 / n) - h @ scipy.linalg.expm(A).T).max()
        for n in (20, 40)
    ]
    assert errors[1] < 1e-5
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.1)


def test_nested_lists_are_arrays():
    assert settle(lambda h: 0.5 * h, [[1.0, 2], [4, 8]], num_steps=1).tolist() == [[0.5, 1], [2, 4]]


def test_what_does_not_fit_is_rejected():
    with pytest.raises(ValueError, match=r"expected inputs \[U\] or, one per state, \[2, U\], got shape \(3, 1\)"):
        settle(lambda h, x: h, np.ones((2, 3)), np.ones((3, 1)), 1)
    with pytest.raises(ValueError, match="cannot be negative, got -1"):
        settle(lambda h, x: h, np.ones((2, 3)), np.ones((2, 1)), -1)
    with pytest.raises(ValueError, match="a flow needs dt > 0"):
        simulate(lambda h: h, np.ones((2, 3)), num_steps=3, kind="flow")
