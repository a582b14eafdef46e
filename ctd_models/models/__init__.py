"""Flax modules that have a step function: cells and the recurrent networks built from them."""

from ctd_models.models.activations import ACTIVATIONS, rectified_tanh
from ctd_models.models.cells import ContinuousRNNCell, GRUCell, VanillaRNNCell
from ctd_models.models.decoder import Decoder, with_statistics
from ctd_models.models.initializers import Identity, Initializer, Orthogonal, ScaledNormal
from ctd_models.models.modular import ModularRNNCell, chain
from ctd_models.models.recurrent import CELLS, GRU, RecurrentNetwork, Trajectory, VanillaRNN, make_cell, make_network
from ctd_models.models.reservoir import ContinuousESN
from ctd_models.models.stepping import readout_function, step_function
from ctd_models.models.text import TextNetwork

__all__ = [
    "ACTIVATIONS",
    "CELLS",
    "GRU",
    "ContinuousESN",
    "ContinuousRNNCell",
    "Decoder",
    "GRUCell",
    "Identity",
    "Initializer",
    "ModularRNNCell",
    "Orthogonal",
    "RecurrentNetwork",
    "ScaledNormal",
    "TextNetwork",
    "Trajectory",
    "VanillaRNN",
    "VanillaRNNCell",
    "chain",
    "make_cell",
    "make_network",
    "readout_function",
    "rectified_tanh",
    "step_function",
    "with_statistics",
]
