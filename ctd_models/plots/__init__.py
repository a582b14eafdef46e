"""Figures of results, by matplotlib. Functions of one panel draw into `axes` where they are given and return
them; those of several panels return the figure."""

from ctd_models.plots.attention import plot_accuracy_by_length, plot_attention, plot_initial_states
from ctd_models.plots.bifurcations import plot_bifurcation_diagram, plot_parameter_plane
from ctd_models.plots.context import (
    plot_barcodes,
    plot_deflections,
    plot_effect_by_distance,
    plot_mode_angles,
    plot_removal,
    plot_review,
)
from ctd_models.plots.factors import plot_factors, plot_generator_points
from ctd_models.plots.fixed_points import plot_fixed_points
from ctd_models.plots.lfads import plot_elbo, plot_inferred_inputs, plot_inferred_rates
from ctd_models.plots.line_attractor import plot_along_line, plot_line_attractor, plot_line_story
from ctd_models.plots.memory import plot_memory
from ctd_models.plots.phase_plane import plot_phase_plane, plot_vector_field
from ctd_models.plots.psths import plot_cosmoothing, plot_psths
from ctd_models.plots.sessions import plot_aligned_factors, plot_session_scores, plot_transfer
from ctd_models.plots.spectra import plot_eigenvalues, plot_speeds
from ctd_models.plots.training import plot_history
from ctd_models.plots.transitions import plot_transition_graph
from ctd_models.plots.trials import plot_trials, plot_units

__all__ = [
    "plot_accuracy_by_length",
    "plot_aligned_factors",
    "plot_along_line",
    "plot_attention",
    "plot_barcodes",
    "plot_bifurcation_diagram",
    "plot_cosmoothing",
    "plot_deflections",
    "plot_effect_by_distance",
    "plot_eigenvalues",
    "plot_elbo",
    "plot_factors",
    "plot_fixed_points",
    "plot_generator_points",
    "plot_history",
    "plot_inferred_inputs",
    "plot_inferred_rates",
    "plot_initial_states",
    "plot_line_attractor",
    "plot_line_story",
    "plot_memory",
    "plot_mode_angles",
    "plot_parameter_plane",
    "plot_phase_plane",
    "plot_psths",
    "plot_removal",
    "plot_review",
    "plot_session_scores",
    "plot_speeds",
    "plot_transfer",
    "plot_transition_graph",
    "plot_trials",
    "plot_units",
    "plot_vector_field",
]
