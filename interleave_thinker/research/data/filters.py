"""Which attempts are learned from, and where (paper, section 4.2; stage 4).

The paper names three rules and no thresholds; every one is an option here, and every record that a rule drops is
counted with the rule's name. All rules look at a step's overall scores O = sqrt(SC * PQ) in the order of its attempts.

1. trend: steps whose scores fall, or that stay low, teach nothing about refinement.
2. variance: steps whose attempts differ most go to reinforcement learning, the others to fine-tuning (paper: 2:1).
3. balance: as many successes as failures in each, or the critic learns to always say one of them.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from statistics import pvariance
from typing import Literal

from ...errors import ConfigError
from .records import CriticRecord, Drops

Trend = Literal["slope", "first", "off"]


@dataclass(frozen=True)
class FilterOptions:
    """trend: "slope" keeps steps whose line of least squares does not fall below min_slope (points an attempt);
        "first" keeps steps that later reach what they began with (EditThinker's rule); "off" keeps all.
    min_best: a step whose best attempt is below it is persistently low.
    truncate: drop what came after a step's best attempt.
    rl_share: the share of steps, those whose scores vary most, that go to RL; never a step that does not vary.
    rl_variance: instead, all steps whose scores vary by at least this (population variance, points squared).
    balance: most of the commoner label for each of the rarer one, in each part; 0 leaves them as they are.
    need_refined: a failure without a refined prompt teaches no refinement; dropped from fine-tuning.
    seed: of the choice that balancing makes.
    """

    trend: Trend = "slope"
    min_slope: float = 0.0
    min_best: float = 5.0
    truncate: bool = True
    rl_share: float = 1 / 3
    rl_variance: float | None = None
    balance: float = 1.0
    need_refined: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.min_slope):
            raise ConfigError(f"min_slope is {self.min_slope}; it must be a number of points.")
        limits = {"min_best": 10.0, "rl_share": 1.0, "rl_variance": 25.0, "balance": 100.0}
        for name, high in limits.items():
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= high:
                raise ConfigError(f"{name} is {value}; it must be between 0 and {high:g}.")


def filtered(
    records: Sequence[CriticRecord], options: FilterOptions
) -> tuple[list[CriticRecord], list[CriticRecord], Drops]:
    """(for fine-tuning, for reinforcement learning, what was dropped and why); nothing is in both parts."""
    drops = Drops()
    kept: list[tuple[float, list[CriticRecord]]] = []
    for attempts in by_step(records, drops):
        reason = _unfit(attempts, options)
        if reason:
            drops.drop(reason, len(attempts))
            continue
        scores = _scores(attempts)
        if options.truncate:
            best = max(range(len(scores)), key=lambda i: (scores[i], -i))
            drops.drop("after the best attempt of its step", len(attempts) - best - 1)
            attempts = attempts[: best + 1]
        kept.append((pvariance(scores), attempts))
    least = _least_variance([variance for variance, _ in kept], options)
    sft = [r for variance, attempts in kept if variance < least for r in attempts]
    rl = [r for variance, attempts in kept if variance >= least for r in attempts]
    if options.need_refined:
        silent = [r for r in sft if not r.success and not r.refined]
        drops.drop("a failure without a refined prompt", len(silent))
        sft = [r for r in sft if r.success or r.refined]
    rng = random.Random(options.seed)
    sft = _balanced(sft, options.balance, rng, drops, "fine-tuning")
    rl = _balanced(rl, options.balance, rng, drops, "reinforcement learning")
    for _ in (*sft, *rl):
        drops.keep()
    return sft, rl, drops


def filtered_by_label(records: Sequence[CriticRecord], options: FilterOptions) -> tuple[list[CriticRecord], Drops]:
    """What fine-tuning can learn from labels alone, without a judge's scores: `need_refined` and `balance` count.

    Raises:
        ConfigError: nothing is left; the message says which label is missing and what would do.
    """
    drops = Drops()
    kept = list(records)
    if options.need_refined:
        kept = [r for r in kept if r.success or r.refined]
        drops.drop("a failure without a refined prompt", len(records) - len(kept))
    labels = {r.success for r in kept}
    if not kept:
        why = "there is none" if not records else "all are failures without a refined prompt"
        raise ConfigError(f"No attempt is left to learn from: {why}. Make more runs, or give --no-need-refined.")
    if len(labels) < 2 and options.balance:
        lacking = "failures with a refined prompt" if True in labels else "successes"
        helps = "" if True in labels else ", accept attempts of your runs yourself (Accept)"
        raise ConfigError(
            f"Of {len(records)} attempts none are {lacking}, and a critic learns from both. Make more runs{helps}, or "
            "keep one kind: --balance 0."
        )
    kept = _balanced(kept, options.balance, random.Random(options.seed), drops, "fine-tuning")
    for _ in kept:
        drops.keep()
    return kept, drops


def _least_variance(variances: Sequence[float], options: FilterOptions) -> float:
    """The least variance of a step that goes to RL."""
    if options.rl_variance is not None:
        return options.rl_variance
    most = sorted((v for v in variances if v > 0), reverse=True)[: round(options.rl_share * len(variances))]
    return most[-1] if most else math.inf


def slope(scores: Sequence[float]) -> float:
    """Of the line of least squares through the scores at 0, 1, 2, ...; 0 for a single one."""
    n = len(scores)
    if n < 2:
        return 0.0
    middle, mean = (n - 1) / 2, sum(scores) / n
    return sum((i - middle) * (s - mean) for i, s in enumerate(scores)) / sum((i - middle) ** 2 for i in range(n))


def by_step(records: Sequence[CriticRecord], drops: Drops) -> list[list[CriticRecord]]:
    """The scored attempts of each step in their order; the others are dropped and counted."""
    groups: dict[str, list[CriticRecord]] = defaultdict(list)
    for record in records:
        if record.overall is None:
            drops.drop("it has no scores")
        else:
            groups[record.group].append(record)
    return [sorted(group, key=lambda r: r.attempt) for group in groups.values()]


def _unfit(attempts: Sequence[CriticRecord], options: FilterOptions) -> str:
    scores = _scores(attempts)
    if max(scores) < options.min_best:
        return "persistently low"
    if options.trend == "slope" and slope(scores) < options.min_slope:
        return "falling trend"
    if options.trend == "first" and len(scores) > 1 and max(scores[1:]) < scores[0]:
        return "never as good as its first attempt again"
    return ""


def _balanced(
    records: list[CriticRecord], ratio: float, rng: random.Random, drops: Drops, part: str
) -> list[CriticRecord]:
    sides = [[r for r in records if r.success is label] for label in (True, False)]
    fewer, more = sorted(sides, key=len)
    allowed = round(len(fewer) * ratio)
    if not ratio or len(more) <= allowed:
        return records
    left_out = set(rng.sample(range(len(more)), len(more) - allowed))  # by place: a record may be there twice
    kind = "successes" if more[0].success else "failures"
    drops.drop(f"too many {kind} for {part}", len(left_out))
    place = count()
    return [r for r in records if r.success is not more[0].success or next(place) not in left_out]


def _scores(attempts: Sequence[CriticRecord]) -> list[float]:
    return [r.overall or 0.0 for r in attempts]
