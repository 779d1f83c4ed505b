"""95% intervals, shared by data, training, ablation, benchmarks and the tiny world.

For the bootstrap a caller draws its own resamples (of requests, steps, seeds or items) with its own seeded generator.
The interval ends at the 2.5% and the 97.5% point of the resamples' figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
ENDS = (0.025, 0.975)


def bootstrap(figure: Callable[[], float | None], resamples: int = RESAMPLES) -> list[float]:
    """The figures of so many resamples, from the lowest to the highest.

    figure: draws one resample and returns its figure; None where the resample has none, which is left out.
    """
    return sorted(found for _ in range(resamples) if (found := figure()) is not None)


def interval_by_rank(figures: Sequence[float]) -> tuple[float, float]:
    """The interval's ends are two of the figures, which are sorted; there is at least one."""
    low, high = (figures[int(end * len(figures))] for end in ENDS)
    return low, high


def interval_by_quantile(figures: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """The interval's ends lie between the two nearest figures, as numpy's quantiles do."""
    low, high = np.quantile(figures, ENDS)
    return float(low), float(high)


def interval_of_share(hits: int, of: int) -> tuple[float, float]:
    """Wilson's interval of hits / of, in [0, 1]; it does not shrink to a point where all or none hit. `of` is above 0.

    It takes the items for independent of each other.
    """
    z = 1.959964
    share = hits / of
    middle, scale = share + z * z / (2 * of), 1 + z * z / of
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    # Rounding may leave 1e-19 where it is 0.
    return max(0.0, min(share, (middle - half) / scale)), min(1.0, max(share, (middle + half) / scale))
