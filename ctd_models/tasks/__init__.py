"""Tasks: pure generators of trials, `task.sample(key, batch_size) -> Trials`, and of signals, `task.signal(key) -> Signal`;
and simulators of spiking data.

They know JAX and nothing else.
"""

from ctd_models.tasks.contextual import ContextDecision, ContextualIntegration, context_of
from ctd_models.tasks.flip_flop import FlipFlop
from ctd_models.tasks.grasp import DelayedGrasp, go_step_of
from ctd_models.tasks.integration import BinaryDecision, Integration
from ctd_models.tasks.moving_average import MovingAverage, last_two
from ctd_models.tasks.sequences import (
    Addition,
    CopySequence,
    ReverseSequence,
    SequencePairs,
    SortSequence,
    TwoBoxes,
    length_mask,
)
from ctd_models.tasks.signals import ChaoticOutputs, LorenzSignal, MackeyGlass, Signal, SumOfSines, TriangleWave
from ctd_models.tasks.sine_wave import SineWave
from ctd_models.tasks.spiking import (
    ChaoticSpikes,
    LorenzSpikes,
    SimulatedSpikes,
    network_spikes,
    rates_from_states,
    spikes_from_rates,
)
from ctd_models.tasks.toy_sentiment import ToySentiment, Word
from ctd_models.tasks.trials import Trials
from ctd_models.tasks.working_memory import ParametricWorkingMemory

__all__ = [
    "Addition",
    "BinaryDecision",
    "ChaoticOutputs",
    "ChaoticSpikes",
    "ContextDecision",
    "ContextualIntegration",
    "CopySequence",
    "DelayedGrasp",
    "FlipFlop",
    "Integration",
    "LorenzSignal",
    "LorenzSpikes",
    "MackeyGlass",
    "MovingAverage",
    "ParametricWorkingMemory",
    "ReverseSequence",
    "SequencePairs",
    "Signal",
    "SimulatedSpikes",
    "SineWave",
    "SortSequence",
    "SumOfSines",
    "ToySentiment",
    "Trials",
    "TriangleWave",
    "TwoBoxes",
    "Word",
    "context_of",
    "go_step_of",
    "last_two",
    "length_mask",
    "network_spikes",
    "rates_from_states",
    "spikes_from_rates",
]
