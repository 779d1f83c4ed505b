"""Requests and their right plans: what people ask for in this world, and what a planner should answer.

Three kinds, as for the real planner: `story` (text only), `continue` (Task B: a picture and what to do
with it) and `describe` (Task A: pictures in, text out). All are drawn from a seed. `plan_is_right`
checks a plan by carrying out its prompts on scenes.
Knows nothing of models.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from ..loop.plan import Plan, PlanStep
from .language import Voice, random_edit, read_caption, scene_after
from .scene import Jitter, Scene, random_scene, render

Kind = Literal["story", "continue", "describe"]

RICHNESS = 0.22
"""How often a request uses a rich word where the generator knows a plain one."""

HELD_OUT = "held-out"
"""Mixed into the seed of evaluation requests, so that no training seed draws the same stream."""

_OPENINGS = (
    "Show in {n} pictures: {body}.",
    "Tell it step by step: {body}.",
    "Draw this in {n} steps: {body}.",
    "Make a story of {n} pictures: {body}.",
)
_CAPTIONED = ("Add captions.", "Give each picture a caption.", "With a short caption each.")
_FIRST = ("first {x}", "start with {x}", "begin with {x}")
_NEXT = ("then {x}", "next {x}", "after that {x}")
_LAST = ("finally {x}", "at the end {x}", "last {x}")
_CONTINUE = ("Continue this picture: {body}.", "Go on from here: {body}.", "Take this and {body}.")
_DESCRIBE = ("Describe each picture.", "Say what every picture shows.", "What do you see?")


@dataclass(frozen=True)
class Request:
    """A request with its ground truth.

    `scenes` are the pictures that the plan must lead to, one a step (for `describe`: what is given).
    `given` are the user's scenes with the jitter they are drawn with.
    """

    kind: Kind
    text: str
    scenes: tuple[Scene, ...]
    plan: Plan
    given: tuple[tuple[Scene, Jitter], ...] = ()
    captions: bool = False

    def images(self) -> list[Image.Image]:
        return [render(scene, jitter) for scene, jitter in self.given]


def draw_request(rng: random.Random, kind: Kind | None = None) -> Request:
    kind = kind or rng.choices(("story", "continue", "describe"), (75, 15, 10))[0]
    if kind == "describe":
        return _describe(rng)
    return _story(rng, continued=kind == "continue")


def held_out(count: int, seed: int, kind: Kind | None = "story") -> list[Request]:
    """Requests for evaluation; the stream of `seed` is never used in training."""
    rng = random.Random(f"{HELD_OUT}-{seed}")
    return [draw_request(rng, kind) for _ in range(count)]


def plan_is_right(request: Request, plan: Plan) -> bool:
    """Whether the plan leads to the scenes that the request asks for, one a step, in order."""
    if request.kind == "describe":
        told = [read_caption(s.auxiliary_text or "") for s in plan.steps]
        return all(s.prompt is None for s in plan.steps) and _same(told, request.scenes)
    before = request.given[-1][0] if request.given else None
    reached: list[Scene | None] = []
    for step in plan.steps:
        before = scene_after(step.prompt or "", before)
        reached.append(before)
        if before is None:
            return False
    captioned = all(s.auxiliary_text for s in plan.steps) == request.captions
    return _same(reached, request.scenes) and captioned


def _same(found: Sequence[Scene | None], wanted: Sequence[Scene]) -> bool:
    return len(found) == len(wanted) and all(
        f is not None and f.shows_the_same_as(w) for f, w in zip(found, wanted, strict=True)
    )


def _story(rng: random.Random, *, continued: bool) -> Request:
    voice = Voice(rng, RICHNESS)
    start = random_scene(rng)
    scene, scenes, prompts, edits = start, [], [], []
    if not continued:
        prompts.append(voice.describe(scene))
        scenes.append(scene)
        edits.append("")
    for _ in range(rng.randint(1, 3) if continued else rng.randint(2, 4)):
        edit = random_edit(scene, rng, removal=0.0)
        prompts.append(voice.instruct(edit, scene))
        edits.append(edit.kind)
        scene = edit.apply(scene)
        scenes.append(scene)
    forms = [rng.choice(_NEXT) for _ in prompts]
    if not continued:
        forms[0] = rng.choice(_FIRST)
    if len(prompts) > 2:
        forms[-1] = rng.choice(_LAST)
    if continued:
        forms[0] = "{x}"
    body = ", ".join(f.format(x=p) for f, p in zip(forms, prompts, strict=True))
    text = rng.choice(_CONTINUE if continued else _OPENINGS).format(n=len(prompts), body=body)
    captions = rng.random() < 0.5
    if captions:
        text += " " + rng.choice(_CAPTIONED)
    first = 2 if continued else 1
    steps = [
        PlanStep(
            first + i,
            kind or "draw",
            _sentence(prompt),
            prompt,
            _caption(scene) if captions else None,
        )
        for i, (prompt, kind, scene) in enumerate(zip(prompts, edits, scenes, strict=True))
    ]
    reasoning = " ; ".join(f"{i} {_short(s)}" for i, s in enumerate(scenes, first))
    given = ((start, Jitter.draw(rng)),) if continued else ()
    if continued:
        reasoning = f"1 {_short(start)} ; {reasoning}"
    kind: Kind = "continue" if continued else "story"
    return Request(kind, text, tuple(scenes), Plan(tuple(steps), reasoning), given, captions)


def _describe(rng: random.Random) -> Request:
    scenes = [random_scene(rng) for _ in range(rng.randint(1, 3))]
    given = tuple((s, Jitter.draw(rng)) for s in scenes)
    steps = tuple(PlanStep(i, "describe", None, None, _caption(s)) for i, s in enumerate(scenes, 1))
    reasoning = " ; ".join(f"{i} {_short(s)}" for i, s in enumerate(scenes, 1))
    return Request("describe", rng.choice(_DESCRIBE), tuple(scenes), Plan(steps, reasoning), given, captions=True)


def _short(scene: Scene) -> str:
    return " ".join(scene.values())


def _caption(scene: Scene) -> str:
    """One fixed form, so that a caption can be checked word for word."""
    size, color, shape, position, background = scene.values()
    article = "An" if color == "orange" and not size else "A"
    return f"{article} {size} {color} {shape} at the {position} on a {background} background."


def _sentence(prompt: str) -> str:
    return prompt[0].upper() + prompt[1:] + "."
