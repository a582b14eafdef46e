"""FORCE learning: readouts of reservoirs by recursive least squares while they run with their own feedback."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, NamedTuple, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, PRNGKeyArray

from ctd_models.configuration import deterministic
from ctd_models.training import least_squares
from ctd_models.training.least_squares import SymmetricMatrix, Updates
from ctd_models.training.state import TrainState

COLLECTION = "reservoir"
METHODS = ("advance", "initial_state", "rates", "readout")


class ForceState(struct.PyTreeNode):
    """Everything that a step of learning turns into the next. `variables` are the model's, at any time."""

    variables: dict[str, Any]
    """Flax's whole dictionary: the readout as learned so far, and the reservoir."""
    inverse: SymmetricMatrix | None
    """P, the inverse correlation matrix of the rates; None for a rule without it."""
    activation: Any
    """The network's state a [N]."""
    output: Any
    """The output z [O] that is fed back in the next step."""
    driver: Any
    """The target-generating network of full-FORCE: activation, recurrent and feedback weights; None otherwise."""
    step: Any
    """Steps of learning so far."""
    key_data: Any
    """The key that `init` was given, as integers; noise of a step is folded from it and the step."""


class Learning(NamedTuple):
    """What happened in each step of learning."""

    outputs: Float[Array, "T O"]
    """z, before the update of that step."""
    weight_change: Float[Array, "T"]
    """‖ΔW_out‖, which falls to small values as the network takes over."""


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
            variables = _init(self.model, key)
        _check_variables(variables)
        N, fixed = self.model.hidden_size, dict(variables[COLLECTION])
        activation = fixed["initial_state"]
        driver = None
        if self.recurrent:
            driver = activation, fixed["recurrent_kernel"], fixed["feedback_kernel"]
            if _known_zero(fixed["feedback_kernel"]):
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
        inputs = _checked_inputs(self.model, inputs, num_steps)
        if initial_state is not None:
            _check_finite("initial_state", initial_state)
            initial_state = jnp.asarray(initial_state, state.activation.dtype)
            if initial_state.shape != (self.model.hidden_size,):
                raise ValueError(f"expected initial_state ({self.model.hidden_size},), got {initial_state.shape}")
        return _run(deterministic(self.model), state.variables, inputs, initial_state)

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
            writer.save(_as_train_state(state))

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
        return jax.eval_shape(lambda: _as_train_state(self.init(jax.random.key(0))))

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
        if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in _concrete(state.inverse)):
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
        inputs = _checked_inputs(self.model, inputs, shape[0])
        _check_finite("targets", targets)
        targets = jnp.asarray(targets, state.output.dtype)
        inverse, rest = state.inverse, state.replace(inverse=None)
        state, learned = _learn(self, inverse, rest, jnp.asarray(inputs, targets.dtype), targets, restart)
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
    _check_variables(variables)
    inputs = _checked_inputs(model, inputs, shape[0])
    _check_finite("targets", targets)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda values: jnp.asarray(values, jnp.float64), (variables, inputs, targets, penalty))
        readout = _ridge(deterministic(model), *wide, washout)
    if not np.isfinite(np.asarray(readout)).all():
        raise ValueError(f"rates do not determine the readout with the penalty {penalty}: choose a larger one")
    kept = variables["params"]["readout"]
    return {**variables, "params": {**variables["params"], "readout": jnp.asarray(np.asarray(readout), kept.dtype)}}


def check_memory(force: Force) -> None:
    """Raises MemoryError where the matrices of a network do not fit."""
    N = force.model.hidden_size
    matrices = {"W_rec": N * N, "P": 0 if force.rule == "nlms" else N * N}
    if force.recurrent:
        matrices["W_rec of the second network"] = N * N
    needed, available = 4 * sum(matrices.values()), _available_bytes()
    if available is not None and needed > available:
        listed = ", ".join(f"{name} {4 * size / 1e9:.3g} GB" for name, size in matrices.items() if size)
        raise MemoryError(
            f"a network of {N} units needs {needed / 1e9:.3g} GB ({listed}), {available / 1e9:.3g} GB are available"
        )


def _available_bytes() -> int | None:
    """Memory that the default device has left; None: unknown."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return 1024 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None


@functools.partial(jax.jit, static_argnums=0)
def _init(model: nn.Module, key: PRNGKeyArray) -> dict[str, Any]:
    keys = jax.random.split(key)
    return model.init({"params": keys[0], "noise": keys[1]}, jnp.zeros((1, 1, model.input_size)))


@functools.partial(jax.jit, static_argnums=0)
def _run(model: nn.Module, variables: Any, inputs: Any, initial_state: Any) -> Any:
    trajectory = model.apply(variables, inputs[None], initial_state)
    return jax.tree.map(lambda values: values[0], trajectory)


@functools.partial(jax.jit, static_argnums=(0, 5))
def _ridge(model: nn.Module, variables: Any, inputs: Any, targets: Any, penalty: Any, washout: int) -> Any:
    states = model.apply(variables, inputs[None], feedback=targets[None]).states[0]
    rates = model.apply(variables, states, method="rates")
    return least_squares.ridge(rates[washout:], targets[washout:], penalty)


@functools.partial(jax.jit, static_argnums=(0, 5), donate_argnums=1)
def _learn(
    force: Force, inverse: SymmetricMatrix | None, state: ForceState, inputs: Any, targets: Any, restart: bool
) -> tuple[ForceState, Learning]:
    """A pass in blocks of steps of about `block_size`; steps that fill the last block change nothing."""
    model, steps = force.model, len(targets)
    if restart:
        start = model.apply(state.variables, method="initial_state")
        output = model.apply(state.variables, start, method="readout")
        driver = None if state.driver is None else (start, *state.driver[1:])
        state = state.replace(activation=start, output=output, driver=driver)
    blocks = -(-steps // force.block_size)
    block = -(-steps // blocks)
    missing = blocks * block - steps
    alive = jnp.arange(blocks * block) < steps
    xs = [jnp.pad(values, [(0, missing), (0, 0)]) for values in (inputs, targets)]
    xs = [values.reshape(blocks, block, *values.shape[1:]) for values in (*xs, alive)]
    always = not missing and force.every == 1
    key = jax.random.wrap_key_data(state.key_data)

    def learn_block(carry, xs):
        inverse, state = carry
        step = functools.partial(_step, force, inverse, key, always, state)
        pending = _Pending.none(force, block, state)
        readout = state.variables["params"]["readout"]
        inner = readout, state.activation, state.output, state.driver and state.driver[0], state.step, pending
        (readout, activation, output, driven, count, pending), learned = jax.lax.scan(step, inner, tuple(xs))
        variables = {**state.variables, "params": {**state.variables["params"], "readout": readout}}
        if force.recurrent:
            fixed = variables[COLLECTION]
            kernel = fixed["recurrent_kernel"] - pending.gains.T @ pending.errors
            variables = {**variables, COLLECTION: {**fixed, "recurrent_kernel": kernel}}
        if inverse is not None:
            inverse = least_squares.flushed(inverse, pending.updates, force.forgetting)
        state = state.replace(
            variables=variables,
            activation=activation,
            output=output,
            driver=state.driver and (driven, *state.driver[1:]),
            step=count,
        )
        return (inverse, state), learned

    (inverse, state), learned = jax.lax.scan(learn_block, (inverse, state), tuple(xs))
    learned = jax.tree.map(lambda values: values.reshape(blocks * block, *values.shape[2:])[:steps], learned)
    return state.replace(inverse=inverse), learned


class _Pending(NamedTuple):
    """What the updates of a block will change at its end."""

    updates: Updates | None
    gains: Any
    """Of the recurrent weights, W_rec ← W_rec − gainsᵀ errors."""
    errors: Any

    @classmethod
    def none(cls, force: Force, block: int, state: ForceState) -> "_Pending":
        updates = None if force.rule == "nlms" else Updates.none(block, state.activation)
        rows = jnp.zeros((block, *state.activation.shape), state.activation.dtype) if force.recurrent else None
        return cls(updates, rows, rows)


def _step(
    force: Force, inverse: SymmetricMatrix | None, key: Any, always: bool, begun: ForceState, carry: Any, xs: Any
) -> tuple[Any, Learning]:
    """One step of the network, and the update that follows it; `begun` is the state at the beginning of the block."""
    model, variables = force.model, begun.variables
    readout, activation, output, driven, step, pending = carry
    inputs, target, alive = xs
    rngs = {"noise": jax.random.fold_in(key, step)} if model.noise > 0 and not model.deterministic else {}
    drive = 0.0 if pending.gains is None else -(pending.gains @ _rates(model, variables, activation)) @ pending.errors
    moved = model.apply(variables, activation, inputs, output, drive, method="advance", rngs=rngs)
    rates = _rates(model, variables, moved)
    found = rates @ readout
    error = found - target

    def update(updates):
        return least_squares.gain(inverse, updates, rates, force.forgetting)

    due = alive if force.every == 1 else alive & (step % force.every == 0)
    updates = pending.updates
    if force.rule == "nlms":
        change = force.learning_rate * rates / jnp.maximum(rates @ rates, 1e-12)
        change = jnp.where(due, change, 0.0)
    elif always:
        change, updates = update(updates)
    else:
        change, updates = jax.lax.cond(due, update, lambda updates: (jnp.zeros_like(rates), updates), updates)
    readout = readout - jnp.outer(change, error)
    learned = Learning(found, jnp.linalg.norm(change) * jnp.linalg.norm(error))

    output, teacher = found, driven
    if force.recurrent:
        output = target  # what the second network is driven by in the next step; the first one has no feedback
        shown = _as_second(variables, begun.driver)
        teacher = model.apply(shown, driven, inputs, carry[2], method="advance", rngs=rngs)
        weights = shown[COLLECTION]
        wanted = _rates(model, variables, teacher) @ weights["recurrent_kernel"] + target @ weights["feedback_kernel"]
        received = rates @ variables[COLLECTION]["recurrent_kernel"] - (pending.gains @ rates) @ pending.errors
        place = jnp.where(
            due, updates.count - 1, len(pending.gains) - 1
        )  # the last row is free unless every step is due
        pending = pending._replace(
            gains=pending.gains.at[place].set(change), errors=pending.errors.at[place].set(received - wanted)
        )
    moved, output, teacher = (
        (moved, output, teacher)
        if always
        else jax.tree.map(
            lambda new, old: jnp.where(alive, new, old), (moved, output, teacher), (activation, carry[2], driven)
        )
    )
    step = step + alive.astype(jnp.int32)
    return (readout, moved, output, teacher, step, pending._replace(updates=updates)), learned


def _as_second(variables: Any, driver: Any) -> dict[str, Any]:
    """Variables of the target-generating network."""
    fixed = {**variables[COLLECTION], "recurrent_kernel": driver[1], "feedback_kernel": driver[2]}
    return {**variables, COLLECTION: fixed}


def _rates(model: nn.Module, variables: Any, activation: Any) -> Any:
    return model.apply(variables, activation, method="rates")


def _as_train_state(state: ForceState) -> TrainState:
    """In the form in which checkpoints are written."""
    parts = state.inverse, state.activation, state.output, state.driver
    return TrainState(state.step, state.variables, parts, state.key_data)


def _check_variables(variables: Any) -> None:
    """Raises unless these are the finite variables of a reservoir."""
    if not isinstance(variables, Mapping) or not {"params", COLLECTION} <= set(variables):
        raise TypeError(f"variables must be Flax's whole dictionary, {{'params': ..., {COLLECTION!r}: ...}}")
    for name in ("params", COLLECTION):
        for leaf, values in variables[name].items():
            _check_finite(f"{name}[{leaf!r}]", values)


def _known_zero(values: Any) -> bool:
    return not isinstance(values, jax.core.Tracer) and not np.any(np.asarray(values))


def _concrete(tree: Any) -> list[Any]:
    """Leaves that hold values, which those inside `jax.jit` and `jax.vmap` do not."""
    return [leaf for leaf in jax.tree.leaves(tree) if not isinstance(leaf, jax.core.Tracer)]


def _checked_inputs(model: nn.Module, inputs: Any, num_steps: int | None) -> Any:
    """Inputs [time, U] of so many steps, those of a network without inputs [time, 0]."""
    if inputs is None:
        if model.input_size:
            raise ValueError(f"the network has {model.input_size} inputs: give inputs [time, {model.input_size}]")
        if num_steps is None or num_steps < 1:
            raise ValueError(f"num_steps, the length of the run, must be at least 1, got {num_steps}")
        return jnp.zeros((num_steps, 0))
    shape = np.shape(inputs)
    if len(shape) != 2 or shape[1] != model.input_size or not shape[0]:
        hint = "" if model.input_size else ": this network has none, name targets= or num_steps="
        raise ValueError(f"expected inputs [time, {model.input_size}], got shape {shape}{hint}")
    if num_steps not in (None, shape[0]):
        raise ValueError(f"inputs have {shape[0]} steps, expected {num_steps}")
    _check_finite("inputs", inputs)
    return jnp.asarray(inputs)


def _check_finite(name: str, values: Any) -> None:
    if isinstance(values, jax.core.Tracer):
        return
    values = np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"expected numbers as {name}, got the type {values.dtype}")
    largest = np.inf if jax.config.jax_enable_x64 else np.finfo(np.float32).max
    bad = np.argwhere(~(np.abs(values.astype(float)) <= min(largest, np.finfo(float).max)))
    if len(bad):
        index = tuple(bad[0].tolist())
        raise ValueError(f"expected finite {name}, got {values[index]} at index {index}")
