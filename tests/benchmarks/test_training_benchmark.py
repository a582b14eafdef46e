"""What benchmarks/training.py compares is comparable, and it runs."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.extend
import jax.numpy as jnp
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def variants():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import _variants
    finally:
        sys.path.remove(str(BENCHMARKS))
    return _variants


def products(jaxpr):
    """Multiply-adds of every matrix product in a jaxpr, those of its loops included, in rising order."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            found.append(math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted))
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            found += products(inner)
    return sorted(found)


@pytest.mark.parametrize(("name", "count"), [("rnn", 8), ("gru", 13)])
def test_the_floor_has_the_products_of_a_training_step(variants, name, count):
    N, T, B = 6, 5, 4
    case = variants.Variants(SimpleNamespace(hidden_size=N, num_time_steps=T, batch_size=B, seed=0), name)
    trials = case.task.sample(case.key, B)
    weights = {key: jnp.zeros(shape) for key, shape in case.shapes.items()}
    floor = jax.make_jaxpr(case.products)(weights, jnp.zeros((B, N)), trials.inputs.swapaxes(0, 1))
    variables = jax.eval_shape(case.model.init, case.key, trials.inputs)
    gradient = jax.grad(lambda v: case.loss(v, trials, {}, 0, True)[0])
    step = jax.make_jaxpr(gradient)(variables)
    assert products(floor.jaxpr) == products(step.jaxpr)
    assert len(products(floor.jaxpr)) == count


@pytest.mark.slow
def test_the_speed_of_training_is_measured():
    sizes = ["--rounds", "2", "--steps", "2", "--compile-rounds", "1", "--hidden-size", "4", "--batch-size", "2"]
    command = [sys.executable, str(BENCHMARKS / "training.py"), *sizes, "--num-time-steps", "3", "--networks", "rnn"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr
    for row in ("matrix products", "fraction of floor", "speed-up over Python loop", "compile [CPU s]"):
        line = next(line for line in process.stdout.splitlines() if line.startswith(f"| rnn     | {row} "))
        assert float(line.split("|")[3].split()[0]) > 0
