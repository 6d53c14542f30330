"""Documents are numbered through all parts: a part's first number plus the row in the part."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import facts


def bases(preparation: Preparation) -> list[int]:
    """Number of each part's first document, and the number of all documents."""
    return [0, *accumulate(fact["kept"] for fact in facts(preparation, "read"))]


def by_part(numbers: NDArray[np.uint64], starts: list[int]) -> list[int]:
    """Return where each part's documents begin in a sorted array of numbers, and the end."""
    return [int(i) for i in np.searchsorted(numbers, np.asarray(starts, np.uint64))]
