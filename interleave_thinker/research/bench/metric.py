"""A metric: one value an item, how the items make one figure, and how sure that figure is.

Items whose judgment failed have no value; they are counted and never replaced by a number. Intervals
are 95% percentile bootstraps over items, within groups where the figure is a weighted mean of groups;
two systems are compared on the items that both have (paired).
Knows nothing of benchmarks, files or judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..intervals import RESAMPLES, interval_by_quantile


@dataclass(frozen=True)
class Metric:
    """Values by item id.

    expected: how many items should have a value; those without one have failed.
    groups: item id -> group (task, category); empty: one group.
    weights: group -> weight of its mean in the figure; None: every item counts the same. A weighted
        figure needs a value in every weighted group.
    unit: how the values are printed, "share" (0 to 1, as percent) or "points".
    parts: for a mean of parts (text and picture rates), each part's values by item; `values` then follow.
    interval: given where the figure is no mean of items (a correlation); `values` then hold the figure.
    detail: whether tables show the groups.
    absent: (n, m): n of m items of the run had no output and are left out.
    assumed: items whose judgment failed and that have a value by convention.
    """

    name: str
    values: Mapping[str, float]
    expected: int
    groups: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] | None = None
    unit: str = "points"
    note: str = ""
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    detail: bool = False
    absent: tuple[int, int] = (0, 0)
    assumed: frozenset[str] = frozenset()

    @property
    def counted(self) -> str:
        """How many items stand behind the figure, for tables."""
        judged = f"{self.judged} of {self.expected}"
        return f"{judged}; no output: {self.absent[0]} of {self.absent[1]}" if self.absent[0] else judged

    @property
    def judged(self) -> int:
        """Items that were; all that a correlation is made from."""
        return self.expected if self.interval is not None else len(self.values) - len(self.assumed)

    @property
    def failed(self) -> int:
        return self.expected - self.judged

    def of_the_judged(self) -> dict[str, float]:
        """Values by item that depend on no other item: without those by convention, and of parts their plain mean."""
        if self.parts:
            items = dict.fromkeys(i for part in self.parts.values() for i in part)
            of = {i: [part[i] for part in self.parts.values() if i in part] for i in items}
            return {i: sum(values) / len(values) for i, values in of.items()}
        return {i: v for i, v in self.values.items() if i not in self.assumed}


@dataclass(frozen=True)
class Figure:
    """A value with its 95% interval and the number of items behind it; None where there is none."""

    value: float | None
    low: float | None
    high: float | None
    items: int

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "ci95": [self.low, self.high], "n": self.items}


NOTHING = Figure(None, None, None, 0)


def equal_weights(groups: Sequence[str]) -> dict[str, float]:
    """The unweighted mean over groups ("macro")."""
    return {g: 1.0 / len(groups) for g in groups}


def weighted(means: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    """A total of group means, or None if a group is missing: a published table's last column."""
    if any(means.get(g) is None for g in weights):
        return None
    return float(sum(w * means[g] for g, w in weights.items()))


def figure(metric: Metric) -> Figure:
    """The metric over all its items."""
    if metric.interval is not None:
        value = next(iter(metric.values.values()), None)
        return Figure(value, *metric.interval, metric.expected)
    return _figure(metric.values, metric.groups, metric.weights)


def group_figures(metric: Metric) -> dict[str, Figure]:
    """The metric of each group, in the order in which groups first occur."""
    out: dict[str, Figure] = {}
    for group in dict.fromkeys(metric.groups.values()):
        out[group] = _figure({i: v for i, v in metric.values.items() if metric.groups.get(i) == group}, {}, None)
    return out


def why_none(metric: Metric) -> str:
    """Why the metric has no figure; "" where it has one."""
    if figure(metric).value is not None:
        return ""
    if not metric.expected:
        return "there is nothing to count"
    if not metric.values:
        return f"none of {metric.expected} could be judged"
    having = {metric.groups.get(i, "") for i in metric.values}
    return f"nothing judged of {', '.join(g for g in metric.weights or {} if g not in having)}"


def difference(a: Metric, b: Metric) -> Figure:
    """`a` minus `b` on the items that both have, with the interval of the paired difference."""
    if a.interval is not None:
        return NOTHING
    common = _apart(a.values, b.values)
    if a.parts:
        common = mean_of_parts({name: _apart(a.parts[name], b.parts.get(name, {})) for name in a.parts})
    return _figure(common, a.groups, a.weights)


def mean_of_parts(parts: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Per-item values whose mean is the mean of the parts' means, whichever item lacks which part."""
    known = [p for p in parts.values() if p]
    items = list(dict.fromkeys(i for p in known for i in p))
    return {i: sum(p[i] * len(items) / len(p) for p in known if i in p) / len(known) for i in items}


def _apart(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    return {i: v - b[i] for i, v in a.items() if i in b}


def _figure(values: Mapping[str, float], groups: Mapping[str, str], weights: Mapping[str, float] | None) -> Figure:
    parts: dict[str, list[float]] = {}
    for item, value in values.items():
        parts.setdefault(groups.get(item, "") if weights is not None else "", []).append(value)
    shares = weights if weights is not None else {"": 1.0}
    if not parts or any(g not in parts for g in shares):
        return Figure(None, None, None, len(values))
    arrays = {g: np.asarray(parts[g], dtype=np.float64) for g in shares}
    middle = sum(w * float(arrays[g].mean()) for g, w in shares.items())
    draws: NDArray[np.float64] = np.zeros(RESAMPLES)
    rng = np.random.default_rng(0)
    for group, weight in shares.items():
        draws += weight * _means(arrays[group], rng)
    items = sum(map(len, arrays.values()))
    if any(len(a) < 2 for a in arrays.values()):
        return Figure(middle, None, None, items)  # one item says nothing about its group's spread
    return Figure(middle, *interval_by_quantile(draws), items)


def _means(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Means of resamples; the counts of each value are drawn at once, so 1,000 items take milliseconds."""
    counts = rng.multinomial(len(values), np.full(len(values), 1.0 / len(values)), size=RESAMPLES)
    means: NDArray[np.float64] = counts @ values / len(values)
    return means
