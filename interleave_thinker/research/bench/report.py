"""Tables of metrics: one system, or several side by side with paired differences and published rows.

Every figure stands with its interval and its number of items.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files import write_atomically
from .base import BenchError, dump
from .metric import NOTHING, Figure, Metric, difference, figure, group_figures, why_none
from .totals import published


def to_dict(metrics: Sequence[Metric]) -> dict[str, Any]:
    """JSON-serialisable figures by metric name."""
    return {
        m.name: figure(m).to_dict()
        | {
            "of": m.expected,
            "failed": m.failed,
            **({"no_output": m.absent[0]} if m.absent[0] else {}),
            **({"why_none": why_none(m)} if why_none(m) else {}),
            "note": m.note,
            "groups": {g: f.to_dict() for g, f in group_figures(m).items()},
        }
        for m in metrics
    }


def to_markdown(metrics: Sequence[Metric]) -> str:
    """One line a metric, then one a group where there are groups."""
    lines = ["| metric | value | 95% interval | judged | |", "|---|---|---|---|---|"]
    for metric in metrics:
        why = why_none(metric)
        note = "; ".join(said for said in (f"no figure: {why}" if why else "", metric.note) if said)
        lines.append(_line(metric.name, figure(metric), metric, metric.counted, note))
        groups = group_figures(metric)
        if (len(groups) > 1 or (groups and why)) and (metric.weights is not None or metric.detail):
            lines += [_line(f"&nbsp;&nbsp;{g}", f, metric, str(f.items), "") for g, f in groups.items()]
    return "\n".join(lines)


def compare(systems: Mapping[str, Sequence[Metric]]) -> str:
    """Systems side by side, each against the first, on the items that both have."""
    names = list(systems)
    by_name = {s: {m.name: m for m in ms} for s, ms in systems.items()}
    lines = []
    for metric in systems[names[0]]:
        lines += [f"**{metric.name}**" + (f" ({metric.note})" if metric.note else ""), ""]
        lines.append("| system | value | 95% interval | judged | minus the first | 95% interval |")
        lines.append("|---|---|---|---|---|---|")
        for name in names:
            mine = by_name[name].get(metric.name)
            if mine is None:
                continue
            apart = difference(mine, metric) if name != names[0] else NOTHING
            one = figure(mine)
            cells = [name, _value(one.value, metric) or why_none(mine), _interval(one, metric), mine.counted]
            cells += [_value(apart.value, metric, "+"), _interval(apart, metric, "+")]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def to_csv(systems: Mapping[str, Sequence[Metric]]) -> str:
    """Long form: system, metric, group, value, interval, counts; `no_output` where an item has none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    absent = any(metric.absent[0] for metrics in systems.values() for metric in metrics)
    head = ["system", "metric", "group", "value", "low", "high", "judged", "expected"]
    writer.writerow([*head, *(["no_output"] if absent else [])])
    for system, metrics in systems.items():
        for metric in metrics:
            whole = figure(metric)
            counts = [metric.judged, metric.expected, *([metric.absent[0]] if absent else [])]
            writer.writerow([system, metric.name, "", whole.value, whole.low, whole.high, *counts])
            for group, part in group_figures(metric).items():
                row = [system, metric.name, group, part.value, part.low, part.high, part.items, ""]
                writer.writerow([*row, *([""] if absent else [])])
    return out.getvalue()


def write_report(
    bench: str, systems: Mapping[str, Sequence[Metric]], out: Path, about: Mapping[str, Any]
) -> list[Path]:
    """report.json, .csv, .md and, where matplotlib is installed, report.png beside the published numbers."""
    figures = {s: to_dict(m) for s, m in systems.items()}
    text = [f"# {bench}", ""]
    for name, facts in about.items():
        text += [f"- {name}: {facts}"]
    text += ["", compare(systems) if len(systems) > 1 else to_markdown(next(iter(systems.values()))), ""]
    written = {
        "report.json": dump({"bench": bench, "about": dict(about), "systems": figures}),
        "report.csv": to_csv(systems).encode(),
        "report.md": "\n".join(text).encode(),
    }
    for name, data in written.items():
        write_atomically(out / name, data)
    paths = [out / n for n in written]
    plotted = _plot(bench, systems, out / "report.png")
    return [*paths, plotted] if plotted else paths


_HEADLINE = {
    "ueval": {
        "task average": ("ueval", "average", 100.0),
        "pooled average": ("paper-ueval-ablation", "average", 100.0),
    },
    "wise": {"overall": ("wise-legacy", "overall", 1.0)},
    "rise": {"accuracy": ("rise", "overall", 100.0)},
    "comm": {
        "task3 style_consistency (Sty)": ("paper-comm-task3", "style", 1.0),
        "task4 style_consistency (Sty)": ("paper-comm-task4", "style", 1.0),
    },
    "viescore": {"SC": ("viescore-means", "sc_mean", 1.0)},
}
"""Benchmark -> metric -> the published table and column that it is comparable to, and the metric's scale there."""


def comparable(bench: str, metric: Metric) -> tuple[str, list[tuple[str, float]], float] | None:
    """(title, published rows, scale) for a headline metric; WISE's table is that of the same protocol."""
    place = _HEADLINE.get(bench, {}).get(metric.name)
    if place is None:
        return None
    name, column, scale = place
    if bench == "wise" and "Verified" in metric.note:
        name = "wise-verified"
    table = next(t for t in published() if t["id"] == name)
    known = [r for r in table["rows"] if r.get(column) is not None]
    rows = [(f"{r['system']} {r.get('task', '')}".strip(), float(r[column])) for r in known]
    return f"{table['name']} ({table['source']})", rows, scale


def _plot(bench: str, systems: Mapping[str, Sequence[Metric]], path: Path) -> Path | None:
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        return None
    first = next(iter(systems.values()))
    shown = [(m, c) for m in first if (c := comparable(bench, m))]
    chosen = shown[0][0].name if shown else first[0].name
    title, rows, scale = shown[0][1] if shown else (chosen, [], 100.0 if first[0].unit == "share" else 1.0)
    bars: list[tuple[str, float, bool, tuple[float, float]]] = [(n, v, False, (0.0, 0.0)) for n, v in rows]
    for name, metrics in systems.items():
        found = next((figure(m) for m in metrics if m.name == chosen), None)
        if found is not None and found.value is not None:
            ends = [scale * abs(found.value - (found.value if e is None else e)) for e in (found.low, found.high)]
            bars.append((name, found.value * scale, True, (ends[0], ends[1])))
    if not any(own for *_, own, _ in bars):
        return None
    bars.sort(key=lambda b: b[1])
    chart, axes = plt.subplots(figsize=(8, 1.2 + 0.26 * len(bars)))
    for place, (_name, value, own, spread) in enumerate(bars):
        error = [[spread[0]], [spread[1]]] if any(spread) else None
        axes.barh(place, value, color="#2f6fb0" if own else "#c9c9c9", xerr=error, capsize=3)
        axes.text(value + spread[1], place, f" {value:.4g}", va="center", fontsize=7)
    axes.margins(y=0.01)
    axes.set_yticks(range(len(bars)), [b[0][:60] for b in bars], fontsize=7)
    axes.set_title(f"{bench}: {chosen}\ngrey: {title}" if rows else f"{bench}: {chosen}", fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    chart.tight_layout()
    try:
        chart.savefig(path, dpi=150)
    except OSError as error:
        raise BenchError(f"Cannot write {path}: {error.strerror or error}.") from None
    finally:
        plt.close(chart)
    return path


def _line(name: str, found: Figure, metric: Metric, judged: str, note: str) -> str:
    return f"| {name} | {_value(found.value, metric)} | {_interval(found, metric)} | {judged} | {note} |"


def _value(value: float | None, metric: Metric, sign: str = "") -> str:
    if value is None:
        return ""
    return f"{value * 100:{sign}.1f}%" if metric.unit == "share" else f"{value:{sign}.4g}"


def _interval(found: Figure, metric: Metric, sign: str = "") -> str:
    if found.low is None or found.high is None:
        return ""
    return f"{_value(found.low, metric, sign)} to {_value(found.high, metric, sign)}"
