"""Where a system goes: trajectories, cycles, attractors and Lyapunov exponents."""
