"""A set of fixed points in words."""

from collections import Counter
from typing import Any

import numpy as np


def describe(points: Any) -> str:
    """How many, how slow, how stable, how complete, and what was dropped."""
    n, d = points.states.shape
    found = "" if points.num_candidates is None else f" from {points.num_candidates:,} candidates"
    lines = [f"FixedPoints: {n:,} of a {points.kind} in {d} dimensions{found}"]
    if n:
        limit = "" if points.tolerance is None else f" (tolerance {points.tolerance:.1g})"
        lines.append(f"  speed q: median {np.median(points.speeds):.1e}, largest {points.speeds.max():.1e}{limit}")
    elif points.smallest_speed is not None:
        lines.append(f"  no candidate converged: the smallest speed q reached is {points.smallest_speed:.1e}")
    if points.classes is not None and n:
        counts = Counter(points.classes.tolist())
        lines.append("  classes: " + ", ".join(f"{counts[c]:,} {c}" for c in ("fixed", "slow", "ghost") if counts[c]))
    if points.num_unstable is None:
        lines.append("  stability: not known yet, see linearize")
    elif n:
        lines.append("  stability: " + _stability(points))
    if points.hits is not None and n and points.classes is not None and (points.classes == "fixed").all():
        lines.append(f"  completeness: {points.completeness}")
    if points.ghosts is not None:
        speed = f"q from {points.ghosts.speeds.min():.1e}" if len(points.ghosts) else ""
        lines.append(f"  ghosts: {len(points.ghosts):,} minima of q that are not fixed points ({speed})")
    if points.forward:
        fates = ", ".join(f"{count:,} {_fate(name)}" for name, count in points.forward.items())
        cycles = "; see find_cycles" if any("cycle" in name for name in points.forward) else ""
        lines.append(f"  run forward, {sum(points.forward.values()):,} of the candidates: {fates}{cycles}")
    if not n and len(points.dropped.get("outlier", ())):
        far = len(points.dropped["outlier"])
        lines.append(f"  {far:,} candidates converged far from all candidates: see outlier_factor, None keeps them")
    lost = [
        f"{len(indices):,} {reason.replace('_', ' ')}" for reason, indices in points.dropped.items() if len(indices)
    ]
    if lost:
        lines.append("  dropped candidates: " + ", ".join(lost))
    return "\n".join(lines)


def _stability(points: Any) -> str:
    counts = sorted(Counter(points.num_unstable.tolist()).items())
    names = ("stable", "with 1 unstable mode")
    text = ", ".join(f"{c:,} {names[k] if k < 2 else f'with {k} unstable modes'}" for k, c in counts)
    marginal = int((points.stability == "marginal").sum())
    return text + (f" ({marginal:,} of them marginal)" if marginal else "")


def _fate(name: str) -> str:
    if name in ("diverged", "moving"):
        return "still moving" if name == "moving" else name
    return f"end at a {name}" if name == "fixed point" else f"end on a {name}"
