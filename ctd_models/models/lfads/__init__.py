"""LFADS and its parts: encoder, controller, generator, priors and observation models."""

from ctd_models.models.lfads.controller import Controller
from ctd_models.models.lfads.distributions import DiagonalGaussian
from ctd_models.models.lfads.encoder import Encoder, Encoding
from ctd_models.models.lfads.generator import Generator
from ctd_models.models.lfads.inference import factor_map, importance_weighted_bound, infer, infer_chunks
from ctd_models.models.lfads.model import LFADS
from ctd_models.models.lfads.observations import Gamma, Normal, Observation, Poisson, ZeroInflatedGamma
from ctd_models.models.lfads.posterior import UNITS as POSTERIOR_UNITS
from ctd_models.models.lfads.posterior import Posterior
from ctd_models.models.lfads.priors import (
    AutoregressivePrior,
    ClassConditional,
    Gaussian,
    Mixture,
    Prior,
    StudentT,
)
from ctd_models.models.lfads.sessions import SessionReadIn, SessionReadOut, add_sessions, with_session_weights

__all__ = [
    "LFADS",
    "POSTERIOR_UNITS",
    "AutoregressivePrior",
    "ClassConditional",
    "Controller",
    "DiagonalGaussian",
    "Encoder",
    "Encoding",
    "Gamma",
    "Gaussian",
    "Generator",
    "Mixture",
    "Normal",
    "Observation",
    "Poisson",
    "Posterior",
    "Prior",
    "SessionReadIn",
    "SessionReadOut",
    "StudentT",
    "ZeroInflatedGamma",
    "add_sessions",
    "factor_map",
    "importance_weighted_bound",
    "infer",
    "infer_chunks",
    "with_session_weights",
]
