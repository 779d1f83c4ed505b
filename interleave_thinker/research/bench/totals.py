"""Totals of published tables: a row's category numbers in, its last column out.

Reads a CSV, a JSON list of rows, or a table of `published.json`. One function a benchmark; the arithmetic
lies with the benchmark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import comm, rise_scores, ueval, viescore, wise
from .base import BenchError, names_category, number_in, read_json, read_rows

BENCHES = ("ueval", "comm", "wise", "rise", "viescore")
NAME_COLUMNS = ("system", "model", "name", "method", "-", "")
TOTAL_COLUMNS = ("overall", "average", "avg", "total", "final")


@lru_cache(maxsize=1)
def published() -> tuple[dict[str, Any], ...]:
    """The tables that come with the package; each names its source."""
    path = Path(__file__).with_name("published.json")
    return tuple(json.loads(path.read_text(encoding="utf-8"))["tables"])


def published_table(name: str) -> dict[str, Any]:
    """Raises BenchError if there is no such table."""
    for table in published():
        if table["id"] == name:
            return table
    raise BenchError(f"There is no published table {name!r}; there are {', '.join(t['id'] for t in published())}.")


def read_table(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV or JSON table; numbers as numbers, "-" and blanks as None."""
    if path.suffix in (".csv", ".tsv"):
        rows: Any = read_rows(path, "\t" if path.suffix == ".tsv" else ",")
    else:
        rows = read_json(path)
        if isinstance(rows, Mapping):
            named: list[Any] = [{"system": k, **v} for k, v in rows.items() if isinstance(v, Mapping)]
            rows = rows.get("rows", named or [rows])
    if rows == []:
        raise BenchError(f"{path} holds no row below its column names.")
    if not isinstance(rows, list) or not all(isinstance(r, Mapping) for r in rows):
        raise BenchError(f"{path} is no table: it needs rows with named columns.")
    return [{str(k).strip(): _cell(v) for k, v in r.items() if k is not None} for r in rows]


def totals(
    bench: str, rows: Sequence[Mapping[str, Any]], protocol: wise.Protocol | None = None
) -> list[dict[str, Any]]:
    """For each row: system, the total computed, the total printed (None if there is none), and why none is computed.

    Column names count without case, units and arrows: "Overall (%)" is "overall".

    RISE score tables (rows named "Temp-...", columns Score-Origin and Accuracy) and VIEScore tables of one
    row a system (columns task, sc, pq, o) give one row for each total of the table instead.
    """
    rows = [{_column(str(name)): value for name, value in row.items()} for row in rows]
    if bench == "rise" and any("-" in _name(r) and _name(r).split("-")[0] in rise_scores.PREFIX.values() for r in rows):
        return _rise_score_table(rows)
    if bench == "viescore" and any("task" in r for r in rows):
        return _viescore_tasks(rows)
    if bench == "viescore" and not any(_correlations(row) for row in rows):
        raise BenchError(
            "No row has rank correlations from -1 to 1, in columns of tasks or in sc, pq and o. "
            f"Columns: {_names(rows)}."
        )
    return [_row(bench, row, protocol) for row in rows]


def _correlations(row: Mapping[str, Any]) -> list[float]:
    cells = [v for name, v in row.items() if name not in (*NAME_COLUMNS, *TOTAL_COLUMNS)]
    return [v for v in (number_in(cell, -1, 1) for cell in cells) if v is not None]


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(map(str, rows[0])) if rows else "none"


_UNIT = re.compile(r"\(.*?\)|\[.*?\]|[%*↑↓]")


def _column(name: str) -> str:
    """A header without case, units, stars and arrows."""
    return _UNIT.sub("", name).strip().strip(".:").strip().lower()


def _why_none(bench: str, row: Mapping[str, Any]) -> str:
    """What a row lacks for its total."""
    if bench == "viescore":
        parts = {name: v for name, v in row.items() if name not in (*NAME_COLUMNS, *TOTAL_COLUMNS)}
        blank = [name for name, v in parts.items() if v is None]
        large = [f"{name} is {v:g}" for name, v in parts.items() if isinstance(v, float) and not -1 <= v <= 1]
        reasons = [f"blank: {', '.join(blank)}"] if blank else []
        if large:
            reasons.append(f"{', '.join(large)}; rank correlations go from -1 to 1")
        return "; ".join(reasons) or "no column with a number"
    wanted = {
        "ueval": ueval.TASKS,
        "wise": tuple(category.lower() for category in wise.CATEGORIES),
        "rise": rise_scores.CATEGORIES,
        "comm": ("style", "entity", "trend", "completeness", "image_quality", "irs"),
    }[bench]
    said = []
    for column in wanted:
        cells = [v for name, v in row.items() if _is_column(bench, name, column)]
        numbers = [v for v in cells if isinstance(v, (int, float))]
        if not cells:
            said.append(f"no column {column}")
        elif not numbers:
            said.append(f"{column} is {'blank' if cells[0] in (None, '') else repr(str(cells[0])[:30])}")
        elif len(numbers) > 1:
            said.append(f"{len(numbers)} columns of {column}")
        elif bench == "rise" and not 0 <= numbers[0] <= 100:
            said.append(f"{column} is {numbers[0]:g}; accuracies go from 0 to 100")
    return ", ".join(said) or "give accuracies in percent: numbers from 0 to 1 may be shares"


def _is_column(bench: str, name: str, column: str) -> bool:
    if bench == "comm":
        return name[:3] == column[:3]
    return name == column if bench == "ueval" else names_category(name, column)


def _row(bench: str, row: Mapping[str, Any], protocol: wise.Protocol | None) -> dict[str, Any]:
    numbers = {k.lower(): float(v) for k, v in row.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    printed = next((numbers[c] for c in TOTAL_COLUMNS if c in numbers), None)
    parts = {k: v for k, v in numbers.items() if k not in TOTAL_COLUMNS}
    computed: dict[str, float | None]
    if bench == "ueval":
        computed = {"task average": ueval.leaderboard_average(parts)}
        if "text" in parts and "image" in parts:
            if computed["task average"] is None:
                computed = {}
            computed["pooled average"] = (parts["text"] + parts["image"]) / 2
    elif bench == "wise":
        wanted: Sequence[wise.Protocol] = (protocol,) if protocol else ("legacy", "verified")
        computed = {p: wise.overall(parts, p) for p in wanted}
    elif bench == "rise":
        computed = {"accuracy": _rise_accuracy(parts, printed)}
    elif bench == "comm":
        six = [v for k, v in parts.items() if k in comm.TABLE_COLUMNS]
        computed = {"mean of six": sum(six) / 6 if len(six) == 6 else None}
    elif bench == "viescore":
        known = list(parts.values())
        whole = len(known) == sum(1 for k in row if k.lower() not in (*NAME_COLUMNS, *TOTAL_COLUMNS, "backbone"))
        sound = bool(known) and whole and all(-1 <= rho <= 1 for rho in known)
        computed = {"tanh(mean rho)": viescore.fisher_average(known) if sound else None}
    else:
        raise BenchError(f"There are no totals for {bench!r}; choose one of {', '.join(BENCHES)}.")
    why = _why_none(bench, row) if None in computed.values() else ""
    return {"system": _name(row), "printed": printed, "computed": computed, "why": why}


def _rise_accuracy(parts: Mapping[str, float], printed: float | None) -> float | None:
    """In the row's own unit, percent or shares. Numbers of at most 1 may be either; the printed total tells."""
    cells = [v for name, v in parts.items() if any(names_category(name, c) for c in rise_scores.CATEGORIES)]
    if any(not 0 <= v <= 100 for v in cells):
        return None
    percent = rise_scores.overall_accuracy(parts)
    if percent is None or max(cells) > 1 or not any(cells):
        return percent
    share = (rise_scores.overall_accuracy({name: 100 * v for name, v in parts.items()}) or 0.0) / 100
    if printed is None:
        return None
    return min((percent, share), key=lambda total: abs(total - printed))


def _rise_score_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    out = []
    for column in ("score_origin", "score_percentage", "accuracy"):
        cells = {(_name(r), c): number_in(r[c], -1e9, 1e9) for r in rows for c in r}
        values = {n: v for (n, c), v in cells.items() if c.lower().replace("-", "_") == column and v is not None}
        for name, value in rise_scores.table_from_subtasks(values).items():
            out.append({"system": f"{name} {column}", "printed": values.get(name), "computed": {column: value}})
    if not out:
        raise BenchError(
            "No category has all of its subtask rows, with numbers: "
            + "; ".join(
                f"{c} needs {', '.join(f'{rise_scores.PREFIX[c]}-{n}' for n in names)}"
                for c, names in rise_scores.SUBTASKS.items()
            )
        )
    return out


def _viescore_tasks(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    out = []
    tasks = list(dict.fromkeys(str(r["task"]) for r in rows if r.get("task")))
    for column in ("sc", "pq", "o"):
        averages = []
        for task in tasks:
            found = [r.get(column) for r in rows if r.get("task") == task]
            known = [v for v in (number_in(v, -1, 1) for v in found) if v is not None]
            if len(known) == len(found) and known:
                averages.append(viescore.fisher_average(known))
                out.append(_average(f"{task} {column}", averages[-1]))
        if averages and len(averages) == len(tasks):
            out.append(_average(f"over {len(tasks)} tasks {column}", viescore.fisher_average(averages)))
    if not out:
        raise BenchError(f"Rows with a task need rank correlations in columns sc, pq or o. Columns: {_names(rows)}.")
    return out


def _average(name: str, value: float) -> dict[str, Any]:
    return {"system": name, "printed": None, "computed": {"tanh(mean rho)": value}}


def _name(row: Mapping[str, Any]) -> str:
    return next((str(row[k]) for k in row if k.lower() in NAME_COLUMNS and row[k] is not None), "")


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip().strip("*").rstrip("%")
        if text in ("", "-", "–", "—", "nan", "NaN"):
            return None
        number = number_in(text, -1e12, 1e12)
        return value if number is None else number
    return None if value != value else value
