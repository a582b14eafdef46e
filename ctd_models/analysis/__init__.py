"""Analysis of dynamical systems: takes functions and arrays, and never asks which model they came from."""

from ctd_models.analysis.conditions import condition_candidates, condition_means
from ctd_models.analysis.decoding import fit_ridge, fit_smoothed_decoder, smooth_spikes
from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.fixed_points.search import find_fixed_points
from ctd_models.analysis.fixed_points.solvers import Adam, FirstOrder, LevenbergMarquardt
from ctd_models.analysis.latents.pca import PCA
from ctd_models.analysis.metrics import angle_between, r2_score
from ctd_models.analysis.orbits.simulation import settle, simulate

__all__ = [
    "PCA",
    "Adam",
    "FirstOrder",
    "FixedPoints",
    "LevenbergMarquardt",
    "angle_between",
    "condition_candidates",
    "condition_means",
    "find_fixed_points",
    "fit_ridge",
    "fit_smoothed_decoder",
    "linearize",
    "r2_score",
    "settle",
    "simulate",
    "smooth_spikes",
]
