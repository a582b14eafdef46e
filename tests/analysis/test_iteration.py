import numpy as np
import pytest

from ctd_models.analysis.iteration import settle


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


def test_what_does_not_fit_is_rejected():
    with pytest.raises(ValueError, match=r"got shapes \(2, 3\) and \(3, 1\)"):
        settle(lambda h, x: h, np.ones((2, 3)), np.ones((3, 1)), 1)
    with pytest.raises(ValueError, match="num_steps cannot be negative"):
        settle(lambda h, x: h, np.ones((2, 3)), np.ones((2, 1)), -1)
