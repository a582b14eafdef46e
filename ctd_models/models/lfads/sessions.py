"""Stitching: what belongs to each recording session, around one generator for all."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ctd_models.models.initializers import ScaledNormal


class _OfSessions(nn.Module):
    """Weights and a bias for each session, picked by the number of each trial's session."""

    sessions: tuple[str, ...]
    """Names of the sessions; the numbers in `SpikeTrials.sessions` are places in this list."""
    num_neurons: int
    """Neurons of the largest session; the others are padded."""

    def __post_init__(self):
        super().__post_init__()
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


def _stacked(key: Any, shape: tuple[int, int, int], dtype: Any = jnp.float32) -> Float[Array, "S fan_in fan_out"]:
    """Independent N(0, 1 / fan_in) weights for each session."""
    keys = jax.random.split(key, shape[0])
    return jax.vmap(lambda key: ScaledNormal()(key, shape[1:], dtype))(keys)
