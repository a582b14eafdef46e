"""How much of the set of fixed points a search has seen."""

import dataclasses

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True)
class Completeness:
    """What the number of candidates that led to each point says about points that none led to.

    Points are species, and candidates that arrived are a sample of them: coverage is the estimate of Good & Turing (Good
    1953, doi:10.1093/biomet/40.3-4.237), the number unseen the bias-corrected estimate of Chao (1984; Chao 2005), a lower
    bound. Both hold for isolated points, and for the places that the candidates are drawn from, independently of each
    other: nothing is said of points that no such candidate could lead to.
    """

    num_points: int
    """Points found."""
    num_arrived: int
    """Candidates that led to one of them."""
    num_reached_once: int
    """Points that one candidate led to, f1."""
    num_reached_twice: int
    """Points that two candidates led to, f2."""
    num_found_by_exploration: int
    """Points that no candidate led to, found from where the others suggest them."""

    @classmethod
    def of(cls, hits: Int[np.ndarray, "n"]) -> "Completeness":
        """From how many candidates led to each point."""
        return cls(len(hits), int(hits.sum()), *(int((hits == k).sum()) for k in (1, 2, 0)))

    @property
    def coverage(self) -> float:
        """Estimated probability, 0 … 1, that one more candidate leads to a known point; NaN where none arrived."""
        if self.num_arrived == 0:
            return float("nan")
        return 1.0 - self.num_reached_once / self.num_arrived

    @property
    def estimated_unseen(self) -> float:
        """Estimated number of points that candidates would still lead to if there were more, f1 (f1 − 1) / (2 (f2 + 1)),
        less those that exploration has found."""
        once, twice = self.num_reached_once, self.num_reached_twice
        return max(0.0, once * (once - 1) / (2 * (twice + 1)) - self.num_found_by_exploration)

    def __str__(self) -> str:
        found = f", {self.num_found_by_exploration:,} by exploration alone" if self.num_found_by_exploration else ""
        if not self.num_arrived:
            return f"{self.num_points:,} points, which no candidate reached{found}"
        if self.num_points >= 20 and self.num_reached_once > 0.5 * self.num_points:
            return f"{self.num_points:,} points, most of them reached once: a continuum? See find_slow_manifold"
        return (
            f"{self.num_points:,} points, {self.num_reached_once:,} of them reached once{found}; coverage "
            f"{100 * self.coverage:.1f} %, estimated number not yet seen {self.estimated_unseen:.1f}"
        )
