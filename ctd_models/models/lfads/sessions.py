"""Stitching: what belongs to each recording session, around one generator for all."""

from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ctd_models.data.sessions import stitch_trials
from ctd_models.data.spike_trials import SpikeTrials
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
        ValueError: there are more weights than sessions, or they have more neurons or dimensions than the model.
    """
    params = {name: dict(variables["params"][name]) for name in ("read_in", "readout")}
    read_in, read_out = ({k: np.array(v) for k, v in params[name].items()} for name in ("read_in", "readout"))
    (count, neurons, size), factors = read_in["kernel"].shape, read_out["kernel"].shape[1]
    if len(weights) != count:
        raise ValueError(f"the model has {count} sessions, got weights of {len(weights)}")
    for s, own in enumerate(weights):
        n, k = own.read_in.shape
        if n > neurons or k != size:
            raise ValueError(
                f"session {s}: weights of {n} neurons and {k} dimensions, the model has {neurons} and {size}"
            )
        read_in["kernel"][s] = 0.0
        read_in["kernel"][s, :n] = scale * own.read_in
        read_in["bias"][s] = -scale * own.mean @ own.read_in
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

    Train it on `model.stitch(sessions)` with `trainable=["read_in", "readout"]`: then only the maps of the new sessions
    change, and what all sessions share stays frozen.

    Args:
        model: an `LFADS` with a `SessionReadIn` and a `SessionReadOut`.
        variables: Flax's whole dictionary.
        sessions: name → trials of the new sessions, such as their training trials: their rates begin at their means.
        key: from which random maps are drawn.
        weights: name → `SessionWeights` of the read-in, as `ctd_models.analysis.regression_weights` makes them; without
            them, and for the read-out, maps begin at random.

    Raises:
        TypeError: the model has no sessions.
        ValueError: a session is in the model already, has no trials or trials that do not fit, or the weights have other
            neurons or dimensions.
    """
    if not isinstance(model.read_in, SessionReadIn) or not isinstance(model.readout, SessionReadOut):
        raise TypeError("sessions are added to an LFADS with a SessionReadIn and a SessionReadOut")
    if known := [name for name in sessions if name in model.read_in.sessions]:
        raise ValueError(f"sessions {known} are in the model already, which has {list(model.read_in.sessions)}")
    trials = stitch_trials(sessions)
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
    drawn_in = np.array(_stacked(keys[0], (len(sessions), read, size)))
    drawn_out = _stacked(keys[1], (len(sessions), factors, (read + hidden) * P))
    padded = larger.stitch(sessions)
    numbers = np.arange(len(model.read_in.sessions), len(names))
    start = np.stack([start_of_session(model, padded, padded.sessions == number) for number in numbers])
    bias_in = np.zeros((len(sessions), size), np.float32)
    for s, name in enumerate(sessions):
        if name in (weights or {}):
            _check_weights(weights[name], name, sessions[name].inputs.shape[2], size)
            drawn_in[s] = 0.0
            drawn_in[s, : len(weights[name].read_in)] = weights[name].read_in
            bias_in[s] = -weights[name].mean @ weights[name].read_in

    def spread(values: np.ndarray) -> np.ndarray:
        """Raw parameters [..., N P] of the old neurons, those that are read and the others, at their new places."""
        values = values.reshape(*values.shape[:-1], -1, P)
        new = np.zeros((*values.shape[:-2], read + hidden, P), values.dtype)
        new[..., : old[0], :], new[..., read : read + old[1], :] = values[..., : old[0], :], values[..., old[0] :, :]
        return new.reshape(*values.shape[:-2], -1)

    old_in = np.pad(params["read_in"]["kernel"], [(0, 0), (0, read - old[0]), (0, 0)])
    changed = {
        "read_in": {"kernel": [old_in, drawn_in], "bias": [params["read_in"]["bias"], bias_in]},
        "readout": {
            "kernel": [spread(params["readout"]["kernel"]), drawn_out],
            "bias": [spread(params["readout"]["bias"]), start],
        },
    }
    changed = {part: {name: jnp.concatenate(pair) for name, pair in leaves.items()} for part, leaves in changed.items()}
    return larger, {**variables, "params": {**variables["params"], **changed}}


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
    if weights.read_in.shape != (neurons, size):
        raise ValueError(
            f"session {name!r} has {neurons} neurons and the model {size} shared dimensions, got weights of shape "
            f"{weights.read_in.shape}"
        )


def _stacked(key: Any, shape: tuple[int, int, int], dtype: Any = jnp.float32) -> Float[Array, "S fan_in fan_out"]:
    """Independent N(0, 1 / fan_in) weights for each session."""
    keys = jax.random.split(key, shape[0])
    return jax.vmap(lambda key: ScaledNormal()(key, shape[1:], dtype))(keys)
