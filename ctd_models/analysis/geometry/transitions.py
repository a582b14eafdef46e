"""The transition graph of memories: which attractors are neighbours, through which saddles."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True, repr=False)
class TransitionGraph:
    """Memories (stable points) joined by saddles with one unstable mode, whose two ways out lead to one memory each.

    Such a saddle lies on the border between the basins of its memories and is the lowest pass from one to the other.
    Indices are those of the points.
    """

    num_unstable: Int[np.ndarray, "p"]
    """Number of unstable modes of every point: 0 of a memory."""
    saddles: Int[np.ndarray, "e"]
    """The saddle of each edge."""
    memories: Int[np.ndarray, "e 2"]
    """The two memories it joins: where its forward and its backward way end. They may be the same one."""
    times: Float[np.ndarray, "e 2"]
    """Time from the saddle to each of them."""
    incomplete: Int[np.ndarray, "i"]
    """Saddles with one unstable mode of which at least one way does not end at a memory."""
    connections: Int[np.ndarray, "p p"]
    """How many of the ways followed out of point i end at point j, for points of any kind."""

    def __len__(self) -> int:
        return len(self.saddles)

    @property
    def attractors(self) -> Int[np.ndarray, "a"]:
        """Indices of the memories."""
        return np.flatnonzero(self.num_unstable == 0)

    def adjacency(self) -> Int[np.ndarray, "a a"]:
        """Number of saddles that join each two memories, in the order of `attractors`; symmetric."""
        place = np.cumsum(self.num_unstable == 0) - 1
        one, other = place[self.memories].T
        counts = np.zeros((len(self.attractors), len(self.attractors)), int)
        np.add.at(counts, (one, other), 1)
        np.add.at(counts, (other, one), one != other)
        return counts

    def neighbors(self, memory: int | np.integer) -> Int[np.ndarray, "k"]:
        """The other memories one saddle away from a memory.

        Raises:
            ValueError: the point is no memory.
        """
        if not (0 <= memory < len(self.num_unstable) and self.num_unstable[memory] == 0):
            raise ValueError(f"point {memory} is not one of the memories {self.attractors.tolist()}")
        joined = self.memories[(self.memories == memory).any(axis=1)]
        return np.setdiff1d(joined, [memory])

    def __repr__(self) -> str:
        higher = int((self.num_unstable > 1).sum())
        lines = [
            f"TransitionGraph: {len(self.attractors):,} memories joined by {len(self):,} saddles; "
            f"{higher:,} points with more unstable modes"
        ]
        if len(self.incomplete):
            lines.append(f"  {len(self.incomplete):,} saddles with a way that ends at no memory: {self.incomplete}")
        return "\n".join(lines)
