"""The compiled programs of training: begin, train for some steps, validate."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray

from ctd_models.training.losses import Loss
from ctd_models.training.sources import Source
from ctd_models.training.state import TrainState
from ctd_models.training.trainable import Names, merge, split

STREAMS = ("dropout", "sample", "noise")


class Program:
    """A function compiled once for each set of argument shapes, with the time that took."""

    def __init__(self, function: Callable[..., Any], donate_argnums: int | Sequence[int] = (), runs_once: bool = False):
        options = {"xla_backend_optimization_level": 0} if runs_once else None  # compiles in half the time
        self._jitted = jax.jit(function, donate_argnums=donate_argnums, compiler_options=options)
        self._compiled: dict[Any, Callable[..., Any]] = {}
        self.compile_seconds = 0.0

    def __call__(self, *args):
        leaves, structure = jax.tree.flatten(args)
        signature = (structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
        if signature not in self._compiled:
            start = time.perf_counter()
            self._compiled[signature] = self._jitted.lower(*args).compile()
            self.compile_seconds += time.perf_counter() - start
        return self._compiled[signature](*args)


class Keys(NamedTuple):
    """Independent keys, one for each purpose, split from the key that `fit` was given."""

    params: PRNGKeyArray
    data: PRNGKeyArray
    loss: PRNGKeyArray
    validation_data: PRNGKeyArray
    validation_loss: PRNGKeyArray

    @classmethod
    def of(cls, key_data: jax.Array, impl: Any) -> "Keys":
        """The keys that follow from the integers of a key."""
        return cls(*jax.random.split(jax.random.wrap_key_data(key_data, impl=impl), len(cls._fields)))


def streams(key: PRNGKeyArray, names: Sequence[str]) -> dict[str, PRNGKeyArray]:
    """One key for each named stream."""
    return {name: jax.random.fold_in(key, i) for i, name in enumerate(names)}


def fresh_state(optimizer: optax.GradientTransformation, variables: Any, names: Names, key: PRNGKeyArray) -> TrainState:
    """The state before the first step."""
    trainable, _ = split(variables["params"], names)
    return TrainState(jnp.int32(0), variables, optimizer.init(trainable), jax.random.key_data(key))


def check_loss(loss: Loss, variables: Any, batch: Any, key: PRNGKeyArray, training: bool) -> list[str]:
    """Names of the metrics, from a trace of the loss on the shapes of a batch, without compiling.

    Raises:
        TypeError: the loss does not return (scalar, mapping of scalars). What the loss itself raises passes through.
    """
    result = jax.eval_shape(
        lambda v, b, k: loss(v, b, streams(k, STREAMS), jnp.int32(0), training), variables, batch, key
    )
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping)):
        raise TypeError(f"the loss must return (scalar, mapping of metrics), it returns {result}")
    if getattr(result[0], "shape", None) != ():
        raise TypeError(f"the loss must return (scalar, mapping of metrics), its first value is {result[0]}")
    for name, metric in result[1].items():
        if getattr(metric, "shape", None) != ():
            raise TypeError(f"the loss's metric {name!r} must be a scalar, it is {metric}")
    return ["loss", *result[1]]


def one_step(
    state: TrainState,
    arrays: Any,
    alive: Any = True,
    *,
    make_batch: Callable[[Any, PRNGKeyArray, jax.Array], Any],
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    names: Names,
    key_impl: Any,
) -> tuple[TrainState, dict[str, jax.Array], jax.Array]:
    """(next state, metrics, whether loss and gradient were finite, in this step and, by `alive`, in those before).

    Where they were not, the state does not move.
    """
    keys = Keys.of(state.key_data, key_impl)
    batch = make_batch(arrays, keys.data, state.step)
    rngs = streams(jax.random.fold_in(keys.loss, state.step), STREAMS)
    trainable, frozen = split(state.variables["params"], names)

    def objective(trainable):
        return loss({**state.variables, "params": merge(trainable, frozen)}, batch, rngs, state.step, True)

    (value, metrics), gradient = jax.value_and_grad(objective, has_aux=True)(trainable)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, trainable, value=value)
    gradient_norm = _norm(gradient)
    finite = alive & jnp.isfinite(value) & jnp.isfinite(gradient_norm)
    proposal = TrainState(
        state.step + 1,
        {**state.variables, "params": merge(optax.apply_updates(trainable, updates), frozen)},
        optimizer_state,
        state.key_data,
    )
    state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), proposal, state)
    return state, {"loss": value, **metrics, "gradient_norm": gradient_norm}, finite


def _norm(tree: Any) -> jax.Array:
    """As `optax.tree.norm`, in two kernels instead of two for each leaf: a second less to compile on 50 leaves."""
    values = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    return jnp.sqrt(jnp.sum(jnp.abs(values) ** 2))


def many_steps(step: Callable[..., Any], capacity: int) -> Callable[..., Any]:
    """`run(state, arrays, n)`: up to n ≤ capacity steps in one compiled loop, whatever n.

    It stops at the first step that is not finite. Returns (state, metrics [capacity], steps taken, whether all were
    finite).
    """

    def run(state, arrays, n):
        shapes = jax.eval_shape(step, state, arrays)[1]
        records = jax.tree.map(lambda s: jnp.zeros((capacity, *s.shape), jnp.float32), shapes)

        def body(carry):
            i, state, records, _ = carry
            state, metrics, finite = step(state, arrays)
            records = jax.tree.map(lambda record, value: record.at[i].set(value), records, metrics)
            return i + 1, state, records, finite

        start = (jnp.int32(0), state, records, jnp.bool_(True))
        i, state, records, finite = jax.lax.while_loop(lambda carry: (carry[0] < n) & carry[3], body, start)
        return state, records, i, finite

    return run


def validate(loss: Loss, source: Source, key_impl: Any) -> Callable[..., dict[str, jax.Array]]:
    """`run(variables, arrays, key_data, step)`: mean over trials of loss and metrics, without training."""

    def run(variables, arrays, key_data, step):
        purposes = Keys.of(key_data, key_impl)

        def evaluate(batch, key):
            value, metrics = loss(variables, batch, streams(key, STREAMS), step, False)
            return {"loss": value, **metrics}

        batches, rest = source.validation_batches(arrays, purposes.validation_data)
        count = jax.tree.leaves(batches)[0].shape[0]
        keys = jax.random.split(purposes.validation_loss, count + 1)
        means = jax.lax.map(lambda item: evaluate(*item), (batches, keys[:-1]))
        means = jax.tree.map(lambda values: values.mean(axis=0), means)
        if rest is not None:
            weight = jax.tree.leaves(rest)[0].shape[0] / source.num_trials
            means = jax.tree.map(lambda m, r: (1 - weight) * m + weight * r, means, evaluate(rest, keys[-1]))
        return means

    return run
