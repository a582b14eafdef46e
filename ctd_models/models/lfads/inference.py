"""Inference over whole data sets: posterior means, averages of samples, and the importance-weighted bound, in chunks."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm

from ctd_models.configuration import deterministic
from ctd_models.data.spike_trials import SpikeTrials
from ctd_models.models.lfads import bound
from ctd_models.models.lfads.checks import check_trials
from ctd_models.models.lfads.model import LFADS
from ctd_models.models.lfads.posterior import Posterior


@no_type_check  # it checks its arguments itself
def infer(
    model: LFADS,
    variables: Mapping[str, Any],
    trials: SpikeTrials,
    *,
    num_samples: int | None = None,
    key: jax.Array | None = None,
    batch_size: int = 256,
    progress: bool | None = None,
) -> Posterior:
    """What the model infers about trials, as NumPy arrays with all trials first.

    Args:
        model: the LFADS.
        variables: Flax's whole dictionary.
        trials: the trials; their targets are not used.
        num_samples: the average over this many samples of the posterior; None: the posterior means, decoded once.
        key: `jax.random.key(seed)`, for samples. They depend on batch_size too.
        batch_size: trials in one call of the compiled program.
        progress: show a progress bar; None: on a terminal.

    Raises:
        ValueError, TypeError: trials do not fit the model, or samples are wanted without a key.
    """
    chunks = list(infer_chunks(**locals()))
    arrays = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    states = [name for name in arrays if name.startswith(("generator_states", "initial_condition"))]
    if all("." not in name for name in states):
        return Posterior(**{name: arrays.get(name) for name in Posterior._fields})
    structure = jax.tree.structure(_state_shape(model))
    nested = {
        field: jax.tree.unflatten(structure, [arrays.pop(f"{field}.{i}") for i in range(structure.num_leaves)])
        for field in ("generator_states", "initial_condition")
    }
    return Posterior(**{name: arrays.get(name) for name in Posterior._fields} | nested)


@no_type_check  # it checks its arguments itself
def infer_chunks(
    model: LFADS,
    variables: Mapping[str, Any],
    trials: SpikeTrials,
    *,
    num_samples: int | None = None,
    key: jax.Array | None = None,
    batch_size: int = 256,
    progress: bool | None = None,
    fields: Sequence[str] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Like `infer`, but yields one dictionary, name → array, for each batch of trials, so that memory holds one batch.

    `write_chunks` of `ctd_models.data` streams it into an HDF5 file. Names are the fields of `Posterior` (`fields` chooses
    some of them); states that are pytrees have one name a leaf, "generator_states.0" and so on.
    """
    if num_samples is not None and key is None:
        raise ValueError("samples of the posterior need a key, such as key=jax.random.key(0)")
    if unknown := sorted(set(fields or ()) - set(Posterior._fields)):
        raise ValueError(f"fields may name {list(Posterior._fields)}, got {unknown}")
    check_trials(model, trials)
    run = functools.partial(_infer, model, num_samples, frozenset(fields or Posterior._fields))
    return _in_batches(run, variables, trials.read, key, batch_size, progress)


@no_type_check  # it checks its arguments itself
def importance_weighted_bound(
    model: LFADS,
    variables: Mapping[str, Any],
    trials: SpikeTrials,
    *,
    num_samples: int,
    key: jax.Array,
    batch_size: int = 256,
    progress: bool | None = None,
) -> Float[np.ndarray, "trials"]:
    """A lower bound of log p(x) of each trial [nats] that tightens with the number of samples S.

        L_S = E[log (1/S) Σ_s p(x, z_s) / q(z_s | x)],   ELBO = L_1 ≤ L_S ≤ log p(x)

    Burda, Grosse & Salakhutdinov (2016, arXiv:1509.00519). Arguments as of `infer`.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    check_trials(model, trials)
    run = functools.partial(_importance_bound, model, num_samples)
    return np.concatenate([chunk["bound"] for chunk in _in_batches(run, variables, trials, key, batch_size, progress)])


def _in_batches(run, variables, trials: Any, key, batch_size: int, progress) -> Iterator[dict[str, np.ndarray]]:
    """Calls the compiled `run(variables, batch, key)`; the last batch is padded, so that one program does them all."""
    count = len(jax.tree.leaves(trials)[0])
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise TypeError("variables must be Flax's whole dictionary, {'params': {...}, ...}")
    if key is not None and not jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key):
        raise TypeError(f"key must be one typed key, such as jax.random.key(0), got {key!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    batch_size = min(batch_size, count)
    starts = range(0, count, batch_size)
    for start in tqdm(starts, unit="batch", disable=None if progress is None else not progress):
        indices = np.minimum(np.arange(start, start + batch_size), count - 1)
        batch = jax.tree.map(lambda values, indices=indices: np.asarray(values)[indices], trials)
        batch_key = jax.random.key(0) if key is None else jax.random.fold_in(key, start)  # unused where key is None
        result = jax.device_get(run(variables, batch, batch_key))
        yield {name: values[: count - start] for name, values in result.items()}


@no_type_check  # states may be any pytree
def factor_map(model: LFADS, variables: Mapping[str, Any]) -> Callable[[Any], np.ndarray]:
    """The function from states of the generator [..., N] (or pytrees, such as an LSTM's) to factors [..., F]."""
    quiet = deterministic(model)
    return lambda states: np.asarray(quiet.apply(variables, states, method=lambda m, g: m.generator.state_factors(g)))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _infer(model, num_samples, fields, variables, read, key):
    if num_samples is None:
        posterior = model.apply(variables, *read, method="posterior_mean")
    else:
        posterior = model.apply(
            variables, *read, num_samples=num_samples, method="posterior_average", rngs={"sample": key}
        )
    named = {}
    for name, value in posterior._asdict().items():
        if name in fields and value is not None:
            leaves = jax.tree.leaves(value)
            named |= {name: value} if leaves[0] is value else {f"{name}.{i}": leaf for i, leaf in enumerate(leaves)}
    return named


@functools.partial(jax.jit, static_argnums=(0, 1))
def _importance_bound(model, num_samples, variables, trials, key):
    bounds = deterministic(model).apply(variables, trials, key, num_samples, method=bound.importance_bound)
    return {"bound": bounds}


def _state_shape(model: LFADS) -> Any:
    cell = model.generator.cell
    return jax.eval_shape(lambda: cell.initialize_carry(jax.random.key(0), (1,))) if cell else jnp.zeros(1)
