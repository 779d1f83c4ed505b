"""95% bootstrap intervals, shared by data, ablation, benchmarks and the tiny world.

A caller draws its own resamples (of requests, steps, seeds or items) with its own seeded generator. The interval ends
at the 2.5% and the 97.5% point of the resamples' figures.
"""

from __future__ import annotations

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
