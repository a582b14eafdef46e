"""The shared trainer: any module, any loss, any Optax optimizer; checkpoints by Orbax."""

from ctd_models.training.checkpoints import Checkpoint, CheckpointError, load_checkpoint, read_checkpoint
from ctd_models.training.elbo import Elbo, elbo
from ctd_models.training.force import Force, ridge_readout
from ctd_models.training.force_state import ForceState
from ctd_models.training.losses import binary_cross_entropy, mean_squared_error, rate_penalized_error
from ctd_models.training.sequences import sequence_loss
from ctd_models.training.state import FitResult, NonFiniteLossError, TrainState
from ctd_models.training.trainer import Trainer

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Elbo",
    "FitResult",
    "Force",
    "ForceState",
    "NonFiniteLossError",
    "TrainState",
    "Trainer",
    "binary_cross_entropy",
    "elbo",
    "load_checkpoint",
    "mean_squared_error",
    "rate_penalized_error",
    "read_checkpoint",
    "ridge_readout",
    "sequence_loss",
]
