"""The tiny world as a benchmark of UEval's form: text and picture rubrics with ground truth.

Records, outputs, scores and totals are UEval's (`ueval.py`); requests are the world's held-out ones, and
the judge is the world's exact checker behind the Agent protocol, so that the whole chain runs on a CPU.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ...agents.base import Completion, Message, OnText, Sampling
from ...tinyworld import checker
from ...tinyworld.language import read_caption, words_of
from ...tinyworld.requests import Request, held_out
from ...tinyworld.scene import Scene
from .base import Item
from .ueval import TASKS, UEval

_SHOWS = re.compile(r"Picture (\d+) of (\d+) shows (.+?)\.", re.S)
_NAMES = re.compile(r"The text names, in this order: (.+?)\.", re.S)


class TinyBench(UEval):
    """`count` requests drawn from `seed`, spread over UEval's eight task names so that its totals exist."""

    name = "tiny"
    where = "nothing: the requests are drawn from --request-seed"
    official = {}  # noqa: RUF012 - a ClassVar in the base

    def __init__(self, count: int = 16, seed: int = 0):
        super().__init__(None)
        self.count, self.seed = count, seed

    def records(self) -> list[dict[str, Any]]:
        return [
            {
                "id": f"{TASKS[n % len(TASKS)]}_{self.seed}_{n + 1}",
                "prompt": request.text,
                "task": TASKS[n % len(TASKS)],
                "text_rubrics": [_text_rubric(request)],
                "image_rubrics": [_image_rubric(n, scene, request) for n, scene in enumerate(request.scenes, 1)],
            }
            for n, request in enumerate(held_out(self.count, self.seed))
        ]

    def items(self) -> list[Item]:
        return [Item(r["id"], r["task"], r["prompt"], record=r) for r in self.records()]


@dataclass
class CheckerJudge:
    """Reads the requirement out of UEval's question and answers it from pixels and words; no model."""

    name: str = "tiny world's checker"
    prompts: str | None = None

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        images = messages[-1].images
        text = "\n".join(messages[-1].texts)
        requirement = text.split("Requirement to check:\n")[-1]
        met = _met(requirement, text, images)
        return Completion(json.dumps({"criteria_met": "not sure" if met is None else met}), "stop")


def _met(requirement: str, text: str, images: Sequence[Image.Image]) -> bool | None:
    shows, names = _SHOWS.search(requirement), _NAMES.search(requirement)
    if shows:
        number, total = int(shows.group(1)), int(shows.group(2))
        return len(images) == total and checker.shows(images[number - 1], read_caption(shows.group(3)))
    if names:
        answer = text.split("The model's text answer:\n")[-1].split("Requirement to check:")[0].lower()
        return _in_order(names.group(1).split(", "), answer)
    return None


def _in_order(words: Sequence[str], text: str) -> bool:
    found = iter(words_of(text))
    return all(any(w == word for w in found) for word in words)


def _image_rubric(number: int, scene: Scene, request: Request) -> str:
    size, color, shape, position, background = scene.values()
    shown = f"a {size} {color} {shape} at the {position} on a {background} background"
    return f"Picture {number} of {len(request.scenes)} shows {shown}."


def _text_rubric(request: Request) -> str:
    """One word a step that its text must name: the shape that is drawn, then the new value of each edit."""
    words = [request.scenes[0].shape]
    for before, after in zip(request.scenes, request.scenes[1:], strict=False):
        words.append(next(b for a, b in zip(before.values(), after.values(), strict=True) if a != b))
    return f"The text names, in this order: {', '.join(words)}."
