"""The way from a trained model to analysis: its step function, and what it reads out."""

from collections.abc import Callable, Mapping
from typing import Any, no_type_check

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from ctd_models.configuration import deterministic


class _Step:
    """`(variables, bound inputs, state, inputs) -> next state` of a module, or of the part of it named by `path`.

    Equal models give equal objects, so that a compiled analysis is reused when only the variables change.
    """

    def __init__(self, model: nn.Module, path: tuple[str, ...]):
        self.model, self.path = model, path

    def __call__(self, variables, bound, state, inputs=None):
        def advance(module, state, inputs):
            for name in self.path:
                module = _part_of(module, name)
            step = getattr(module, "step", module)  # a bare cell is its own step
            return step(state, inputs)[0]

        inputs = bound if inputs is None else inputs
        return self.model.apply(variables, state, inputs, method=advance)

    def __eq__(self, other):
        return isinstance(other, _Step) and (self.model, self.path) == (other.model, other.path)

    def __hash__(self):
        return hash((self.model, self.path))


@no_type_check  # it checks its arguments itself
def step_function(
    model: nn.Module,
    variables: Mapping[str, Any],
    *,
    part: str | None = None,
    inputs: Float[Array, "U"] | None = None,
) -> Callable[..., Any]:
    """The dynamical system of a trained model, `F(state, inputs) -> next state`.

    F is pure, unbatched and deterministic: noise and dropout are switched off. It is a JAX pytree that carries the
    variables, so that a function compiled for it is reused for other variables of the same model.

    Args:
        model: a module with a method `step(state, inputs) -> (state, output)`, or a recurrent cell.
        variables: Flax's whole dictionary, `{"params": …}` and any other collections.
        part: name of a submodule that steps, such as "generator"; dots reach deeper, and numbers into lists of them, such as
            "encoder.backward_cells.0".
        inputs: [U] if given, it is bound, and the result is `F(state)`.

    Raises:
        AttributeError: the model (or its part) has no step.
        TypeError: `variables` is not Flax's whole dictionary of collections.
    """
    if not isinstance(variables, Mapping) or not all(isinstance(value, Mapping) for value in variables.values()):
        raise TypeError("variables must be Flax's whole dictionary of collections, such as {'params': {...}}")
    path = tuple(part.split(".")) if part else ()
    if not path and not hasattr(model, "step") and not isinstance(model, nn.RNNCellBase):
        raise AttributeError(
            f"{type(model).__name__} has no method step(state, inputs) -> (state, output): add one, or name the "
            "submodule that has it by part="
        )
    module = model.bind(variables)
    for name in path:
        module = _part_of(module, name)
    if not hasattr(module, "step") and not isinstance(module, nn.RNNCellBase):
        raise AttributeError(
            f"part {part!r} is a {type(module).__name__}, which has no step(state, inputs) and is no cell"
        )
    return jax.tree_util.Partial(_Step(deterministic(model), path), variables, inputs)


def _part_of(module: Any, name: str) -> Any:
    """The part of this name, or of this number where parts are a list."""
    if isinstance(module, (list, tuple)) and name.isdigit() and int(name) < len(module):
        return module[int(name)]
    if not hasattr(module, name):
        raise AttributeError(f"{type(module).__name__} has no part {name!r}")
    return getattr(module, name)


class _ReadOut:
    """`(variables, state) -> output` of a module; equal models give equal objects."""

    def __init__(self, model: nn.Module):
        self.model = model

    def __call__(self, variables, state):
        return self.model.apply(variables, state, method="read_out")

    def __eq__(self, other):
        return isinstance(other, _ReadOut) and self.model == other.model

    def __hash__(self):
        return hash(self.model)


@no_type_check  # it checks its arguments itself
def readout_function(model: nn.Module, variables: Mapping[str, Any]) -> Callable[[Any], Any]:
    """What a trained recurrent network reads out of its states, `R(state) -> output [*batch, O]`: pure, deterministic, and a
    JAX pytree like a `step_function`.

    Raises:
        AttributeError: the model has no method `read_out(state)`.
    """
    if not hasattr(model, "read_out"):
        raise AttributeError(f"{type(model).__name__} has no method read_out(state) -> output")
    return jax.tree_util.Partial(_ReadOut(deterministic(model)), variables)
