"""Lessons for the planner: whole plans, plans cut at a step, and other people's interleaved documents (stage 5).

A plan that is cut after step k becomes a request that already shows k texts with their accepted images. The reply is
the rest of the plan, with its numbers going on (Task B).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ...files import is_below
from .records import DataError, Drops, PlannerRecord

SO_FAR = "What there is so far:"
GO_ON = "Go on from here."
Words = Literal["prompt", "text"]


@dataclass(frozen=True)
class PlannerOptions:
    """whole: keep the plan from the start as well. cuts: how many truncations of each plan, at random steps.
    seed: of their choice.
    """

    whole: bool = True
    cuts: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.cuts < 0:
            raise DataError(f"cuts is {self.cuts}; it must be 0 or more.")


def planner_records(records: Sequence[PlannerRecord], options: PlannerOptions) -> tuple[list[PlannerRecord], Drops]:
    """Whole and cut plans; a plan of one step, or whose pictures are missing up to the cut, cannot be cut."""
    rng = random.Random(f"cuts-{options.seed}")
    drops = Drops()
    out: list[PlannerRecord] = []
    for record in records:
        if options.whole:
            drops.keep()
            out.append(record)
        steps = record.plan["execution_plan"]
        places = list(range(1, len(steps)))
        for at in sorted(rng.sample(places, min(options.cuts, len(places)))):
            wanted = [s["prompt"] is not None for s in steps[:at]]
            if any(w and not p for w, p in zip(wanted, record.pictures, strict=False)) or len(record.pictures) < at:
                drops.drop("a picture before the cut is missing")
                continue
            drops.keep()
            out.append(cut(record, at))
        if not places and options.cuts:
            drops.drop("a single step cannot be cut")
    return out, drops


def cut(record: PlannerRecord, at: int) -> PlannerRecord:
    """The record with its first `at` steps (1 or more, fewer than there are) as given and the rest as wanted."""
    steps = record.plan["execution_plan"]
    request = record.request
    marks = request.lower().count("<image>")
    lines = [request + "<image>" * (len(record.images) - marks), SO_FAR]
    images = list(record.images)
    for step, image in zip(steps[:at], record.pictures, strict=False):
        text = step.get("auxiliary_text") or step.get("instruction") or step.get("prompt") or ""
        lines.append(f"{text} <image>" if image else text)
        images += [image] if image else []
    first = len(images) + 1
    rest = [{**step, "step_number": first + i} for i, step in enumerate(steps[at:])]
    return replace(
        record,
        id=f"{record.id}@{at}",
        request="\n".join([*lines, GO_ON]),
        images=tuple(images),
        plan={**record.plan, "execution_plan": rest},
        pictures=record.pictures[at:],
    )


def from_corpus(path: Path, words: Words = "prompt") -> tuple[list[PlannerRecord], Drops]:
    """Interleaved documents of others: JSON lines of {id?, request, items: [{text?, image?}, ...]}.

    Each item becomes a step. words: an item's text becomes its prompt as well where it has an image, or text only
    (a plan that draws nothing). Pictures are relative to the file.

    Raises:
        DataError: the file cannot be read or a line is no such document; the message names the line.
    """
    drops = Drops()
    out: list[PlannerRecord] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path}: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
            request, items = found["request"], found["items"]
            parts = [(str(i.get("text") or "").strip(), str(i.get("image") or "")) for i in items]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}: not {{request, items: [{{text, image}}]}} ({error!r:.80})."
            ) from None
        if not isinstance(request, str) or not request.strip():
            drops.drop("it has no request")
        elif not any(text for text, _ in parts):
            drops.drop("it has no text")
        elif not all(_is_image_of(path.parent, image) for _, image in parts if image):
            drops.drop("a picture is missing")
        else:
            drops.keep()
            steps = [_step(n, text, bool(image) and words == "prompt") for n, (text, image) in enumerate(parts, 1)]
            name = str(found.get("id") or f"{path.stem}-{number}")
            plan: Mapping[str, Any] = {"execution_plan": steps, "reasoning": "", "request": request}
            out.append(PlannerRecord(name, request, (), plan, tuple(image for _, image in parts)))
    return out, drops


def _step(number: int, text: str, draws: bool) -> dict[str, Any]:
    shown = text or None
    return {
        "step_number": number,
        "step_name": "",
        "instruction": shown if draws else None,
        "prompt": shown if draws else None,
        "auxiliary_text": shown,
    }


def _is_image_of(folder: Path, name: str) -> bool:
    path = folder / name
    return is_below(folder, path) and path.is_file()
