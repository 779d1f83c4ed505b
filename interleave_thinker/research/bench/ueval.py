"""UEval: questions answered with text and pictures, judged criterion by criterion.

Facts: zlab-princeton/UEval, `ueval_eval.py` of 2026-04-21. A rate is criteria met / criteria judged, per
item and modality. Two totals exist and differ: the leaderboard's, the mean of eight task scores, and
the one printed in InterleaveThinker's tables, the mean of the pooled text and picture rates.

Where upstream turns a missing verdict into "not met" or aborts the run, a reply without a verdict here
counts as failed. Upstream judges an item without an output as an empty answer; here it is left out and counted.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from os.path import isfile
from pathlib import Path
from typing import Any

from PIL import Image

from ...agents.base import Part
from ...files import is_below, write_atomically
from .base import (
    Ask,
    BenchError,
    Benchmark,
    Item,
    Output,
    answer_object,
    answered,
    dump,
    number_in,
    open_image,
    plain_name,
    read_json,
    read_records,
)
from .metric import Metric, equal_weights, mean_of_parts

CLOSED = ("space", "textbook", "diagram", "paper")
OPEN = ("art", "life", "tech", "exercise")
TASKS = (*CLOSED, *OPEN)
BOTH = " both visually and textually"
"""A phrase of the questions that the InterleaveThinker runner takes out before it plans."""

_CUT_OFF = re.compile(r"\{\s*[\"']criteria_met[\"']\s*:\s*(true|false)\s*,[^{}]*\Z", re.I)
_MET, _NOT = {"true", "yes", "y", "1"}, {"false", "no", "n", "0", "not sure", "unsure", "unknown"}

_TEXT = """Question asked of a model:
{question}

The model's text answer:
{answer}

Requirement to check:
{criterion}

Does the text answer meet the requirement in full? If any part of it is missing or wrong, it does not.
Reply with one JSON object and nothing else:
{{"criteria_met": true, false or "not sure", "explanation": "one sentence"}}"""

_IMAGE = """Question asked of a model:
{question}
{answer}
The model's pictures stand above, in order.

Requirement to check:
{criterion}

Do the pictures meet the requirement in full? If any part of it is missing or wrong, they do not. What is asked
for must be shown: words written into a picture do not stand for showing it{rule}.
Reply with one JSON object and nothing else:
{{"criteria_met": true, false or "not sure", "explanation": "one sentence"}}"""
_RULE_OPEN = (
    ". Where the requirement is about a picture matching its step of the text, it is enough that the step's main "
    "action is shown"
)
_RULE_CLOSED = ", and a picture that holds nothing but text fails"


def read_verdict(raw: str) -> bool | None:
    """Whether a judge's reply says that the criterion is met; None if it does not say.

    As upstream: "yes", "y", "1" and true count as met, "not sure" as not met. Unlike upstream: any other
    word, or no `criteria_met` at all, is no verdict.
    """
    value = answer_object(raw).get("criteria_met")
    if value is None:  # an object that was cut off after the verdict
        cut = _CUT_OFF.search(answered(raw))
        return cut.group(1).lower() == "true" if cut else None
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return bool(value) if value in (0, 1) else None
    word = value.strip().lower() if isinstance(value, str) else ""
    return True if word in _MET else False if word in _NOT else None


def task_of(record: Mapping[str, Any]) -> str:
    """The task under either of its two field names, or from an id such as "art_12"; "" if there is none."""
    for value in (record.get("task"), record.get("task_type"), str(record.get("id", "")).rsplit("_", 1)[0]):
        if isinstance(value, str) and value.lower() in TASKS:
            return value.lower()
    return ""


def criteria(rubrics: object) -> list[str]:
    """Criteria of either rubric form: list of texts (since 2026-04-21) or of `{criterion, ...}` before."""
    if not isinstance(rubrics, list):
        return []
    texts = [r.get("criterion") if isinstance(r, Mapping) else r for r in rubrics]
    return [t for t in texts if isinstance(t, str) and t.strip()]


class UEval(Benchmark):
    """`data`: the test split as .parquet, .json or .jsonl."""

    name = "ueval"
    where = "https://huggingface.co/datasets/zlab-princeton/UEval (split test, 1000 rows)"
    official = {"": 1000}  # noqa: RUF012 - a ClassVar in the base

    def __init__(self, data: Path | None = None):
        self.data = data

    def records(self) -> list[dict[str, Any]]:
        if self.data is None:
            raise BenchError(f"UEval needs its data: --data FILE, from {self.where}.")
        return read_records(self.data, ("id", "prompt"), "UEval", ("prompt",))

    def items(self) -> list[Item]:
        return [
            Item(plain_name(r["id"], "id"), task_of(r), str(r["prompt"]).replace(BOTH, ""), record=r)
            for r in self.records()
        ]

    def census(self, items: Sequence[Item]) -> str:
        bare = sum(not self.judge_calls(item) for item in items)
        lacking = f"{bare} of {len(items)} items have neither text_rubrics nor image_rubrics, as lists of texts"
        return "; ".join(said for said in (super().census(items), lacking if bare else "") if said)

    def judge_calls(self, item: Item) -> int:
        return len(criteria(item.record.get("text_rubrics"))) + len(criteria(item.record.get("image_rubrics")))

    def save(self, outputs: Path, item: Item, output: Output) -> None:
        folder = outputs / item.id
        folder.mkdir(parents=True, exist_ok=True)
        images = []
        for number, image in enumerate(output.images, 1):
            image.save(folder / f"step{number}.png")
            images.append(f"{item.id}/step{number}.png")
        entry = {"id": item.id, "text_answer": output.text, "image_answer": images}
        write_atomically(folder / "answer.json", dump(entry))

    def has_output(self, outputs: Path, item: Item) -> bool:
        """Whether there is a text or a picture: ours, or in the outputs.json of another runner."""
        return _holds_something(_answer(outputs, item.id))

    def finish(self, outputs: Path, items: Sequence[Item]) -> None:
        """outputs.json: the list that upstream's evaluator takes; picture paths start at its folder.

        Entries of other items stay: another runner, or a run without --limit, wrote them.
        """
        answers = {i.id: _answer(outputs, i.id) for i in items}
        others = {i: entry for i, entry in _listed(outputs).items() if i not in answers}
        entries = [*(a for a in answers.values() if _holds_something(a)), *others.values()]
        write_atomically(outputs / "outputs.json", dump(entries))

    def judge(self, outputs: Path, item: Item, ask: Ask) -> dict[str, Any]:
        entry = _answer(outputs, item.id)
        answer = str(entry.get("text_answer") or "")
        kind = "open" if item.group not in CLOSED else "closed"
        images, paths = _images(outputs, entry.get("image_answer"))
        question = str(item.record.get("prompt", ""))
        text_results, image_results = [], []
        for number, criterion in enumerate(criteria(item.record.get("text_rubrics")), 1):
            prompt = _TEXT.format(question=question, answer=answer or "(empty)", criterion=criterion)
            text_results.append(_result(criterion, ask(f"text-{number}", [prompt], read_verdict)))
        shown = f"\nThe model's text answer:\n{answer or '(empty)'}\n" if kind == "open" else ""
        rule = _RULE_OPEN if kind == "open" else _RULE_CLOSED
        for number, criterion in enumerate(criteria(item.record.get("image_rubrics")), 1):
            prompt = _IMAGE.format(question=question, answer=shown, criterion=criterion, rule=rule)
            parts: list[Part] = [*images, prompt if images else f"(The model made no picture.)\n{prompt}"]
            image_results.append(_result(criterion, ask(f"image-{number}", parts, read_verdict)))
        return {
            "id": item.id,
            "task": item.group,
            "question": question,
            "question_type": kind,
            "text_answer": answer,
            "image_outputs": paths,
            "text_results": text_results,
            "image_results": image_results,
            "text_score": score(text_results),
            "image_score": score(image_results),
        }

    def write_scores(self, folder: Path, verdicts: Mapping[str, dict[str, Any]], items: Sequence[Item]) -> Path:
        records = [verdicts.get(i.id) or {**_unjudged(i.record), "task": i.group} for i in items]
        rates = {m: [r[f"{m}_score"]["rate"] for r in records] for m in ("text", "image")}
        known = {m: [x for x in values if x is not None] for m, values in rates.items()}
        summary: dict[str, Any] = {"num_items": len(records)}
        for modality, values in known.items():
            summary[f"{modality}_avg_rate"] = sum(values) / len(values) if values else None
            summary[f"num_items_with_{modality}"] = len(values)
        write_atomically(folder / "results.json", dump({"items": records, "summary": summary}))
        return folder / "results.json"

    def aggregate(self, paths: Sequence[Path]) -> list[Metric]:
        """From result files of upstream's evaluator or ours. Tasks: from the records, or from `data`."""
        records: dict[str, dict[str, Any]] = {}
        for path in paths:
            found = read_json(path)
            for record in _result_records(found, path):
                before = records.setdefault(str(record["id"]), record)
                if before is not record and before != record:
                    raise BenchError(f"Item {record['id']} is judged twice, differently; compare runs with `report`.")
        if self.data is not None:
            for record in self.records():
                if str(record["id"]) not in records and not self.counts(str(record["id"])):
                    continue
                mine = records.setdefault(str(record["id"]), _unjudged(record))
                mine["task"] = task_of(record) or mine.get("task")
        tasks = {i: task_of(r) for i, r in records.items()}
        return _metrics(records, {i: t for i, t in tasks.items() if t})


def score(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """met, total and rate of the criteria that were judged; `failed` says how many were not."""
    judged = [r["criteria_met"] for r in results if r["criteria_met"] is not None]
    met = sum(1 for j in judged if j is True)
    rate = met / len(judged) if judged else None
    return {"met": met, "total": len(judged), "rate": rate, "failed": len(results) - len(judged)}


def leaderboard_average(tasks: Mapping[str, float]) -> float | None:
    """The leaderboard's last column: the unweighted mean of the eight task scores."""
    means = {k.lower(): v for k, v in tasks.items()}
    if any(means.get(t) is None for t in TASKS):
        return None
    return sum(means[t] for t in TASKS) / len(TASKS)


def _metrics(records: Mapping[str, Mapping[str, Any]], tasks: Mapping[str, str]) -> list[Metric]:
    rates: dict[str, dict[str, float]] = {"text": {}, "image": {}}
    wanted: dict[str, set[str]] = {"text": set(), "image": set()}
    for item, record in records.items():
        for modality in rates:
            part = record.get(f"{modality}_score") or {}
            rate = number_in(part.get("rate"), 0, 1)
            if rate is not None:
                rates[modality][item] = rate
            if rate is not None or part.get("rate") is not None or part.get("failed"):
                wanted[modality].add(item)
    overall = {
        i: sum(rates[m][i] for m in rates if i in wanted[m]) / sum(i in wanted[m] for m in rates)
        for i in records
        if any(i in w for w in wanted.values()) and all(i in rates[m] for m in rates if i in wanted[m])
    }
    asked = len(wanted["text"] | wanted["image"])
    metrics = [
        *(Metric(m, rates[m], len(wanted[m]), tasks, unit="share", note=_lost(records, m)) for m in rates),
        Metric(
            "pooled average",
            mean_of_parts(rates),
            asked,
            unit="share",
            parts=rates,
            note="(mean text rate + mean image rate) / 2, the total of InterleaveThinker's tables",
        ),
    ]
    if set(TASKS) <= set(tasks.values()):
        note = "mean of the eight task scores, the leaderboard's total"
        metrics.append(Metric("task average", overall, asked, tasks, equal_weights(TASKS), "share", note))
    else:
        here = sorted(set(tasks.values()))
        note = "mean of item scores; the leaderboard's total needs all eight tasks (give --data for their names)"
        if here:
            note = f"mean of the scores of {len(here)} tasks; the leaderboard's total needs all eight"
        weights = equal_weights(here) if here else None
        metrics.append(Metric("items", overall, asked, tasks, weights, "share", note))
    return metrics


def _unjudged(record: Mapping[str, Any]) -> dict[str, Any]:
    """A result of a record that the score file lacks: everything that was to be judged has failed."""
    scores = {
        f"{m}_score": {"met": 0, "total": 0, "rate": None, "failed": len(criteria(record.get(f"{m}_rubrics")))}
        for m in ("text", "image")
    }
    return {"id": record["id"], **scores}


def _lost(records: Mapping[str, Mapping[str, Any]], modality: str) -> str:
    """How many criteria had no readable verdict, within items that have a rate from the others."""
    scores = [r.get(f"{modality}_score") or {} for r in records.values()]
    failed = sum(int(number_in(s.get("failed"), 0, 1e6) or 0) for s in scores)
    asked = failed + sum(int(number_in(s.get("total"), 0, 1e6) or 0) for s in scores)
    odd = sum(not _adds_up(s) for s in scores)
    said = [f"{failed} of {asked} criteria without a verdict"] if failed else []
    return "; ".join([*said, *([f"{odd} rates are not met / total"] if odd else [])])


def _adds_up(found: Mapping[str, Any]) -> bool:
    """Whether the rate of a modality is what its counts say, where it has them."""
    rate, met, total = (number_in(found.get(n), 0, 1e6) for n in ("rate", "met", "total"))
    return rate is None or met is None or not total or abs(rate - met / total) < 0.005


def _result(criterion: str, met: bool | None) -> dict[str, Any]:
    return {"criterion": criterion, "criteria_met": met}


def _result_records(found: Any, path: Path) -> list[dict[str, Any]]:
    records = found.get("items", found.get("results")) if isinstance(found, Mapping) else found
    if not isinstance(records, list) or not records:
        raise BenchError(f"{path} has no list 'items'; it is no result file of UEval's evaluator.")
    for number, record in enumerate(records, 1):
        if not isinstance(record, Mapping) or "id" not in record:
            raise BenchError(f"{path}: item {number} has no id; it is no UEval result.")
        if not {"text_score", "text_rate", "image_score", "image_rate"} & set(record):
            raise BenchError(f"{path}: item {number} has neither text_score nor image_score; it is no UEval result.")
    return [_with_scores(r) for r in records]


def _with_scores(record: Mapping[str, Any]) -> dict[str, Any]:
    """The form that upstream's code writes, also from the one that its README describes (text_rate, image_rate)."""
    found = dict(record)
    for modality in ("text", "image"):
        if not isinstance(found.get(f"{modality}_score"), Mapping):
            found[f"{modality}_score"] = {"rate": number_in(found.get(f"{modality}_rate"), 0, 1)}
    return found


def _answer(outputs: Path, item: str) -> dict[str, Any]:
    """An item's answer: ours, or its entry in an outputs.json that another runner wrote; {} if it cannot be read."""
    path = outputs / item / "answer.json"
    if not path.is_file():
        return _listed(outputs).get(item, {})
    try:
        entry = read_json(path)
    except BenchError:  # cut off, or a folder's rights: the item has no answer, and the others keep theirs
        return {}
    return dict(entry) if isinstance(entry, Mapping) else {}


def _holds_something(answer: Mapping[str, Any]) -> bool:
    text = answer.get("text_answer")
    return bool(isinstance(text, str) and text.strip()) or bool(_names(answer.get("image_answer")))


def _names(images: object) -> list[str]:
    """Paths of pictures: upstream writes a list, others a single one."""
    return [n for n in (images if isinstance(images, list) else [images]) if isinstance(n, str) and n]


def _listed(outputs: Path) -> dict[str, dict[str, Any]]:
    """Entries of outputs.json by id, the last of each."""
    whole = outputs / "outputs.json"
    return _entries(whole, whole.stat().st_mtime_ns) if whole.is_file() else {}


@functools.lru_cache(maxsize=4)
def _entries(whole: Path, changed: int) -> dict[str, dict[str, Any]]:
    found = read_json(whole)
    entries = found if isinstance(found, list) else []
    return {str(e["id"]): dict(e) for e in entries if isinstance(e, Mapping) and "id" in e}


def _images(outputs: Path, names: object) -> tuple[list[Image.Image], list[str]]:
    """Pictures by their paths, from the outputs' folder or, as upstream does, from the current one.

    Raises:
        BenchError: one is missing, or lies elsewhere.
    """
    listed = _names(names)
    found: list[Image.Image] = []
    for name in listed:
        places = [(base, base / name) for base in (outputs, Path.cwd())]
        inside = [p for base, p in places if is_below(base, p) and isfile(p)]
        if not inside:
            raise BenchError(f"Picture {name[:120]!r} is neither below {outputs} nor below the current folder.")
        found.append(open_image(inside[0]))
    return found, listed
