"""Analysis of dynamical systems: takes functions and arrays, and never asks which model they came from.

Rooms: `fixed_points` (the search, the set of points, linear dynamics), `orbits` (trajectories, cycles, attractors, Lyapunov
exponents), `geometry` (lines and manifolds of points, connections, basins, continuation), `context` (how inputs change the
effects of later ones), `latents` (principal components, comparison of subspaces and of populations), `constructed` (systems
whose dynamics are known); besides these mechanisms of memory, networks from elsewhere, variance by condition, decoding,
linear readers of words, and figures of merit.
"""

from ctd_models.analysis.bag_of_words import LogisticRegression, fit_logistic, word_features
from ctd_models.analysis.baseline_selection import choose as choose_baseline
from ctd_models.analysis.baselines import GPFA, FactorAnalysis, SmoothingBaseline
from ctd_models.analysis.condition_variance import ConditionVariance, condition_variance
from ctd_models.analysis.conditions import condition_candidates, condition_means
from ctd_models.analysis.context.effects import ContextualEffects, contextual_effects
from ctd_models.analysis.context.modes import leading_modes_of, mode_angles, mode_components, without_modes
from ctd_models.analysis.context.removal import ModeRemoval, remove_modes, strongest_modes
from ctd_models.analysis.correlation import CrossCorrelation, cross_correlation
from ctd_models.analysis.cosmoothing import (
    PoissonGLM,
    cosmoothing_bits_per_spike,
    fit_poisson_glm,
    forward_bits_per_spike,
    select_poisson_glm,
)
from ctd_models.analysis.decoding import (
    fit_decoder,
    fit_decoders,
    fit_optimal_linear_estimator,
    fit_ridge,
    fit_smoothed_decoder,
    smooth_spikes,
)
from ctd_models.analysis.fixed_points.classification import classify_points
from ctd_models.analysis.fixed_points.completeness import Completeness
from ctd_models.analysis.fixed_points.first_order import Adam, FirstOrder
from ctd_models.analysis.fixed_points.linearization import linearize
from ctd_models.analysis.fixed_points.points import FixedPoints
from ctd_models.analysis.fixed_points.sampling import SampledStates, sample_states
from ctd_models.analysis.fixed_points.search import find_fixed_points
from ctd_models.analysis.fixed_points.solvers import KrylovLevenbergMarquardt, LevenbergMarquardt
from ctd_models.analysis.geometry.basins import Basins, basins
from ctd_models.analysis.geometry.branches import Bifurcations, Branch, Branches
from ctd_models.analysis.geometry.connections import Connections, saddle_connections
from ctd_models.analysis.geometry.continuation import continue_fixed_points
from ctd_models.analysis.geometry.lines import LineAttractor, order_line
from ctd_models.analysis.geometry.manifolds import Manifold, classify_manifold, manifold_dimension
from ctd_models.analysis.geometry.parameter_plane import ParameterPlane, count_fixed_points
from ctd_models.analysis.geometry.planes import (
    PhasePlane,
    VectorFieldSlice,
    phase_plane,
    type_names,
    vector_field_slice,
)
from ctd_models.analysis.geometry.slow_manifolds import find_slow_manifold
from ctd_models.analysis.geometry.transitions import TransitionGraph
from ctd_models.analysis.geometry.validity import Validity, linear_prediction, linear_validity
from ctd_models.analysis.latents.comparison import LatentComparison, compare_latents
from ctd_models.analysis.latents.pca import PCA
from ctd_models.analysis.latents.subspaces import (
    CCA,
    Procrustes,
    alignment_index,
    cca,
    linear_cka,
    participation_ratio,
    procrustes,
    subspace_angles,
    variance_explained,
)
from ctd_models.analysis.latents.targeted import TargetedAxes, targeted_axes
from ctd_models.analysis.linear_decoders import FittedDecoder, LinearDecoder
from ctd_models.analysis.memory import MemoryMechanism, memory_mechanism
from ctd_models.analysis.metrics import (
    angle_between,
    bits_per_spike,
    cycle_consistency,
    latent_r2,
    normalized_error,
    r2_score,
    rate_r2,
    squared_correlation,
    state_r2,
)
from ctd_models.analysis.networks import step_from_torch
from ctd_models.analysis.orbits.attractors import find_attractors
from ctd_models.analysis.orbits.circles import ClosedCurves, closed_curves
from ctd_models.analysis.orbits.cycles import find_cycles
from ctd_models.analysis.orbits.limit_cycles import LimitCycles, find_limit_cycles
from ctd_models.analysis.orbits.lyapunov import LyapunovSpectrum, lyapunov_spectrum
from ctd_models.analysis.orbits.orbit_set import Attractors, Cycles
from ctd_models.analysis.orbits.simulation import drive, settle, simulate
from ctd_models.analysis.session_decoding import (
    SessionDecoding,
    SessionR2,
    decode_each_session,
    decode_sessions,
    session_r2,
)
from ctd_models.analysis.spike_metrics import PSTH, PSTHMatch, psth, psth_r2
from ctd_models.analysis.stitching import SessionWeights, principal_component_weights, regression_weights

__all__ = [
    "CCA",
    "GPFA",
    "PCA",
    "PSTH",
    "Adam",
    "Attractors",
    "Basins",
    "Bifurcations",
    "Branch",
    "Branches",
    "ClosedCurves",
    "Completeness",
    "ConditionVariance",
    "Connections",
    "ContextualEffects",
    "CrossCorrelation",
    "Cycles",
    "FactorAnalysis",
    "FirstOrder",
    "FittedDecoder",
    "FixedPoints",
    "KrylovLevenbergMarquardt",
    "LatentComparison",
    "LevenbergMarquardt",
    "LimitCycles",
    "LineAttractor",
    "LinearDecoder",
    "LogisticRegression",
    "LyapunovSpectrum",
    "Manifold",
    "MemoryMechanism",
    "ModeRemoval",
    "PSTHMatch",
    "ParameterPlane",
    "PhasePlane",
    "PoissonGLM",
    "Procrustes",
    "SampledStates",
    "SessionDecoding",
    "SessionR2",
    "SessionWeights",
    "SmoothingBaseline",
    "TargetedAxes",
    "TransitionGraph",
    "Validity",
    "VectorFieldSlice",
    "alignment_index",
    "angle_between",
    "basins",
    "bits_per_spike",
    "cca",
    "choose_baseline",
    "classify_manifold",
    "classify_points",
    "closed_curves",
    "compare_latents",
    "condition_candidates",
    "condition_means",
    "condition_variance",
    "contextual_effects",
    "continue_fixed_points",
    "cosmoothing_bits_per_spike",
    "count_fixed_points",
    "cross_correlation",
    "cycle_consistency",
    "decode_each_session",
    "decode_sessions",
    "drive",
    "find_attractors",
    "find_cycles",
    "find_fixed_points",
    "find_limit_cycles",
    "find_slow_manifold",
    "fit_decoder",
    "fit_decoders",
    "fit_logistic",
    "fit_optimal_linear_estimator",
    "fit_poisson_glm",
    "fit_ridge",
    "fit_smoothed_decoder",
    "forward_bits_per_spike",
    "latent_r2",
    "leading_modes_of",
    "linear_cka",
    "linear_prediction",
    "linear_validity",
    "linearize",
    "lyapunov_spectrum",
    "manifold_dimension",
    "memory_mechanism",
    "mode_angles",
    "mode_components",
    "normalized_error",
    "order_line",
    "participation_ratio",
    "phase_plane",
    "principal_component_weights",
    "procrustes",
    "psth",
    "psth_r2",
    "r2_score",
    "rate_r2",
    "regression_weights",
    "remove_modes",
    "saddle_connections",
    "sample_states",
    "select_poisson_glm",
    "session_r2",
    "settle",
    "simulate",
    "smooth_spikes",
    "squared_correlation",
    "state_r2",
    "step_from_torch",
    "strongest_modes",
    "subspace_angles",
    "targeted_axes",
    "type_names",
    "variance_explained",
    "vector_field_slice",
    "without_modes",
    "word_features",
]
