"""FORCE learning: readouts of reservoirs by recursive least squares while they run with their own feedback."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from ctd_models.configuration import deterministic
from ctd_models.training.force_checks import (
    check_finite_values,
    check_memory,
    check_variables,
    checked_inputs,
    concrete_leaves,
    known_zero,
)
from ctd_models.training.force_state import COLLECTION, ForceState, Learning, as_train_state
from ctd_models.training.force_steps import init_variables, learn_pass, run_network, solve_ridge
from ctd_models.training.least_squares import SymmetricMatrix
from ctd_models.training.state import TrainState

METHODS = ("advance", "initial_state", "rates", "readout")


@dataclasses.dataclass(frozen=True)
class Force:
    """First-order reduced and controlled error learning (Sussillo & Abbott 2009, doi:10.1016/j.neuron.2009.07.018).

    In each step the network runs with its own output fed back, and with h its rates, z = h W_out and the target f

        k = P h,   c = 1 / (λ + hᵀ k),   P ← (P − c k kᵀ) / λ,   W_out ← W_out − c k (z − f)ᵀ,   P = α I in the beginning.

    A pass over a target is `fit`, from the network's initial state; learning that goes on where it is, is `partial_fit`. A
    step reads P once: its changes are collected and made in blocks, which is exact (see
    `ctd_models.training.least_squares`). `jax.vmap` of `init`, `fit` and `run` trains several networks at once.
    """

    model: nn.Module
    """The network: a `ContinuousESN`, or a module with its methods advance, initial_state, rates and readout."""
    alpha: float = 1.0
    """α; smaller values learn more slowly in the beginning."""
    every: int = 1
    """Weights change in every so many steps."""
    block_size: int = 32
    """Steps after which the changes of P are made; 1: in every step."""
    forgetting: float = 1.0
    """λ, at most 1: the weight of errors falls by this factor in every update."""
    rule: str = "rls"
    """"rls": recursive least squares, as above; "nlms": normalised least mean squares, W_out ← W_out − μ h (z − f)ᵀ / ‖h‖²,
    without P."""
    learning_rate: float = 0.5
    """μ of "nlms", in (0, 2)."""
    recurrent: bool = False
    """Full-FORCE (DePasquale et al. 2018, doi:10.1371/journal.pone.0191527): a second network, driven by the target through
    W_fb, shows each unit what to receive; recurrent weights are learned along with the readout, and nothing is fed back."""

    def __post_init__(self):
        if not all(hasattr(self.model, name) for name in METHODS):
            raise TypeError(
                f"model must be a ContinuousESN, or have its methods {', '.join(METHODS)}, got {type(self.model).__name__}"
            )
        for name in ("every", "block_size"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {getattr(self, name)!r}")
        if not self.alpha > 0:
            raise ValueError(f"alpha must be positive, got {self.alpha}")
        if not 0 < self.forgetting <= 1:
            raise ValueError(f"forgetting must lie in (0, 1], got {self.forgetting}")
        if self.rule not in ("rls", "nlms"):
            raise ValueError(f'rule must be "rls" or "nlms", got {self.rule!r}')
        if not 0 < self.learning_rate < 2:
            raise ValueError(f"learning_rate must lie in (0, 2), got {self.learning_rate}")
        if self.recurrent and self.rule != "rls":
            raise ValueError('recurrent weights are learned by rule="rls"')

    @no_type_check  # it checks its arguments itself
    def init(self, key: PRNGKeyArray, variables: Mapping[str, Any] | None = None) -> ForceState:
        """The state before learning, with a network drawn from the key, or with these variables.

        Raises:
            MemoryError: the weights need more memory than there is.
            TypeError: the key is not a typed one, or the variables are not Flax's whole dictionary of such a network.
            ValueError: a variable is not finite, or full-FORCE is to begin with variables that it has trained.
        """
        if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
            raise TypeError(f"key must be a typed key, such as jax.random.key(0), got {key!r}")
        check_memory(self)
        if variables is None:
            variables = init_variables(self.model, key)
        check_variables(variables)
        N, fixed = self.model.hidden_size, dict(variables[COLLECTION])
        activation = fixed["initial_state"]
        driver = None
        if self.recurrent:
            driver = activation, fixed["recurrent_kernel"], fixed["feedback_kernel"]
            if known_zero(fixed["feedback_kernel"]):
                raise ValueError(
                    "the feedback weights of these variables are 0: full-FORCE has trained them already. Go on from its "
                    "state, by fit, partial_fit or restore"
                )
            nothing = {name: jnp.zeros_like(fixed[name]) for name in ("recurrent_kernel", "feedback_kernel")}
            variables = {**variables, COLLECTION: {**fixed, **nothing}}
        inverse = None if self.rule == "nlms" else SymmetricMatrix.identity(N, self.alpha)
        output = self.model.apply(variables, activation, method="readout")
        data = jax.random.key_data(key)
        return ForceState(dict(variables), inverse, activation, output, driver, jnp.int32(0), data)

    @no_type_check
    def fit(
        self,
        state: ForceState,
        inputs: Float[Any, "T U"] | None = None,
        targets: Float[Any, "T O"] | None = None,
    ) -> tuple[ForceState, Learning]:
        """One pass over the targets from the network's initial state; readout and P go on from `state`.

        P of `state` is used up: go on with the state that is returned.

        Args:
            state: of `init` or of the pass before.
            inputs: in each step, if the network has some.
            targets: what the output should be in each step.

        Raises:
            TypeError, ValueError: lengths or widths do not fit, a value is not finite, `state` is of other settings or was
                used up by an earlier call.
            FloatingPointError: learning became infinite or NaN (not noticed under `jax.vmap`).
        """
        return self._learn(state, inputs, targets, restart=True)

    @no_type_check
    def partial_fit(
        self,
        state: ForceState,
        inputs: Float[Any, "T U"] | None = None,
        targets: Float[Any, "T O"] | None = None,
    ) -> tuple[ForceState, Learning]:
        """Goes on learning from the state in which the network is; one step ([1, O]) or many. Otherwise like `fit`."""
        return self._learn(state, inputs, targets, restart=False)

    @no_type_check
    def run(
        self,
        state: ForceState,
        inputs: Float[Any, "T U"] | None = None,
        num_steps: int | None = None,
        *,
        initial_state: Float[Any, "N"] | None = None,
    ) -> Any:
        """The network by itself, without learning and noise: its `Trajectory`, states [T, N] and outputs [T, O].

        Args:
            state: of `init`, `fit` or `partial_fit`.
            inputs: in each step, if the network has some.
            num_steps: how many steps, where it has none.
            initial_state: where to begin; None: in the network's initial state. `state.activation` goes on where learning
                ended.

        Raises:
            ValueError: inputs and num_steps do not fit the network.
        """
        inputs = checked_inputs(self.model, inputs, num_steps)
        if initial_state is not None:
            check_finite_values("initial_state", initial_state)
            initial_state = jnp.asarray(initial_state, state.activation.dtype)
            if initial_state.shape != (self.model.hidden_size,):
                raise ValueError(f"expected initial_state ({self.model.hidden_size},), got {initial_state.shape}")
        return run_network(deterministic(self.model), state.variables, inputs, initial_state)

    def save(self, directory: str | os.PathLike, state: ForceState) -> None:
        """Writes a checkpoint, from which `restore` goes on and whose model `load_checkpoint` reads.

        Raises:
            CheckpointError: the directory cannot be written to, or holds another network, other settings of learning, or a
                checkpoint of this step or a later one.
            ValueError: the state is of several networks, or was used up.
        """
        from ctd_models.training.checkpoints import CheckpointError, CheckpointWriter

        self._check_state(state)
        if jnp.ndim(state.step):
            raise ValueError(
                "this state is of several networks: save each, jax.tree.map(lambda values: values[i], state)"
            )
        with CheckpointWriter(directory, self.model, self._description) as writer:
            if writer.latest_step is not None:
                writer.resume(self._template, any_key=True)
                if writer.latest_step >= int(state.step):
                    raise CheckpointError(
                        f"{os.fspath(directory)} holds a checkpoint of step {writer.latest_step} already, this state is of "
                        f"step {int(state.step)}: choose another folder, or delete this one"
                    )
            writer.save(as_train_state(state))

    def restore(self, directory: str | os.PathLike) -> ForceState:
        """The state of the latest checkpoint.

        Raises:
            CheckpointError: there is none, or it is of another network or other settings of learning.
        """
        from ctd_models.training.checkpoints import CheckpointError, CheckpointWriter

        if not os.path.isdir(directory):
            raise CheckpointError(f"there is no checkpoint in {os.fspath(directory)}")
        with CheckpointWriter(directory, self.model, self._description) as writer:
            if writer.latest_step is None:
                raise CheckpointError(f"there is no checkpoint in {os.fspath(directory)}")
            saved, _ = writer.resume(self._template, any_key=True)
        saved = jax.tree.map(jnp.asarray, saved)
        return ForceState(saved.variables, *saved.optimizer_state, saved.step, saved.key_data)

    @property
    def _template(self) -> TrainState:
        """The form of a state."""
        return jax.eval_shape(lambda: as_train_state(self.init(jax.random.key(0))))

    def _check_state(self, state: Any) -> None:
        """Raises where a state is not one of this network and these settings, or was used up."""
        if not isinstance(state, ForceState):
            hint = ": fit returns (state, what happened)" if isinstance(state, tuple) else ""
            raise TypeError(
                f"expected the state that init, fit or partial_fit returned, got {type(state).__name__}{hint}"
            )
        made = state.driver is not None, state.inverse is None
        if made != (self.recurrent, self.rule == "nlms") or state.activation.shape[-1] != self.model.hidden_size:
            raise ValueError("this state is of another network or other settings of learning: begin with init")
        if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in concrete_leaves(state.inverse)):
            raise ValueError(
                "this state was used up by an earlier fit: go on with the state that it returned; a copy must be made "
                "before fitting, jax.tree.map(jnp.copy, state)"
            )

    @property
    def _description(self) -> str:
        fields = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("model", "block_size")
        }
        return f"FORCE, {', '.join(f'{name} {value}' for name, value in fields.items())}"

    def _learn(self, state: Any, inputs: Any, targets: Any, restart: bool) -> tuple[ForceState, Learning]:
        self._check_state(state)
        if targets is None:
            raise ValueError("targets are missing: fit(state, inputs, targets), or fit(state, targets=targets)")
        shape = np.shape(targets)
        if len(shape) != 2 or shape[1] != self.model.output_size or not shape[0]:
            raise ValueError(f"expected targets [time, {self.model.output_size}], got shape {shape}")
        inputs = checked_inputs(self.model, inputs, shape[0])
        check_finite_values("targets", targets)
        targets = jnp.asarray(targets, state.output.dtype)
        inverse, rest = state.inverse, state.replace(inverse=None)
        state, learned = learn_pass(self, inverse, rest, jnp.asarray(inputs, targets.dtype), targets, restart)
        if not isinstance(learned.outputs, jax.core.Tracer):
            bad = ~np.isfinite(np.asarray(learned.weight_change))
            if bad.any():
                raise FloatingPointError(
                    f"learning became infinite or NaN at step {int(np.argmax(bad))} of this pass: try a smaller alpha, a "
                    "forgetting nearer to 1, or targets of order 1"
                )
        return state, learned


@no_type_check  # it checks its arguments itself
def ridge_readout(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Float[Any, "T U"] | None,
    targets: Float[Any, "T O"],
    penalty: float = 1.0,
    washout: int = 0,
) -> dict[str, Any]:
    """Variables whose readout is the ridge regression of targets on rates, while the targets are fed back (open loop).

    The batch solution that echo state networks are usually given (Jaeger 2001). W_out minimises ‖F − H W‖² + penalty ‖W‖²,
    in float64 whatever the type of the variables. `model.apply(variables, inputs, feedback=targets).states[:, -1]` is the
    state from which the network goes on by itself.

    Args:
        model: the network.
        variables: Flax's whole dictionary.
        inputs: in each step; None: the network has none.
        targets: what the output should be in each step.
        penalty: not negative.
        washout: steps in the beginning that are not fitted.

    Raises:
        ValueError: lengths or widths do not fit, a value is not finite, or no step is left.
    """
    targets = np.asarray(targets)
    shape = targets.shape
    if len(shape) != 2 or shape[1] != model.output_size or not 0 <= washout < shape[0]:
        raise ValueError(
            f"expected targets [time, {model.output_size}] longer than the washout of {washout}, got shape {shape}"
        )
    if not 0 <= penalty < np.inf:
        raise ValueError(f"penalty cannot be negative, got {penalty}")
    check_variables(variables)
    inputs = checked_inputs(model, inputs, shape[0])
    check_finite_values("targets", targets)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda values: jnp.asarray(values, jnp.float64), (variables, inputs, targets, penalty))
        readout = solve_ridge(deterministic(model), *wide, washout)
    if not np.isfinite(np.asarray(readout)).all():
        raise ValueError(f"rates do not determine the readout with the penalty {penalty}: choose a larger one")
    kept = variables["params"]["readout"]
    return {**variables, "params": {**variables["params"], "readout": jnp.asarray(np.asarray(readout), kept.dtype)}}
