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
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...agents.base import Part, Sampling
from ...files import write_atomically
from .agreement import correlation
from .base import (
    Ask,
    BenchError,
    Benchmark,
    Item,
    Output,
    answer_object,
    answered,
    dump,
    image_path,
    number_in,
    open_image,
    plain_name,
    read_json,
    read_records,
    read_rows,
    save_last_image,
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
    text = answered(raw)
    parts = text.split(_FENCE)
    body = parts[1] if len(parts) == 3 else text
    answer = answer_object(body)
    found = answer.get("score")
    if found is None and not answer:
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
        if self.human:
            read_ratings(self.human)  # what is wrong with them is said before a judge is paid
        items = []
        for row in read_records(self.data, ("uid", "prompt"), "VIEScore", ("prompt",)):
            images: tuple[Path, ...] = ()
            if row.get("image"):
                images = (image_path(self.data.parent, row["image"]),)
            group = "edit" if images else "generation"
            items.append(Item(plain_name(row["uid"], "uid"), group, str(row["prompt"]), images, row, "picture"))
        return items

    def judge_calls(self, item: Item) -> int:
        return 2

    def pooled_as(self, metric: str) -> str | None:
        """Without task and model: "ImagenHub_Text-Guided_IE/Pix2PixZero SC" is "SC". Guessed marks are left out."""
        return None if metric.endswith(", upstream") else metric.rpartition(" ")[2]

    def save(self, outputs: Path, item: Item, output: Output) -> None:
        save_last_image(output, item, outputs / f"{item.id}.png")

    def has_output(self, outputs: Path, item: Item) -> bool:
        return (outputs / f"{item.id}.png").is_file()

    def judge(self, outputs: Path, item: Item, ask: Ask) -> dict[str, Any]:
        if not self.has_output(outputs, item):
            return {"SC": None, "PQ": None}
        made = open_image(outputs / f"{item.id}.png")
        editing = item.group == "edit"
        form = _SC_EDIT if editing else _SC_T2I
        shown: list[Part] = [open_image(item.images[0]), made] if editing else [made]
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
        folders = dict.fromkeys(f for path in paths for f in find_folders(path))
        pairs = [self._whole(read_pair(folder)) for folder in folders]
        for pair in pairs:
            about = f"{pair.name} " if len(pairs) > 1 else ""
            for name, values in pair.values.items():
                metrics.append(_metric(f"{about}{name}", values, pair))
            if pair.guessed:
                for name, values in pair.with_guesses.items():
                    note = f"; with the {len(pair.guessed)} replies that upstream guessed"
                    metrics.append(_metric(f"{about}{name}, upstream", values, pair, note))
        if self.human:
            metrics += _correlations(pairs, read_ratings(self.human))
        return metrics

    def _whole(self, pair: Pair) -> Pair:
        """With the uids of the data that the score files lack."""
        if self.data is None:
            return pair
        wanted = [i.id for i in self.items() if self.counts(i.id)]
        return replace(pair, uids=tuple(dict.fromkeys((*pair.uids, *wanted))))


@dataclass(frozen=True)
class Pair:
    """SC.json and PQ.json of one system: marks in [0, 1] by uid, of the uids that both have.

    guessed: (file, uid) whose mark upstream guessed; `sc` and `pq` have none of them.
    """

    folder: Path
    uids: tuple[str, ...]
    marks: Mapping[str, Mapping[str, float]]
    guessed: frozenset[tuple[str, str]] = frozenset()

    @property
    def name(self) -> str:
        """Task and model, the last two folders."""
        return "/".join(self.place.parts[-2:])

    @property
    def place(self) -> Path:
        """The folder that the system is named by: of a run folder's scores the run folder."""
        here = self.folder.resolve()
        return here.parent if here.name == "scores" and (here.parent / "run.json").is_file() else here

    @property
    def values(self) -> dict[str, dict[str, float]]:
        """SC, PQ and O without guesses."""
        kept = {p: {u: v for u, v in of.items() if (p, u) not in self.guessed} for p, of in self.marks.items()}
        return _with_overall(kept)

    @property
    def with_guesses(self) -> dict[str, dict[str, float]]:
        return _with_overall({p: dict(of) for p, of in self.marks.items()})


def _with_overall(parts: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    sc, pq = parts["SC"], parts["PQ"]
    return parts | {"O": {u: math.sqrt(sc[u] * pq[u]) for u in sc if u in pq}}


def _metric(name: str, values: Mapping[str, float], pair: Pair, more: str = "") -> Metric:
    spread = float(np.std(list(values.values()))) if values else 0.0
    return Metric(name, values, len(pair.uids), note=f"population std {spread:.4f}{more}")


def find_folders(path: Path) -> list[Path]:
    """Every folder at or below `path` that holds both files, by name.

    Raises:
        BenchError: there is none.
    """
    top = path.parent if path.is_file() else path
    folders = sorted({p.parent for p in top.rglob("SC.json")} & {p.parent for p in top.rglob("PQ.json")})
    if not folders:
        raise BenchError(f"{path} holds no folder with SC.json and PQ.json.")
    return folders


def read_pair(folder: Path) -> Pair:
    entries = {n: read_json(folder / f"{n}.json") for n in ("SC", "PQ")}
    for part, found in entries.items():
        if not isinstance(found, Mapping):
            raise BenchError(f"{folder / part}.json must hold one object with a record for each uid.")
    uids = tuple(u for u in entries["SC"] if u in entries["PQ"])
    if not uids:
        raise BenchError(f"SC.json and PQ.json in {folder} share no uid.")
    guessed = {
        (part, u)
        for part, of in entries.items()
        for u in uids
        if isinstance(of[u], Mapping) and GUESS in str(of[u].get("reasoning", ""))
    }
    marks = {part: {u: v for u in uids if (v := least(of[u])) is not None} for part, of in entries.items()}
    return Pair(folder, uids, marks, frozenset(guessed))


def least(record: object) -> float | None:
    """The least mark of a record / 10, clipped to [0, 1]; in lists, fractions are cut off, as the paper's tables do."""
    marks = record.get("score") if isinstance(record, Mapping) else None
    if not isinstance(marks, list):
        alone = number_in(marks, -1e9, 1e9)
        return None if alone is None else min(1.0, max(0.0, alone / 10))
    numbers = [number_in(m, -1e9, 1e9) for m in marks]
    if not numbers or any(n is None for n in numbers):
        return None
    return min(1.0, max(0.0, min(int(n) for n in numbers if n is not None) / 10))


Ratings = dict[str, dict[str, dict[str, tuple[float, float, float]]]]
"""Task -> model -> uid -> (SC, PQ, O)."""


def read_ratings(paths: Sequence[Path]) -> Ratings:
    """Human ratings, each the mean over raters; one .tsv a rater, in a folder named by its task.

    A cell is "[SC,PQ]" with values in {0, 0.5, 1}; O is the mean of the raters' sqrt(SC * PQ).
    """
    cells: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = {}
    for path in paths:
        of_task = cells.setdefault(path.resolve().parent.name, {})
        for row in read_rows(path, "\t"):
            uid = row.pop("uid", None)
            for model, cell in row.items():
                rating = _rating(cell)
                if uid and model and rating:
                    of_task.setdefault(model, {}).setdefault(uid, []).append(rating)
    if not any(cells.values()):
        raise BenchError("The human ratings have no column 'uid' with cells such as [0.5,1].")
    return {
        task: {model: {uid: _mean_rating(r) for uid, r in by_uid.items()} for model, by_uid in models.items()}
        for task, models in cells.items()
    }


def _mean_rating(ratings: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    count = len(ratings)
    overall = sum(math.sqrt(a * b) for a, b in ratings) / count
    return sum(a for a, _ in ratings) / count, sum(b for _, b in ratings) / count, overall


def _rating(cell: object) -> tuple[float, float] | None:
    try:
        found = ast.literal_eval(str(cell).strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    numbers = [number_in(v, 0, 1) for v in found] if isinstance(found, (list, tuple)) else []
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        return None
    return numbers[0], numbers[1]


def fisher_average(correlations: Sequence[float]) -> float:
    """tanh of the mean, of the correlations as they are: the paper's average over models and over tasks."""
    return math.tanh(sum(correlations) / len(correlations))


def _correlations(pairs: Sequence[Pair], ratings: Ratings) -> list[Metric]:
    """Of each system, of each task (tanh of the mean over its systems), and over tasks (the same again).

    Where upstream guessed a mark, all of it comes a second time, named `upstream`, with the guesses.

    Raises:
        BenchError: no system is rated.
    """
    metrics = _rhos([(pair, pair.values) for pair in pairs], ratings)
    if not metrics:
        rated = sorted({f"{task}/{model}" for task, models in ratings.items() for model in models})
        more = f" and {len(rated) - 5} more" if len(rated) > 5 else ""
        raise BenchError(
            f"The human ratings are of {', '.join(rated[:5])}{more}, and not of {pairs[0].name}; folders must be "
            "TASK/MODEL, as upstream's."
        )
    if any(pair.guessed for pair in pairs):
        metrics += _rhos([(pair, pair.with_guesses) for pair in pairs], ratings, ", upstream")
    return metrics


def _rhos(
    read: Sequence[tuple[Pair, Mapping[str, Mapping[str, float]]]], ratings: Ratings, by: str = ""
) -> list[Metric]:
    """read: systems with the marks that count. by: behind each name."""
    metrics = []
    for number, name in enumerate(("SC", "PQ", "O")):
        by_task: dict[str, list[float]] = {}
        for pair, values in read:
            task = _task_of(pair, ratings)
            human = {u: r[number] for u, r in ratings.get(task, {}).get(pair.place.name, {}).items()}
            if not human:
                continue
            found = correlation(values[name], human)
            if found is None or None in (found.value, found.low, found.high):
                note = "Spearman with human raters; it needs three items whose marks and ratings are not all equal"
                metrics.append(Metric(f"rho {name} {pair.name}{by}", {}, 0, note=note))
            else:
                by_task.setdefault(task, []).append(found.value or 0.0)
                spread = (found.low or 0.0, found.high or 0.0)
                note = "Spearman with human raters"
                alone = {pair.name: found.value or 0.0}
                metrics.append(Metric(f"rho {name} {pair.name}{by}", alone, found.items, note=note, interval=spread))
        averages = {task: fisher_average(rhos) for task, rhos in by_task.items()}
        for task, average in averages.items():
            note = f"tanh(mean rho) over {len(by_task[task])} systems"
            metrics.append(Metric(f"rho {name} {task}{by}", {task: average}, 1, note=note))
        if averages:
            note = f"tanh(mean rho) over {len(averages)} tasks"
            metrics.append(Metric(f"rho {name}{by}", {"": fisher_average(list(averages.values()))}, 1, note=note))
    return metrics


def _task_of(pair: Pair, ratings: Ratings) -> str:
    """The task whose folder the system lies in; the only one there is, if none is."""
    parts = pair.place.parts
    return next((t for t in ratings if t in parts), next(iter(ratings)) if len(ratings) == 1 else "")
