"""RISE's arithmetic and files: marks from replies or tables, scores, accuracies, and upstream's tables.

The conventions are those of `rise.py`; every form in which upstream's judge files are saved is read here.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .base import BenchError, answered, number_in, of_categories, read_json, read_rows, whole_mark
from .metric import Metric

CATEGORIES = ("temporal", "causal", "spatial", "logical")
COUNTS = {"temporal": 85, "causal": 90, "spatial": 100, "logical": 85}
"""Items of the full set."""
SUBTASKS: dict[str, tuple[str, ...]] = {
    "temporal": ("Life Progression", "Material Progression", "Environmental Cycles", "Societal Transformation"),
    "causal": (
        "Structural Deformation",
        "State Transition",
        "Chemical and Biological Transformation",
        "Physics Manifestation",
    ),
    "spatial": (
        "Component Assembly",
        "Object Arrangement",
        "Viewpoint Generation",
        "Structural Inference",
        "Layout Reasoning",
    ),
    "logical": ("Pattern Prediction", "Mathematical Derivation", "Puzzle Solving"),
}
SUBTASK_COUNTS: dict[str, tuple[int, ...]] = {
    "temporal": (19, 46, 13, 7),
    "causal": (36, 25, 16, 13),
    "spatial": (23, 12, 27, 15, 23),
    "logical": (31, 14, 40),
}
"""Items of the full set, in the order of SUBTASKS. They follow from BAGEL's printed accuracies and scores."""
DIMENSION_COUNTS = {"Reasoning": (85, 90, 100, 85), "Consistency": (80, 88, 100, 85), "Quality": (85, 90, 100, 0)}
"""Items with a mark in each dimension, by category: seven are free of the consistency mark, logical ones have no
plausibility."""
PREFIX = {"temporal": "Temp", "causal": "Causal", "spatial": "Spa", "logical": "Logic"}

_FINAL = re.compile(r"final\s+scores?\s*[:：]?\s*\(?(?=\s*\d)", re.I)
_FINAL_ANY = re.compile(r"final\s+scores?", re.I)


def read_final_score(raw: str, low: int = 1, high: int = 5) -> int | None:
    """The whole number after the last "Final Score", or None. "4/5" is 4; "4.5", "1-5" and "7" are none."""
    text = answered(raw).replace("*", "")
    named, places = list(_FINAL_ANY.finditer(text)), list(_FINAL.finditer(text))
    if not places or places[-1].start() != named[-1].start():
        return None
    return whole_mark(text, places[-1].end(), low, high)


@dataclass(frozen=True)
class Marks:
    """Marks of one item, 1 to 5 (logical ones mapped from 0 and 1). None: not asked, or it failed."""

    category: str
    consistency: int | None
    reasoning: int | None
    plausibility: int | None = None
    consistency_free: bool = False

    @property
    def complete(self) -> bool:
        """Whether everything that should have been judged was."""
        return all(v is not None for v in self._counted)

    @property
    def _counted(self) -> list[int | None]:
        counted = [self.reasoning]
        if not self.consistency_free:
            counted.append(self.consistency)
        if self.category != "logical":
            counted.append(self.plausibility)
        return counted

    @property
    def passed(self) -> bool:
        return all(v == 5 for v in self._counted)

    def score(self, *, upstream: bool = False) -> float:
        """1 to 5. `upstream`: with its bug, by which the consistency of T, C and S items never counts."""
        c, r, v = self.consistency or 0, self.reasoning or 0, self.plausibility or 0
        if self.category == "logical":
            total = 0.3 * c + 0.7 * r
        elif self.consistency_free or upstream:
            total = 0.8 * r + 0.2 * v
        else:
            total = 0.3 * c + 0.5 * r + 0.2 * v
        return max(1.0, total / 2) if r == 1 else total


def percent(score: float) -> float:
    """1 to 5 -> 0 to 100."""
    return 25 * (score - 1)


def overall_accuracy(categories: Mapping[str, float]) -> float | None:
    """A leaderboard row's last column: right items of 360, from four category accuracies in percent."""
    means: dict[str, float] = of_categories(categories, CATEGORIES)
    if any(means.get(c) is None for c in CATEGORIES):
        return None
    return sum(round(means[c] / 100 * n) for c, n in COUNTS.items()) / sum(COUNTS.values()) * 100


def table_from_subtasks(rows: Mapping[str, float]) -> dict[str, float]:
    """Category and overall values of a score table from its subtask rows ("Temp-Life Progression", ...).

    The same sums serve scores and accuracies, for both are means over items. Category rows are also
    joined to the overall rows of the three dimensions ("Temporal_Reasoning" to "Overall_Reasoning").
    """
    found: dict[str, float] = {}
    total = 0.0
    for category, names in SUBTASKS.items():
        values = [number_in(rows.get(f"{PREFIX[category]}-{n}"), -1e9, 1e9) for n in names]
        if all(v is not None for v in values):
            counts = SUBTASK_COUNTS[category]
            whole = sum((v or 0.0) * n for v, n in zip(values, counts, strict=True))
            found[category.capitalize()] = whole / sum(counts)
            total += whole
    if len(found) == len(CATEGORIES):
        found["Overall"] = total / sum(COUNTS.values())
    overall = {
        "Reasoning": "Overall_Reasoning",
        "Consistency": "Overall_ApprConsistency",
        "Quality": "Overall_VisualPlausibility_total",
    }
    for name, counts in DIMENSION_COUNTS.items():
        cells = [rows.get(f"{c.capitalize()}_{name}") for c in CATEGORIES]
        parts = [(number_in(v, -1e9, 1e9), n) for v, n in zip(cells, counts, strict=True) if n]
        if all(v is not None for v, _ in parts):
            found[overall[name]] = sum((v or 0.0) * n for v, n in parts) / sum(n for _, n in parts)
    return found


def marks_of(row: Mapping[str, Any], category: str, consistency_free: bool | None) -> Marks:
    """Marks from raw replies (judge1, judge2, judge3) or from a per-item table's columns.

    consistency_free None: nothing is known of the item but this row; then an empty consistency cell says so,
    as upstream writes it, where the other marks are there.
    """
    logical = category == "logical"
    if any(name in row for name in ("Reasoning", "ApprConsistency")):
        columns = ("ApprConsistency", "Reasoning", "VisualPlausibility")
        c, r, v = (_whole(row.get(n), 1, 5) for n in columns)
        empty = not has(row, "ApprConsistency") and r is not None and v is not None
    else:
        c, r, v = (_mark(row.get(f"judge{n}"), logical) for n in (1, 2, 3))
        empty = "judge1" in row and not has(row, "judge1") and has(row, "judge2")
        if logical:
            c, r, v = (None if x is None else 4 * x + 1 for x in (c, r, None))
    free = (empty and not logical) if consistency_free is None else consistency_free
    return Marks(category, None if free else c, r, v, free)


def _whole(value: object, low: int, high: int) -> int | None:
    number = number_in(value, low, high)
    return int(number) if number is not None and number == int(number) else None


def _mark(raw: object, logical: bool) -> int | None:
    if not isinstance(raw, str):
        return None
    return read_final_score(raw, 0 if logical else 1, 1 if logical else 5)


def score_table(marks: Mapping[str, Marks], subtasks: Mapping[str, str]) -> str:
    """Upstream's summary table as CSV, with its own score convention."""
    rows: list[tuple[str, float | None, float | None]] = []

    def scored(name: str, chosen: list[Marks]) -> None:
        done = [m.score(upstream=True) for m in chosen if m.complete]
        right = sum(m.passed for m in chosen) / len(chosen) if chosen else None
        rows.append((name, sum(done) / len(done) if done else None, right))

    def dimension(name: str, values: list[int | None]) -> None:
        known = [v for v in values if v is not None]
        rows.append((name, sum(known) / len(known) if known else None, None))

    every = list(marks.values())
    by_category = {c: [m for m in every if m.category == c] for c in CATEGORIES}
    scored("Overall", every)
    for category in CATEGORIES:
        scored(category.capitalize(), by_category[category])
    dimension("Overall_Reasoning", [m.reasoning for m in every])
    dimension("Overall_ApprConsistency", [m.consistency for m in every])
    dimension("Overall_VisualPlausibility_total", [m.plausibility for m in every])
    for category in CATEGORIES:
        name = category.capitalize()
        dimension(f"{name}_Reasoning", [m.reasoning for m in by_category[category]])
        dimension(f"{name}_Consistency", [m.consistency for m in by_category[category]])
        if category != "logical":
            dimension(f"{name}_Quality", [m.plausibility for m in by_category[category]])
    for category, names in SUBTASKS.items():
        for subtask in names:
            chosen = [m for i, m in marks.items() if m.category == category and subtasks.get(i) == subtask]
            if chosen:
                scored(f"{PREFIX[category]}-{subtask}", chosen)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["-", "Score-Origin", "Score-Percentage", "Accuracy"])
    for name, score, accuracy in rows:
        writer.writerow([name, score, None if score is None else percent(score), accuracy])
    return out.getvalue()


def table_metrics(rows: Sequence[Mapping[str, Any]]) -> list[Metric]:
    """Upstream's summary table: its rows as they are, beside those that its subtask rows give."""
    metrics = []
    for column in ("Score-Percentage", "Accuracy"):
        values = {str(r.get("-")): v for r in rows if (v := number_in(r.get(column), -1e9, 1e9)) is not None}
        computed = table_from_subtasks(values)
        for name, value in values.items():
            note = f"from its subtask rows: {computed[name]:.6g}" if name in computed else ""
            unit = "share" if column == "Accuracy" else "points"
            metrics.append(Metric(f"{name} {column}", {"printed": value}, 1, unit=unit, note=note))
    if not metrics:
        raise BenchError("The table has no number in its columns Score-Percentage and Accuracy.")
    return metrics


def metrics_of(marks: Mapping[str, Marks], subtasks: Mapping[str, str]) -> list[Metric]:
    groups = {i: m.category for i, m in marks.items()}
    done = {i: m for i, m in marks.items() if m.complete}
    finer = {i: f"{PREFIX[m.category]}-{subtasks[i]}" for i, m in marks.items() if subtasks.get(i)}
    count, lost = len(marks), frozenset(i for i in marks if i not in done)
    metrics = [
        Metric("accuracy", {i: float(m.passed) for i, m in done.items()}, count, groups, unit="share", detail=True),
        Metric(
            "accuracy, failed as wrong",
            {i: float(m.passed) for i, m in marks.items()},
            count,
            groups,
            unit="share",
            note="upstream's: a failed judgment counts as a wrong item",
            assumed=lost,
        ),
        Metric(
            "accuracy before 2026-04-13",
            {i: float(m.passed and not m.consistency_free) for i, m in marks.items()},
            count,
            groups,
            unit="share",
            note="upstream's until then: items free of the consistency mark cannot pass",
            assumed=lost,
        ),
        Metric(
            "score",
            {i: percent(m.score()) for i, m in done.items()},
            count,
            groups,
            note="0 to 100, as described",
            detail=True,
        ),
        Metric(
            "score upstream",
            {i: percent(m.score(upstream=True)) for i, m in done.items()},
            count,
            groups,
            note="0 to 100, as its code computes it on the full set: 0.8 R + 0.2 V",
        ),
    ]
    dimensions: dict[str, dict[str, int | None]] = {
        "reasoning": {i: m.reasoning for i, m in marks.items()},
        "consistency": {i: m.consistency for i, m in marks.items() if not m.consistency_free},
        "plausibility": {i: m.plausibility for i, m in marks.items() if m.category != "logical"},
    }
    for name, found in dimensions.items():
        values = {i: percent(v) for i, v in found.items() if v is not None}
        metrics.append(Metric(name, values, len(found), groups, note="0 to 100"))
    if finer:
        values = {i: float(m.passed) for i, m in done.items() if i in finer}
        metrics.append(Metric("accuracy by subtask", values, len(finer), finer, unit="share", detail=True))
    return metrics


def category_of(row: Mapping[str, Any]) -> str | None:
    """temporal, causal, spatial or logical; from an index such as "causal_reasoning_7" if there is no field."""
    for value in (row.get("category"), row.get("index")):
        name = str(value or "").lower().split("_")[0]
        if name in CATEGORIES:
            return name
    return None


def has(row: Mapping[str, Any], name: str) -> bool:
    """Whether a flag or path is given: upstream's tables say "no" with null, NaN, "" or a missing key.

    Spreadsheets say it with False or 0, as numbers or as texts.
    """
    return str(row.get(name)).strip().lower() not in ("", "none", "null", "nan", "false", "no", "n", "0", "0.0")


def read_entries(path: Path) -> dict[str, Mapping[str, Any]] | list[dict[str, Any]]:
    """Rows by index, of any form in which upstream's pickle or table is saved; or its summary table as a list.

    Raises:
        BenchError: it is a pickle, cannot be read, or has no rows with an index.
    """
    if path.suffix in (".pkl", ".pickle"):
        raise BenchError(f"{path.name} is a pickle, which can run code when opened. Save it as JSON first.")
    rows: Any
    if path.suffix == ".csv":
        rows = read_rows(path)
    elif path.suffix == ".xlsx":
        rows = _read_xlsx(path)
    else:
        rows = _records(read_json(path))
    if isinstance(rows, list) and rows and isinstance(rows[0], Mapping) and {"-", "Accuracy"} <= set(rows[0]):
        table = [dict(r) for r in rows if isinstance(r, Mapping)]
        _by_name(table, "-", path)
        return table
    if isinstance(rows, list):
        rows = _by_name([r for r in rows if isinstance(r, Mapping) and r.get("index")], "index", path)
    if not isinstance(rows, Mapping) or not all(isinstance(row, Mapping) for row in rows.values()) or not rows:
        raise BenchError(f"{path} has no rows with an index; it is no RISE judge file.")
    return {str(k): v for k, v in rows.items()}


def _by_name(rows: Sequence[Mapping[str, Any]], column: str, path: Path) -> dict[str, Mapping[str, Any]]:
    """Raises BenchError if two rows of one name differ."""
    named: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        name = str(row.get(column))
        if str(named.setdefault(name, row)) != str(row):  # NaN is not equal to itself
            raise BenchError(f"{path} has {name[:80]} twice, with different values.")
    return named


def _records(found: Any) -> Any:
    """JSON of a table in any of pandas' orientations, or of upstream's {index: replies}, as rows."""
    if not isinstance(found, Mapping):
        return found if isinstance(found, list) else []
    if {"columns", "data"} <= set(found) and isinstance(found["data"], list):  # split
        heads, lines = found["columns"], [row for row in found["data"] if isinstance(row, list)]
        return [dict(zip(map(str, heads), row, strict=False)) for row in lines] if isinstance(heads, list) else []
    columns = {str(k): v for k, v in found.items()}
    index = columns.get("index")
    if isinstance(index, list):  # a list a column
        lists = {c: v for c, v in columns.items() if isinstance(v, list)}
        return [{c: v[n] for c, v in lists.items() if n < len(v)} for n in range(len(index))]
    tables = {c: v for c, v in columns.items() if isinstance(v, Mapping)}
    if isinstance(index, Mapping):  # a mapping a column
        return [{c: v.get(n) for c, v in tables.items()} for n in index]
    if tables and set(tables) <= {"judge1", "judge2", "judge3"}:  # the same, of the pickle
        indices = dict.fromkeys(n for v in tables.values() for n in v)
        return {n: {c: v[n] for c, v in tables.items() if n in v} for n in indices}
    return {str(row.get("index") or key): row for key, row in tables.items()}


def _read_xlsx(path: Path) -> list[dict[str, Any]]:
    try:
        import openpyxl
    except ImportError:
        raise BenchError(f"Reading {path.name} needs openpyxl: pip install openpyxl. Or save it as CSV.") from None
    try:
        sheet = openpyxl.load_workbook(path, read_only=True, data_only=True).active
        rows = list(sheet.iter_rows(values_only=True)) if sheet is not None else []
    except Exception as error:  # whatever a broken archive makes of it
        raise BenchError(f"{path} is not an xlsx table: {error}.") from None
    head = [str(c) for c in rows[0]] if rows else []
    return [dict(zip(head, row, strict=False)) for row in rows[1:]]
