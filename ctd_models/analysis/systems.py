"""A user's step function, brought into the one form that analysis works on: flat states, in a chosen precision."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

KINDS = ("map", "flow")


@dataclasses.dataclass(frozen=True)
class Structure:
    """How a state that is a pytree of arrays lies in one flat vector of `size` entries."""

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, state: Any) -> "Structure":
        """The structure of one state (not a batch)."""
        leaves, treedef = jax.tree.flatten(state)
        return cls(treedef, tuple(np.shape(leaf) for leaf in leaves))

    @property
    def size(self) -> int:
        """Entries of the flat vector."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    def ravel(self, state: Any) -> Float[Array, "d"]:
        """The flat vector of a state, inside JAX."""
        return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(state)])

    def ravel_batch(self, states: Any, dtype: Any) -> Float[np.ndarray, "n d"]:
        """Flat vectors of n states, as NumPy."""
        leaves = [np.asarray(leaf, dtype) for leaf in jax.tree.leaves(states)]
        return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)

    def unravel(self, flat: Float[Any, "*batch d"]) -> Any:
        """The state, or the batch of states, of flat vectors."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1]
        parts = jnp.split(flat, ends, axis=-1) if isinstance(flat, jax.Array) else np.split(flat, ends, axis=-1)
        leaves = [part.reshape((*flat.shape[:-1], *shape)) for part, shape in zip(parts, self.shapes, strict=True)]
        return jax.tree.unflatten(self.treedef, leaves)

    def to_json(self) -> str:
        """The structure as text; nested tuples, lists and dictionaries are kept, other containers become tuples."""

        def describe(node):
            if isinstance(node, dict):
                return {key: describe(value) for key, value in node.items()}
            if isinstance(node, list):
                return ["list", *(describe(value) for value in node)]
            if isinstance(node, _Leaf):
                return ["array", *node.shape]
            return ["tuple", *(describe(value) for value in node)]

        leaves = [_Leaf(shape) for shape in self.shapes]
        return json.dumps(describe(jax.tree.unflatten(self.treedef, leaves)))

    @classmethod
    def from_json(cls, text: str) -> "Structure":
        """The inverse of `to_json`."""

        def build(node):
            if isinstance(node, dict):
                return {key: build(value) for key, value in node.items()}
            kind, *rest = node
            if kind == "array":
                return np.empty(rest)
            items = [build(value) for value in rest]
            return items if kind == "list" else tuple(items)

        return cls.of(build(json.loads(text)))


@dataclasses.dataclass(frozen=True)
class _Leaf:
    shape: tuple[int, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class System:
    """A dynamical system on flat states: a JAX pytree, so that compiled analyses are shared by equal functions."""

    function: Any
    structure: Structure = dataclasses.field(metadata={"static": True})
    flow: bool = dataclasses.field(metadata={"static": True})
    has_inputs: bool = dataclasses.field(metadata={"static": True})

    def step(self, state: Float[Array, "d"], inputs: Float[Array, "U"]) -> Float[Array, "d"]:
        """F(state, inputs), flat."""
        state = self.structure.unravel(state)
        return self.structure.ravel(self.function(state, inputs) if self.has_inputs else self.function(state))

    def advance(self, state: Float[Array, "d"], inputs: Float[Array, "U"], dt: Any = 1.0) -> Float[Array, "d"]:
        """The state one step later: F of a map, a Runge-Kutta step of fourth order and length `dt` of a flow."""
        if not self.flow:
            return self.step(state, inputs)
        k1 = self.step(state, inputs)
        k2 = self.step(state + 0.5 * dt * k1, inputs)
        k3 = self.step(state + 0.5 * dt * k2, inputs)
        k4 = self.step(state + dt * k3, inputs)
        return state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def residual(self, state: Float[Array, "d"], inputs: Float[Array, "U"]) -> Float[Array, "d"]:
        """What vanishes at a fixed point: F(h, x) − h of a map, f(h, x) of a flow."""
        return self.step(state, inputs) - (0 if self.flow else state)

    def speed(self, state: Float[Array, "d"], inputs: Float[Array, "U"]) -> Float[Array, ""]:
        """q = ½ ‖residual‖²."""
        return 0.5 * (self.residual(state, inputs) ** 2).sum()


def precision(dtype: Any) -> contextlib.AbstractContextManager:
    """A context in which JAX computes in `dtype`, without a global flag."""
    dtype = np.dtype(dtype)
    if dtype == np.float64:
        return jax.enable_x64(True)
    if dtype == np.float32:
        return contextlib.nullcontext()
    raise ValueError(f"dtype must be float64 or float32, got {dtype}")


def prepare(
    function: Callable[..., Any], states: Any, inputs: Any, *, kind: str, dtype: Any, what: str = "candidates"
) -> tuple[System, Float[np.ndarray, "n d"], Float[np.ndarray, "n U"]]:
    """(system, flat states, inputs of each state) after every check that needs no compilation.

    Without inputs U is 0.

    Raises:
        ValueError: shapes that do not fit, NaN or infinite values (with the index), an unknown kind.
        TypeError: the function changes the shape or the dtype of its state.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    leaves = jax.tree.leaves(states)
    if isinstance(states, list) and all(isinstance(leaf, (int, float)) for leaf in leaves):  # nested lists of numbers
        states = np.asarray(states, dtype)
        leaves = [states]
    if not leaves or any(np.ndim(leaf) < 1 for leaf in leaves) or len({len(leaf) for leaf in leaves}) > 1:
        shapes = [np.shape(leaf) for leaf in leaves]
        raise ValueError(f"expected {what} [n, d], or a pytree of arrays [n, ...] with one n, got shapes {shapes}")
    if not hasattr(states, "treedef") and len(leaves) == 1 and np.ndim(leaves[0]) != 2 and states is leaves[0]:
        raise ValueError(f"expected {what} [n, d], got shape {np.shape(states)}")
    if len(leaves[0]) == 0:
        raise ValueError(f"there are no {what}")
    structure = Structure.of(jax.tree.map(lambda leaf: np.asarray(leaf)[0], states))
    flat = structure.ravel_batch(states, dtype)
    _check_finite(flat, what)
    rows = _input_rows(inputs, len(flat), dtype)
    arguments = (structure.unravel(flat[0]), rows[0])[: 1 + (inputs is not None)]
    with precision(dtype):
        function = _checked(function, arguments)
    return System(function, structure, kind == "flow", inputs is not None), flat, rows


def check_repeatable(system: System, state: Float[np.ndarray, "d"], inputs: Float[np.ndarray, "U"]) -> None:
    """Calls the system twice.

    Raises:
        ValueError: the results differ.
    """
    first, second = (np.asarray(_step(system, state, inputs)) for _ in range(2))
    if not np.array_equal(first, second, equal_nan=True):
        raise ValueError(
            f"the step function is stochastic: called twice with the same state it returns results that differ by up to "
            f"{np.nanmax(np.abs(first - second)):.2g}. Switch its noise off, or bind its random key"
        )


@jax.jit
def _step(system: System, state: Float[Array, "d"], inputs: Float[Array, "U"]) -> Float[Array, "d"]:
    return system.step(state, inputs)


def padded_rows(count: int, size: int | None = None) -> Int[np.ndarray, "_"]:
    """Indices 0 … count − 1 and then the last again and again, up to `size`, or to a power of two where none is given: few
    sizes, and so few compilations."""
    return np.minimum(np.arange(size or 1 << (count - 1).bit_length()), count - 1)


def _input_rows(inputs: Any, count: int, dtype: Any) -> Float[np.ndarray, "n U"]:
    if inputs is None:
        return np.zeros((count, 0), dtype)
    inputs = np.asarray(inputs, dtype)
    if inputs.ndim == 1:
        inputs = np.broadcast_to(inputs, (count, len(inputs)))
    if inputs.ndim != 2 or len(inputs) != count:
        raise ValueError(f"expected inputs [U] or, one per state, [{count}, U], got shape {inputs.shape}")
    _check_finite(inputs, "inputs")
    return inputs


def _check_finite(values: Float[np.ndarray, "n d"], what: str) -> None:
    if not np.isfinite(values).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(f"{what} hold {values[row, column]} at index ({row}, {column})")


def _checked(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The function as a pytree that compiled analyses may keep, after a look at what it returns.

    A pytree of arrays, such as a `step_function`, stays as it is. Any other function is traced anew at each call, and the
    arrays that it captures become leaves: what was compiled before is used again only for the same computation, and never
    with arrays that have changed since.
    """
    leaves = jax.tree.leaves(function)
    is_leaf = len(leaves) == 1 and leaves[0] is function
    is_pytree = not is_leaf and all(isinstance(leaf, (jax.Array, np.ndarray, np.generic)) for leaf in leaves)
    try:
        jaxpr, result = jax.make_jaxpr(lambda *a: function(*a), return_shape=True)(*arguments)
        if not is_pytree:
            _check_same_trace(jaxpr, jax.make_jaxpr(lambda *a: function(*a))(*arguments))
    except _StochasticError as error:
        raise ValueError(str(error)) from None
    except jax.errors.UnexpectedTracerError as error:
        raise ValueError(_IMPURE) from error
    except Exception as error:
        if isinstance(error, jax.errors.JAXTypeError):  # says itself what cannot be traced
            raise
        shapes = jax.tree.map(np.shape, arguments[0])
        if len(arguments) == 1:
            what = f"a state of shape {shapes} alone"
            hint = ": if it takes an input, pass inputs=, [U] for all candidates or [n, U]"
        else:
            what, hint = f"a state of shape {shapes} and an input of shape {arguments[1].shape}", ""
        raise ValueError(
            f"the step function cannot be called with {what} ({type(error).__name__}: {error}){hint}"
        ) from error
    _check_result(jax.eval_shape(lambda a: a, arguments[0]), result)
    if is_pytree:
        return function
    return _partial(jaxpr, result)


def traced(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    """(the function as a pytree that compiled analyses may keep, shapes of what it returns); errors are its own."""
    jaxpr, result = jax.make_jaxpr(lambda *a: function(*a), return_shape=True)(*arguments)
    return _partial(jaxpr, result), result


def _partial(jaxpr: Any, result: Any) -> Any:
    return jax.tree_util.Partial(_Traced(jaxpr.jaxpr, jax.tree.structure(result)), list(jaxpr.consts))


_IMPURE = (
    "the step function keeps something from one call to the next, such as a random key that it splits: it must be a pure "
    "function of its state and input"
)


class _StochasticError(Exception):
    """Two traces of one function differ."""


def _check_same_trace(first: Any, second: Any) -> None:
    def literals(jaxpr):
        inputs = [(equation.primitive, equation.invars) for equation in jaxpr.eqns]
        return [(name, [str(v.val) for v in variables if hasattr(v, "val")]) for name, variables in inputs]

    if any(isinstance(constant, jax.core.Tracer) for trace in (first, second) for constant in trace.consts):
        raise _StochasticError(_IMPURE)
    same = len(first.consts) == len(second.consts) and literals(first.jaxpr) == literals(second.jaxpr)
    constants = zip(first.consts, second.consts, strict=False)
    if not same or not all(a is b or np.array_equal(_numbers(a), _numbers(b), equal_nan=True) for a, b in constants):
        raise _StochasticError(
            "the step function is stochastic, or changes between calls: two traces of it for the same state differ. "
            "It must be a pure function of its state and input, without noise"
        )


def _numbers(constant: Any) -> np.ndarray:
    is_key = hasattr(constant, "dtype") and jax.dtypes.issubdtype(constant.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(constant) if is_key else constant)


class _Traced:
    """A traced function of (captured arrays, *arguments); equal to another that computes the same."""

    def __init__(self, jaxpr: Any, structure: Any):
        self.jaxpr, self.key = jaxpr, (structure, str(jaxpr), _hidden(jaxpr))
        self.structure = structure

    def __call__(self, captured: list[Any], *arguments: Any) -> Any:
        evaluate = jax.extend.core.jaxpr_as_fun(jax.extend.core.ClosedJaxpr(self.jaxpr, captured))
        return jax.tree.unflatten(self.structure, evaluate(*jax.tree.leaves(arguments)))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Traced) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _hidden(value: Any) -> Any:
    """What the text of a jaxpr does not show, as a hashable value: arrays captured inside, callbacks, custom rules."""
    if isinstance(value, jax.extend.core.ClosedJaxpr):
        return _hidden(value.jaxpr), _hidden(list(value.consts))
    if isinstance(value, jax.extend.core.Jaxpr):
        return tuple(_hidden(list(equation.params.values())) for equation in value.eqns)
    if isinstance(value, (list, tuple)):
        return tuple(_hidden(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, _hidden(item)) for key, item in value.items())
    if isinstance(value, (np.ndarray, jax.Array)):
        array = np.asarray(value)
        return array.shape, array.dtype.str, array.tobytes()
    try:
        hash(value)
    except TypeError:
        return object()  # equal to nothing else: what cannot be compared is compiled again
    return value


def _check_result(given: Any, result: Any) -> None:
    if jax.tree.structure(result) != jax.tree.structure(given):
        raise TypeError(f"the step function takes a state {given} and returns {result}: it must return the next state")
    for before, after in zip(jax.tree.leaves(given), jax.tree.leaves(result), strict=True):
        if before.shape != after.shape:
            raise TypeError(f"the step function takes a state of shape {before.shape} and returns {after.shape}")
        if before.dtype != after.dtype:
            raise TypeError(
                f"the step function takes a state of {before.dtype} and returns {after.dtype}: let it compute in the "
                f"precision of its state, or pass dtype=np.{after.dtype}"
            )
