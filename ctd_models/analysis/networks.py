"""Recurrent networks trained elsewhere, as step functions: from the weights alone, without the library that made them."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_GATES = {"rnn": 1, "gru": 3, "lstm": 4}
_NAME = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)(?:_l(\d+)(_reverse)?)?")
_SUFFIX = {"forward": "", "reverse": "_reverse"}


class TorchLayer(NamedTuple):
    """Weights of one layer in one direction, under PyTorch's names; rows are the units of each gate, one after another."""

    weight_ih: Float[Any, "rows U"]
    weight_hh: Float[Any, "rows P"]
    bias_ih: Float[Any, "rows"] | None = None
    bias_hh: Float[Any, "rows"] | None = None
    weight_hr: Float[Any, "P H"] | None = None
    """Projection of an LSTM's output (`proj_size`)."""


@no_type_check  # it checks its arguments itself
def step_from_torch(
    state_dict: Mapping[str, Any],
    cell: str | None = None,
    *,
    layer: int | None = None,
    direction: str | None = None,
    prefix: str = "",
    nonlinearity: str = "tanh",
    dtype: Any = None,
) -> Callable[..., Any]:
    """The dynamical system `F(state, input) -> next state` of a PyTorch recurrent network, from its `state_dict`.

    With W_ih, b_ih, W_hh, b_hh of a layer, x its input, h its state, σ the logistic function:

        rnn   h' = φ(W_ih x + b_ih + W_hh h + b_hh)
        gru   r, z = σ(W_ih x + b_ih + W_hh h + b_hh);  n = tanh(W_in x + b_in + r ∘ (W_hn h + b_hn))
              h' = (1 − z) ∘ n + z ∘ h
        lstm  i, f, o = σ(…), g = tanh(…) of W_ih x + b_ih + W_hh h + b_hh, in the order i, f, g, o
              c' = f ∘ c + i ∘ g,  h' = o ∘ tanh(c'), or W_hr (o ∘ tanh(c')) with a projection

    The state of an RNN or GRU layer is h [N]. That of an LSTM layer is PyTorch's (h [N], c [N]); with a projection h is
    [P]. A stack of several layers is one system whose state is the tuple of its layers' states: in one step each layer
    takes the new h of the layer below, as PyTorch's does (dropout between layers is off). Leading batch axes work too.

    F is a JAX pytree whose leaves are the weights: analyses compiled for it serve other networks of the same shapes. It
    computes in the precision of its state.

    Args:
        state_dict: names → arrays of `nn.RNN`, `nn.GRU`, `nn.LSTM` (`weight_ih_l0`, …) or of `nn.RNNCell`, `nn.GRUCell`,
            `nn.LSTMCell` (`weight_ih`, …): PyTorch tensors, or anything that `np.asarray` takes. Others are ignored.
        cell: "rnn", "gru" or "lstm"; None: told from the shapes.
        layer: one layer of a stack, as a system driven by the layer below; None: all layers.
        direction: "forward" or "reverse"; needed for a bidirectional network, one layer of which is a dynamical system
            (forwards or backwards in time) while a stack is not, since it looks ahead.
        prefix: what stands before the names, such as "rnn." for a module `self.rnn`.
        nonlinearity: φ of an RNN, "tanh" or "relu".
        dtype: of the stored weights, float32 or float64; None: float64 if any of them is, else float32.

    Raises:
        ValueError: names are missing, shapes do not fit, or a choice is needed; the message lists what was found.
        TypeError: a value is not an array of floats, or `state_dict` is not a mapping.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"expected a mapping of names to arrays, got {type(state_dict).__name__}: pass net.state_dict()"
        )
    if cell is not None and cell not in _GATES:
        raise ValueError(f"cell must be one of {list(_GATES)} or None, got {cell!r}")
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
    if direction not in (None, *_SUFFIX):
        raise ValueError(f"direction must be 'forward', 'reverse' or None, got {direction!r}")
    if dtype is not None and np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be float64, float32 or None, got {np.dtype(dtype)}")
    found = _find(state_dict, prefix)
    numbers, ending = _choose(found, layer, direction)
    arrays = {number: _arrays(state_dict, found, number, ending) for number in numbers}
    if dtype is None:
        dtype = np.result_type(np.float32, *(a for named in arrays.values() for a in named.values()))
    layers = [TorchLayer(**{name: a.astype(dtype) for name, a in named.items()}) for named in arrays.values()]
    cells = {number: _check_layer(weights, cell, number) for number, weights in zip(numbers, layers, strict=True)}
    if len(set(cells.values())) > 1:
        raise ValueError(f"layers are of different kinds, {cells}: build a step for each, by layer=")
    cell = cells[numbers[0]]
    if nonlinearity != "tanh" and cell != "rnn":
        raise ValueError(f"nonlinearity={nonlinearity!r} is for an RNN, but these are weights of a {cell.upper()}")
    for below, above, number in zip(layers, layers[1:], numbers[1:], strict=False):
        if above.weight_ih.shape[1] != below.weight_hh.shape[1]:
            raise ValueError(
                f"layer {number} takes {above.weight_ih.shape[1]} inputs, but the layer below has "
                f"{below.weight_hh.shape[1]} outputs"
            )
    return jax.tree_util.Partial(TorchStep(cell, nonlinearity), tuple(layers))


@dataclasses.dataclass(frozen=True)
class TorchStep:
    """`(layers, state, input) -> next state`; equal for networks of one kind, so that compiled analyses are shared."""

    cell: str
    """"rnn", "gru" or "lstm"."""
    nonlinearity: str = "tanh"
    """φ of an RNN."""

    def __call__(self, layers: tuple[TorchLayer, ...], state: Any, inputs: Any) -> Any:
        single = len(layers) == 1
        states = (state,) if single else tuple(state)
        if len(states) != len(layers):
            raise ValueError(f"the network has {len(layers)} layers, the state {len(states)}: pass one state for each")
        advance, new, x = getattr(self, f"_{self.cell}"), [], inputs
        for number, (weights, old) in enumerate(zip(layers, states, strict=True)):
            dtype = self._check(weights, old, x, number)
            weights = jax.tree.map(lambda w, dtype=dtype: jnp.asarray(w, dtype), weights)
            new.append(advance(weights, jax.tree.map(jnp.asarray, old), jnp.asarray(x, dtype)))
            x = new[-1][0] if self.cell == "lstm" else new[-1]
        return new[0] if single else tuple(new)

    def _check(self, weights, state, inputs, number):
        """The precision of the state, after a look at the shapes."""
        gates = _GATES[self.cell]
        sizes = [weights.weight_hh.shape[1], *([len(weights.weight_hh) // gates] if self.cell == "lstm" else [])]
        leaves = jax.tree.leaves(state)
        given = [jnp.shape(leaf)[-1:] for leaf in leaves]
        if given != [(size,) for size in sizes]:
            form = "(h [{}], c [{}])" if self.cell == "lstm" else "h [{}]"
            raise ValueError(f"layer {number}: expected the state {form.format(*sizes)}, got shapes {given}")
        if jnp.shape(inputs)[-1:] != weights.weight_ih.shape[1:]:
            raise ValueError(
                f"layer {number}: expected inputs [{weights.weight_ih.shape[1]}], got shape {jnp.shape(inputs)}"
            )
        return jnp.result_type(*leaves)

    def _rnn(self, w, h, x):
        drive = _affine(w.weight_ih, w.bias_ih, x) + _affine(w.weight_hh, w.bias_hh, h)
        return jnp.tanh(drive) if self.nonlinearity == "tanh" else jax.nn.relu(drive)

    def _gru(self, w, h, x):
        x_r, x_z, x_n = jnp.split(_affine(w.weight_ih, w.bias_ih, x), 3, axis=-1)
        h_r, h_z, h_n = jnp.split(_affine(w.weight_hh, w.bias_hh, h), 3, axis=-1)
        r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
        return (1 - z) * jnp.tanh(x_n + r * h_n) + z * h

    def _lstm(self, w, state, x):
        h, c = state
        drive = _affine(w.weight_ih, w.bias_ih, x) + _affine(w.weight_hh, w.bias_hh, h)
        i, f, g, o = jnp.split(drive, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return _affine(w.weight_hr, None, h) if w.weight_hr is not None else h, c


def _affine(
    weight: Float[Any, "rows columns"], bias: Float[Any, "rows"] | None, x: Float[Array, "*batch columns"]
) -> Float[Array, "*batch rows"]:
    product = x @ weight.T
    return product if bias is None else product + bias


def _find(state_dict: Mapping[str, Any], prefix: str) -> dict[tuple[int | None, str], dict[str, str]]:
    """(layer or None of a cell, "" or "_reverse") → name in `TorchLayer` → full name."""
    prefix = f"{prefix}." if prefix and not prefix.endswith(".") else prefix
    found, elsewhere = {}, set()
    for full in state_dict:
        start, _, last = str(full).rpartition(".")
        match = _NAME.fullmatch(last)
        if match is None:
            continue
        if (start and f"{start}.") != prefix:
            elsewhere.add(start and f"{start}.")
            continue
        name, number, ending = match.groups()
        found.setdefault((None if number is None else int(number), ending or ""), {})[name] = full
    if not found:
        hint = f"; such weights stand behind prefix={' or '.join(map(repr, sorted(elsewhere)))}" if elsewhere else ""
        raise ValueError(
            f"there is no {prefix}weight_ih_l0 or {prefix}weight_ih of a recurrent network{hint}; "
            f"found {_listed(state_dict)}"
        )
    numbers = {number for number, _ in found}
    if None in numbers and len(numbers) > 1:
        raise ValueError(f"names of a cell and of layers are mixed: {_listed(_names(found))}; choose by prefix=")
    return found


def _choose(found: dict, layer: int | None, direction: str | None) -> tuple[list[int | None], str]:
    """(numbers of the layers to step, ending of their names)."""
    numbers = sorted({number for number, _ in found if number is not None}) or [None]
    if numbers != [None] and numbers != list(range(len(numbers))):
        raise ValueError(f"expected layers 0, 1, … without a gap, found layers {numbers}: {_listed(_names(found))}")
    directions = {name for name, ending in _SUFFIX.items() if any(key[1] == ending for key in found)}
    if len(directions) == 2 and direction is None:
        raise ValueError("the network is bidirectional: choose direction='forward' or 'reverse'")
    direction = direction or directions.pop()
    ending = _SUFFIX[direction]
    if not any(key[1] == ending for key in found):
        raise ValueError(f"there are no weights of direction {direction!r}; found {_listed(_names(found))}")
    if layer is not None and (layer not in numbers and not (layer == 0 and numbers == [None])):
        raise ValueError(f"there is no layer {layer}; found layers {[0] if numbers == [None] else numbers}")
    if layer is not None:
        return ([None] if numbers == [None] else [layer]), ending
    if len(numbers) > 1 and any(key[1] == "_reverse" for key in found):
        raise ValueError(
            f"a stack of {len(numbers)} bidirectional layers is not a dynamical system, since upper layers look ahead: "
            "choose one by layer="
        )
    return numbers, ending


def _arrays(state_dict: Mapping[str, Any], found: dict, number: int | None, ending: str) -> dict[str, np.ndarray]:
    names = found.get((number, ending), {})
    label = ("" if number is None else f"_l{number}") + ending
    missing = [f"{name}{label}" for name in ("weight_ih", "weight_hh") if name not in names]
    if ("bias_ih" in names) != ("bias_hh" in names):
        missing.append(f"{'bias_hh' if 'bias_ih' in names else 'bias_ih'}{label}")
    if missing:
        raise ValueError(f"{', '.join(missing)} missing; found {_listed(_names(found))}")
    return {name: _as_array(full, state_dict[full]) for name, full in names.items()}


def _as_array(name: str, value: Any) -> np.ndarray:
    for method in ("detach", "cpu"):
        value = getattr(value, method)() if hasattr(value, method) else value
    try:
        array = np.asarray(value)
    except TypeError:  # NumPy has no bfloat16
        array = np.asarray(value.float())
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must hold floats, got {array.dtype}")
    array = array if array.dtype == np.float64 else array.astype(np.float32)
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} holds {array[index]} at index {index}")
    return array


def _check_layer(w: TorchLayer, cell: str | None, number: int | None) -> str:
    """The kind of cell, after a check that the shapes are those of one."""
    where = "" if number is None else f" of layer {number}"
    shapes = {name: a.shape for name, a in w._asdict().items() if a is not None}
    two = ("weight_ih", "weight_hh", "weight_hr")
    if any(len(shape) != (2 if name in two else 1) for name, shape in shapes.items()):
        raise ValueError(f"weights must be matrices and biases vectors, got shapes{where} {shapes}")
    rows, outputs = w.weight_hh.shape
    hidden = outputs if w.weight_hr is None else w.weight_hr.shape[1]
    kinds = [kind for kind, gates in _GATES.items() if rows == gates * hidden and hidden > 0]
    if w.weight_hr is not None:
        kinds = [kind for kind in kinds if kind == "lstm" and w.weight_hr.shape[0] == outputs]
    agree = all(shapes[name][0] == rows for name in shapes if name != "weight_hr")
    if not agree or not kinds or (cell is not None and cell not in kinds):
        wanted = f"{_GATES[cell]} × hidden ({cell})" if cell else "1 (rnn), 3 (gru) or 4 (lstm) × hidden"
        raise ValueError(f"expected {wanted} rows in weight_ih, weight_hh and biases{where}, got shapes {shapes}")
    return kinds[0]


def _names(found: dict) -> list[str]:
    return [full for names in found.values() for full in names.values()]


def _listed(names: Any) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "nothing"
