"""The tiny world's ground truth in the place of models: a critic that cannot err, and a judge that counts.

What a hosted model is for the real pipeline, its teacher and judge, is here a matter of pixels (`checker`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..agents.base import Completion, Message, OnText, Sampling, TextStream
from ..errors import AgentError
from ..roles.scorer import HIGHEST, Score, ScoreError
from . import checker
from .language import scene_after
from .lessons import PROMPTS, Case, critic_lesson
from .scene import ATTRIBUTES, Scene

_ASKED = re.compile("(.*?)".join(re.escape(part) for part in re.split(r"\{\w+\}", PROMPTS["critic"])), re.S)


class OracleCritic:
    """An Agent that answers the critic's question from the pixels, in the words that the tiny critic is taught."""

    name = "tiny oracle"
    prompts = str(Path(__file__).parent / "weights" / "critic" / "prompts")

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        turn = messages[0]
        asked = _ASKED.fullmatch("".join(p for p in turn.parts if isinstance(p, str)).strip())
        if asked is None or len(turn.images) != 2:
            raise AgentError("tiny:oracle is a critic only: it answers about a picture before and one after.")
        before, after = turn.images
        drawn = before.convert("L").getextrema()[0] == 255  # the white canvas
        start = None if drawn else checker.read(before).scene
        case = Case(start, checker.read(after).scene, asked[1], asked[2], None if drawn else before, after)
        stream = TextStream(on_text)
        stream.push(_reply(case))
        return stream.completion(cut_off=False)


def _reply(case: Case) -> str:
    if scene_after(case.prompt, case.before) is None:
        return (
            "<think>nobody can say what that should show</think>"
            '<answer>{"previous_step_success": false, "refine_prompt": ""}</answer>'
        )
    return critic_lesson(case, PROMPTS).reply


class CheckerScorer:
    """A Scorer: SC from the attributes that are as wanted, PQ from how exactly the shape is drawn.

    SC = 10 * min(share of what should change that did, share of what should stay that did); PQ = 10 * overlap with
    the exact drawing. From text alone everything should "change". A picture that shows nothing of this world has SC 0.
    """

    name = "tiny checker"

    def score(self, before: Image.Image | None, after: Image.Image, instruction: str) -> Score:
        start = checker.read(before).scene if before is not None else None
        wanted = scene_after(instruction, start)
        if wanted is None or (before is not None and start is None):
            raise ScoreError("nobody can say what this should show")
        reading = checker.read(after)
        quality = HIGHEST * min(1.0, max(0.0, reading.fit))
        return Score(HIGHEST * _semantics(start, wanted, reading.scene), quality)


def _semantics(start: Scene | None, wanted: Scene, found: Scene | None) -> float:
    if found is None:
        return 0.0
    if found.shows_the_same_as(wanted):
        return 1.0
    if found.present != wanted.present or (start is not None and start.present != wanted.present):
        return 0.0
    changing = [a for a in ATTRIBUTES if start is None or getattr(start, a) != getattr(wanted, a)]
    staying = [a for a in ATTRIBUTES if a not in changing]
    shares = [
        sum(getattr(found, a) == getattr(wanted, a) for a in names) / len(names)
        for names in (changing, staying)
        if names
    ]
    return float(min(shares))
