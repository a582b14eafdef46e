"""Systems whose dynamics are known, for teaching and for tests: memories, oscillations, bifurcations, connections.

Each is a function F(state) or F(state, input) in `num_units` dimensions, with what is true of it beside it. The few
variables z that matter lie along the columns of an orthonormal matrix Q, z = Qᵀ h; everything orthogonal to them decays.
"""

from ctd_models.analysis.constructed.dynamics import heteroclinic, hopf, pitchfork
from ctd_models.analysis.constructed.memories import (
    delay_trajectories,
    discrete_attractors,
    line_attractor,
    mistuned,
    ring_attractor,
    rotating_memory,
)
from ctd_models.analysis.constructed.system import KnownSystem

__all__ = [
    "KnownSystem",
    "delay_trajectories",
    "discrete_attractors",
    "heteroclinic",
    "hopf",
    "line_attractor",
    "mistuned",
    "pitchfork",
    "ring_attractor",
    "rotating_memory",
]
