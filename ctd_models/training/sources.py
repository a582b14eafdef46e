"""Where batches come from: a task, arrays, or a batch source on the host.

A compiled source makes its batches inside the compiled training step; a host source hands them over one a step.
"""

import base64
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

DEFAULT_BATCH_SIZE = 128
VALIDATION_BATCHES = 8


@runtime_checkable
class Task(Protocol):
    """A generator of trials, `sample(key, batch_size)`: pure and jittable."""

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Any: ...


class TaskSource:
    """Fresh trials of a task at every step."""

    compiled = True
    arrays = ()

    def __init__(self, task: Task, batch_size: int | None):
        self.task, self.batch_size = task, batch_size or DEFAULT_BATCH_SIZE
        self.static = ("task", _hashable(task), self.batch_size)
        self.fingerprint = f"task {_describe(task)}, batch size {self.batch_size}"

    def batch(self, arrays: Any, key: PRNGKeyArray, step: Array) -> Any:
        """The batch of one step."""
        return self.task.sample(jax.random.fold_in(key, step), self.batch_size)

    def validation_batches(self, arrays: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        """(batches stacked along a first axis, a last smaller batch or None): the same trials for the same key."""
        keys = jax.random.split(key, VALIDATION_BATCHES)
        return jax.vmap(lambda k: self.task.sample(k, self.batch_size))(keys), None


class ArraySource:
    """Minibatches of arrays that lie on the device: each epoch visits the trials in a new random order.

    Trials that do not fill a batch at the end of an epoch wait for the next one.
    """

    compiled = True

    def __init__(self, data: Any, batch_size: int | None, what: str = "data", at_most: bool = False):
        data = jax.tree.map(np.asarray, data)
        check_arrays(data, what)
        self.num_trials = len(jax.tree.leaves(data)[0])
        if batch_size is not None and batch_size > self.num_trials and not at_most:
            raise ValueError(f"batch_size is {batch_size}, but {what} holds only {self.num_trials} trials")
        self.batch_size = min(batch_size or DEFAULT_BATCH_SIZE, self.num_trials)
        self.arrays = jax.device_put(data)
        self.static = ("arrays", self.num_trials, self.batch_size)

    @property
    def fingerprint(self) -> str:
        """What tells these data from others."""
        return f"arrays {_digest(jax.device_get(self.arrays))}, batch size {self.batch_size}"

    def batch(self, arrays: Any, key: PRNGKeyArray, step: Array) -> Any:
        """The batch of one step."""
        steps_per_epoch = self.num_trials // self.batch_size
        epoch_key = jax.random.fold_in(key, step // steps_per_epoch)
        position = (step % steps_per_epoch) * self.batch_size + jnp.arange(self.batch_size)
        indices = shuffled(epoch_key, position, self.num_trials)
        return jax.tree.map(lambda array: array[indices], arrays)

    def validation_batches(self, arrays: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        """(batches stacked along a first axis, a last smaller batch or None): every trial once."""
        full = self.num_trials // self.batch_size * self.batch_size
        batches = jax.tree.map(lambda a: a[:full].reshape(-1, self.batch_size, *a.shape[1:]), arrays)
        rest = jax.tree.map(lambda a: a[full:], arrays) if full < self.num_trials else None
        return batches, rest


class GroupSource(ArraySource):
    """Minibatches with equally many trials of each group, such as recording sessions, however many trials each has.

    Each group is gone through in random orders of its own. Where the groups do not divide a batch, they take turns in
    having one trial more.
    """

    def __init__(self, data: Any, batch_size: int | None, what: str = "data", at_most: bool = False):
        super().__init__(data, batch_size, what, at_most)
        groups = np.asarray(data.groups)
        self.order = np.argsort(groups, kind="stable").astype(np.int32)
        self.sizes = np.unique(groups, return_counts=True)[1].astype(np.int32)
        self.static = ("groups", self.num_trials, self.batch_size, self.order.tobytes(), self.sizes.tobytes())

    @property
    def fingerprint(self) -> str:
        """What tells these data from others."""
        return f"{super().fingerprint}, {len(self.sizes)} groups"

    def batch(self, arrays: Any, key: PRNGKeyArray, step: Array) -> Any:
        """The batch of one step."""
        count, sizes = len(self.sizes), jnp.asarray(self.sizes)
        slots = step * self.batch_size + jnp.arange(self.batch_size)
        group, turn = slots % count, slots // count
        size = sizes[group]
        keys = jax.vmap(lambda group, epoch: jax.random.fold_in(jax.random.fold_in(key, group), epoch))(
            group, turn // size
        )
        place = jax.vmap(lambda key, position, size: shuffled(key, position[None], size)[0])(keys, turn % size, size)
        starts = jnp.cumsum(sizes) - sizes
        indices = jnp.asarray(self.order)[starts[group] + place]
        return jax.tree.map(lambda array: array[indices], arrays)


class HostSource:
    """Batches made on the host: a function of the step, or an iterator (resumable with get_state and set_state)."""

    compiled = False
    arrays = ()
    static = ("host",)
    fingerprint = "batches from the host"

    def __init__(self, data: Any):
        self._function = data if callable(data) and not isinstance(data, Iterator) else None
        self._iterator = None if self._function else iter(data)
        self._peeked: list[Any] = []
        self._shapes = None
        self._state = None

    def first(self) -> Any:
        """The first batch, without using it up."""
        if self._function:
            return self._checked(self._function(0), 0)
        self._state = self.state()
        if not self._peeked:
            self._peeked.append(self._next(0))
        return self._checked(self._peeked[0], 0)

    def next(self, step: int) -> Any:
        """The batch of one step, counted from 0."""
        if self._function:
            return self._checked(self._function(step), step)
        return self._checked(self._peeked.pop() if self._peeked else self._next(step), step)

    def _next(self, step: int) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            raise ValueError(f"the batch source ended at step {step}, before num_steps") from None

    def _checked(self, batch: Any, step: int) -> Any:
        batch = jax.tree.map(np.asarray, batch)
        shapes = jax.tree.map(lambda array: (array.shape, array.dtype.name), batch)
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            raise ValueError(f"the batch of step {step} has the shapes {shapes}, the first one {self._shapes}")
        check_finite(batch, f"the batch of step {step}")
        return batch

    @property
    def resumable(self) -> bool:
        """Whether a later process can continue with the next batch."""
        return self._function is not None or all(hasattr(self._iterator, name) for name in ("get_state", "set_state"))

    def state(self) -> Any:
        """The iterator's state as JSON values, None where there is none."""
        if self._function or not self.resumable:
            return None
        if self._peeked:
            return self._state
        state = self._iterator.get_state()
        return {"base64": base64.b64encode(state).decode()} if isinstance(state, bytes) else state

    def restore(self, state: Any) -> None:
        """Continues after the batches that were taken when `state` was read.

        Raises:
            ValueError: the source is a plain iterator.
        """
        if not self.resumable:
            raise ValueError(
                "cannot resume from a plain iterator, which has no memory of where it was: pass a function "
                "step -> batch, or an iterator with get_state() and set_state(state)"
            )
        if self._function is None:
            self._peeked.clear()
            encoded = isinstance(state, Mapping) and set(state) == {"base64"}
            self._iterator.set_state(base64.b64decode(state["base64"]) if encoded else state)


Source = TaskSource | ArraySource | HostSource


def as_source(data: Any, batch_size: int | None, what: str = "data", at_most: bool = False) -> Source:
    """The source that `data` describes: a task, a batch source on the host, or else a pytree of arrays.

    With `at_most`, arrays of fewer trials than `batch_size` are one smaller batch.
    """
    if batch_size is not None and (not isinstance(batch_size, (int, np.integer)) or batch_size < 1):
        raise ValueError(f"batch_size must be an integer and at least 1, got {batch_size}")
    if isinstance(data, (str, type)):
        raise TypeError(f"{what} must be a task, arrays, a function step -> batch or an iterator, got {data!r}")
    if isinstance(data, Task):
        return TaskSource(data, batch_size)
    if not is_arrays(data) and (callable(data) or isinstance(data, Iterable)):
        return HostSource(data)
    if not is_arrays(data) or not jax.tree.leaves(data):
        raise TypeError(f"{what} must be a task, arrays, a function step -> batch or an iterator, got {data!r}")
    grouped = getattr(data, "groups", None) is not None
    return (GroupSource if grouped else ArraySource)(data, batch_size, what, at_most)


def is_arrays(data: Any) -> bool:
    """Whether `data` is a pytree of arrays rather than a task or a batch source."""
    return not isinstance(data, Task) and (isinstance(data, (Mapping, tuple, list)) or np.ndim(data) > 0)


def check_arrays(data: Any, what: str) -> None:
    """Raises ValueError unless every array has the same, nonzero number of trials and finite values."""
    lengths = {}
    for path, array in jax.tree_util.tree_leaves_with_path(data):
        if array.dtype == object or array.ndim == 0:
            raise ValueError(f"{what}{jax.tree_util.keystr(path)} is not an array of trials: {array!r}")
        lengths[jax.tree_util.keystr(path)] = len(array)
    if len(set(lengths.values())) > 1:
        raise ValueError(f"all arrays of {what} need the same number of trials, got {lengths}")
    if 0 in lengths.values():
        raise ValueError(f"{what} holds no trials")
    check_finite(data, what)


def check_finite(data: Any, what: str) -> None:
    """Raises ValueError at the first NaN or infinity, naming the array and the index."""
    for path, array in jax.tree_util.tree_leaves_with_path(data):
        if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(f"{what}{jax.tree_util.keystr(path)} holds {array[index]} at index {index}")


def shuffled(key: PRNGKeyArray, positions: Int[Array, "B"], size: Any) -> Int[Array, "B"]:
    """π(positions) for a random permutation π of 0 … size − 1, without ever writing π out; `size` may be traced.

    A Feistel network permutes the next power of four; results outside are permuted again until they fall inside
    (Black & Rogaway 2002, "Ciphers with arbitrary finite domains"). The cost does not depend on `size`.
    """
    size = jnp.uint32(size)
    half_bits = jnp.maximum(1, (32 - jax.lax.clz(size - 1) + 1) // 2).astype(jnp.uint32)
    mask = (jnp.uint32(1) << half_bits) - 1
    round_keys = jax.random.bits(key, (8,), jnp.uint32)

    def mix(x):  # the finaliser of MurmurHash3
        x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
        x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
        return x ^ (x >> 16)

    def permute(x):
        left, right = x >> half_bits, x & mask
        for round_key in round_keys:
            left, right = right, left ^ (mix(right ^ round_key) & mask)
        return (left << half_bits) | right

    inside = jax.lax.while_loop(
        lambda x: (x >= size).any(),
        lambda x: jnp.where(x >= size, permute(x), x),
        permute(positions.astype(jnp.uint32)),
    )
    return inside.astype(jnp.int32)


def _digest(data: Any) -> str:
    """A short name for the contents of arrays."""
    digest = hashlib.sha256()
    for path, array in jax.tree_util.tree_leaves_with_path(data):
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _describe(task: Any) -> str:
    if dataclasses.is_dataclass(task):
        return repr(task)
    fields = {name: value for name, value in vars(task).items() if isinstance(value, (bool, int, float, str))}
    return f"{type(task).__name__}({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


def _hashable(task: Any) -> Any:
    """The task itself where it cannot change; otherwise a name for this moment, so that nothing stale is reused."""
    frozen = dataclasses.is_dataclass(task) and task.__dataclass_params__.frozen
    return task if frozen and task.__hash__ is not None else object()
