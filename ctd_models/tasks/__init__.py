"""Tasks: pure generators of trials, `task.sample(key, batch_size) -> Trials`, and simulators of spiking data.

They know JAX and nothing else.
"""

from ctd_models.tasks.contextual import ContextualIntegration, context_of
from ctd_models.tasks.integration import BinaryDecision, Integration
from ctd_models.tasks.spiking import (
    ChaoticSpikes,
    LorenzSpikes,
    SimulatedSpikes,
    network_spikes,
    rates_from_states,
    spikes_from_rates,
)
from ctd_models.tasks.trials import Trials

__all__ = [
    "BinaryDecision",
    "ChaoticSpikes",
    "ContextualIntegration",
    "Integration",
    "LorenzSpikes",
    "SimulatedSpikes",
    "Trials",
    "context_of",
    "network_spikes",
    "rates_from_states",
    "spikes_from_rates",
]
