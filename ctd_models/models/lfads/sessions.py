"""Stitching: what belongs to each recording session, around one generator for all."""

from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ctd_models.data.spike_trials import SpikeTrials
from ctd_models.data.stitching import stitch_trials
from ctd_models.models.initializers import ScaledNormal
from ctd_models.models.lfads.bound import from_bin


class _OfSessions(nn.Module):
    """Weights and a bias for each session, picked by the number of each trial's session."""

    sessions: tuple[str, ...]
    """Names of the sessions; the numbers in `SpikeTrials.sessions` are places in this list."""
    num_neurons: int
    """Neurons of the largest session; the others are padded."""

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.sessions, str):
            raise TypeError(f"sessions must be a sequence of names, got {self.sessions!r}")
        object.__setattr__(self, "sessions", tuple(self.sessions))
        if not self.sessions:
            raise ValueError("sessions must name at least one session")
        if twice := sorted({name for name in self.sessions if self.sessions.count(name) > 1}):
            raise ValueError(f"sessions name {twice} twice")
        for name in ("num_neurons", "size", "num_parameters"):
            if getattr(self, name, 1) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def indices(self, names: Sequence[str]) -> Int[np.ndarray, "n"]:
        """The numbers of sessions with these names.

        Raises:
            ValueError: there is no such session.
        """
        if unknown := sorted(set(names) - set(self.sessions)):
            raise ValueError(f"sessions {unknown} are not among those of the model, {list(self.sessions)}")
        return np.array([self.sessions.index(name) for name in names])

    def apply_own(self, values: Any, sessions: Any, fan_in: int, fan_out: int, frozen: bool) -> Float[Array, "..."]:
        """values W_s + b_s, where s is the session of each trial."""
        kernel = self.param("kernel", _stacked, (len(self.sessions), fan_in, fan_out))
        bias = self.param("bias", nn.initializers.zeros, (len(self.sessions), fan_out))
        if frozen:
            kernel, bias = jax.lax.stop_gradient((kernel, bias))
        return jnp.einsum("btn,bnk->btk", values, kernel[sessions]) + bias[sessions][:, None]


class SessionReadIn(_OfSessions):
    """The read-in of each session, x ↦ x W_s + b_s, from its neurons to a space that all sessions share.

    `principal_component_weights` of `ctd_models.analysis` gives weights that align the sessions from the start
    (Pandarinath et al. 2018, doi:10.1038/s41592-018-0109-9).
    """

    size: int
    """Dimensions K of the shared space."""
    frozen: bool = False
    """Whether weights stay as they are in training."""

    @nn.compact
    def __call__(
        self, spikes: Float[Any, "trials time N"], sessions: Int[Any, "trials"]
    ) -> Float[Array, "trials time K"]:
        """Spikes of padded neurons, and the number of each trial's session."""
        return self.apply_own(spikes, sessions, self.num_neurons, self.size, self.frozen)


class SessionReadOut(_OfSessions):
    """The read-out of each session, f ↦ f V_s + c_s, from the shared factors to the parameters of its neurons."""

    num_parameters: int = 1
    """Raw parameters P of each neuron, those of the observation model."""
    frozen: bool = False
    """Whether weights stay as they are in training."""

    @nn.compact
    def __call__(
        self, factors: Float[Any, "trials time F"], sessions: Int[Any, "trials"]
    ) -> Float[Array, "trials time NP"]:
        """Raw parameters of padded neurons."""
        size = self.num_neurons * self.num_parameters
        return self.apply_own(factors, sessions, factors.shape[-1], size, self.frozen)


def with_session_weights(variables: Mapping[str, Any], weights: Sequence[Any], scale: float = 1.0) -> dict[str, Any]:
    """Variables of a stitched LFADS whose read-ins and read-outs begin at the weights of each session.

    Args:
        variables: Flax's whole dictionary, of a model with a `SessionReadIn` and a `SessionReadOut` for Poisson counts.
        weights: of each session in its order, as `ctd_models.analysis.principal_component_weights` makes them, for its
            neurons that are read.
        scale: factor on the read-in.

    Raises:
        TypeError: the variables are not those of such a model, or weights are not `SessionWeights`.
        ValueError: there are more weights than sessions, they have more neurons or other dimensions than the model, or are
            not finite.
    """
    if not isinstance(variables, Mapping) or not {"read_in", "readout"} <= set(variables.get("params", ())):
        raise TypeError(
            "variables must be Flax's whole dictionary, of a model with a SessionReadIn and a SessionReadOut"
        )
    params = {name: dict(variables["params"][name]) for name in ("read_in", "readout")}
    read_in, read_out = ({k: np.array(v) for k, v in params[name].items()} for name in ("read_in", "readout"))
    (count, neurons, size), factors = read_in["kernel"].shape, read_out["kernel"].shape[1]
    if len(weights) != count:
        raise ValueError(f"the model has {count} sessions, got weights of {len(weights)}")
    for s, own in enumerate(weights):
        _check_weights(own, str(s), *np.shape(getattr(own, "read_in", np.zeros((0, 0)))))
        n, k = own.read_in.shape
        if n > neurons or k != size:
            raise ValueError(
                f"session {s}: weights of {n} neurons and {k} dimensions, the model has {neurons} and {size}"
            )
        read_in["kernel"][s] = 0.0
        read_in["kernel"][s, :n] = scale * own.read_in
        read_in["bias"][s] = scale * (own.offset - own.mean @ own.read_in)
        used = min(k, factors)
        read_out["kernel"][s, :used, :n] = (own.read_out / np.maximum(own.mean, 1e-2))[:used]
    changed = jax.tree.map(jnp.asarray, {"read_in": read_in, "readout": read_out})
    return {**variables, "params": {**variables["params"], **changed}}


@no_type_check  # it checks its arguments itself
def add_sessions(
    model: nn.Module,
    variables: Mapping[str, Any],
    sessions: Mapping[str, SpikeTrials],
    key: PRNGKeyArray,
    weights: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """(a stitched model, its variables) with more sessions; everything else stays as it was trained.

    Train it on `model.stitch(sessions)` with `trainable=["read_in", "readout"]` and an optimizer without weight decay: then
    only the maps of the new sessions change, and what all sessions share stays frozen.

    Args:
        model: an `LFADS` with a `SessionReadIn` and a `SessionReadOut`.
        variables: Flax's whole dictionary.
        sessions: name → trials of the new sessions, such as their training trials: their rates begin at their means.
        key: from which random maps are drawn.
        weights: name → `SessionWeights` of the read-in, as `ctd_models.analysis.regression_weights` makes them. The
            read-out of such a session begins at the regression of its spikes on the factors that this read-in leads to, so
            that training does not pull the read-in elsewhere. Maps of other sessions begin at random.

    Raises:
        TypeError: the model has no sessions, or weights are not a mapping.
        ValueError: a session is in the model already, has no trials or trials that do not fit, or the weights have other
            names, neurons or dimensions, or are not finite.
    """
    if not isinstance(model.read_in, SessionReadIn) or not isinstance(model.readout, SessionReadOut):
        raise TypeError("sessions are added to an LFADS with a SessionReadIn and a SessionReadOut")
    trials = stitch_trials(sessions)
    if known := [name for name in sessions if name in model.read_in.sessions]:
        raise ValueError(f"sessions {known} are in the model already, which has {list(model.read_in.sessions)}")
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise TypeError("variables must be Flax's whole dictionary, {'params': {...}, ...}")
    weights = {} if weights is None else weights
    if not isinstance(weights, Mapping):
        raise TypeError(f"expected weights as a mapping, name → SessionWeights, got {type(weights).__name__}")
    if unknown := [name for name in weights if name not in sessions]:
        raise ValueError(f"weights are given for {unknown}, sessions are {list(sessions)}")
    for name, own in weights.items():
        _check_weights(own, name, sessions[name].inputs.shape[2], model.read_in.size)

    old, P = (model.inputs_size, model.num_neurons - model.inputs_size), model.observation.num_parameters
    read, hidden = (max(pair) for pair in zip(old, _form(trials), strict=True))
    names = (*model.read_in.sessions, *sessions)
    larger = model.clone(
        num_neurons=read + hidden,
        num_input_neurons=None if model.num_input_neurons is None and not hidden else read,
        read_in=model.read_in.clone(sessions=names, num_neurons=read),
        readout=model.readout.clone(sessions=names, num_neurons=read + hidden),
    )
    params = jax.tree.map(np.array, {name: variables["params"][name] for name in ("read_in", "readout")})
    size, factors = params["read_in"]["kernel"].shape[2], params["readout"]["kernel"].shape[1]
    keys = jax.random.split(key)
    new_in = {"kernel": np.array(_stacked(keys[0], (len(sessions), read, size)))}
    new_in["bias"] = np.zeros((len(sessions), size), np.float32)
    for s, name in enumerate(sessions):
        if name in weights:
            own = np.asarray(weights[name].read_in)
            new_in["kernel"][s] = np.pad(own, [(0, read - len(own)), (0, 0)])
            new_in["bias"][s] = weights[name].offset - weights[name].mean @ own
    padded = larger.stitch(sessions)
    numbers = range(len(model.read_in.sessions), len(names))
    starts = [start_of_session(model, padded, padded.sessions == number) for number in numbers]
    new_out = {
        "kernel": np.array(_stacked(keys[1], (len(sessions), factors, (read + hidden) * P))),
        "bias": np.stack(starts),
    }
    old_out = {name: _at_new_places(values, old, read, hidden, P) for name, values in params["readout"].items()}
    old_in = {**params["read_in"], "kernel": np.pad(params["read_in"]["kernel"], [(0, 0), (0, read - old[0]), (0, 0)])}

    def joined(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        return {name: jnp.concatenate([old[name], new[name]]) for name in old}

    changed = {"read_in": joined(old_in, new_in), "readout": joined(old_out, new_out)}
    begun = {**variables, "params": {**variables["params"], **changed}}
    if weights and P == 1:
        found = _regressed_read_outs(larger, begun, padded, [n for n in numbers if names[n] in weights])
        begun["params"]["readout"] = found
    return larger, begun


def _at_new_places(values: np.ndarray, old: tuple[int, int], read: int, hidden: int, P: int) -> np.ndarray:
    """Raw parameters [..., N P] of neurons that are read and of others, where there are places for more of both."""
    values = values.reshape(*values.shape[:-1], -1, P)
    new = np.zeros((*values.shape[:-2], read + hidden, P), values.dtype)
    new[..., : old[0], :], new[..., read : read + old[1], :] = values[..., : old[0], :], values[..., old[0] :, :]
    return new.reshape(*values.shape[:-2], -1)


def _regressed_read_outs(model: Any, variables: Any, trials: SpikeTrials, numbers: Sequence[int]) -> dict[str, Any]:
    """The read-outs, those of some sessions by ridge regression of the counts, relative to their mean, on the factors.

    Relative counts are log rates to first order. The penalty is a tenth of the factors' mean variance.
    """
    infer = jax.jit(lambda variables: model.apply(variables, *trials.read, method="posterior_mean").factors)
    factors = np.asarray(infer(variables), float)
    targets = np.asarray(trials.targets[:, model.encoder.start :], float)
    readout = jax.tree.map(np.array, variables["params"]["readout"])
    for number in numbers:
        mine = trials.sessions == number
        f, y = (values[mine].reshape(-1, values.shape[2]) for values in (factors, targets))
        centre, mean = f.mean(axis=0), np.maximum(y.mean(axis=0), 1e-2)
        moments = (f - centre).T @ (f - centre)
        penalty = 0.1 * np.trace(moments) / len(moments) * np.eye(len(moments))
        kernel = np.linalg.solve(moments + penalty, (f - centre).T @ (y / mean))
        readout["kernel"][number] = kernel
        readout["bias"][number] -= centre @ kernel
    return jax.tree.map(jnp.asarray, readout)


def start_of_session(model: Any, trials: SpikeTrials, mine: Any) -> Float[Array, "NP"]:
    """Raw parameters for a read-out to begin with, from the trials where `mine` is 1; from all where it is 0 everywhere."""
    targets = from_bin(model.encoder.start, trials.targets).astype(jnp.float32)
    weights = jnp.asarray(mine, jnp.float32) + 1e-6
    mean = jnp.average(targets.mean(axis=1), axis=0, weights=weights)
    variance = jnp.average(((targets - mean) ** 2).mean(axis=1), axis=0, weights=weights)
    return model.observation.start(mean, variance).reshape(-1)


def _form(trials: SpikeTrials) -> tuple[int, int]:
    """(neurons that are read, neurons that are not)."""
    return trials.inputs.shape[2], trials.targets.shape[2] - trials.inputs.shape[2]


def _check_weights(weights: Any, name: str, neurons: int, size: int) -> None:
    if not hasattr(weights, "read_in") or not hasattr(weights, "mean"):
        raise TypeError(f"session {name!r}: expected SessionWeights, got {type(weights).__name__}")
    if weights.read_in.shape != (neurons, size):
        raise ValueError(
            f"session {name!r} has {neurons} neurons and the model {size} shared dimensions, got weights of shape "
            f"{weights.read_in.shape}"
        )
    if not (np.isfinite(weights.read_in).all() and np.isfinite(weights.mean).all()):
        raise ValueError(f"session {name!r}: weights must be finite")


def _stacked(key: Any, shape: tuple[int, int, int], dtype: Any = jnp.float32) -> Float[Array, "S fan_in fan_out"]:
    """Independent N(0, 1 / fan_in) weights for each session."""
    keys = jax.random.split(key, shape[0])
    return jax.vmap(lambda key: ScaledNormal()(key, shape[1:], dtype))(keys)
