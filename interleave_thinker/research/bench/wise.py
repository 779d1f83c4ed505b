"""WISE: 1,000 prompts that name a thing by what one has to know about it; one picture each.

Facts: PKU-YuanGroup/WISE @ eb51174. Two protocols share the prompts' form and nothing else:
`legacy` (three marks of 0 to 2; InterleaveThinker's tables) and `verified` (0 or 1, other prompts and ids).
WiScore of a picture = (0.7 consistency + 0.2 realism + 0.1 aesthetic quality) / 2.

Upstream takes any digit for a mark, lets marks of 999 through where a call failed, and leaves such items
out of a category's mean without a word; here they are counted as failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from ...agents.base import Sampling
from ...files import write_atomically
from .base import (
    HALVES,
    Ask,
    BenchError,
    Benchmark,
    Item,
    Output,
    answered,
    dump,
    number_in,
    of_categories,
    open_image,
    read_json,
    read_records,
    save_last_image,
    whole_mark,
)
from .metric import Metric, weighted

Protocol = Literal["legacy", "verified"]

CATEGORIES = ("CULTURE", "TIME", "SPACE", "BIOLOGY", "PHYSICS", "CHEMISTRY")
LAST_ID: dict[str, tuple[int, ...]] = {
    "legacy": (400, 567, 700, 800, 900, 1000),
    "verified": (400, 520, 640, 760, 880, 1000),
}
"""Last prompt_id of each category; prompts are numbered from 1 through all of them."""
WEIGHTS: dict[str, dict[str, float]] = {
    "legacy": dict(zip(CATEGORIES, (0.4, 0.167, 0.133, 0.1, 0.1, 0.1), strict=True)),
    "verified": dict(zip(CATEGORIES, (0.4, 0.12, 0.12, 0.12, 0.12, 0.12), strict=True)),
}
NEED = ("prompt_id", "Prompt", "Explanation")
MARKS = {"consistency": 0.7, "realism": 0.2, "aesthetic_quality": 0.1}

_LEGACY = """You mark one generated picture, severely. In doubt, give the lower mark.

Prompt: {prompt}
What the prompt means: {explanation}

Three marks, each 0, 1 or 2:
- Consistency: does the picture show what the prompt means? 0: it misses or contradicts it. 1: partly. 2: all of it,
  down to the details.
- Realism: could it be a photograph? 0: clearly artificial or physically impossible. 1: small flaws. 2: none.
- Aesthetic Quality: 0: unpleasant. 1: acceptable. 2: outstanding, which is rare.

Reply with exactly these three lines, a digit in place of n:
Consistency: n
Realism: n
Aesthetic Quality: n"""

_VERIFIED = """You check whether one generated picture shows the right thing.

Prompt: {prompt}
The right thing, which is the truth here: {explanation}

Give 1 if the picture shows it unmistakably, and 0 if it does not or if you are in doubt. How the picture looks
otherwise does not matter. Reply with exactly this line, 0 or 1 in place of n:
Score: n"""

_MARK = re.compile(
    r"(?<![A-Za-z])(consistency|realism|aesthetic quality)\s*(?:\(\s*0\s*[-–]\s*2\s*\))?\s*[:：=]?\s*(?=\d)", re.I
)
_SCORE = re.compile(r"(?<![A-Za-z])score\s*[:：=]?\s*(?=\d)", re.I)


def read_marks(raw: str) -> dict[str, int] | None:
    """The three marks of a legacy reply, or None: one is missing, out of range, or given twice differently.

    Upstream reads "Consistency: 9" as 9 and does not read "**Consistency:** 2"; here it is the other way round.
    """
    text = answered(raw).replace("*", "")
    found: dict[str, int] = {}
    for place in _MARK.finditer(text):
        name = place.group(1).lower().replace(" ", "_")
        mark = whole_mark(text, place.end(), 0, 2)
        if mark is None or found.setdefault(name, mark) != mark:
            return None
    if not found:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if len(lines) == 3 and all(re.fullmatch(r"[0-2]", line) for line in lines):
            return dict(zip(MARKS, map(int, lines), strict=True))
    return found if len(found) == len(MARKS) else None


def read_score(raw: str) -> int | None:
    """0 or 1 of a Verified reply, or None: none is given, or both are."""
    text = answered(raw).replace("*", "")
    found = {whole_mark(text, place.end(), 0, 1) for place in _SCORE.finditer(text)}
    if not found:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        found = {int(line) for line in lines if line in ("0", "1")} if len(lines) == 1 else set()
    return found.pop() if len(found) == 1 else None


def wiscore(marks: Mapping[str, float]) -> float:
    """In [0, 1]; marks are 0 to 2 (WISE, WiScore)."""
    return sum(weight * marks[name] for name, weight in MARKS.items()) / 2


def category_of(prompt_id: int, protocol: Protocol) -> str:
    for category, last in zip(CATEGORIES, LAST_ID[protocol], strict=True):
        if prompt_id <= last:
            return category
    return CATEGORIES[-1]


def overall(categories: Mapping[str, float], protocol: Protocol) -> float | None:
    """A leaderboard row's last column, from its six others (one word that begins alike, "Cultural" too)."""
    return weighted(of_categories(categories, CATEGORIES), WEIGHTS[protocol])


class Wise(Benchmark):
    """`data`: one or all of the prompt files, as list records with prompt_id, Prompt and Explanation."""

    name = "wise"
    where = "https://github.com/PKU-YuanGroup/WISE (data_verified/merge.json, or the three files of WISE_legacy/data)"

    official = {"": 1000}  # noqa: RUF012 - a ClassVar in the base

    def __init__(self, data: Sequence[Path] = (), protocol: Protocol | None = None):
        self.data, self.asked_protocol = data, protocol
        self.protocol: Protocol = protocol or "legacy"

    def items(self) -> list[Item]:
        if not self.data:
            raise BenchError(f"WISE needs its prompts: --data FILE, from {self.where}.")
        rows = [r for p in self.data for r in read_records(p, NEED, "WISE", NEED[1:])]
        items: dict[int, Item] = {}
        for row in rows:
            number = _prompt_id(row)
            if number is None:
                raise BenchError(f"prompt_id {row['prompt_id']!r} is no number from 1 to 1000.")
            group = category_of(number, self.protocol)
            named = str(row.get("Category") or "").upper()
            if named in CATEGORIES and named != group:
                other = "verified" if self.protocol == "legacy" else "legacy"
                raise BenchError(f"prompt_id {number} is {named} here, not {group}: add --protocol {other}.")
            if number in items:
                raise BenchError(f"The data has prompt_id {number} twice.")
            items[number] = Item(str(number), group, str(row["Prompt"]), record=row, mode="picture")
        return [items[n] for n in sorted(items)]

    def judge_calls(self, item: Item) -> int:
        return 1

    def save(self, outputs: Path, item: Item, output: Output) -> None:
        save_last_image(output, item, outputs / f"{item.id}.png")

    def has_output(self, outputs: Path, item: Item) -> bool:
        return (outputs / f"{item.id}.png").is_file()

    def judge(self, outputs: Path, item: Item, ask: Ask) -> dict[str, Any]:
        record: dict[str, Any] = {"prompt_id": int(item.id), "Subcategory": item.record.get("Subcategory", "")}
        marks: dict[str, int] | None = None
        score: int | None = None
        if self.has_output(outputs, item):
            image = open_image(outputs / f"{item.id}.png")
            form = _LEGACY if self.protocol == "legacy" else _VERIFIED
            prompt = form.format(prompt=item.record["Prompt"], explanation=item.record["Explanation"])
            if self.protocol == "legacy":
                marks = ask("marks", [prompt, image], read_marks, sampling=Sampling(max_tokens=2000))
            else:
                score = ask("score", [prompt, image], read_score, sampling=Sampling(max_tokens=500))
        if self.protocol == "legacy":
            return record | {name: marks[name] if marks else None for name in MARKS}
        return record | {"score": score}

    def write_scores(self, folder: Path, verdicts: Mapping[str, dict[str, Any]], items: Sequence[Item]) -> Path:
        """scores.jsonl in upstream's form; failed ones are left out, as upstream's aggregator expects."""
        judged = [verdicts[i.id] for i in items if i.id in verdicts]
        marked = [v for v in judged if all(v[n] is not None for n in (MARKS if "score" not in v else ("score",)))]
        lines = [json.dumps(v, ensure_ascii=False) for v in marked]
        write_atomically(folder / "scores.jsonl", "".join(line + "\n" for line in lines).encode("utf-8", HALVES))
        asked = {"protocol": self.protocol, "asked": [int(i.id) for i in items]}
        write_atomically(folder / "asked.json", dump(asked))
        return folder / "scores.jsonl"

    def aggregate(self, paths: Sequence[Path]) -> list[Metric]:
        """From score files of either protocol; the marks in them say which. Prompts missing count as failed."""
        rows: dict[int, Mapping[str, Any]] = {}
        asked: set[int] = set()
        protocols: set[Protocol] = set()
        source: dict[int, Path] = {}
        twice = 0
        for path in paths:
            ours = _asked(path.parent / "asked.json")
            if ours is not None:
                asked |= set(ours[0])
                protocols.add(ours[1])
            if ours is not None and path.is_file() and not path.stat().st_size:
                continue  # every judgment failed
            for number, row in enumerate(_rows(path), 1):
                prompt_id = _prompt_id(row)
                if prompt_id is None:
                    raise BenchError(f"{path}: line {number} has no prompt_id from 1 to 1000.")
                if rows.get(prompt_id, row) != row and source.get(prompt_id) != path:
                    raise BenchError(f"prompt_id {prompt_id} is in two files, differently; compare runs with `report`.")
                twice += prompt_id in rows
                rows[prompt_id], source[prompt_id] = row, path
        protocols |= {p for row in rows.values() if (p := protocol_of(row))}
        if len(protocols) > 1:
            raise BenchError("These files mix the legacy marks with Verified scores; aggregate them apart.")
        if not protocols:
            raise BenchError("No line has consistency, realism and aesthetic_quality, or score.")
        protocol = protocols.pop()
        if self.asked_protocol not in (None, protocol):
            raise BenchError(f"These are {protocol} scores, not {self.asked_protocol} ones.")
        if self.data:
            asked |= {int(i.id) for i in self.items() if self.counts(i.id)}
        note = f"; {twice} prompts have several lines, the last counts" if twice else ""
        return _metrics(rows, protocol, asked or set(range(1, 1001)), note)


def _asked(path: Path) -> tuple[list[int], Protocol] | None:
    """Prompts that a run was judged on, and how; None where there is no such file, or it is another benchmark's.

    Raises:
        BenchError: it is damaged.
    """
    found = read_json(path) if path.is_file() else None
    if not isinstance(found, Mapping) or not {"asked", "protocol"} <= set(found):
        return None
    listed = found["asked"] if isinstance(found["asked"], list) else [None]
    asked = [n for n in (_prompt_id({"prompt_id": i}) for i in listed) if n is not None]
    if len(asked) != len(listed) or found["protocol"] not in get_args(Protocol):
        raise BenchError(f"{path} is damaged. Run `judge` again, which asks for nothing that is there.")
    return asked, found["protocol"]


def protocol_of(row: Mapping[str, Any]) -> Protocol | None:
    if all(name in row for name in MARKS):
        return "legacy"
    return "verified" if "score" in row else None


def _metrics(rows: Mapping[int, Mapping[str, Any]], protocol: Protocol, asked: set[int], more: str) -> list[Metric]:
    groups = {str(i): category_of(i, protocol) for i in sorted(asked | set(rows))}
    expected = len(groups)
    weights = WEIGHTS[protocol]
    if protocol == "verified":
        scores = {str(i): s for i, r in rows.items() if (s := number_in(r.get("score"), 0, 1)) in (0.0, 1.0)}
        return [Metric("overall", scores, expected, groups, weights, "share", f"WISE Verified weights{more}")]
    marks: dict[str, dict[str, float]] = {name: {} for name in MARKS}
    for number, row in rows.items():
        values = {name: number_in(row.get(name), 0, 2) for name in MARKS}
        if all(v is not None and v == int(v) for v in values.values()):
            for name, value in values.items():
                marks[name][str(number)] = value or 0.0
    scores = {i: wiscore({name: marks[name][i] for name in MARKS}) for i in marks["consistency"]}
    parts = [Metric(name, {i: v / 2 for i, v in of.items()}, expected, groups, weights) for name, of in marks.items()]
    note = f"legacy weights, as in InterleaveThinker's Table 3{more}"
    return [Metric("overall", scores, expected, groups, weights, "points", note), *parts]


def _prompt_id(row: Mapping[str, Any]) -> int | None:
    number = number_in(row.get("prompt_id"), 1, 1000)
    return int(number) if number is not None and number == int(number) else None


def _rows(path: Path) -> list[Mapping[str, Any]]:
    found = read_json(path)
    rows = found if isinstance(found, list) else [found]
    if not all(isinstance(r, Mapping) for r in rows):
        raise BenchError(f"{path} must hold one score record a line.")
    return rows
