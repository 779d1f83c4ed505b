"""What the tiny agents are taught: conversations with the ground truth as the answer.

A lesson is one user turn (texts and pictures) and the reply that is wanted. The critic's reasoning is
written out in small steps, each learnable on its own (before, after, wanted, attribute by attribute),
because a bare verdict teaches a small vision tower nothing (`docs/tiny-world.md`).
Knows nothing of models or trainers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..critic import white_canvas
from . import checker
from .language import Edit, Voice, picture_after, random_edit, read_caption, read_edit
from .requests import RICHNESS, Request, draw_request
from .scene import ATTRIBUTES, COLORS, POSITIONS, SHAPES, SIDE, SIZES, Jitter, Scene, random_scene, render

UNCLEAR = "unclear"
CROSSINGS = 20
"""How often another picture is looked for that shows what is needed."""
VARIATIONS = 5
"""How often a picture is moved before it is shown as it is."""

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
        scene = picture_after(self.prompt, self.before)
        if scene is None:
            raise ValueError(f"{self.prompt!r} cannot be carried out on {self.before}")
        return scene

    @property
    def right(self) -> bool:
        return self.after is not None and self.after.same_picture(self.wanted)

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
    think = f"before {_words(case.before, 'sheet')} after {_words(case.after, UNCLEAR)} "
    think += f"wanted {_words(case.wanted, '')} so {' '.join(_compared(case.wanted, case.after))}"
    return Lesson((before, case.after_image, text), f"<think>{think}</think><answer>{answer}</answer>")


def compare_lesson(cases: Sequence[Case], prompts: dict[str, str]) -> Lesson:
    """Several attempts at the same step; the right answer is the last of those with the most right attributes.

    The last, because prompts get better from attempt to attempt: it is the one to keep where nothing else tells.
    """
    first = cases[0]
    text = prompts["compare"].replace("{original_instruction}", first.prompt)
    scores = [_compared(first.wanted, c.after).count("ok") for c in cases]
    told = " ; ".join(
        f"{i} {_words(c.after, UNCLEAR)} {s} ok" for i, (c, s) in enumerate(zip(cases, scores, strict=True), 1)
    )
    before = first.before_image or white_canvas((SIDE, SIDE))
    best = max(i for i, s in enumerate(scores, 1) if s == max(scores))
    think = f"before {_words(first.before, 'sheet')} wanted {_words(first.wanted, '')} ; {told}"
    return Lesson(
        (before, *(c.after_image for c in cases), text),
        f'<think>{think}</think><answer>{{"best": {best}}}</answer>',
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


class AttemptPool:
    """Attempts that the generator really made, as cases labelled by the checker.

    folders: of `attempts.py`, or data sets of `data score`. One that is given twice counts twice. right_share: of
    right attempts among those that are drawn; less than a half makes a stricter critic.
    """

    def __init__(self, folders: Sequence[Path], right_share: float = 0.5):
        self.right_share = right_share
        self.records: list[dict[str, Any]] = []
        for folder in folders:
            attempts = folder / "attempts.jsonl"
            read = _lines(attempts) if attempts.is_file() else self._scored(_lines(folder / "scored.jsonl"), folder)
            self.records += [record | {"folder": folder} for record in read]
        for record in self.records:  # as the checker is now, not as it was when they were made
            after = checker.read(self._image(record["folder"] / record["after_image"])).scene
            record["after"] = asdict(after) if after else None
        self.groups: dict[tuple[Path, str], list[int]] = {}
        self.right: list[int] = []
        self.wrong: list[int] = []
        self.near: list[int] = []
        self.drawn = [i for i, r in enumerate(self.records) if not r["before"]]
        self.edited = [i for i, r in enumerate(self.records) if r["before"]]
        for i, record in enumerate(self.records):
            self.groups.setdefault((record["folder"], record["group"]), []).append(i)
            case = self.case(i)
            (self.right if case.right else self.wrong).append(i)
            if not case.right and case.misses <= 1:
                self.near.append(i)
        self.several = [g for g in self.groups.values() if len(g) > 1]
        self.showing: dict[tuple[str, ...], list[Path]] = {}
        for record in self.records:
            if record["after"]:
                shows = Scene(**record["after"]).values()
                self.showing.setdefault(shows, []).append(record["folder"] / record["after_image"])

    def _scored(self, records: list[dict[str, Any]], folder: Path) -> Iterator[dict[str, Any]]:
        """Without those that start from a picture on which the wish cannot be carried out: nobody can judge them."""
        scenes: dict[str, Scene | None] = {}
        for r in records:
            start = r["before"]
            if start and start not in scenes:
                scenes[start] = checker.read(self._image(folder / start)).scene
            before = scenes[start] if start else None
            if bool(start) == (before is not None) and picture_after(r["prompt"], before) is not None:
                shown = asdict(before) if before else None
                yield r | {"before": shown, "before_image": start or "", "after_image": r["after"]}

    @lru_cache(maxsize=100_000)  # noqa: B019
    def _image(self, path: Path) -> Image.Image:
        with Image.open(path) as image:
            picture: Image.Image = image.convert("RGB")
            return picture

    def case(self, index: int) -> Case:
        r = self.records[index]
        return Case(
            Scene(**r["before"]) if r["before"] else None,
            Scene(**r["after"]) if r["after"] else None,
            r["prompt"],
            r["used"],
            self._image(r["folder"] / r["before_image"]) if r["before_image"] else None,
            self._image(r["folder"] / r["after_image"]),
        )

    def balanced_case(self, rng: random.Random) -> Case:
        """Of the wrong ones half miss by one thing only, or cannot be read at all."""
        wrong = self.near if self.near and rng.random() < 0.5 else self.wrong
        return varied(self.case(rng.choice(self.right if rng.random() < self.right_share else wrong)), rng)

    def restated_case(self, rng: random.Random) -> Case:
        """A real attempt under other words: what was wanted is invented to fit it, or to miss by little.

        Without these the text alone tells much of what the picture shows (plain prompts mostly succeed), and
        a critic learns to read instead of to look.
        """
        drawn = rng.random() < 0.5
        case = varied(self.case(rng.choice(self.drawn if drawn else self.edited)), rng)
        if case.after is None:
            return case
        voice = Voice(rng, RICHNESS)
        if case.before is None:
            fits = case.after.present and rng.random() < self.right_share
            prompt = voice.describe(case.after if fits else _one_off(case.after, rng))
        else:
            edit = random_edit(case.before, rng, removal=0.02)
            changed = [a for a in ATTRIBUTES if getattr(case.before, a) != getattr(case.after, a)]
            if case.after.present and len(changed) == 1 and rng.random() < self.right_share + 0.1:
                edit = Edit(changed[0], getattr(case.after, changed[0]))
            prompt = voice.instruct(edit, case.before)
        used = prompt if rng.random() < 0.5 else plain_prompt(prompt, prompt, case.before)
        return replace(case, prompt=prompt, used=used)

    def crossed_case(self, rng: random.Random) -> Case:
        """A real attempt beside a picture that it was not made from: as if one thing, or another too, had changed.

        Edits mostly leave alone what they should, so that a critic may take for granted what it cannot see well. Here
        what was there tells nothing of what came.
        """
        record = self.records[rng.choice(self.right if rng.random() < 0.5 else self.wrong)]
        after = Scene(**record["after"]) if record["after"] else None
        right = rng.random() < self.right_share
        for _ in range(CROSSINGS if after is not None and after.present else 0):
            assert after is not None
            back = random_edit(after, rng, removal=0.0)
            edit, before = Edit(back.kind, getattr(after, back.kind)), back.apply(after)
            if not right:
                before = _one_off(before, rng)
            shown = self.showing.get(before.values(), ())
            if not shown or getattr(before, edit.kind) != back.value:
                continue  # no such picture, or what else changed is what the edit is about
            prompt = Voice(rng, RICHNESS).instruct(edit, before)
            used = prompt if rng.random() < 0.5 else plain_prompt(prompt, prompt, before)
            pictures = self._image(rng.choice(shown)), self._image(record["folder"] / record["after_image"])
            return varied(Case(before, after, prompt, used, *pictures), rng)
        return self.balanced_case(rng)

    def group(self, rng: random.Random) -> list[Case]:
        """Two to five attempts at one step, in any order."""
        chosen = list(rng.choice(self.several))
        rng.shuffle(chosen)
        return [varied(self.case(i), rng) for i in chosen[: rng.randint(2, 5)]]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def varied(case: Case, rng: random.Random) -> Case:
    """The same case a pixel aside and a shade lighter or darker, so that pictures are not learned by heart.

    What came must still show what it showed: a small shape a pixel aside may be no drawing any more to the checker, and
    a critic that learns otherwise learns to overlook what the generator gets wrong.
    """
    for _ in range(VARIATIONS):
        x, y, light = rng.randint(-1, 1), rng.randint(-1, 1), rng.uniform(0.97, 1.03)
        after = _moved(case.after_image, x, y, light)
        if checker.read(after).scene == case.after:
            before = _moved(case.before_image, x, y, light) if case.before_image is not None else None
            return replace(case, before_image=before, after_image=after)
    return case


def _moved(image: Image.Image, x: int, y: int, light: float) -> Image.Image:
    pixels = np.roll(np.pad(np.asarray(image), ((1, 1), (1, 1), (0, 0)), "edge"), (y, x), (0, 1))[1:-1, 1:-1]
    return Image.fromarray(np.clip(pixels * light, 0, 255).astype(np.uint8), "RGB")


def _one_off(scene: Scene, rng: random.Random) -> Scene:
    """Another scene that differs in one attribute, most often the one that is hardest to see."""
    if not scene.present:
        return random_scene(rng)
    name = rng.choices(ATTRIBUTES, (25, 10, 45, 10, 10))[0]
    options = {"shape": SHAPES, "size": tuple(SIZES), "position": tuple(POSITIONS)}.get(name, tuple(COLORS))
    taken = (scene.color, scene.background, getattr(scene, name))
    return scene.with_(**{name: rng.choice([o for o in options if o not in taken])})


def _words(scene: Scene | None, missing: str) -> str:
    return " ".join(scene.values()) if scene else missing


def _compared(wanted: Scene, after: Scene | None) -> list[str]:
    """ "ok" or "bad" for each attribute; one "bad" where there is nothing to compare."""
    if after is None or len(wanted.values()) != len(after.values()):
        return ["bad"]
    return ["ok" if w == a else "bad" for w, a in zip(wanted.values(), after.values(), strict=True)]
