"""What the tiny agents are taught: conversations with the ground truth as the answer.

A lesson is one user turn (texts and pictures) and the reply that is wanted. The critic's reasoning is
written out in small steps, each learnable on its own (before, after, wanted, attribute by attribute),
because a bare verdict teaches a small vision tower nothing (`docs/tiny-world.md`).
Knows nothing of models or trainers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from ..roles.critic import white_canvas
from .language import Voice, random_edit, read_caption, read_edit, scene_after
from .requests import RICHNESS, Request, draw_request
from .scene import ATTRIBUTES, COLORS, POSITIONS, SHAPES, SIDE, SIZES, Jitter, Scene, random_scene, render

UNCLEAR = "unclear"

PROMPTS = {
    "planner_text": "plan {text_input}",
    "planner_images": "plan {text_input}",
    "critic": "want {original_instruction}\ngot {rewritten_prompt}",
    "compare": "best {original_instruction}",
    "reask": "again {problem}",
}
"""What the tiny agents are asked, saved beside them as prompts/*.md."""


@dataclass(frozen=True)
class Lesson:
    parts: tuple[str | Image.Image, ...]
    reply: str


@dataclass(frozen=True)
class Case:
    """One attempt with its ground truth: what was there, what was wanted in which words, what came."""

    before: Scene | None
    after: Scene | None
    prompt: str
    used: str
    before_image: Image.Image | None
    after_image: Image.Image

    @property
    def wanted(self) -> Scene:
        scene = scene_after(self.prompt, self.before)
        if scene is None:
            raise ValueError(f"{self.prompt!r} cannot be carried out on {self.before}")
        return scene

    @property
    def right(self) -> bool:
        return self.after is not None and self.after.shows_the_same_as(self.wanted)

    @property
    def misses(self) -> int:
        """In how many things the picture is another than wanted; 0 also for one that cannot be read."""
        if self.after is None:
            return 0
        return sum(getattr(self.after, name) != getattr(self.wanted, name) for name in ATTRIBUTES)


def base_lesson(rng: random.Random, prompts: dict[str, str]) -> Lesson:
    """What a general model knows before it is taught its role: rendered pictures and short requests only.

    Half are judgments of rendered pictures, never of generated ones; the others are plans of at most three steps.
    """
    if rng.random() < 0.5:
        return critic_lesson(rendered_case(rng), prompts)
    request = draw_request(rng)
    while len(request.plan.steps) > 3:
        request = draw_request(rng)
    return _plan_lesson(request, prompts)


def planner_lesson(rng: random.Random, prompts: dict[str, str]) -> Lesson:
    return _plan_lesson(draw_request(rng), prompts)


def _plan_lesson(request: Request, prompts: dict[str, str]) -> Lesson:
    images = request.images()
    name = "planner_images" if images else "planner_text"
    text = prompts[name].replace("{text_input}", request.text)
    body = json.dumps({"execution_plan": [s.to_dict() for s in request.plan.steps]})
    reply = f"<think>{request.plan.reasoning}</think><answer>{body}</answer>"
    return Lesson((text, *images), reply)


def critic_lesson(case: Case, prompts: dict[str, str]) -> Lesson:
    text = prompts["critic"].replace("{original_instruction}", case.prompt)
    text = text.replace("{rewritten_prompt}", case.used)
    before = case.before_image or white_canvas((SIDE, SIDE))
    refined = "" if case.right else plain_prompt(case.prompt, case.used, case.before)
    answer = json.dumps({"previous_step_success": case.right, "refine_prompt": refined})
    return Lesson((before, case.after_image, text), f"<think>{_seen(case)}</think><answer>{answer}</answer>")


def compare_lesson(cases: Sequence[Case], prompts: dict[str, str]) -> Lesson:
    """Several attempts at the same step; the right answer is the last of those with the most right attributes.

    The last, because prompts get better from attempt to attempt: it is the one to keep where nothing else tells. Each
    attempt is described as a judgment describes it (as in `research/data/comparisons.py`): the skill is the same.
    """
    first = cases[0]
    text = prompts["compare"].replace("{original_instruction}", first.prompt)
    scores = [_compared(c.wanted, c.after).count("ok") for c in cases]
    best = max(i for i, s in enumerate(scores, 1) if s == max(scores))
    told = " ; ".join(f"{i} {_seen(c)}" for i, c in enumerate(cases, 1))
    return Lesson(
        (first.before_image or white_canvas((SIDE, SIDE)), *(c.after_image for c in cases), text),
        f'<think>{told}</think><answer>{{"best": {best}}}</answer>',
    )


def plain_prompt(prompt: str, used: str, before: Scene | None) -> str:
    """The same wish in the generator's own words, and not in those just used."""
    for form in range(2):
        voice = Voice(_Always(form))
        if before is None:
            scene = read_caption(prompt)
            text = voice.describe(scene) if scene else prompt
        else:
            edit = read_edit(prompt)
            text = voice.instruct(edit, before) if edit else prompt
        if text != used:
            return text
    return text


class _Always(random.Random):
    """A source of chance that always takes option number `form` and never a rich word."""

    def __init__(self, form: int):
        super().__init__(0)
        self.form = form

    def choice(self, seq):  # type: ignore[no-untyped-def]
        return seq[self.form]

    def random(self) -> float:
        return 1.0


def rendered_case(rng: random.Random) -> Case:
    """A drawn case: half right; wrong ones are unchanged, another edit, or right with damage."""
    voice = Voice(rng, RICHNESS * 2)
    jitter = Jitter.draw(rng)
    if rng.random() < 0.3:
        before, wanted = None, random_scene(rng)
        prompt = voice.describe(wanted)
    else:
        before = random_scene(rng)
        edit = random_edit(before, rng, removal=0.02)
        wanted = edit.apply(before)
        prompt = voice.instruct(edit, before)
    after = wanted if rng.random() < 0.5 else _wrong(before, wanted, rng)
    used = prompt if rng.random() < 0.5 else plain_prompt(prompt, prompt, before)
    return Case(
        before,
        after,
        prompt,
        used,
        render(before, jitter) if before else None,
        render(after, jitter),
    )


def _wrong(before: Scene | None, wanted: Scene, rng: random.Random) -> Scene:
    chance = rng.random()
    if before is not None and chance < 0.35:
        return before
    if before is not None and chance < 0.55:
        return random_edit(before, rng).apply(before)
    damaged = wanted.with_(present=True) if not wanted.present else wanted
    for _ in range(1 if chance < 0.85 else 2):
        name = rng.choice(["color", "background", "shape", "size", "position"])
        options = {"shape": SHAPES, "size": tuple(SIZES), "position": tuple(POSITIONS)}.get(name, tuple(COLORS))
        taken = (damaged.color, damaged.background, getattr(damaged, name))
        damaged = damaged.with_(**{name: rng.choice([o for o in options if o not in taken])})
    return damaged


def one_off(scene: Scene, rng: random.Random) -> Scene:
    """Another scene that differs in one attribute, most often the one that is hardest to see."""
    if not scene.present:
        return random_scene(rng)
    name = rng.choices(ATTRIBUTES, (25, 10, 45, 10, 10))[0]
    options = {"shape": SHAPES, "size": tuple(SIZES), "position": tuple(POSITIONS)}.get(name, tuple(COLORS))
    taken = (scene.color, scene.background, getattr(scene, name))
    return scene.with_(**{name: rng.choice([o for o in options if o not in taken])})


def _words(scene: Scene | None, missing: str) -> str:
    return " ".join(scene.values()) if scene else missing


def _seen(case: Case) -> str:
    seen = f"before {_words(case.before, 'sheet')} after {_words(case.after, UNCLEAR)}"
    return f"{seen} wanted {_words(case.wanted, '')} so {' '.join(_compared(case.wanted, case.after))}"


def _compared(wanted: Scene, after: Scene | None) -> list[str]:
    """ "ok" or "bad" for each attribute; one "bad" where there is nothing to compare."""
    if after is None or len(wanted.values()) != len(after.values()):
        return ["bad"]
    return ["ok" if w == a else "bad" for w, a in zip(wanted.values(), after.values(), strict=True)]
