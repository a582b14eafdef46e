import dataclasses

import numpy as np
import pytest

from ctd_models.analysis.baseline_selection import choose
from ctd_models.analysis.baselines import FactorAnalysis, SmoothingBaseline

BIN_S = 0.02


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_smoothing_width_is_chosen_near_the_timescale_of_the_rates(rng):
    phases = rng.uniform(0, 2 * np.pi, (60, 1, 1))
    rates = np.exp(1.2 * np.sin(np.arange(60)[None, :, None] / 6 + phases)) * np.ones(10)
    spikes = rng.poisson(rates)
    widths = (0.01, 0.06, 0.6)
    choice = choose([SmoothingBaseline(w) for w in widths], spikes, BIN_S, np.arange(40), np.arange(40, 60))
    assert choice.best == SmoothingBaseline(0.06)
    assert choice.criterion == "log-likelihood [nats/bin]"
    assert np.argmax(choice.scores) == 1


def test_number_of_factors_is_chosen_by_likelihood(rng):
    pytest.importorskip("sklearn.decomposition")
    y = 60.0 + rng.normal(size=(80, 20, 3)) @ rng.normal(size=(3, 14)) + rng.normal(size=(80, 20, 14))
    choice = choose([FactorAnalysis(k) for k in (1, 2, 3, 6)], y, BIN_S, np.arange(50), np.arange(50, 80))
    assert choice.best == FactorAnalysis(3)


@dataclasses.dataclass(frozen=True)
class Reads:
    """A baseline whose factors are the counts of one neuron."""

    neuron: int
    neurons: int

    def fit(self, spikes, bin_width_s):
        assert spikes.shape == (20, 10, self.neurons)
        return self

    def factors(self, spikes):
        return spikes[:, :, [self.neuron]]


def test_cosmoothing_chooses_what_predicts_the_heldout_neurons(rng):
    spikes = rng.poisson(2.0, (30, 10, 5))
    spikes[:, :, 1] = rng.poisson(0.1 + 2 * spikes[:, :, 4])  # held-out neuron 1 follows neuron 4
    candidates = [Reads(n, 3) for n in range(3)]  # held in are 0, 2, 4
    choice = choose(candidates, spikes, BIN_S, np.arange(20), np.arange(20, 30), heldout=[3, 1])
    assert choice.best == Reads(2, 3)
    assert choice.criterion == "co-smoothing [bits/spike]"
    assert choice.scores[2] > 0.02 > max(choice.scores[:2])


def test_a_score_that_is_not_a_number_is_an_error(rng):
    @dataclasses.dataclass(frozen=True)
    class Broken:
        def fit(self, spikes, bin_width_s):
            return self

        def log_likelihood(self, spikes):
            return float("nan")

    with pytest.raises(RuntimeError, match=r"Broken\(\) is not a number"):
        choose([Broken()], rng.poisson(1.0, (6, 9, 4)), BIN_S, np.arange(3), np.arange(3, 6))


def test_bad_choices(rng):
    spikes, smoothing = rng.poisson(1.0, (6, 9, 4)), [SmoothingBaseline(0.1)]
    with pytest.raises(ValueError, match="no candidates"):
        choose([], spikes, BIN_S, np.arange(3), np.arange(3, 6))
    with pytest.raises(ValueError, match=r"share the trials \[3\]"):
        choose(smoothing, spikes, BIN_S, np.arange(4), np.arange(3, 6))
    with pytest.raises(ValueError, match="do not compare"):
        choose([FactorAnalysis(1), FactorAnalysis(1, sqrt=True)], spikes, BIN_S, np.arange(3), np.arange(3, 6))
    for heldout in ([], [4], [-1], [0, 1, 2, 3]):
        with pytest.raises(ValueError, match="heldout must name some of the 4 neurons, not all"):
            choose(smoothing, spikes, BIN_S, np.arange(3), np.arange(3, 6), heldout=heldout)
