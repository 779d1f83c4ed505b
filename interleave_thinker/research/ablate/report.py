"""Means, intervals, signs, a table and a plot, from the figures of all rows and seeds.

Intervals are 95%, by bootstrap over seeds and then over the requests of a seed: they cover other trainings and other
requests. Rows of a seed share their requests, so a difference is taken request by request.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..intervals import bootstrap, interval_by_rank
from .rows import COMPARISONS, ROWS, Comparison

Shares = Mapping[int, Sequence[float]]
"""By seed: of each request the share of steps that are right."""


def summarised(found: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> dict[str, Any]:
    """JSON of everything: rows with mean and interval, comparisons with their signs."""
    shares = {name: {s: f["shares"] for s, f in by_seed.items()} for name, by_seed in found.items()}
    paper = {row.name: row.paper for row in ROWS}
    rows = {
        name: {
            **estimate(of),
            "by_seed": {s: statistics.mean(v) for s, v in of.items()},
            "critic_balanced_accuracy": _mean(found[name], "critic_balanced_accuracy"),
            "attempts_per_step": _mean(found[name], "attempts_per_step"),
            "paper": paper.get(name),
        }
        for name, of in shares.items()
    }
    signs = [_sign(c, shares) for c in COMPARISONS if c.better in shares and c.worse in shares]
    return {"rows": rows, "comparisons": signs}


def estimate(of: Shares, seed: int = 0) -> dict[str, Any]:
    """Mean over seeds and its interval."""
    rng = random.Random(seed)

    def resampled() -> float:
        drawn = [of[s] for s in rng.choices(list(of), k=len(of))]
        return statistics.fmean(statistics.fmean(rng.choices(v, k=len(v))) for v in drawn)

    mean = statistics.fmean(statistics.fmean(v) for v in of.values())
    return {"mean": mean, "ci95": list(interval_by_rank(bootstrap(resampled)))}


def _sign(of: Comparison, shares: Mapping[str, Shares]) -> dict[str, Any]:
    better, worse = shares[of.better], shares[of.worse]
    both = sorted(set(better) & set(worse))
    differences = {s: [b - w for b, w in zip(better[s], worse[s], strict=True)] for s in both}
    found = estimate(differences)
    low, high = found["ci95"]
    sign = "reproduced" if low > 0 else "the opposite" if high < 0 else "not decided"
    return {
        "claim": of.claim,
        "better": of.better,
        "worse": of.worse,
        **found,
        "sign": sign,
        "paper": of.paper,
    }


def _mean(by_seed: Mapping[int, Mapping[str, Any]], key: str) -> float | None:
    values = [f[key] for f in by_seed.values() if f[key] is not None]
    return statistics.fmean(values) if values else None


def table(summary: Mapping[str, Any]) -> str:
    """Markdown: no row and no comparison is left out."""
    lines = ["| row | step success | 95% | critic | attempts | paper (UEval) |", "|---|---|---|---|---|---|"]
    for name, row in summary["rows"].items():
        low, high = row["ci95"]
        cells = [
            f"{row['mean']:.1%}",
            f"{low:.1%} to {high:.1%}",
            _cell(row["critic_balanced_accuracy"], ".1%"),
            _cell(row["attempts_per_step"], ".2f"),
            _cell(row["paper"], ".1f"),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| claim | difference | 95% | sign | paper |", "|---|---|---|---|---|"]
    for sign in summary["comparisons"]:
        low, high = sign["ci95"]
        who = f"{sign['claim']} ({sign['better']} - {sign['worse']})"
        cells = [f"{sign['mean']:+.1%}", f"{low:+.1%} to {high:+.1%}", sign["sign"], _cell(sign["paper"], "+.1f")]
        lines.append(f"| {who} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def plot(summary: Mapping[str, Any], path: Path) -> None:
    """Step success of each row with its interval; the ending says whether it becomes PNG or SVG."""
    from matplotlib.figure import Figure

    rows = summary["rows"]
    figure = Figure(figsize=(8, 0.4 * len(rows) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    names = list(rows)[::-1]
    means = [100 * rows[n]["mean"] for n in names]
    sides = [[100 * (rows[n]["mean"] - rows[n]["ci95"][0]) for n in names]]
    sides.append([100 * (rows[n]["ci95"][1] - rows[n]["mean"]) for n in names])
    axes.barh(names, means, color="#4c72b0", height=0.6)
    axes.errorbar(means, names, xerr=sides, fmt="none", ecolor="#222222", capsize=3)
    axes.set_xlim(0, 100)
    axes.set_xlabel("steps that are right, % (95% interval)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
