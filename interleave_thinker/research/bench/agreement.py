"""How far two judges agree who judged the same outputs: an open model, say, and upstream's released judgments.

Compares what `aggregate` reads from their score files, item by item; so it works for every benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ..intervals import bootstrap, interval_by_quantile
from .base import BenchError
from .metric import Figure, Metric, figure

RHO_RESAMPLES = 500
SAME = 1e-9
"""Values that are nearer than this are equal."""


@dataclass(frozen=True)
class Agreement:
    """Two judges on one metric. items: that both judged. equal: share of them with the same value. kappa: Cohen's, of
    items with one of two values; chance alone gives 0. rho: Spearman's rank correlation. difference: ours less theirs,
    in the metric's unit. None where there is no such figure: a judge's values do not vary, or are not of two kinds.
    """

    metric: str
    items: int
    equal: Figure
    kappa: float | None
    rho: Figure | None
    difference: Figure

    def to_dict(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "items": self.items,
            "equal": self.equal.to_dict(),
            "kappa": self.kappa,
            "spearman": self.rho.to_dict() if self.rho else None,
            "difference": self.difference.to_dict(),
        }


def agreements(
    ours: Sequence[Metric], theirs: Sequence[Metric], pooled_as: Callable[[str], str | None] = str
) -> list[Agreement]:
    """Of each metric that both have items of; figures that are no mean of items (correlations) are left out.

    pooled_as: the name under which the items of several systems' metrics are put together; None leaves one out.

    Raises:
        BenchError: no item was judged by both.
    """
    known = {metric.name: metric for metric in theirs if metric.interval is None}
    pairs: dict[str, dict[str, tuple[float, float]]] = {}
    for metric in ours:
        other = known.get(metric.name)
        name = pooled_as(metric.name)
        if other is not None and metric.interval is None and name is not None:
            mine, its = metric.of_the_judged(), other.of_the_judged()
            both = {f"{metric.name} {i}": (v, its[i]) for i, v in mine.items() if i in its}
            pairs.setdefault(name, {}).update(both)
    found = [_agreement(name, both) for name, both in pairs.items() if both]
    if not found:
        raise BenchError(
            "No item was judged by both: the score files share no metric with the same item ids. "
            f"One has {_example(ours)}, the other {_example(theirs)}."
        )
    return found


def _agreement(name: str, both: Mapping[str, tuple[float, float]]) -> Agreement:
    a, b = {i: ours for i, (ours, _) in both.items()}, {i: theirs for i, (_, theirs) in both.items()}
    same = {i: float(abs(ours - theirs) < SAME) for i, (ours, theirs) in both.items()}
    apart = {i: ours - theirs for i, (ours, theirs) in both.items()}
    return Agreement(
        name,
        len(both),
        figure(Metric("equal", same, len(both))),
        cohens_kappa(list(a.values()), list(b.values())),
        correlation(a, b),
        figure(Metric("difference", apart, len(both))),
    )


def cohens_kappa(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Agreement of two judges beyond chance; None unless the values are of exactly two kinds."""
    kinds = sorted({*a, *b})
    if len(kinds) != 2:
        return None
    equal = float(np.mean([x == y for x, y in zip(a, b, strict=True)]))
    chance = sum(float(np.mean([x == kind for x in a]) * np.mean([y == kind for y in b])) for kind in kinds)
    return None if chance >= 1 else (equal - chance) / (1 - chance)


def correlation(a: Mapping[str, float], b: Mapping[str, float]) -> Figure | None:
    """Spearman's rho on the items of both, with its bootstrap interval; None where one of them does not vary."""
    common = sorted(set(a) & set(b))
    x, y = (np.asarray([of[u] for u in common]) for of in (a, b))
    if len(common) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    rng = np.random.default_rng(0)

    def resampled() -> float | None:
        chosen = rng.integers(len(common), size=len(common))
        varies = np.ptp(x[chosen]) and np.ptp(y[chosen])
        return _pearson(rankdata(x[chosen]), rankdata(y[chosen])) if varies else None

    drawn = bootstrap(resampled, RHO_RESAMPLES)
    rho = _pearson(rankdata(x), rankdata(y))
    return Figure(rho, *interval_by_quantile(drawn), len(common)) if drawn else Figure(rho, None, None, len(common))


def _pearson(x: Any, y: Any) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def table(judges: Mapping[str, Sequence[Agreement]], units: Mapping[str | None, str]) -> str:
    """As Markdown, one line for each metric and judge. units: of each metric, "share" or "points"."""
    figures = "equal | 95% interval | kappa | Spearman | 95% interval | mean difference | 95% interval"
    lines = [f"| metric | judge | items | {figures} |", "|---|---|---|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(a.metric for of in judges.values() for a in of):
        for judge, of in judges.items():
            for a in of:
                if a.metric == name:
                    lines.append(_line(judge, a, units.get(name, "points")))
    return "\n".join(lines)


def _line(judge: str, a: Agreement, unit: str) -> str:
    scale, form = (100.0, "{:+.1f} %") if unit == "share" else (1.0, "{:+.3f}")
    cells = [
        a.metric,
        judge,
        str(a.items),
        *_with_interval(a.equal, "{:.1%}"),
        "" if a.kappa is None else f"{a.kappa:.2f}",
        *(_with_interval(a.rho, "{:.2f}") if a.rho else ("", "")),
        *_with_interval(a.difference, form, scale),
    ]
    return f"| {' | '.join(cells)} |"


def _with_interval(of: Figure, form: str, scale: float = 1.0) -> tuple[str, str]:
    def said(value: float | None) -> str:
        return "" if value is None else form.format(value * scale)

    return said(of.value), "" if of.low is None else f"{said(of.low)} to {said(of.high)}"


def _example(metrics: Sequence[Metric]) -> str:
    first = next((m for m in metrics if m.values and m.interval is None), None)
    return f"{first.name!r} of {next(iter(first.values))!r}" if first else "no item with a value"
