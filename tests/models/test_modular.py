"""The modular cell against its equation written out in NumPy, its sparsity through training, and its lesions."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctd_models import RecurrentNetwork, Trainer, load_checkpoint, step_function
from ctd_models.analysis import find_fixed_points, linearize
from ctd_models.configuration import deterministic, from_config, to_config
from ctd_models.models import ContinuousRNNCell, ModularRNNCell, chain, rectified_tanh
from ctd_models.tasks import FlipFlop
from ctd_models.training import rate_penalized_error

U, SIZES = 3, {"F5": 6, "AIP": 5, "M1": 4}  # not in alphabetical order, in which JAX sorts states


def make(**fields):
    fields = {"inputs_to": ("F5",), "output_from": ("M1",), "density": 0.4, "tau": 0.1, "dt": 0.02} | fields
    return ModularRNNCell(tuple(SIZES), tuple(SIZES.values()), chain(*SIZES), **fields)


def random_state(rng, batch=()):
    return {name: jnp.asarray(rng.normal(size=(*batch, size)), jnp.float32) for name, size in SIZES.items()}


def noisy(variables, rng):
    """Variables whose every parameter was moved, also those of weights that are not there."""
    moved = jax.tree.map(lambda p: p + jnp.asarray(0.3 * rng.normal(size=p.shape), p.dtype), variables["params"])
    return {**variables, "params": moved}


@pytest.fixture(scope="module")
def trained():
    """(network, variables before and after some steps of Adam with weight decay, an L2 penalty and a penalty on rates)."""
    cell = make(noise=0.1, inputs_to=("M1", "F5"), output_from=("M1", "F5"))
    network, optimizer = RecurrentNetwork(cell, 3, state_noise=0.1), optax.adamw(1e-2, weight_decay=0.1)
    loss, keys = rate_penalized_error(network, 1e-3, 1e-2), {"params": jax.random.key(0), "noise": jax.random.key(1)}

    @jax.jit
    def train(keys):
        def step(carry, key):
            params, state = carry
            trials = jax.random.normal(key, (2, 4, 6, 3))
            slope = jax.grad(lambda p: loss({**start, "params": p}, tuple(trials), {"noise": key}, 0, True)[0])(params)
            updates, state = optimizer.update(slope, state, params)
            return (optax.apply_updates(params, updates), state), None

        start = network.init(keys, jnp.zeros((1, 6, 3)))
        keys = jax.random.split(keys["noise"], 20)
        (params, _), _ = jax.lax.scan(step, (start["params"], optimizer.init(start["params"])), keys)
        return start, {**start, "params": params}

    return network, *train(keys)


def alone(variables):
    """The cell's own variables, of a network's."""
    return {collection: values["cell"] for collection, values in variables.items()}


def test_chain():
    assert chain("a", "b", "c") == (("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"))
    assert chain("a") == ()
    assert make().feedforward == (("F5", "AIP"), ("AIP", "M1"))
    assert make().feedback == (("AIP", "F5"), ("M1", "AIP"))


def test_rectified_tanh():
    x = jnp.array([-1.0, 0.0, 0.5, 3.0])
    np.testing.assert_allclose(rectified_tanh(x), np.maximum(np.tanh(x), 0), rtol=1e-6)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(rectified_tanh))(x), [0, 0, *(1 - np.tanh([0.5, 3.0]) ** 2)], rtol=1e-5
    )


def test_each_module_obeys_its_equation(trained):
    network, start, _ = trained
    rng, cell = np.random.default_rng(0), network.cell.clone(deterministic=True)
    state, u, variables = random_state(rng, (7,)), rng.normal(size=(7, U)), noisy(alone(start), rng)
    blocks, params = cell.blocks(variables), variables["params"]
    rates = {name: np.maximum(np.tanh(x), 0) for name, x in state.items()}
    bias, to_f5, to_m1 = np.split(params["bias"], [6, 11]), *np.split(u @ params["input_kernel"], [6], axis=1)
    driven = {"F5": to_f5, "AIP": 0.0, "M1": to_m1}
    found, output = cell.apply(variables, state, u)
    for name, b in zip(SIZES, bias, strict=True):
        drive = sum(rates[source] @ blocks[source, target] for source, target in blocks if target == name)
        expected = state[name] + 0.02 / 0.1 * (-state[name] + drive + driven[name] + b)
        np.testing.assert_allclose(found[name], expected, atol=1e-6)
    np.testing.assert_allclose(output, np.maximum(np.tanh(np.c_[found["F5"], found["M1"]]), 0), atol=1e-6)
    np.testing.assert_allclose(cell.rates(state)["AIP"], rates["AIP"], atol=1e-6)


def test_one_module_is_the_continuous_cell():
    cell = ModularRNNCell(("X",), (8,), (), ("X",), ("X",), tau=0.1, dt=0.02, activation="tanh")
    plain = ContinuousRNNCell(8, tau=0.1, dt=0.02)
    x, u = np.random.default_rng(0).normal(size=(2, 5, 8))
    variables = jax.jit(cell.init)(jax.random.key(0), {"X": x}, u)
    np.testing.assert_allclose(cell.apply(variables, {"X": x}, u)[1], plain.apply(variables, x, u)[1], atol=1e-6)


def test_links_are_sparse_and_nothing_else_is_there():
    cell = ModularRNNCell(
        ("A", "B", "C"), (100, 60, 80), chain("A", "B", "C"), ("A",), ("C",), density=0.1, link_init=2.0
    )
    init = jax.jit(lambda key: cell.init(key, cell.initialize_carry(key, (1,)), jnp.zeros(1)))
    variables, other = init(jax.random.key(1)), init(jax.random.key(2))
    mask = np.asarray(variables["links"]["mask"])
    assert mask[:100, :100].all() and mask[100:160, 100:160].all() and mask[160:, 160:].all()
    assert not mask[:100, 160:].any() and not mask[160:, :100].any()  # A and C are not linked
    for block, listened in ((mask[:100, 100:160], 10), (mask[100:160, :100], 6), (mask[160:, 100:160], 8)):
        assert (block.sum(axis=0) == listened).all()  # every unit listens to as many
    assert len(np.unique(mask[:100, 100:160].argmax(axis=0))) > 1
    weights = np.asarray(cell.blocks(variables)["A", "B"])
    assert ((weights != 0) == mask[:100, 100:160]).all()
    assert weights[weights != 0].std() * 10**0.5 == pytest.approx(2.0, rel=0.1)  # N(0, g²/k)
    assert (np.asarray(other["links"]["mask"]) != mask).any()


def test_weights_that_are_not_there_never_come(trained):
    _, start, variables = trained
    before, kernel = (np.asarray(v["params"]["cell"]["recurrent_kernel"]) for v in (start, variables))
    mask = np.asarray(variables["links"]["cell"]["mask"])
    assert mask.dtype == bool and mask.sum() == 6**2 + 5**2 + 4**2 + 2 * 5 + 2 * 6 + 2 * 4 + 2 * 5
    assert (kernel[~mask] == 0).all() and (before[~mask] == 0).all()
    assert (kernel[mask] != before[mask]).mean() > 0.9


def test_it_steps_like_the_network(trained):
    network, _, variables = trained
    inputs = jax.random.normal(jax.random.key(3), (2, 5, 3))
    quiet = deterministic(network)
    run, F = jax.jit(quiet.apply)(variables, inputs), jax.jit(step_function(network, variables))
    assert {name: x.shape for name, x in run.states.items()} == {name: (2, 5, size) for name, size in SIZES.items()}
    state = quiet.apply(variables, method="initial_state")
    for t in range(5):
        state = F(state, inputs[0, t])
    for name in SIZES:
        np.testing.assert_allclose(state[name], run.states[name][0, -1], atol=1e-6)


def test_it_is_written_as_json_and_read_back():
    network = RecurrentNetwork(make(), 3)
    again = from_config(json.loads(json.dumps(to_config(network))))
    assert again == network and hash(again) == hash(network)
    assert again.cell.links == chain(*SIZES)


@pytest.mark.slow
def test_fixed_points_of_a_checkpoint(trained, tmp_path):
    network, task = trained[0], FlipFlop(num_steps=6)
    trainer = Trainer(network, rate_penalized_error(network, 1e-3), optax.adamw(1e-2), batch_size=4)
    fit = trainer.fit(task, 5, jax.random.key(0), checkpoint_dir=tmp_path)
    loaded, variables = load_checkpoint(tmp_path)
    assert loaded == network
    jax.tree.map(np.testing.assert_array_equal, variables, fit.state.variables)
    rest = step_function(loaded, variables, inputs=jnp.zeros(3))
    starts = random_state(np.random.default_rng(0), (6,))
    points = linearize(rest, find_fixed_points(rest, starts))
    at = points.unravel(points.states)
    with jax.enable_x64(True):
        moved = rest(jax.tree.map(lambda x: jnp.asarray(x[0]), at))
    for name, size in SIZES.items():
        assert at[name].shape == (len(points), size)
        np.testing.assert_allclose(moved[name], at[name][0], atol=1e-9)
    assert points.eigenvalues.shape == (len(points), 15)


def test_state_noise_and_noise_are_drawn_and_switched_off(trained):
    network, _, variables = trained
    inputs = jnp.zeros((2, 4, 3))
    apply = jax.jit(network.apply)
    runs = [apply(variables, inputs, rngs={"noise": jax.random.key(k)}).states for k in (0, 1)]
    assert all((runs[0][name] != runs[1][name]).any() for name in SIZES)
    with pytest.raises(Exception, match="noise"):
        network.apply(variables, inputs)


def test_noise_has_the_stationary_variance_it_promises(trained):
    variables = jax.tree.map(jnp.zeros_like, alone(trained[1]))
    cell, inputs = make(noise=0.3), jnp.zeros((2000, 0))

    def step(state, key):
        return cell.apply(variables, state, inputs, rngs={"noise": key})[0], state["AIP"].var()

    start = {name: jnp.zeros((2000, size)) for name, size in SIZES.items()}
    variances = jax.lax.scan(step, start, jax.random.split(jax.random.key(2), 60))[1]
    assert variances[-20:].mean() == pytest.approx(0.3**2 / (1 - 0.2 / 2), rel=0.02)


def test_a_lesion_cuts_its_link_and_nothing_else(trained):
    network, _, variables = trained
    cell, rng = network.cell.clone(deterministic=True), np.random.default_rng(0)
    state, whole = random_state(rng), alone(variables)
    other = state | {"AIP": state["AIP"] + 1}
    inputs = jnp.ones(3)
    cut = cell.lesion(variables, ("AIP", "M1"))
    inside = alone(cut)
    assert (cell.apply(whole, state, inputs)[0]["M1"] != cell.apply(whole, other, inputs)[0]["M1"]).any()
    np.testing.assert_array_equal(
        cell.apply(inside, state, inputs)[0]["M1"], cell.apply(inside, other, inputs)[0]["M1"]
    )
    assert (cell.apply(inside, state, inputs)[0]["F5"] != cell.apply(inside, other, inputs)[0]["F5"]).any()
    before, after = cell.blocks(variables), cell.blocks(cut)
    for pair in before:
        np.testing.assert_array_equal(after[pair], 0 * before[pair] if pair == ("AIP", "M1") else before[pair])
    np.testing.assert_array_equal(cell.blocks(variables)["AIP", "M1"], before["AIP", "M1"])  # the original is whole
    for name in ("recurrent_kernel", "bias", "input_kernel"):  # a lesion of the cell's own variables is the same
        np.testing.assert_array_equal(cell.lesion(whole, ("AIP", "M1"))["params"][name], inside["params"][name])


def test_a_cut_link_does_not_grow_back(trained):
    network, _, variables = trained
    cut = network.cell.lesion(variables, *network.cell.feedback)

    def loss(params):
        run = network.apply({**cut, "params": params}, jnp.ones((1, 4, 3)), rngs={"noise": jax.random.key(0)})
        return (run.outputs**2).sum()

    slope = np.asarray(jax.jit(jax.grad(loss))(cut["params"])["cell"]["recurrent_kernel"])
    mask = np.asarray(cut["links"]["cell"]["mask"])
    assert not mask[6:11, :6].any() and not mask[11:, 6:11].any() and mask[:6, 6:11].any()
    assert (slope[~mask] == 0).all() and (slope[:6, 6:11] != 0).any()


def test_flax_rnn_runs_it(trained):
    network, _, variables = trained
    cell, inputs = network.cell.clone(deterministic=True), jax.random.normal(jax.random.key(0), (2, 4, U))
    outputs = nn.RNN(cell, variable_broadcast=("params", "links")).apply(variables, inputs)
    state = cell.initialize_carry(jax.random.key(0), (2, U))
    for t in range(4):
        state, output = cell.apply(alone(variables), state, inputs[:, t])
        np.testing.assert_allclose(outputs[:, t], output, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modules": ("A", "A")}, r"different names, one or more, got \('A', 'A'\)"),
        ({"sizes": (3,)}, r"2 positive integers, one for each of \('A', 'B'\), got \(3,\)"),
        ({"sizes": (3, 0)}, r"got \(3, 0\)"),
        ({"links": (("A", "C"),)}, r"of two of the modules \('A', 'B'\), got \(\('A', 'C'\),\)"),
        ({"links": (("A", "A"),)}, "pairs"),
        ({"inputs_to": ("C",)}, r"inputs_to must name some of the modules .* got \('C',\)"),
        ({"output_from": ()}, r"output_from must name some .* got \(\)"),
        ({"density": 0.0}, r"must lie in \(0, 1\], got 0.0"),
        ({"dt": 0.2}, r"dt must lie in \(0, tau = 0.1\]"),
        ({"noise": -1.0}, "noise is a standard deviation"),
        ({"activation": "rectified"}, r"one of \['rectified_tanh'\], got 'rectified'"),
    ],
)
def test_bad_fields(fields, message):
    good = {
        "modules": ("A", "B"),
        "sizes": (3, 4),
        "links": chain("A", "B"),
        "inputs_to": ("A",),
        "output_from": ("B",),
    }
    with pytest.raises(ValueError, match=message):
        ModularRNNCell(**good | fields)


def test_what_does_not_fit_is_named(trained):
    network, _, variables = trained
    cell = network.cell
    with pytest.raises(ValueError, match=r"expected links .* got \[\('F5', 'M1'\)\]"):
        cell.lesion(variables, ("F5", "AIP"), ("F5", "M1"))
    with pytest.raises(ValueError, match=r"got masks of shapes \[\] in the collections \['params'\]"):
        cell.lesion({"params": variables["params"]}, ("F5", "AIP"))
    state = random_state(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"expected a state of modules with units .*'AIP': 5.*got \{.*'AIP': \(6,\)"):
        cell.apply(alone(variables), state | {"AIP": jnp.zeros(6)}, jnp.zeros(3))
    with pytest.raises(ValueError, match="ModularRNNCell expected inputs with 3 features, got 4"):
        cell.apply(alone(variables), state, jnp.zeros(4), rngs={"noise": jax.random.key(0)})


def test_rates_need_all_modules():
    cell = ModularRNNCell(("A", "B"), (3, 4), chain("A", "B"), inputs_to=("A",), output_from=("B",))
    with pytest.raises(ValueError, match=r"expected a state by module, \('A', 'B'\), got \['A'\]"):
        cell.rates({"A": jnp.zeros(3)})
