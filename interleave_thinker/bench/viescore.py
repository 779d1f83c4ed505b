"""VIEScore: semantic consistency (SC) and perceptual quality (PQ) of pictures made or edited, 0 to 10.

Facts: TIGER-AI-Lab/VIEScore @ 2cbea4e. Each reply holds a list of marks; SC and PQ are the least of
theirs, O = sqrt(SC * PQ) per item. The paper's tables: marks / 10 clipped to [0, 1], population standard
deviations, Spearman correlations with the mean of the human raters per model, and "Fisher" averages
tanh(mean(rho)) of the raw correlations.

Where upstream puts a random mark for a reply that it cannot read ("guess_if_cannot_parse"), the item here
counts as failed.
"""

from __future__ import annotations

import ast
import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from ..agents.base import Part, Sampling
from ..replies import read_reply
from ..store import write_atomically
from .base import (
    Ask,
    BenchError,
    Benchmark,
    Item,
    Made,
    dump,
    number_in,
    open_picture,
    plain_name,
    read_json,
    read_records,
)
from .metric import Metric

GUESS = "guess_if_cannot_parse"
_FENCE = "||V^=^V||"
SAMPLING = Sampling(max_tokens=1400)

_FORM = 'Reply with one JSON object and nothing else: {{"score": [{marks}], "reasoning": "one sentence"}}'
_SC_T2I = (
    "The picture was generated from this prompt:\n{prompt}\n\n"
    "Mark from 0 to 10 how far it shows what the prompt asks for: 10 everything, 0 nothing.\n" + _FORM.format(marks="n")
)
_SC_EDIT = (
    "The first picture is the original, the second was edited by this instruction:\n{prompt}\n\n"
    "Two marks from 0 to 10. First, how far the edit was carried out: 10 fully, 0 not at all. Second, how well "
    "everything else was left alone: 10 nothing else changed, 0 it is another picture.\n"
    + _FORM.format(marks="edit, rest")
)
_PQ = (
    "The picture was made by a computer. Two marks from 0 to 10. First, how natural it looks in perspective, light "
    "and shadow: 10 natural, 0 not at all. Second, how free of artifacts it is, such as distortion, marks, blurred "
    "faces or odd limbs: 10 free, 0 full of them.\n" + _FORM.format(marks="natural, clean")
)


def read_scores(raw: str, count: int) -> list[float] | None:
    """`count` marks of 0 to 10 from a judge's reply, or None. A single mark may stand without brackets."""
    parts = raw.split(_FENCE)
    body = parts[1] if len(parts) == 3 else raw
    reply = read_reply(body)
    found = (reply.answer or {}).get("score")
    if found is None and not reply.answer:
        bare = re.fullmatch(r"\s*\[([\d.,\s]+)\]\s*", body)
        found = bare.group(1).split(",") if bare else None
    marks = found if isinstance(found, (list, tuple)) else [found]
    numbers = [number_in(m, 0, 10) for m in marks]
    if len(numbers) != count or any(n is None for n in numbers):
        return None
    return [n for n in numbers if n is not None]


class VIEScore(Benchmark):
    """`data`: a list of {uid, prompt} for generation, or {uid, prompt, image} for editing."""

    name = "viescore"
    where = "a list of your own, or https://huggingface.co/ImagenHub for the paper's seven tasks"

    def __init__(self, data: Path | None = None, human: Sequence[Path] = ()):
        self.data, self.human = data, human

    def items(self) -> list[Item]:
        if self.data is None:
            raise BenchError(f"VIEScore needs its prompts: --data FILE with records of uid and prompt ({self.where}).")
        items = []
        for row in read_records(self.data, ("uid", "prompt"), "VIEScore"):
            images: tuple[Path, ...] = ()
            if row.get("image"):
                path = self.data.parent / str(row["image"])
                if self.data.parent.resolve() not in path.resolve().parents:
                    raise BenchError(f"Picture path {str(row['image'])[:80]!r} leads out of {self.data.parent}.")
                images = (path,)
            group = "edit" if images else "generation"
            items.append(Item(plain_name(row["uid"], "uid"), group, str(row["prompt"]), images, row, "picture"))
        return items

    def judge_calls(self, item: Item) -> int:
        return 2

    def save(self, outputs: Path, item: Item, made: Made) -> None:
        if not made.images:
            raise BenchError(f"Item {item.id}: the system made no picture.")
        outputs.mkdir(parents=True, exist_ok=True)
        writing = outputs / f".{item.id}.png"
        made.images[-1].save(writing)
        writing.replace(outputs / f"{item.id}.png")

    def has_output(self, outputs: Path, item: Item) -> bool:
        return (outputs / f"{item.id}.png").is_file()

    def judge(self, outputs: Path, item: Item, ask: Ask) -> dict[str, Any]:
        if not self.has_output(outputs, item):
            return {"SC": None, "PQ": None}
        made = open_picture(outputs / f"{item.id}.png")
        editing = item.group == "edit"
        form = _SC_EDIT if editing else _SC_T2I
        shown: list[Part] = [open_picture(item.images[0]), made] if editing else [made]
        count = 2 if editing else 1
        sc = ask(
            "SC", [form.replace("{prompt}", item.request), *shown], lambda r: read_scores(r, count), sampling=SAMPLING
        )
        pq = ask("PQ", [_PQ, made], lambda r: read_scores(r, 2), sampling=SAMPLING)
        return {"SC": sc, "PQ": pq}

    def write_scores(self, folder: Path, verdicts: Mapping[str, dict[str, Any]], items: Sequence[Item]) -> Path:
        for name in ("SC", "PQ"):
            marks = {i.id: {"score": verdicts.get(i.id, {}).get(name)} for i in items}
            write_atomically(folder / f"{name}.json", dump(marks))
        return folder

    def aggregate(self, paths: Sequence[Path]) -> list[Metric]:
        """From folders that hold SC.json and PQ.json (or either file): SC, PQ and O of each, in [0, 1]."""
        metrics: list[Metric] = []
        pairs = [pair for path in paths for pair in find_pairs(path)]
        for pair in pairs:
            about = f"{pair.name} " if len(pairs) > 1 else ""
            note = f"population std {{:.4f}}; {len(pair.guessed)} guessed by upstream, not counted"
            for name, values in (("SC", pair.sc), ("PQ", pair.pq), ("O", pair.overall)):
                spread = float(np.std(list(values.values()))) if values else 0.0
                metrics.append(Metric(f"{about}{name}", values, len(pair.uids), note=note.format(spread)))
        if self.human:
            metrics += _correlations(pairs, read_ratings(self.human))
        return metrics


@dataclass(frozen=True)
class Pair:
    """SC.json and PQ.json of one system: values in [0, 1] of the items that both have and that can be read."""

    name: str
    uids: tuple[str, ...]
    sc: Mapping[str, float]
    pq: Mapping[str, float]
    guessed: frozenset[str] = frozenset()

    @property
    def overall(self) -> dict[str, float]:
        return {u: math.sqrt(self.sc[u] * self.pq[u]) for u in self.sc if u in self.pq}


def find_pairs(path: Path) -> list[Pair]:
    """Every folder at or below `path` that holds both files, by name.

    Raises:
        BenchError: there is none.
    """
    top = path.parent if path.is_file() else path
    folders = sorted({p.parent for p in top.rglob("SC.json")} & {p.parent for p in top.rglob("PQ.json")})
    if not folders:
        raise BenchError(f"{path} holds no folder with SC.json and PQ.json.")
    return [_pair(f, f.relative_to(top).as_posix() if f != top else f.name) for f in folders]


def _pair(folder: Path, name: str) -> Pair:
    entries = {n: read_json(folder / f"{n}.json") for n in ("SC", "PQ")}
    for part, found in entries.items():
        if not isinstance(found, Mapping):
            raise BenchError(f"{folder / part}.json must hold one object with a record for each uid.")
    uids = tuple(u for u in entries["SC"] if u in entries["PQ"])
    guessed = {u for e in entries.values() for u in uids if GUESS in str((e[u] or {}).get("reasoning", ""))}
    values = {
        part: {u: v for u in uids if u not in guessed and (v := least(of[u])) is not None}
        for part, of in entries.items()
    }
    return Pair(name, uids, values["SC"], values["PQ"], frozenset(guessed))


def least(record: object) -> float | None:
    """The least mark of a record / 10, clipped to [0, 1]; fractions are cut off, as the paper's tables do."""
    marks = record.get("score") if isinstance(record, Mapping) else None
    listed = marks if isinstance(marks, list) else [marks]
    numbers = [number_in(m, -1e9, 1e9) for m in listed]
    if not numbers or any(n is None for n in numbers):
        return None
    return min(1.0, max(0.0, min(int(n) for n in numbers if n is not None) / 10))


def read_ratings(paths: Sequence[Path]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Human ratings, model -> uid -> (SC, PQ, O), each the mean over raters; one .tsv a rater.

    A cell is "[SC,PQ]" with values in {0, 0.5, 1}; O is the mean of the raters' sqrt(SC * PQ).
    """
    cells: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for path in paths:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                uid = row.pop("uid", None)
                for model, cell in row.items():
                    rating = _rating(cell)
                    if uid and model and rating:
                        cells.setdefault(model, {}).setdefault(uid, []).append(rating)
    if not cells:
        raise BenchError("The human ratings have no column 'uid' with cells such as [0.5,1].")
    return {
        model: {
            uid: (
                sum(a for a, _ in r) / len(r),
                sum(b for _, b in r) / len(r),
                sum(math.sqrt(a * b) for a, b in r) / len(r),
            )
            for uid, r in by_uid.items()
        }
        for model, by_uid in cells.items()
    }


def _rating(cell: object) -> tuple[float, float] | None:
    try:
        found = ast.literal_eval(str(cell).strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    numbers = [number_in(v, 0, 1) for v in found] if isinstance(found, (list, tuple)) else []
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        return None
    return numbers[0], numbers[1]


def correlation(a: Mapping[str, float], b: Mapping[str, float]) -> float | None:
    """Spearman's rho on the items of both; None where one of them does not vary."""
    common = sorted(set(a) & set(b))
    if len(common) < 3:
        return None
    rho = float(spearmanr([a[u] for u in common], [b[u] for u in common]).statistic)
    return None if math.isnan(rho) else rho


def fisher_average(correlations: Sequence[float]) -> float:
    """tanh of the mean, of the correlations as they are: the paper's average over models and over tasks."""
    return math.tanh(sum(correlations) / len(correlations))


def _correlations(
    pairs: Sequence[Pair], ratings: Mapping[str, Mapping[str, tuple[float, float, float]]]
) -> list[Metric]:
    metrics = []
    for number, name in enumerate(("SC", "PQ", "O")):
        found: dict[str, float] = {}
        for pair in pairs:
            model = pair.name.rsplit("/", 1)[-1]
            values = (pair.sc, pair.pq, pair.overall)[number]
            human = {u: r[number] for u, r in ratings.get(model, {}).items()}
            rho = correlation(values, human)
            if rho is not None:
                found[pair.name] = rho
                note = "Spearman with human raters"
                metrics.append(Metric(f"rho {name} {pair.name}", {pair.name: rho}, 1, note=note))
        if found:
            average = fisher_average(list(found.values()))
            note = f"tanh(mean rho) over {len(found)} systems"
            metrics.append(Metric(f"rho {name}", {"average": average}, 1, note=note))
    return metrics
