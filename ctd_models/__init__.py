"""Models of computation through dynamics: train recurrent networks and analyse them as dynamical systems.

A dynamical system is a step function, `step(state, input) -> next state`. Models have one, training makes its
parameters, and analysis takes the step function alone. Names are imported when they are first used, so that
`import ctd_models.analysis` loads neither Flax nor Optax nor Orbax.
"""

import importlib
from typing import TYPE_CHECKING

from ctd_models._version import __version__

if TYPE_CHECKING:
    from ctd_models.models import (
        GRU,
        ContinuousESN,
        ContinuousRNNCell,
        GRUCell,
        RecurrentNetwork,
        Trajectory,
        VanillaRNN,
        VanillaRNNCell,
        step_function,
    )
    from ctd_models.models.lfads import LFADS
    from ctd_models.training import Trainer, load_checkpoint

_HOME = {
    "GRU": "models",
    "ContinuousESN": "models",
    "ContinuousRNNCell": "models",
    "GRUCell": "models",
    "LFADS": "models.lfads",
    "RecurrentNetwork": "models",
    "Trajectory": "models",
    "VanillaRNN": "models",
    "VanillaRNNCell": "models",
    "step_function": "models",
    "Trainer": "training",
    "load_checkpoint": "training",
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'ctd_models' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ctd_models.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
