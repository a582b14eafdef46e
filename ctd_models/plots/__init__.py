"""Figures of results, by matplotlib. Every function draws into `axes` where they are given and returns them."""

from ctd_models.plots.fixed_points import plot_eigenvalues, plot_fixed_points
from ctd_models.plots.training import plot_history
from ctd_models.plots.trials import plot_trials, plot_units

__all__ = ["plot_eigenvalues", "plot_fixed_points", "plot_history", "plot_trials", "plot_units"]
