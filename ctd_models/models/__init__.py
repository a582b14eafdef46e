"""Flax modules that have a step function: cells and the recurrent networks built from them."""

from ctd_models.models.cells import ContinuousRNNCell, GRUCell, VanillaRNNCell
from ctd_models.models.decoder import Decoder, with_statistics
from ctd_models.models.initializers import Identity, Initializer, Orthogonal, ScaledNormal
from ctd_models.models.recurrent import GRU, RecurrentNetwork, Trajectory, VanillaRNN
from ctd_models.models.reservoir import ContinuousESN
from ctd_models.models.stepping import step_function

__all__ = [
    "GRU",
    "ContinuousESN",
    "ContinuousRNNCell",
    "Decoder",
    "GRUCell",
    "Identity",
    "Initializer",
    "Orthogonal",
    "RecurrentNetwork",
    "ScaledNormal",
    "Trajectory",
    "VanillaRNN",
    "VanillaRNNCell",
    "step_function",
    "with_statistics",
]
