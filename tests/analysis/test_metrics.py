import numpy as np
import pytest

from ctd_models.analysis.metrics import angle_between, r2_score


def test_r2_by_hand():
    targets = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 8.0]])
    predictions = np.array([[0.0, 1.0], [1.0, 3.0], [1.0, 8.0]])
    # first dimension: SS_res = 1, SS_tot = 2; second: perfect
    assert r2_score(targets, predictions) == pytest.approx((0.5 + 1.0) / 2)


def test_r2_of_the_mean_is_zero_and_of_the_truth_is_one():
    y = np.random.default_rng(0).normal(size=(4, 5, 3)) * [1, 10, 100]
    assert r2_score(y, y) == 1
    assert r2_score(y, np.broadcast_to(y.mean(axis=(0, 1)), y.shape)) == pytest.approx(0, abs=1e-12)
    assert r2_score(y, -y) < -2


def test_r2_pools_samples_over_all_leading_axes():
    rng = np.random.default_rng(1)
    y, p = rng.normal(size=(2, 4, 5, 3))
    assert r2_score(y, p) == pytest.approx(r2_score(y.reshape(20, 3), p.reshape(20, 3)))


def test_r2_in_float64_of_float32_values_far_from_zero():
    y = (1e4 + np.arange(100)[:, None]).astype(np.float32)
    assert r2_score(y, y + 1) == pytest.approx(1 - 100 / (100 * (100**2 - 1) / 12))


@pytest.mark.parametrize(
    ("targets", "predictions", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 1)), r"\(3, 2\), predictions \(3, 1\)"),
        (np.ones(3), np.ones(3), r"got shape \(3,\)"),
        (np.ones((0, 2)), np.ones((0, 2)), "empty"),
        (np.arange(6.0).reshape(3, 2) * [1, 0], np.ones((3, 2)), "dimension 1 is constant"),
        (np.eye(2), np.array([[1, np.nan], [0, 0]]), r"predictions hold nan at index \(0, 1\)"),
    ],
)
def test_r2_rejects(targets, predictions, message):
    with pytest.raises(ValueError, match=message):
        r2_score(targets, predictions)


def test_angles():
    a = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    b = np.array([[5.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(angle_between(a, b), [0, 45, 180, 90], atol=1e-12)
    np.testing.assert_allclose(angle_between(a, a[0]), [0, 0, 0, 90])
