"""What benchmarks/fixed_points.py compares is comparable, and it runs."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctd_models.analysis import find_fixed_points

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    """(benchmarks/fixed_points.py, _fixed_point_cases.py, _fixed_point_peers.py)"""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import _fixed_point_cases
        import _fixed_point_peers
        import fixed_points
    finally:
        sys.path.remove(str(BENCHMARKS))
    return fixed_points, _fixed_point_cases, _fixed_point_peers


def cubic(weights, state, inputs):
    """Fixed points of each coordinate where 0.5 h = h³ − u: 0 and ±√0.5 at u = 0."""
    return state + weights["a"] * state - state**3 + weights["b"] * inputs.sum()


@pytest.fixture(scope="module")
def case(modules):
    _, cases, _ = modules
    weights = {"a": np.float64(0.5), "b": np.float64(1.0)}
    starts = np.random.default_rng(0).uniform(-1.2, 1.2, (200, 2))
    levels = [-np.sqrt(0.5), 0.0, np.sqrt(0.5)]
    known = np.array([(a, b) for a in levels for b in levels])
    return cases.Case(jax.tree_util.Partial(cubic, weights), starts, np.zeros(1), 1e-10, known=known)


def test_shares_and_points_are_counted(case):
    step = 1e-6  # speed ½ · 2 · (0.5 · 1e-6)² at (1e-6, 1e-6), near the origin
    states = np.array([[0, 0], [step, step], [0.5, 0.5], [np.sqrt(0.5), 0]])
    assert case.share(states) == 0.75
    assert case.points_found(states) == 2
    assert case.points_found(states[2:3]) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam_stops_at_the_share(modules, case, dtype):
    peers = modules[2]
    setting = peers.AdamSetting(0.05, 0.99, 0.99, 1e-8, 3_000)
    half = peers.adam(case, setting, 0.5, dtype)
    most = peers.adam(case, setting, 0.97, dtype)
    assert 0 < half.iterations < most.iterations < 3_000
    assert case.share(half.states) >= 0.5
    assert case.share(most.states) >= 0.97
    assert case.share(half.states) < case.share(most.states)
    assert most.states.dtype == dtype
    given_up = peers.adam(case, setting._replace(iterations=3), 0.97, dtype)
    assert given_up.iterations == 3


def test_adam_takes_the_steps_of_optax_and_leaves_those_that_arrived(modules, case):
    peers = modules[2]
    setting = peers.AdamSetting(0.05, 0.9, 0.99, 1e-3, 20)
    states = peers.adam(case, setting, 1.0, np.float64, freeze=False).states
    with jax.enable_x64(True):
        schedule = optax.exponential_decay(setting.learning_rate, 1, setting.decay)
        optimizer = optax.adam(schedule, b2=setting.beta2, eps=setting.epsilon)
        F, h, u = case.arrays(jnp.float64)

        def total_speed(h):
            return 0.5 * ((jax.vmap(F, (0, None))(h, u) - h) ** 2).sum()

        memory = optimizer.init(h)
        for _ in range(20):
            updates, memory = optimizer.update(jax.grad(total_speed)(h), memory)
            h = optax.apply_updates(h, updates)
    np.testing.assert_allclose(states, h, atol=1e-6)  # optax computes its schedule in float32
    starts = np.concatenate([case.known, case.candidates[:11]])
    frozen = peers.adam(dataclasses.replace(case, candidates=starts), setting, 1.0, np.float64)
    np.testing.assert_array_equal(frozen.states[:9], case.known)
    assert (frozen.states[9:] != starts[9:]).all()


def test_adam_stays_within_bounds(modules, case):
    peers = modules[2]
    bounded = dataclasses.replace(case, bounds=(-0.5, 0.5))
    states = peers.adam(bounded, peers.AdamSetting(0.1, 0.99, 0.99, 1e-8, 50), 1.0, np.float64).states
    assert np.abs(states).max() == 0.5


def test_tuning_finds_a_faster_setting(modules, case):
    peers = modules[2]
    slow = peers.AdamSetting(0.002, 0.9999, 0.999, 1e-8, 2_000)
    best = peers.tune(case, "Adam float32", 0.9, 8, slow, np.random.default_rng(0))
    before = peers.adam(case, slow, 0.9, np.float32)
    after = peers.adam(case, best, 0.9, np.float32)
    assert after.iterations == best.iterations < before.iterations
    assert case.share(after.states) >= 0.9


def test_compilation_is_taken_out_of_the_times_of_brainpy(modules):
    """Calls that take 2 s to compile and 1 ms an iteration."""
    import _timing as timing

    peers = modules[2]

    def seconds(iterations):
        return [2.0 + 0.001 * iterations] * 3

    counts = {"BrainPy, iterations given": 300, "BrainPy, own stop": 1_000}
    counts["BrainPy, longer"] = 300 + peers.EXTRA
    times = {name: timing.Times(seconds(count), seconds(count)) for name, count in counts.items()}
    peers.after_compile(times, counts)
    assert times["BrainPy, iterations given"].cpu == pytest.approx([0.3] * 3)
    assert times["BrainPy, own stop"].wall == pytest.approx([1.0] * 3)
    assert times["BrainPy, own stop, whole call"].wall == pytest.approx([3.0] * 3)
    assert "BrainPy, longer" not in times


def test_brainpy_takes_the_steps_of_adam(modules, case):
    pytest.importorskip("brainpy")
    peers = modules[2]
    setting = peers.AdamSetting(0.02, 0.99, 0.99, 1e-9, 30)
    states, iterations = peers.brainpy_search(case, setting)(30)
    assert iterations == 30
    expected = peers.adam(case, setting, 1.0, np.float32, freeze=False)
    np.testing.assert_allclose(states, expected.states, atol=1e-3)  # of paths of 0.3


def test_the_block_network_has_the_fixed_points_it_is_made_for(modules):
    cases = modules[1]
    F, starts = cases.block_network(400, 24, 0, coupling=0.0)
    levels = np.unique(np.round(np.abs(find_fixed_points(F, starts).states), 9))
    m = levels[-1]
    np.testing.assert_array_equal(levels, [0, m])
    assert m == pytest.approx(np.tanh(cases.GAIN * m))
    coupled, starts = cases.block_network(400, 60, 0)
    assert len(find_fixed_points(coupled, starts)) == 3**cases.BLOCKS


def test_verdicts_and_the_exponent(modules):
    benchmark = modules[0]
    assert benchmark.verdict("gru16", "CPU [s]", [0.01, 0.02, 9.0]) == "<= 0.05: met"
    assert benchmark.verdict("tanh16", "known points found", [26]) == ">= 27: MISSED"
    assert benchmark.verdict("vrnn100", "CPU [s]", [0.01]) == ""
    assert benchmark.exponent([(n, 3e-4 * n**1.5) for n in (10, 20, 80)]) == pytest.approx(1.5)


def test_the_share_at_rest_counts_every_candidate_that_arrived(modules, case):
    benchmark = modules[0]
    everywhere = find_fixed_points(case.F, case.candidates, case.inputs)
    assert benchmark.share_at_rest(everywhere) == 1
    far = find_fixed_points(lambda h: h + jnp.sin(h), np.linspace(1.4, 4.4, 40)[:, None], outlier_factor=2.0)
    lost = sum(len(far.dropped[reason]) for reason in ("not_converged", "stalled", "ghost", "not_finite"))
    assert len(far.dropped["outlier"]) > 0
    assert benchmark.share_at_rest(far) == pytest.approx(1 - lost / 40)


def test_compilations_and_memory_are_measured(modules):
    benchmark = modules[0]
    with benchmark.counting_compilations() as compiled:
        jax.jit(lambda a: a * 1.2345 + 6)(np.ones(7))
    assert compiled.count >= 1
    with benchmark.counting_compilations() as compiled:
        np.ones(7).sum()
    assert compiled.count == 0
    before = benchmark.peak_memory()
    np.ones(2**26).sum()  # half a GiB
    assert 0.4 < benchmark.peak_memory() < before + 1


def test_absent_data_are_named(modules, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CTD_DATA", str(tmp_path))
    assert modules[1].reference_case("gru16", 10) is None
    assert f"gru16 is left out: no file {tmp_path}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_search_is_measured(data_folder):
    sizes = [
        "--rounds",
        "1",
        "--num-candidates",
        "50",
        "--networks",
        "tanh16",
        "--growth",
        "20",
        "40",
        "--growth-size",
        "9",
    ]
    command = [sys.executable, str(BENCHMARKS / "fixed_points.py"), *sizes, "--scale", "30", "12"]
    environment = {**os.environ, "CTD_DATA": str(data_folder)}
    process = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert process.returncode == 0, process.stderr
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in process.stdout.splitlines()]
    values = {tuple(row[:2]): row[2] for row in table if len(row) == 4}
    for quantity in ("CPU [s]", "first call [wall s]", "speed-up over tuned Adam [CPU]"):
        assert float(values["tanh16", quantity].split()[0]) > 0
    assert values["tanh16", "share of starts"] == "1"
    assert ("growth", "exponent of CPU in the candidates") in values
