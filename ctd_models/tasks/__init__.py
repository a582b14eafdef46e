"""Tasks: pure generators of trials, `task.sample(key, batch_size) -> Trials`. They know JAX and nothing else."""

from ctd_models.tasks.integration import BinaryDecision, Integration
from ctd_models.tasks.trials import Trials

__all__ = ["BinaryDecision", "Integration", "Trials"]
