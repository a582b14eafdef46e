"""LFADS: latent factor analysis via dynamical systems."""

from typing import Any, NamedTuple, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ctd_models.configuration import deterministic
from ctd_models.data.spike_trials import SpikeTrials
from ctd_models.data.stitching import stitch_trials
from ctd_models.models.initializers import ScaledNormal
from ctd_models.models.lfads.bound import BoundTerms, bound_terms
from ctd_models.models.lfads.checks import (
    check_inputs,
    check_known_inputs,
    check_session_parts,
    check_sessions,
    check_trials,
)
from ctd_models.models.lfads.controller import Controller
from ctd_models.models.lfads.distributions import DiagonalGaussian, PosteriorHead, one_hot
from ctd_models.models.lfads.encoder import Encoder
from ctd_models.models.lfads.generator import Generator
from ctd_models.models.lfads.observations import Observation, Poisson
from ctd_models.models.lfads.posterior import Posterior
from ctd_models.models.lfads.rollout import Rollout, roll_out, roll_out_controlled
from ctd_models.models.lfads.sessions import SessionReadIn, SessionReadOut, start_of_session

MIN_CODE_VARIANCE = 1e-4


class Evidence(NamedTuple):
    """What decoding needs to know of a batch of trials."""

    code: DiagonalGaussian
    """Posterior of the latent code [trials, C]."""
    read: Float[Array, "trials steps C"] | None
    """What the controller reads of the encoder in each step."""
    inputs: Float[Array, "trials steps E"]
    """Known inputs to the generator in each step, external ones and the class; perhaps none (E = 0)."""
    sessions: Int[Array, "trials"] | None = None
    """Number of the session of each trial, if there are several."""


class LFADS(nn.Module):
    """A sequential variational auto-encoder whose decoder is a dynamical system.

    Spike counts x are read by the `encoder`; from it the posterior of a latent code is inferred, from which the
    `generator` starts; a `controller`, if any, infers the inputs that drive it. Factors of the generator's states give,
    by an affine read-out, the parameters of the `observation` model: for `Poisson`, the log rates. Training maximises

        ELBO = E_q[log p(x | z, u)] − KL(q(z) ‖ p(z)) − KL(q(u) ‖ p(u)),

    see `ctd_models.training.elbo`. Sussillo et al. (2016, arXiv:1608.06315); Pandarinath et al. (2018,
    doi:10.1038/s41592-018-0109-9).
    """

    num_neurons: int
    """Neurons N that are reconstructed, held-out ones included."""
    encoder: Encoder
    """Reads the spikes."""
    generator: Generator
    """Makes factors; holds the prior of the latent code."""
    controller: Controller | None = None
    """Infers the inputs to the generator; None: an autonomous generator."""
    observation: Observation = Poisson()
    """Distribution of what is measured."""
    readout: nn.Module | None = None
    """From factors [..., F] to raw parameters [..., N · P], P a neuron together; None: an affine map. A `SessionReadOut`
    has one for each recording session."""
    read_in: SessionReadIn | None = None
    """The map from the spikes of each recording session to what the encoder reads; None: it reads the spikes."""
    num_input_neurons: int | None = None
    """Neurons that are read, the first ones of the N (co-smoothing); None: all."""
    num_forward_bins: int = 0
    """Bins after the ones that are read to predict."""
    num_external_inputs: int = 0
    """Known inputs E to the generator."""
    external_to_encoder: bool = False
    """Whether the encoder reads the known inputs too."""
    num_classes: int = 0
    """Classes of trials; encoder and generator receive the class of a trial as a constant one-hot input."""
    deterministic: bool = False
    """Whether dropout is off."""

    def __post_init__(self):
        super().__post_init__()
        if self.num_neurons < 1:
            raise ValueError(f"num_neurons must be at least 1, got {self.num_neurons}")
        if self.num_input_neurons is not None and not 1 <= self.num_input_neurons <= self.num_neurons:
            raise ValueError(f"num_input_neurons must lie in 1 … {self.num_neurons}, got {self.num_input_neurons}")
        check_session_parts(self)
        for name in ("num_forward_bins", "num_external_inputs", "num_classes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} cannot be negative, got {getattr(self, name)}")

    @property
    def inputs_size(self) -> int:
        """Neurons that are read."""
        return self.num_neurons if self.num_input_neurons is None else self.num_input_neurons

    def setup(self):
        self.code_head = PosteriorHead(self.generator.initial_size + self.generator.bias_size, MIN_CODE_VARIANCE)
        size = self.num_neurons * self.observation.num_parameters
        self.read_out = self.readout or nn.Dense(size, kernel_init=ScaledNormal(1.0))

    # Training ---------------------------------------------------------------------------------------------------------

    def check(self, trials: Any, what: str = "trials") -> None:
        """Raises ValueError or TypeError where trials do not fit the model, and warns of neurons without a spike."""
        check_trials(self, trials, what)

    def init_from(self, rngs: Any, trials: SpikeTrials) -> dict[str, Any]:
        """`init`, with a read-out that begins at the mean (and variance) of each neuron in the trials."""
        variables = self.init(rngs, *trials.read)
        name = "readout" if isinstance(self.readout, SessionReadOut) else "read_out"
        bias = variables["params"].get(name, {}).get("bias")
        if bias is None:
            return variables
        if bias.ndim == 1:
            start = start_of_session(self, trials, jnp.ones(len(trials.targets)))
        else:
            mine = jax.nn.one_hot(trials.sessions, len(bias), axis=0)
            start = jax.vmap(lambda mine: start_of_session(self, trials, mine))(mine)
        read_out = {**variables["params"][name], "bias": bias + start}
        return {**variables, "params": {**variables["params"], name: read_out}}

    @no_type_check  # it checks its arguments itself
    def stitch(self, sessions: Any) -> SpikeTrials:
        """Trials of sessions, name → `SpikeTrials`, padded and numbered as a model with sessions expects them.

        Raises:
            TypeError: the model has no sessions.
            ValueError: it does not know a session, or one has more neurons than the largest it knows; see `stitch_trials`.
        """
        if self.read_in is None:
            raise TypeError("this model has no sessions: read_in is None")
        self.read_in.indices(list(sessions))
        heldout = self.num_neurons - self.inputs_size
        return stitch_trials(sessions, self.read_in.sessions, (self.inputs_size, heldout))

    # Inference --------------------------------------------------------------------------------------------------------

    @no_type_check  # it checks its arguments itself
    def __call__(self, spikes, external_inputs=None, labels=None, lengths=None, sessions=None) -> Posterior:
        """One sample of the posterior, decoded; from the rng stream `sample`.

        Args:
            spikes: [trials, time, neurons read], counts or other observations, at least 2 bins.
            external_inputs: [trials, time + num_forward_bins, E], if the model has them.
            labels: [trials] class of each trial, if the model or one of its priors knows classes.
            lengths: [trials] real bins of padded trials; the others change nothing.
            sessions: [trials] number of the session of each trial, if the model has several.

        Raises:
            ValueError: a shape does not fit the model.
        """
        evidence = self.encode(spikes, external_inputs, labels, lengths, sessions)
        posterior = self.decode(evidence, *self.noise(evidence, self._sample_key()))
        if self.is_initializing():
            self.divergences(posterior, labels)  # makes the parameters of the priors
        return posterior

    def bound_terms(self, trials: SpikeTrials) -> BoundTerms:
        """Log likelihood and divergences of each trial, for one sample of the posterior (rng stream `sample`)."""
        return bound_terms(self, trials)

    @no_type_check
    def divergences(self, posterior: Posterior, labels=None) -> tuple[Any, Any]:
        """KL(posterior ‖ prior) of the code [trials] and of the inferred inputs [trials, steps], in nats.

        `posterior` must hold a sample of the posterior, see `Prior.divergence`. They are 0 where there is no prior.
        """
        q = DiagonalGaussian(posterior.code_means, posterior.code_stds)
        prior, zeros = self.generator.prior, jnp.zeros(posterior.factors.shape[:2])
        code = zeros[:, 0] if prior is None else prior.divergence(q, posterior.code, labels)
        if self.controller is None or self.controller.prior is None:
            return code, zeros
        q = DiagonalGaussian(posterior.inferred_input_means, posterior.inferred_input_stds)
        return code, self.controller.prior.divergence(q, posterior.inferred_inputs, labels)

    @no_type_check
    def posterior_mean(self, spikes, external_inputs=None, labels=None, lengths=None, sessions=None) -> Posterior:
        """The means of the posteriors, decoded once, without dropout: cheap, and needs no random numbers.

        Arguments as in the call of the model.
        """
        model, variables = _quiet(self)

        def decode(model):
            return model.decode(model.encode(spikes, external_inputs, labels, lengths, sessions))

        return model.apply(variables, method=decode)

    @no_type_check
    def posterior_average(
        self, spikes, external_inputs=None, labels=None, lengths=None, sessions=None, num_samples=50
    ) -> Posterior:
        """The average of what `num_samples` samples of the posterior decode to, without dropout.

        The trials are encoded once; the samples are drawn from the rng stream `sample` and decoded one after the other,
        so that memory does not grow with their number. Other arguments as in the call of the model.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        model, variables = _quiet(self)
        evidence = model.apply(variables, spikes, external_inputs, labels, lengths, sessions, method="encode")

        def sample(key):
            def decode(model):
                return model.decode(evidence, *model.noise(evidence, key))

            return model.apply(variables, method=decode)

        keys = jax.random.split(self._sample_key(), num_samples)
        total, _ = jax.lax.scan(
            lambda total, key: (jax.tree.map(jnp.add, total, sample(key)), None), sample(keys[0]), keys[1:]
        )
        return jax.tree.map(lambda values: values / num_samples, total)

    @no_type_check
    def encode(self, spikes, external_inputs=None, labels=None, lengths=None, sessions=None) -> Evidence:
        """The posterior of the latent code and what the controller reads. Arguments as in the call of the model."""
        check_inputs(self, spikes, external_inputs, labels)
        check_sessions(self, sessions, len(spikes))
        inputs, start = jnp.asarray(spikes, jnp.float32), self.encoder.start
        num_bins = inputs.shape[1] + self.num_forward_bins
        known = self._known_inputs(external_inputs, labels, inputs.shape[0], num_bins)
        to_encoder = known if self.external_to_encoder else known[..., self.num_external_inputs :]
        if self.read_in is not None:
            inputs = self.read_in(inputs, sessions)
        inputs = jnp.concatenate([inputs, to_encoder[:, : inputs.shape[1]]], axis=-1)
        encoding = self.encoder(inputs, lengths, controlled=self.controller is not None)
        read = encoding.features
        if read is not None:
            read = jnp.pad(self.controller.delayed(read), ((0, 0), (0, self.num_forward_bins), (0, 0)))
        return Evidence(self.code_head(encoding.summary), read, known[:, start:], sessions)

    def noise(self, evidence: Evidence, key: Any) -> tuple[Any, Any]:
        """Standard normal noise (of the code, of the inferred inputs in each step) for `decode`."""
        code_key, inputs_key = jax.random.split(key)
        code = jax.random.normal(code_key, evidence.code.mean.shape)
        if self.controller is None:
            return code, None
        return code, jax.random.normal(inputs_key, (*evidence.read.shape[:2], self.controller.num_inputs))

    def decode(self, evidence: Evidence, code_noise: Any = None, input_noise: Any = None) -> Posterior:
        """Decodes mean + std · noise of each posterior; the means where there is no noise."""
        posterior = evidence.code
        code = posterior.mean if code_noise is None else posterior.mean + posterior.std * code_noise
        if self.controller is None:
            return self._decoded(code, posterior, roll_out(self, code, evidence.inputs), evidence.sessions)
        if input_noise is None:
            input_noise = jnp.zeros((*evidence.read.shape[:2], self.controller.num_inputs))
        return self._decoded(code, posterior, roll_out_controlled(self, code, evidence, input_noise), evidence.sessions)

    # Generation -------------------------------------------------------------------------------------------------------

    @no_type_check
    def sample_prior(self, num_trials, num_steps, external_inputs=None, labels=None, sessions=None) -> Posterior:
        """Trials from the priors of code and inferred inputs, drawn from the rng stream `sample`.

        `observation.draw(key, result.parameters)` makes observations of them. The fields of posteriors are None.

        Args:
            num_trials: number of trials.
            num_steps: bins of each.
            external_inputs: [num_trials, num_steps, E], if the model has them.
            labels: [num_trials] classes, if the model or one of its priors knows classes.
            sessions: [num_trials] number of the session whose neurons are to be seen, if the model has several.

        Raises:
            ValueError: a prior is None, so that there is nothing to draw from, or a shape does not fit.
        """
        priors = [self.generator.prior, *([] if self.controller is None else [self.controller.prior])]
        if None in priors:
            raise ValueError("a prior of this model is None: there is nothing to draw from")
        shape = (num_trials, num_steps)
        check_known_inputs(self, external_inputs, labels, *shape)
        check_sessions(self, sessions, num_trials)
        code_key, inputs_key = jax.random.split(self._sample_key())
        size = self.generator.initial_size + self.generator.bias_size
        code = self.generator.prior.draw(code_key, (num_trials, size), labels)
        known = self._known_inputs(external_inputs, labels, *shape)
        if self.controller is None:
            return self._decoded(code, None, roll_out(self, code, known), sessions)
        inputs = self.controller.prior.draw(inputs_key, (*shape, self.controller.num_inputs), labels)
        rollout = roll_out(self, code, jnp.concatenate([inputs, known], axis=-1))
        return self._decoded(code, None, rollout._replace(inputs=inputs), sessions)

    def _sample_key(self) -> Any:
        if not self.has_rng("sample"):
            raise ValueError('samples are drawn from the rng stream "sample": give rngs={"sample": jax.random.key(0)}')
        return self.make_rng("sample")

    def _decoded(self, code: Any, posterior: DiagonalGaussian | None, rollout: Rollout, sessions: Any) -> Posterior:
        parameters = self._parameters(rollout.factors, sessions)
        q = rollout.input_posterior or DiagonalGaussian(None, None)
        return Posterior(
            rates=self.observation.mean(parameters),
            factors=rollout.factors,
            generator_states=rollout.states,
            initial_condition=rollout.initial,
            code=code,
            code_means=None if posterior is None else posterior.mean,
            code_stds=None if posterior is None else posterior.std,
            inferred_inputs=rollout.inputs,
            inferred_input_means=q.mean,
            inferred_input_stds=q.std,
            inferred_bias=self.generator.bias(code) if self.generator.bias_size else None,
            parameters=parameters,
        )

    def _parameters(self, factors: Float[Any, "trials steps F"], sessions: Any) -> Float[Array, "trials steps N P"]:
        N, P = self.num_neurons, self.observation.num_parameters
        stitched = isinstance(self.read_out, SessionReadOut)
        flat = self.read_out(factors, sessions) if stitched else self.read_out(factors)
        if flat.shape[-1] != N * P:
            raise ValueError(
                f"{type(self.observation).__name__} has {P} parameters for each of {N} neurons, so the readout must put out "
                f"{N * P} values, got {flat.shape[-1]}: change the size of readout, or leave it out"
            )
        return flat.reshape(*flat.shape[:-1], N, P)

    def _known_inputs(self, external_inputs: Any, labels: Any, num_trials: int, num_bins: int) -> Any:
        """External inputs and the class in each of the bins (and the forward ones) [trials, steps, E]."""
        shape = (num_trials, num_bins)
        parts = [jnp.zeros((*shape, 0))] if external_inputs is None else [jnp.asarray(external_inputs, jnp.float32)]
        if self.num_classes:
            classes = one_hot(labels, self.num_classes)[:, None]
            parts.append(jnp.broadcast_to(classes, (*shape, self.num_classes)))
        return jnp.concatenate(parts, axis=-1)


def _quiet(model: nn.Module) -> tuple[nn.Module, Any]:
    """An unbound copy of a bound model without dropout, and its variables."""
    unbound, variables = model.unbind()
    return deterministic(unbound), variables
