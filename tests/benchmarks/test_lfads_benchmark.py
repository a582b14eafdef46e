"""What benchmarks/lfads.py compares is comparable, and it runs."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.models.lfads.bound import log_likelihood
from ctd_models.models.lfads.distributions import DiagonalGaussian

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import _lfads_floor
        import lfads
    finally:
        sys.path.remove(str(BENCHMARKS))
    return lfads, _lfads_floor


@pytest.fixture(scope="module")
def case(scripts):
    """(shape, model, trials, variables) of a few units, all of different sizes."""
    lfads, _ = scripts
    shape = dataclasses.replace(lfads.shape_of(lfads.Settings(quick=True), "tutorial"), dropout=0.0)
    model, trials = lfads.make_model(shape), lfads.make_trials(shape, 0)
    keys = {name: jax.random.key(i) for i, name in enumerate(("params", "sample", "dropout"))}
    return shape, model, trials, jax.jit(model.init)(keys, trials.inputs)


def products(jaxpr, times=1):
    """Multiply-adds of all matrix products in a jaxpr, each as often as its loop runs it."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += times * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
        inner_times = times * equation.params["length"] if equation.primitive.name == "scan" else times
        total += sum(products(inner, inner_times) for inner in jax.extend.core.jaxprs_in_params(equation.params))
    return total


def stand_in(shape):
    return jnp.ones((shape.batch_size, 100))


def test_the_floor_multiplies_as_much_as_a_training_step(scripts, case):
    shape, model, trials, variables = case
    params = jax.eval_shape(lambda: variables["params"])
    spikes = jnp.swapaxes(jnp.asarray(trials.inputs), 0, 1)

    def loss(params):
        terms = model.apply({"params": params}, trials, rngs={"sample": jax.random.key(0)}, method="bound_terms")
        return sum(term.mean() for term in terms)

    step = jax.make_jaxpr(jax.grad(loss))(params)
    floor = jax.make_jaxpr(lambda p: scripts[1].one_step(p, spikes, shape.num_steps, stand_in(shape)))(params)
    assert products(floor.jaxpr) == products(step.jaxpr) > 0


def test_no_product_of_the_floor_can_be_left_out(scripts, case):
    shape, _, trials, variables = case
    spikes = jnp.swapaxes(jnp.asarray(trials.inputs), 0, 1)
    run = jax.jit(lambda params: scripts[1].lfads_products(params, spikes, shape.num_steps, stand_in(shape)))
    params = jax.tree.map(lambda w: 0.1 * w, variables["params"])
    out, leaves = run(params), jax.tree_util.tree_leaves_with_path(params)
    unused = []
    for path, _ in leaves:
        doubled = jax.tree_util.tree_map_with_path(lambda p, w, path=path: 2 * w if p == path else w, params)
        if np.array_equal(run(doubled), out):
            unused.append(jax.tree_util.keystr(path))
    assert [name for name in unused if "kernel" in name] == []
    gradient = jax.tree.map(lambda new, old: new - old, scripts[1].one_step(params, spikes, 6, stand_in(shape)), params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_model_in_pytorch_has_our_loss_for_the_same_weights_and_noise(scripts, case):
    torch = pytest.importorskip("torch")
    shape, model, _, variables = case
    shape = dataclasses.replace(shape, coordinated_dropout=0.0)
    rng = np.random.default_rng(1)
    trials = scripts[0].make_trials(shape, 0)
    # counts of 0 and 1, for which PyTorch's approximation of log x! is exact
    trials = trials._replace(inputs=np.minimum(trials.inputs, 1), targets=np.minimum(trials.targets, 1))
    params = jax.tree.map(lambda w: w + 0.1 * rng.normal(size=w.shape).astype(np.float32), variables["params"])
    variables = {"params": params}
    B, T, U = shape.batch_size, shape.num_steps, shape.num_inputs
    code_noise, input_noise, new = (
        rng.normal(size=size).astype(np.float32) for size in ((B, shape.generator_size), (B, T, U), (B, T, U))
    )

    def loss(model):
        posterior = model.decode(model.encode(trials.inputs), code_noise, input_noise)
        kl_code, _ = model.divergences(posterior)
        q = DiagonalGaussian(posterior.inferred_input_means, posterior.inferred_input_stds)
        sample = q.mean + q.std * new
        kl_inputs = (q.log_prob(sample) - model.controller.prior.log_prob(sample)).sum(axis=1)
        return (kl_code + kl_inputs - log_likelihood(model, trials, posterior)).mean()

    ours = model.apply(variables, method=loss)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import _lfads_torch
    finally:
        sys.path.remove(str(BENCHMARKS))
    peer = _lfads_torch.TorchLFADS(shape)
    peer.load_state_dict({name: torch.tensor(np.array(value)) for name, value in as_torch(params).items()})
    noise = [torch.tensor(values) for values in (code_noise, input_noise.swapaxes(0, 1), new)]
    theirs = peer(torch.tensor(trials.inputs), torch.tensor(trials.targets), noise)
    np.testing.assert_allclose(theirs.item(), ours, rtol=1e-5)


def as_torch(params):
    """Our parameters under the names and in the layout of the model in PyTorch."""
    encoder, generator, controller = params["encoder"], params["generator"], params["controller"]
    named = {
        "controller_start": controller["initial_state"][None],
        "factor_map.weight": generator["factor_kernel"].T,
        "code_prior_mean": generator["prior"]["mean"],
        "log_tau": controller["prior"]["log_tau"],
        "log_noise_variance": controller["prior"]["log_noise_variance"],
    }
    linear = {"code_head": params["code_head"]["Dense_0"], "input_head": controller["head"]["Dense_0"]}
    linear |= {"initial_map": generator["initial_map"], "read_out": params["read_out"]}
    for name, layer in linear.items():
        named |= {f"{name}.weight": layer["kernel"].T, f"{name}.bias": layer["bias"]}
    cells = {"controller": controller["rnn"], "generator": generator["rnn"]}
    for name, pair in (("code_encoder", "initial"), ("controller_encoder", "controller")):
        cells |= {f"{name}.cells.0": encoder[f"{pair}_forward"], f"{name}.cells.1": encoder[f"{pair}_backward"]}
        starts = encoder[f"{pair}_forward_state"], encoder[f"{pair}_backward_state"]
        named[f"{name}.start"] = jnp.stack(starts)[:, None]
    for name, cell in cells.items():
        size = cell["candidate_bias"].size
        bias = cell["gates_bias"] + jnp.repeat(jnp.asarray([0.0, 1.0]), size)  # ours is added to an update bias of 1
        named[f"{name}.bias"] = jnp.concatenate([bias, cell["candidate_bias"]])
        for kind in ("input", "recurrent"):
            kernels = cell[f"gates_{kind}_kernel"], cell[f"candidate_{kind}_kernel"]
            named[f"{name}.{kind}_weight"] = jnp.concatenate(kernels, axis=1).T
    return named


@pytest.mark.slow
def test_the_speed_of_lfads_is_measured():
    options = ["--quick", "--rounds", "2", "--steps", "2", "--compile-rounds", "1", "--compile-times", "4", "8"]
    command = [sys.executable, str(BENCHMARKS / "lfads.py"), *options, "--sizes", "tutorial", "--threads", "1"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert process.returncode == 0, process.stderr
    for row in ("matrix products", "fraction of floor [CPU]", "compile [CPU s]", "compile step, 8 bins [CPU s]"):
        line = next(
            line for line in process.stdout.splitlines() if line.startswith("| tutorial") and f"| {row} " in line
        )
        assert float(line.split("|")[4].split()[0]) > 0
