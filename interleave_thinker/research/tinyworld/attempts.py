"""Let the generator make attempts for the critic to learn from, labelled by the checker.

    interleave-thinker tinyworld attempts --out DIR --count 8000

Each walk is a random story with plain and rich prompts and several seeds a step. It goes on from a right attempt where
there is one, so that the images before an edit are generated ones too, as in use.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ...tinyworld import checker
from ...tinyworld.language import Voice, random_edit, scene_after
from ...tinyworld.lessons import plain_prompt
from ...tinyworld.pipeline import TinyKontextPipeline
from ...tinyworld.requests import RICHNESS
from ...tinyworld.scene import Scene, random_scene

WALKERS = 64
STEPS_OF_A_WALK = 5
TRIES = (2, 5)
"""Attempts at one step: two, for many different steps, or five, for comparing as many as T_max allows."""


def make_attempts(pipeline: TinyKontextPipeline, out: Path, count: int, seed: int = 0) -> int:
    """Write PNGs and attempts.jsonl below `out`; resumes by appending. Returns how many there are."""
    out.mkdir(parents=True, exist_ok=True)
    log = out / "attempts.jsonl"
    have = len(log.read_text().splitlines()) if log.exists() else 0
    rng = random.Random(f"attempts-{seed}-{have}")
    while have < count:
        walkers = [_Walker(rng, have + i) for i in range(WALKERS)]
        for _ in range(STEPS_OF_A_WALK):
            for again in range(rng.choice(TRIES)):
                have = _attempt_all(pipeline, walkers, again, rng, out, have)
            for walker in walkers:
                walker.go_on(rng)
        print(f"attempts {have}/{count}", flush=True)
    return have


class _Walker:
    """A story under way: the scene of its last image, and the attempts at the current step."""

    def __init__(self, rng: random.Random, number: int):
        self.number, self.step = number, 0
        self.before: Scene | None = None
        self.image: Image.Image | None = None
        self.file = ""
        self._wish(rng)

    def _wish(self, rng: random.Random) -> None:
        voice = Voice(rng, RICHNESS * rng.choice((0.5, 1.0, 2.0)))
        if self.before is None or not self.before.present:
            self.before, self.image, self.file = None, None, ""
            self.prompt = voice.describe(random_scene(rng))
        else:
            self.prompt = voice.instruct(random_edit(self.before, rng, removal=0.02), self.before)
        self.used = self.prompt
        self.tries: list[tuple[Scene | None, Image.Image, str]] = []

    def go_on(self, rng: random.Random) -> None:
        wanted = scene_after(self.prompt, self.before)
        assert wanted is not None
        right = [t for t in self.tries if t[0] is not None and t[0].shows_the_same_as(wanted)]
        readable = [t for t in self.tries if t[0] is not None and t[0].present]
        if right or readable:
            self.before, self.image, self.file = (right or readable)[0]
        else:
            self.before, self.image, self.file = None, None, ""
        self.step += 1
        self._wish(rng)


def _attempt_all(
    pipeline: TinyKontextPipeline, walkers: list[_Walker], again: int, rng: random.Random, out: Path, have: int
) -> int:
    for drawing in (True, False):
        group = [w for w in walkers if (w.image is None) == drawing]
        if not group:
            continue
        for w in group:
            w.used = w.prompt if again == 0 or rng.random() < 0.3 else plain_prompt(w.prompt, w.used, w.before)
        made = pipeline(
            [w.used for w in group],
            None if drawing else [w.image for w in group],
            generator=[torch.Generator().manual_seed(rng.getrandbits(31)) for _ in group],
        ).images
        with (out / "attempts.jsonl").open("a", encoding="utf-8") as log:
            for walker, image in zip(group, made, strict=True):
                name = f"{have:06d}.png"
                image.save(out / name)
                after = checker.read(image).scene
                step = f"{walker.number}-{walker.step}"
                record = attempt_record(step, walker.prompt, walker.used, walker.before, after, walker.file, name)
                log.write(json.dumps(record) + "\n")
                walker.tries.append((after, image, name))
                have += 1
    return have


def attempt_record(
    group: str, prompt: str, used: str, before: Scene | None, after: Scene | None, before_image: str, after_image: str
) -> dict[str, Any]:
    """A line of attempts.jsonl, as `attempt_pool.AttemptPool` reads it; `group` names the step."""
    return {
        "group": group,
        "prompt": prompt,
        "used": used,
        "before": asdict(before) if before else None,
        "after": asdict(after) if after else None,
        "before_image": before_image,
        "after_image": after_image,
    }
