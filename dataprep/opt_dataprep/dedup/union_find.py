"""Connected components on one flat array, many edges at a time; a component is named by its smallest number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Components:
    """Union-find over 0 .. size - 1.

    Every root only ever points to a smaller number, so the result does not depend on the order of the edges.
    """

    def __init__(self, size: int) -> None:
        self._parent = np.arange(size, dtype=np.uint32 if size < 1 << 32 else np.uint64)

    def union(self, one: NDArray[np.integer], other: NDArray[np.integer]) -> None:
        """Join the ends of each edge."""
        while len(one):
            left, right = self.find(one), self.find(other)
            apart = left != right
            one, other = left[apart], right[apart]
            np.minimum.at(self._parent, np.maximum(one, other), np.minimum(one, other))

    def find(self, numbers: NDArray[np.integer]) -> NDArray[np.unsignedinteger]:
        """Name of the component of each number; paths walked are halved."""
        roots: NDArray[np.unsignedinteger] = self._parent[numbers]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                break
            self._parent[numbers] = above
            roots = above
        self._parent[numbers] = roots
        return roots
