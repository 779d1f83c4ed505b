"""GRPO's advantages by hand, to compare the trainer's with."""

from __future__ import annotations

import math
from collections.abc import Sequence


def advantages(rewards: Sequence[float | None], epsilon: float = 1e-4) -> list[float]:
    """Of one group (paper, section 4.3): (r - mean) / (std + epsilon), std with n - 1.

    None is a response without a reward: it counts in neither mean nor deviation, and its advantage is 0.
    """
    known = [r for r in rewards if r is not None]
    if len(known) < 2:
        return [0.0] * len(rewards)
    mean = sum(known) / len(known)
    std = math.sqrt(sum((r - mean) ** 2 for r in known) / (len(known) - 1))
    return [0.0 if r is None else (r - mean) / (std + epsilon) for r in rewards]
