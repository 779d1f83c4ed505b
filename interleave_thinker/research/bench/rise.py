"""RISEBench: edits that take reasoning (temporal, causal, spatial, logical), 360 of them.

Facts: PhoenixZ810/RISEBench @ 5f22651. Up to three marks of 1 to 5 (consistency, reasoning, plausibility;
0 or 1 twice for logical items). The headline is accuracy: full marks in all that count.

Conventions that differ upstream, both given here:
- `score` follows the description (0.3 C + 0.5 R + 0.2 V). `score upstream` follows upstream's code on the full set,
  which reads an empty `consistency_free` cell as true, so that C never counts.
- `accuracy before 2026-04-13`: items free of the consistency mark could not pass.
Upstream reads the first integers after "Final Score"; here it is the last "Final Score", in range and whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...agents.base import Part, Sampling
from ...files import write_atomically
from .base import (
    Ask,
    BenchError,
    Benchmark,
    Item,
    Output,
    dump,
    image_path,
    open_image,
    plain_name,
    read_json,
    read_records,
    save_last_image,
)
from .metric import Metric
from .rise_scores import (
    CATEGORIES,
    COUNTS,
    Marks,
    category_of,
    has,
    marks_of,
    metrics_of,
    read_entries,
    read_final_score,
    score_table,
    table_metrics,
)

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
        rows = read_records(self.data, ("index", "category", "instruction", "image"), "RISE", ("instruction", "image"))
        items = []
        for row in rows:
            group = category_of(row)
            if group is None:
                raise BenchError(f"{row['index']}: category {row['category']!r} is none of {', '.join(CATEGORIES)}.")
            references = [row.get(n) for n in ("reference", "reference_txt", "reference_img")]
            if not any(references):
                raise BenchError(f"{row['index']} has no reference, reference_txt or reference_img.")
            source = image_path(folder, row["image"])
            items.append(
                Item(plain_name(row["index"], "index"), group, str(row["instruction"]), (source,), row, "picture")
            )
        return items

    def judge_calls(self, item: Item) -> int:
        return (0 if has(item.record, "consistency_free") else 1) + (1 if item.group == "logical" else 2)

    def save(self, outputs: Path, item: Item, output: Output) -> None:
        save_last_image(output, item, outputs / "images" / f"{item.group}_reasoning" / f"{item.id}.png")

    def has_output(self, outputs: Path, item: Item) -> bool:
        return _output(outputs, item) is not None

    def judge(self, outputs: Path, item: Item, ask: Ask) -> dict[str, Any]:
        """Raw replies, as upstream keeps them: judge1 consistency, judge2 reasoning, judge3 plausibility."""
        path = _output(outputs, item)
        if path is None:
            return {"failed": True}
        made, row = open_image(path), item.record
        instruction = str(row["instruction"])
        folder = self.images or (self.data.parent if self.data else outputs)
        by_image = item.group in ("logical", "spatial") and has(row, "reference_img") and not has(row, "reference_txt")
        original = open_image(image_path(folder, row["reference_img" if by_image else "image"]))
        if item.group == "logical":
            return self._judge_logical(ask, row, instruction, original, made, by_image)
        verdict: dict[str, Any] = {"judge1": None}
        if not has(row, "consistency_free"):
            prompt = _CONSISTENT.format(instruction=instruction)
            verdict["judge1"] = ask("consistency", [prompt, original, made], _kept(1, 5), sampling=JUDGE)
        reference = str(row.get("reference") or "what the first picture, the reference, shows")
        both = by_image or has(row, "reasoning_img")
        first = "reference" if by_image else "original"
        shown = f"The first picture is the {first}, the second the edited one." if both else "The edited picture:"
        prompt = _REASONED.format(shown=shown, instruction=instruction, reference=reference)
        images: list[Part] = [original, made] if both else [made]
        verdict["judge2"] = ask("reasoning", [prompt, *images], _kept(1, 5), sampling=JUDGE)
        verdict["judge3"] = ask("plausibility", [_PLAUSIBLE, made], _kept(1, 5), sampling=JUDGE)
        return verdict

    def _judge_logical(
        self, ask: Ask, row: Mapping[str, Any], instruction: str, original: Any, made: Any, by_image: bool
    ) -> dict[str, Any]:
        reference = "" if by_image else f"The right answer: {row.get('reference_txt') or row.get('reference')}\n"
        first = "right answer" if by_image else "original"
        same = _LOGICAL_SAME.format(first=first, instruction=instruction, reference=reference)
        shown = "The edited picture:"
        if by_image:
            shown = "The first picture is the right answer, the second the edited one."
        asked = "" if has(row, "reasoning_wo_ins") else f"Instruction to the editor: {instruction}\n"
        right = _LOGICAL_RIGHT.format(shown=shown, instruction=asked, reference=reference)
        images: list[Part] = [original, made] if by_image else [made]
        return {
            "judge1": ask("consistency", [same, original, made], _kept(0, 1), sampling=JUDGE),
            "judge2": ask("reasoning", [right, *images], _kept(0, 1), sampling=JUDGE),
        }

    def write_scores(self, folder: Path, verdicts: Mapping[str, dict[str, Any]], items: Sequence[Item]) -> Path:
        """judge.json (upstream's pickle as JSON), and judge.csv, its table."""
        judged = {i.id: verdicts.get(i.id, {"failed": True}) for i in items}
        write_atomically(folder / "judge.json", dump(judged))
        asked = {
            i.id: {
                "category": i.group,
                "subtask": i.record.get("subtask"),
                "consistency_free": has(i.record, "consistency_free"),
            }
            for i in items
        }
        write_atomically(folder / "asked.json", dump(asked))
        marks = {i.id: marks_of(judged.get(i.id, {}), i.group, has(i.record, "consistency_free")) for i in items}
        table = score_table(marks, {i.id: str(i.record.get("subtask") or "") for i in items})
        write_atomically(folder / "judge.csv", table.encode())
        return folder / "judge.json"

    def aggregate(self, paths: Sequence[Path]) -> list[Metric]:
        """From judge files (.json of upstream's pickle, raw replies) or per-item tables (.csv, .json, .xlsx)."""
        marks: dict[str, Marks] = {}
        subtasks: dict[str, str] = {}
        for path in paths:
            rows = read_entries(path)
            if isinstance(rows, list):
                return table_metrics(rows)
            known = self._known(path)
            for index in dict.fromkeys((*rows, *known)):
                row = rows.get(index, {})
                about = known.get(index, {}) | {k: v for k, v in row.items() if k in ("category", "subtask")}
                group = category_of(about | {"index": index})
                if group is None:
                    raise BenchError(f"{path}: {index!r} has no category; give the records with --data.")
                is_known = index in known or "consistency_free" in row
                free = has(about, "consistency_free") or has(row, "consistency_free")
                found = marks_of(row, group, free if is_known else None)
                if marks.setdefault(index, found) != found:
                    raise BenchError(f"{index} is judged twice, differently; compare runs with `report`.")
                subtasks[index] = str(about["subtask"]) if has(about, "subtask") else ""
        return metrics_of(marks, subtasks)

    def _known(self, path: Path) -> dict[str, dict[str, Any]]:
        beside = path.parent / "asked.json"
        saved = read_json(beside) if beside.is_file() else {}
        known: dict[str, dict[str, Any]] = {}
        if isinstance(saved, Mapping) and all(isinstance(v, Mapping) and "category" in v for v in saved.values()):
            known = {str(k): dict(v) for k, v in saved.items()}
        if self.data is not None:
            rows = {str(r["index"]): r for r in read_records(self.data, ("index", "category"), "RISE")}
            known |= {index: row for index, row in rows.items() if index in known or self.counts(index)}
        return known


def _kept(low: int, high: int) -> Callable[[str], str | None]:
    """A parser that returns the whole reply if it has a mark: upstream's files hold replies."""
    return lambda raw: raw if read_final_score(raw, low, high) is not None else None


def _output(outputs: Path, item: Item) -> Path | None:
    folder = outputs / "images" / f"{item.group}_reasoning"
    return next((p for s in SUFFIXES if (p := folder / f"{item.id}.{s}").is_file()), None)
