"""RISEBench: edits that take reasoning (temporal, causal, spatial, logical), 360 of them.

Facts: PhoenixZ810/RISEBench @ 5f22651. Up to three marks of 1 to 5 (consistency, reasoning, plausibility;
0 or 1 twice for logical items). The headline is accuracy: full marks in all that count.

Conventions that differ upstream, both given here:
- `score`: as described (0.3 C + 0.5 R + 0.2 V), and `score upstream`: what its code computes on the full set,
  where an empty `consistency_free` cell counts as true, so that C never counts.
- `accuracy before 2026-04-13`: items free of the consistency mark could not pass.
Upstream reads the first integers after "Final Score"; here it is the last "Final Score", in range and whole.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..agents.base import Part, Sampling
from ..store import write_atomically
from .base import (
    Ask,
    BenchError,
    Benchmark,
    Item,
    Made,
    answered,
    dump,
    number_in,
    open_picture,
    plain_name,
    read_json,
    read_records,
    read_rows,
    whole_mark,
)
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
"""Items of the full set, in the order of SUBTASKS: what BAGEL's printed accuracies and scores leave possible."""
DIMENSION_COUNTS = {"Reasoning": (85, 90, 100, 85), "Consistency": (80, 88, 100, 85), "Quality": (85, 90, 100, 0)}
"""Items with a mark in each dimension, by category: seven are free of the consistency mark, logical ones have no
plausibility."""
PREFIX = {"temporal": "Temp", "causal": "Causal", "spatial": "Spa", "logical": "Logic"}
SUFFIXES = ("png", "jpg", "jpeg")
JUDGE = Sampling(max_tokens=4096, max_pixels=768 * 768)

_CONSISTENT = """The first picture is the original, the second is what an editor made of it.
Instruction to the editor: {instruction}

Mark from 1 to 5 how far everything that the instruction does not touch has stayed as it was: 5 nothing else changed,
4 details, 3 something noticeable, 2 much, 1 it is another picture. Changes that the instruction implies do not count.
Explain briefly, then end with this line, a whole number in place of n:
Final Score: n"""
_REASONED = """{shown}
Instruction to the editor: {instruction}
What a right result shows: {reference}

Mark from 1 to 5 how far the edited picture shows the right result: 5 fully, 4 nearly, 3 in part, 2 hardly, 1 not at
all. Explain briefly, then end with this line, a whole number in place of n:
Final Score: n"""
_PLAUSIBLE = """Mark from 1 to 5 how believable and how well made this picture is: 5 natural and clean, 4 small flaws,
3 visible flaws, 2 heavy distortion, 1 unusable. What it shows does not matter, only whether it could be real.
Explain briefly, then end with this line, a whole number in place of n:
Final Score: n"""
_LOGICAL_SAME = """The first picture is the {first}, the second is an editor's answer to a puzzle.
Instruction to the editor: {instruction}
{reference}
Does the second picture keep the style and layout of the first, with nothing lost or added but the answer? 1 yes, 0 no.
Explain briefly, then end with this line, 0 or 1 in place of n:
Final Score: n"""
_LOGICAL_RIGHT = """{shown}
{instruction}{reference}
Is the answer in the edited picture right? 1 yes, 0 no.
Explain briefly, then end with this line, 0 or 1 in place of n:
Final Score: n"""

_FINAL = re.compile(r"final\s+scores?\s*[:：]?\s*\(?(?=\s*\d)", re.I)
_FINAL_ANY = re.compile(r"final\s+scores?", re.I)


def read_final_score(raw: str, low: int = 1, high: int = 5) -> int | None:
    """The whole number after the last "Final Score", or None. "4/5" is 4; "4.5", "1-5" and "7" are none."""
    text = answered(raw).replace("*", "")
    named, places = list(_FINAL_ANY.finditer(text)), list(_FINAL.finditer(text))
    if not places or places[-1].start() != named[-1].start():
        return None
    return whole_mark(text, places[-1].end(), low, high)


def read_upstream(raw: str) -> list[int]:
    """All integers right after the first "Final Score" that has any: what upstream's code reads."""
    for found in re.findall(r"\*?\*?Final Scores?\*?\*?:?\s*([\d*\s,\n]*)", raw, re.I):
        numbers = [int(n[:9]) for n in re.findall(r"\d+", found)]
        if numbers:
            return numbers
    return []


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
    means = {c: v for name, v in categories.items() for c in CATEGORIES if name.strip().lower()[:4] == c[:4]}
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


class Rise(Benchmark):
    """`data`: the record file; `images`: the folder that its picture paths start at (default: the file's)."""

    name = "rise"
    where = "https://huggingface.co/datasets/PhoenixZ/RISEBench (datav2_total_w_subtask.json and data.zip)"

    official = COUNTS

    def __init__(self, data: Path | None = None, images: Path | None = None):
        self.data, self.images = data, images

    def items(self) -> list[Item]:
        if self.data is None:
            raise BenchError(f"RISE needs its records: --data FILE, from {self.where}.")
        folder = self.images or self.data.parent
        rows = read_records(self.data, ("index", "category", "instruction", "image"), "RISE")
        items = []
        for row in rows:
            group = category_of(row)
            if group is None:
                raise BenchError(f"{row['index']}: category {row['category']!r} is none of {', '.join(CATEGORIES)}.")
            references = [row.get(n) for n in ("reference", "reference_txt", "reference_img")]
            if not any(references):
                raise BenchError(f"{row['index']} has no reference, reference_txt or reference_img.")
            source = _inside(folder, row["image"])
            items.append(
                Item(plain_name(row["index"], "index"), group, str(row["instruction"]), (source,), row, "picture")
            )
        return items

    def judge_calls(self, item: Item) -> int:
        return (0 if _has(item.record, "consistency_free") else 1) + (1 if item.group == "logical" else 2)

    def save(self, outputs: Path, item: Item, made: Made) -> None:
        if not made.images:
            raise BenchError(f"Item {item.id}: the system made no picture.")
        folder = outputs / "images" / f"{item.group}_reasoning"
        folder.mkdir(parents=True, exist_ok=True)
        writing = folder / f".{item.id}.png"
        made.images[-1].save(writing)
        writing.replace(folder / f"{item.id}.png")

    def has_output(self, outputs: Path, item: Item) -> bool:
        return _output(outputs, item) is not None

    def judge(self, outputs: Path, item: Item, ask: Ask) -> dict[str, Any]:
        """Raw replies, as upstream keeps them: judge1 consistency, judge2 reasoning, judge3 plausibility."""
        path = _output(outputs, item)
        if path is None:
            return {"failed": True}
        made, row = open_picture(path), item.record
        instruction = str(row["instruction"])
        folder = self.images or (self.data.parent if self.data else outputs)
        by_picture = (
            item.group in ("logical", "spatial") and _has(row, "reference_img") and not _has(row, "reference_txt")
        )
        original = open_picture(_inside(folder, row["reference_img" if by_picture else "image"]))
        if item.group == "logical":
            return self._judge_logical(ask, row, instruction, original, made, by_picture)
        verdict: dict[str, Any] = {"judge1": None}
        if not _has(row, "consistency_free"):
            prompt = _CONSISTENT.format(instruction=instruction)
            verdict["judge1"] = ask("consistency", [prompt, original, made], _kept(1, 5), sampling=JUDGE)
        reference = str(row.get("reference") or "what the first picture, the reference, shows")
        both = by_picture or _has(row, "reasoning_img")
        first = "reference" if by_picture else "original"
        shown = f"The first picture is the {first}, the second the edited one." if both else "The edited picture:"
        prompt = _REASONED.format(shown=shown, instruction=instruction, reference=reference)
        pictures: list[Part] = [original, made] if both else [made]
        verdict["judge2"] = ask("reasoning", [prompt, *pictures], _kept(1, 5), sampling=JUDGE)
        verdict["judge3"] = ask("plausibility", [_PLAUSIBLE, made], _kept(1, 5), sampling=JUDGE)
        return verdict

    def _judge_logical(
        self, ask: Ask, row: Mapping[str, Any], instruction: str, original: Any, made: Any, by_picture: bool
    ) -> dict[str, Any]:
        reference = "" if by_picture else f"The right answer: {row.get('reference_txt') or row.get('reference')}\n"
        first = "right answer" if by_picture else "original"
        same = _LOGICAL_SAME.format(first=first, instruction=instruction, reference=reference)
        shown = "The edited picture:"
        if by_picture:
            shown = "The first picture is the right answer, the second the edited one."
        asked = "" if _has(row, "reasoning_wo_ins") else f"Instruction to the editor: {instruction}\n"
        right = _LOGICAL_RIGHT.format(shown=shown, instruction=asked, reference=reference)
        pictures: list[Part] = [original, made] if by_picture else [made]
        return {
            "judge1": ask("consistency", [same, original, made], _kept(0, 1), sampling=JUDGE),
            "judge2": ask("reasoning", [right, *pictures], _kept(0, 1), sampling=JUDGE),
        }

    def write_scores(self, folder: Path, verdicts: Mapping[str, dict[str, Any]], items: Sequence[Item]) -> Path:
        """judge.json (upstream's pickle as JSON), and judge.csv, its table."""
        judged = {i.id: verdicts[i.id] for i in items if i.id in verdicts}
        write_atomically(folder / "judge.json", dump(judged))
        asked = {
            i.id: {
                "category": i.group,
                "subtask": i.record.get("subtask"),
                "consistency_free": _has(i.record, "consistency_free"),
            }
            for i in items
        }
        write_atomically(folder / "asked.json", dump(asked))
        marks = {i.id: marks_of(judged.get(i.id, {}), i.group, _has(i.record, "consistency_free")) for i in items}
        table = score_table(marks, {i.id: str(i.record.get("subtask") or "") for i in items})
        write_atomically(folder / "judge.csv", table.encode())
        return folder / "judge.json"

    def aggregate(self, paths: Sequence[Path]) -> list[Metric]:
        """From judge files (.json of upstream's pickle, raw replies) or per-item tables (.csv, .json, .xlsx)."""
        marks: dict[str, Marks] = {}
        upstream: dict[str, float] = {}
        subtasks: dict[str, str] = {}
        for path in paths:
            rows = _entries(path)
            if isinstance(rows, list):
                return _table_metrics(rows)
            known = self._known(path)
            for index in dict.fromkeys((*rows, *known)):
                row = rows.get(index, {})
                about = known.get(index, {}) | {k: v for k, v in row.items() if k in ("category", "subtask")}
                group = category_of(about | {"index": index})
                if group is None:
                    raise BenchError(f"{path}: {index!r} has no category; give the records with --data.")
                told = index in known or "consistency_free" in row
                free = _has(about, "consistency_free") or _has(row, "consistency_free")
                found = marks_of(row, group, free if told else None)
                if marks.setdefault(index, found) != found:
                    raise BenchError(f"{index} is judged twice, differently; compare runs with `report`.")
                subtasks[index] = str(about["subtask"]) if _has(about, "subtask") else ""
                if "judge2" in row:
                    theirs = marks_upstream(row, group)
                    upstream[index] = float(theirs is not None and theirs.passed)
        return _metrics(marks, subtasks, upstream)

    def _known(self, path: Path) -> dict[str, dict[str, Any]]:
        beside = path.parent / "asked.json"
        told = read_json(beside) if beside.is_file() else {}
        known: dict[str, dict[str, Any]] = {}
        if isinstance(told, Mapping) and all(isinstance(v, Mapping) and "category" in v for v in told.values()):
            known = {str(k): dict(v) for k, v in told.items()}
        if self.data is not None:
            known |= {str(r["index"]): r for r in read_records(self.data, ("index", "category"), "RISE")}
        return known


def marks_of(row: Mapping[str, Any], category: str, consistency_free: bool | None) -> Marks:
    """Marks from raw replies (judge1, judge2, judge3) or from a per-item table's columns.

    consistency_free None: nothing is known of the item but this row; then an empty consistency cell says so,
    as upstream writes it, where the other marks are there.
    """
    logical = category == "logical"
    if any(name in row for name in ("Reasoning", "ApprConsistency")):
        columns = ("ApprConsistency", "Reasoning", "VisualPlausibility")
        c, r, v = (_whole(row.get(n), 1, 5) for n in columns)
        empty = not _has(row, "ApprConsistency") and r is not None and v is not None
    else:
        c, r, v = (_mark(row.get(f"judge{n}"), logical) for n in (1, 2, 3))
        empty = "judge1" in row and not _has(row, "judge1") and _has(row, "judge2")
        if logical:
            c, r, v = (None if x is None else 4 * x + 1 for x in (c, r, None))
    free = (empty and not logical) if consistency_free is None else consistency_free
    return Marks(category, None if free else c, r, v, free)


def marks_upstream(row: Mapping[str, Any], category: str) -> Marks | None:
    """What upstream's code makes of raw replies; None: it fails, or would die of a wrong number of marks."""
    asked = [row.get(f"judge{n}") for n in (1, 2, 3) if f"judge{n}" in row]
    read = [None if raw is None else read_upstream(str(raw)) for raw in asked]
    if any(r == [] for r in read):
        return None
    marks: list[int | None] = [m for r in read for m in ([None] if r is None else r)]
    if len(marks) == 3:
        return Marks(category, marks[0], marks[1], marks[2], marks[0] is None)
    if len(marks) == 2 and None not in marks:
        first, second = (4 * min(m or 0, 1) + 1 for m in marks)
        return Marks(category, first, second)
    return None


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


def _table_metrics(rows: Sequence[Mapping[str, Any]]) -> list[Metric]:
    """Upstream's summary table: its rows as they are, beside those that its subtask rows give."""
    metrics = []
    for column in ("Score-Percentage", "Accuracy"):
        values = {str(r.get("-")): v for r in rows if (v := number_in(r.get(column), -1e9, 1e9)) is not None}
        computed = table_from_subtasks(values)
        for name, value in values.items():
            note = f"from its subtask rows: {computed[name]:.6g}" if name in computed else ""
            unit = "share" if column == "Accuracy" else "points"
            metrics.append(Metric(f"{name} {column}", {"printed": value}, 1, unit=unit, note=note))
    return metrics


def _metrics(marks: Mapping[str, Marks], subtasks: Mapping[str, str], upstream: Mapping[str, float]) -> list[Metric]:
    groups = {i: m.category for i, m in marks.items()}
    done = {i: m for i, m in marks.items() if m.complete}
    finer = {i: f"{PREFIX[m.category]}-{subtasks[i]}" for i, m in marks.items() if subtasks.get(i)}
    count = len(marks)
    metrics = [
        Metric("accuracy", {i: float(m.passed) for i, m in done.items()}, count, groups, unit="share", detail=True),
        Metric(
            "accuracy, failed as wrong",
            {i: float(m.passed) for i, m in marks.items()},
            count,
            groups,
            unit="share",
            note="upstream's: a failed judgment counts as a wrong item",
        ),
        Metric(
            "accuracy before 2026-04-13",
            {i: float(m.passed and not m.consistency_free) for i, m in marks.items()},
            count,
            groups,
            unit="share",
            note="upstream's until then: items free of the consistency mark cannot pass",
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
    if upstream:
        other = sum(upstream[i] != float(marks[i].passed) for i in upstream)
        note = f"upstream's: failures are wrong, and replies as its code reads them ({other} items come out otherwise)"
        metrics.append(Metric("accuracy, upstream's reading", upstream, count, groups, unit="share", note=note))
    return metrics


def category_of(row: Mapping[str, Any]) -> str | None:
    """temporal, causal, spatial or logical; from an index such as "causal_reasoning_7" if there is no field."""
    for value in (row.get("category"), row.get("index")):
        name = str(value or "").lower().split("_")[0]
        if name in CATEGORIES:
            return name
    return None


def _kept(low: int, high: int) -> Callable[[str], str | None]:
    """A parser that keeps the reply as it is, if it has a mark: upstream's files hold replies."""
    return lambda raw: raw if read_final_score(raw, low, high) is not None else None


def _has(row: Mapping[str, Any], name: str) -> bool:
    """Whether a flag or path is given: upstream's tables say "no" with null, NaN, "" or a missing key."""
    value = row.get(name)
    return not (value is None or value is False or value == "" or value != value or str(value).lower() == "nan")


def _output(outputs: Path, item: Item) -> Path | None:
    folder = outputs / "images" / f"{item.group}_reasoning"
    return next((p for s in SUFFIXES if (p := folder / f"{item.id}.{s}").is_file()), None)


def _inside(folder: Path, name: object) -> Path:
    path = folder / str(name)
    if folder.resolve() not in path.resolve().parents:
        raise BenchError(f"Picture path {str(name)[:80]!r} leads out of {folder}.")
    return path


def _entries(path: Path) -> dict[str, Mapping[str, Any]] | list[dict[str, Any]]:
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
        return [dict(r) for r in rows if isinstance(r, Mapping)]
    if isinstance(rows, list):
        rows = {str(r["index"]): r for r in rows if isinstance(r, Mapping) and r.get("index")}
    if not isinstance(rows, Mapping) or not rows:
        raise BenchError(f"{path} has no rows with an index; it is no RISE judge file.")
    return {str(k): v for k, v in rows.items()}


def _records(found: Any) -> Any:
    """JSON of a table in any of pandas' orientations, or of upstream's {index: replies}, as rows."""
    if not isinstance(found, Mapping):
        return found if isinstance(found, list) else []
    if {"columns", "data"} <= set(found) and isinstance(found["data"], list):  # split
        return [dict(zip(map(str, found["columns"]), row, strict=False)) for row in found["data"]]
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
