"""Step functions of PyTorch's networks against its documented equations, and against itself where it is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_models.analysis import find_fixed_points, linearize, simulate
from ctd_models.analysis.networks import step_from_torch

U, N, P = 3, 5, 2
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def weights(cell, layers=1, *, seed=0, bias=True, projection=None, directions=("",), dtype=np.float64):
    """A state_dict with the names and shapes that PyTorch documents."""
    rng, rows, out = np.random.default_rng(seed), GATES[cell] * N, projection or N
    shapes = {}
    for layer in range(layers):
        for direction in directions:
            end = f"_l{layer}{direction}"
            shapes[f"weight_ih{end}"] = (rows, U if layer == 0 else out * len(directions))
            shapes[f"weight_hh{end}"] = (rows, out)
            if bias:
                shapes[f"bias_ih{end}"] = shapes[f"bias_hh{end}"] = (rows,)
            if projection:
                shapes[f"weight_hr{end}"] = (projection, N)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def documented(cell, w, state, x, end="_l0"):
    """The equations of PyTorch's documentation of nn.RNN, nn.GRU and nn.LSTM, gate by gate."""
    h, c = state if cell == "lstm" else (state, None)
    rows = GATES[cell] * N
    b_i, b_h = w.get(f"bias_ih{end}", np.zeros(rows)), w.get(f"bias_hh{end}", np.zeros(rows))
    gate = [slice(k * N, (k + 1) * N) for k in range(GATES[cell])]
    of_x = [w[f"weight_ih{end}"][g] @ x + b_i[g] for g in gate]
    of_h = [w[f"weight_hh{end}"][g] @ h + b_h[g] for g in gate]
    if cell == "rnn":
        return np.tanh(of_x[0] + of_h[0])
    if cell == "gru":
        r, z = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
        n = np.tanh(of_x[2] + r * of_h[2])
        return (1 - z) * n + z * h
    i, f, g, o = (a + b for a, b in zip(of_x, of_h, strict=True))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (w[f"weight_hr{end}"] @ h if f"weight_hr{end}" in w else h), c


def random_state(cell, out=N, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=out), rng.normal(size=N)) if cell == "lstm" else rng.normal(size=N)


def assert_close(a, b, atol=1e-14):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), a, b)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", GATES)
def test_one_layer_follows_the_documented_equations(cell, bias):
    w, state, x = weights(cell, bias=bias), random_state(cell), np.array([0.3, -1.0, 2.0])
    of_cell = {name.removesuffix("_l0"): value for name, value in w.items()}
    inside = {f"model.rnn.{name}": value for name, value in w.items()} | {"model.fc.weight": np.ones((2, N))}
    with jax.enable_x64(True):
        expected = documented(cell, w, state, x)
        assert_close(step_from_torch(w)(state, x), expected)
        assert_close(step_from_torch(of_cell, cell)(state, x), expected)
        assert_close(step_from_torch(inside, prefix="model.rnn.", layer=0)(state, x), expected)
        assert_close(step_from_torch(inside, prefix="model.rnn")(state, x), expected)


def test_projection_and_rectification():
    w, state, x = weights("lstm", projection=P), random_state("lstm", P), np.ones(U)
    with jax.enable_x64(True):
        assert_close(step_from_torch(w)(state, x), documented("lstm", w, state, x))
        w, h = weights("rnn"), random_state("rnn")
        new = step_from_torch(w, nonlinearity="relu")(h, x)
        drive = w["weight_ih_l0"] @ x + w["bias_ih_l0"] + w["weight_hh_l0"] @ h + w["bias_hh_l0"]
        assert_close(new, np.maximum(drive, 0))
    assert (drive < 0).any()


@pytest.mark.parametrize("cell", GATES)
def test_a_stack_is_one_system(cell):
    w, x = weights(cell, 3), np.array([0.3, -1.0, 2.0])
    states = tuple(random_state(cell, seed=s) for s in range(3))
    expected, below = [], x
    for layer in range(3):
        expected.append(documented(cell, w, states[layer], below, f"_l{layer}"))
        below = expected[-1][0] if cell == "lstm" else expected[-1]
    with jax.enable_x64(True):
        assert_close(step_from_torch(w)(states, x), tuple(expected))
        middle = expected[0][0] if cell == "lstm" else expected[0]
        assert_close(step_from_torch(w, layer=1)(states[1], middle), expected[1])


def test_layers_of_a_bidirectional_network():
    w = weights("gru", 2, directions=("", "_reverse"))
    h, x = random_state("gru"), np.linspace(-1, 1, 2 * N)
    with jax.enable_x64(True):
        for direction, end in (("forward", "_l1"), ("reverse", "_l1_reverse")):
            F = step_from_torch(w, layer=1, direction=direction)
            assert_close(F(h, x), documented("gru", w, h, x, end))


def test_values_may_be_tensors():
    class Tensor:
        """Like torch's: an array only once detached and on the CPU; NumPy does not know bfloat16."""

        def __init__(self, values, free=False, half=True):
            self.values, self.free, self.half = values, free, half

        def detach(self):
            return Tensor(self.values, True, self.half)

        def cpu(self):
            return Tensor(self.values, self.free, self.half)

        def float(self):
            return Tensor(self.values, self.free, False)

        def __array__(self, dtype=None, copy=None):
            if not self.free or self.half:
                raise TypeError("can't convert")
            return np.asarray(self.values, np.float32)

    w = weights("gru", dtype=np.float32)
    F, h, x = step_from_torch({name: Tensor(value) for name, value in w.items()}), jnp.ones(N), jnp.ones(U)
    np.testing.assert_array_equal(F(h, x), step_from_torch(w)(h, x))
    assert {leaf.dtype for leaf in jax.tree.leaves(F)} == {np.dtype(np.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(step_from_torch(w, dtype=np.float64))} == {np.dtype(np.float64)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_computes_in_the_precision_of_its_state(dtype):
    F = step_from_torch(weights("lstm", dtype=dtype))
    for precision in (np.float32, np.float64):
        state = jax.tree.map(lambda s: s[None], random_state("lstm"))
        points = simulate(F, state, np.zeros(U), num_steps=2, dtype=precision)
        assert points.dtype == precision
    with jax.enable_x64(True):
        new = F(jax.tree.map(lambda s: jnp.asarray(s, jnp.float32), random_state("lstm")), np.zeros(U))
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {np.dtype(np.float32)}


def test_leading_batch_axes():
    F, h, x = step_from_torch(weights("gru")), jnp.ones((4, N)) * jnp.arange(4.0)[:, None], jnp.ones((4, U))
    np.testing.assert_allclose(F(h, x), jax.vmap(F)(h, x), atol=1e-6)


def stack_and_starts(cell, seed):
    F = step_from_torch({name: 0.3 * value for name, value in weights(cell, 2, seed=seed).items()})
    one = ((20, N), (20, N)) if cell == "lstm" else (20, N)
    rng = np.random.default_rng(3)
    return F, jax.tree.map(lambda shape: rng.normal(size=shape), (one, one), is_leaf=lambda s: isinstance(s[0], int))


@pytest.mark.parametrize("cell", GATES)
def test_fixed_points_of_a_stack(cell):
    F, starts = stack_and_starts(cell, 0)
    x = np.array([0.5, -0.5, 1.0])
    points = linearize(F, find_fixed_points(F, starts, x))
    assert len(points) >= 1
    with jax.enable_x64(True):
        state = jax.tree.map(lambda s: s[0], points.unravel(points.states))
        assert_close(F(state, x), state, atol=1e-9)
    size = 2 * N if cell == "lstm" else N  # the layer above does not act on the one below
    assert np.abs(points.jacobians[:, :size, size:]).max() == 0
    assert np.abs(points.jacobians[:, size:, :size]).max() > 1e-3


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_other_weights_of_the_same_shapes_compile_nothing(cell, compilations):
    (F, starts), (other, _) = stack_and_starts(cell, 0), stack_and_starts(cell, 1)
    x = np.array([0.5, -0.5, 1.0])
    first = linearize(F, starts, x).jacobians
    with compilations:
        second = linearize(other, starts, x).jacobians
    assert compilations.count == 0
    assert np.abs(first - second).max() > 0.01


def test_reference_gru_has_its_listed_fixed_points(data_folder):
    with np.load(data_folder / "reference_networks" / "ff_gru16_s0.npz", allow_pickle=False) as file:
        names = {"weight_ih_l0": "w_Wx", "weight_hh_l0": "w_Wh", "bias_ih_l0": "w_bi", "bias_hh_l0": "w_bh"}
        F = step_from_torch({name: file[other] for name, other in names.items()})
        points = linearize(F, find_fixed_points(F, file["x0"], file["input_u"], bounds=(-1, 1)))
        distance = np.abs(points.states[None] - file["fixed_points"][:, None]).max(axis=-1)
        found = distance.min(axis=1) < 1e-6
        assert found[file["n_unstable"] < 3].all()
        assert points.num_unstable[distance.argmin(axis=1)][found].tolist() == file["n_unstable"][found].tolist()
        sampled, inputs = file["sample_hidden"], file["sample_inputs"]
    step = jax.vmap(jax.vmap(F))(sampled[:, :-1], inputs[:, 1:])  # what the network did itself, in float32
    assert np.abs(step - sampled[:, 1:]).max() < 1e-5


def without(w, *names):
    return {name: value for name, value in w.items() if name not in names}


GRU2 = weights("gru", 2)
BIDIRECTIONAL = weights("gru", 1, directions=("", "_reverse"))


@pytest.mark.parametrize(
    ("state_dict", "options", "message"),
    [
        ({}, {}, "there is no weight_ih_l0 or weight_ih of a recurrent network; found nothing"),
        ({"fc.weight": np.ones((2, 2))}, {}, r"found fc\.weight"),
        ({f"rnn.{name}": value for name, value in GRU2.items()}, {}, r"such weights stand behind prefix='rnn\.'"),
        (GRU2, {"prefix": "net"}, r"there is no net\.weight_ih_l0 .* behind prefix=''"),
        (without(GRU2, "weight_hh_l1"), {}, "weight_hh_l1 missing; found weight_ih_l0, "),
        (without(GRU2, "bias_hh_l0"), {}, "bias_hh_l0 missing"),
        (without(GRU2, *[name for name in GRU2 if "l0" in name]), {}, r"without a gap, found layers \[1\]"),
        (GRU2 | {"weight_ih": np.ones((3 * N, U))}, {}, "names of a cell and of layers are mixed"),
        (GRU2 | {"weight_hh_l1": np.ones((3 * N, N + 1))}, {}, r"expected 1 \(rnn\), 3 \(gru\) or 4 \(lstm\) × hidden"),
        (GRU2 | {"bias_ih_l1": np.ones(N)}, {}, r"rows in weight_ih, weight_hh and biases of layer 1, got shapes"),
        (GRU2 | {"bias_ih_l1": np.ones((3 * N, 1))}, {}, "biases vectors"),
        (GRU2, {"cell": "lstm"}, r"expected 4 × hidden \(lstm\)"),
        (GRU2, {"cell": "mgu"}, "cell must be one of"),
        (GRU2, {"layer": 2}, r"there is no layer 2; found layers \[0, 1\]"),
        (GRU2, {"direction": "reverse"}, "no weights of direction 'reverse'"),
        (GRU2, {"direction": "up"}, "direction must be"),
        (GRU2, {"nonlinearity": "relu"}, "nonlinearity='relu' is for an RNN, but these are weights of a GRU"),
        (GRU2, {"nonlinearity": "elu"}, "nonlinearity must be"),
        (GRU2, {"dtype": np.float16}, "dtype must be"),
        (GRU2 | {"weight_ih_l1": np.ones((3 * N, 9))}, {}, "layer 1 takes 9 inputs, but the layer below has 5 outputs"),
        (BIDIRECTIONAL, {}, "the network is bidirectional: choose direction"),
        (weights("gru", 2, directions=("", "_reverse")), {"direction": "forward"}, "upper layers look ahead"),
        (weights("rnn", 2) | {k: v for k, v in GRU2.items() if "l1" in k}, {}, "layers are of different kinds"),
        (GRU2 | {"weight_hh_l0": np.full((3 * N, N), np.nan)}, {}, r"weight_hh_l0 holds nan at index \(0, 0\)"),
    ],
)
def test_bad_mappings(state_dict, options, message):
    with pytest.raises(ValueError, match=message):
        step_from_torch(state_dict, **options)


def test_wrong_kinds_of_values_and_states():
    with pytest.raises(TypeError, match=r"pass net\.state_dict\(\)"):
        step_from_torch([np.ones((N, N))])
    with pytest.raises(TypeError, match="weight_hh_l0 must hold floats, got int64"):
        step_from_torch(weights("rnn") | {"weight_hh_l0": np.ones((N, N), np.int64)})
    lstm, stack = step_from_torch(weights("lstm")), step_from_torch(GRU2)
    with pytest.raises(ValueError, match=r"layer 0: expected the state \(h \[5\], c \[5\]\), got shapes \[\(5,\)\]"):
        lstm(jnp.ones(N), jnp.ones(U))
    with pytest.raises(ValueError, match=r"expected inputs \[3\], got shape \(2,\)"):
        lstm((jnp.ones(N), jnp.ones(N)), jnp.ones(2))
    with pytest.raises(ValueError, match="the network has 2 layers, the state 3"):
        stack((jnp.ones(N),) * 3, jnp.ones(U))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("name", "options"), [("RNN", {}), ("GRU", {}), ("LSTM", {}), ("LSTM", {"proj_size": P})])
def test_against_pytorch_itself(name, options, layers):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = getattr(torch.nn, name)(U, N, layers, batch_first=True, dtype=torch.float64, **options)
    x = torch.randn(4, 10, U, dtype=torch.float64)
    outputs = network(x)[0].detach().numpy()
    F = step_from_torch(network.state_dict())
    h = np.zeros((4, options.get("proj_size", N)))
    one = (h, np.zeros((4, N))) if name == "LSTM" else h
    state = one if layers == 1 else (one,) * layers
    with jax.enable_x64(True):
        for t in range(10):
            state = F(state, x[:, t].numpy())
            top = state if layers == 1 else state[-1]
            assert_close(top[0] if name == "LSTM" else top, outputs[:, t])


@pytest.mark.parametrize("name", ["RNNCell", "GRUCell", "LSTMCell"])
def test_against_pytorchs_cells(name):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    cell = getattr(torch.nn, name)(U, N, dtype=torch.float64)
    h, c, x = (torch.randn(4, size, dtype=torch.float64) for size in (N, N, U))
    expected = cell(x, (h, c) if name == "LSTMCell" else h)
    state = (h.numpy(), c.numpy()) if name == "LSTMCell" else h.numpy()
    with jax.enable_x64(True):
        new = step_from_torch(cell.state_dict())(state, x.numpy())
    assert_close(new, jax.tree.map(lambda e: e.detach().numpy(), expected))
