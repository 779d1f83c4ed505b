"""Cases for the critic from attempts of the generator, unchanged or changed in a known way.

The module knows nothing of models or trainers, and of lessons only `Case`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...storage.images import open_rgb
from ...tinyworld import checker
from ...tinyworld.language import Edit, Voice, random_edit, scene_after
from ...tinyworld.lessons import Case, one_off, plain_prompt
from ...tinyworld.requests import RICHNESS
from ...tinyworld.scene import ATTRIBUTES, Scene

VARIATIONS = 5
"""An attempt is moved at most so often; then it is used unmoved."""


class AttemptPool:
    """Attempts of the generator as cases that the checker has labelled.

    folders: of `attempts.py`, or data sets of `data score`. A folder that is given twice counts twice. right_share:
    share of right attempts among those that are drawn; less than a half makes a stricter critic.
    """

    def __init__(self, folders: Sequence[Path], right_share: float = 0.5):
        self.right_share = right_share
        self.records: list[dict[str, Any]] = []
        for folder in folders:
            attempts = folder / "attempts.jsonl"
            read = _lines(attempts) if attempts.is_file() else self._scored(_lines(folder / "scored.jsonl"), folder)
            self.records += [record | {"folder": folder} for record in read]
        for record in self.records:  # read anew: the checker may have changed since they were made
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

    def _scored(self, records: list[dict[str, Any]], folder: Path) -> Iterator[dict[str, Any]]:
        """The records whose prompt fits the image that they start from; the others have no right result."""
        scenes: dict[str, Scene | None] = {}
        for r in records:
            start = r["before"]
            if start and start not in scenes:
                scenes[start] = checker.read(self._image(folder / start)).scene
            before = scenes[start] if start else None
            if bool(start) == (before is not None) and scene_after(r["prompt"], before) is not None:
                shown = asdict(before) if before else None
                yield r | {"before": shown, "before_image": start or "", "after_image": r["after"]}

    @lru_cache(maxsize=100_000)  # noqa: B019
    def _image(self, path: Path) -> Image.Image:
        return open_rgb(path)

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
        """A right or a wrong attempt. Half of the wrong ones differ in one attribute only, or cannot be read at all."""
        wrong = self.near if self.near and rng.random() < 0.5 else self.wrong
        return varied(self.case(rng.choice(self.right if rng.random() < self.right_share else wrong)), rng)

    def restated_case(self, rng: random.Random) -> Case:
        """An attempt with an invented prompt, which the image fits or misses by little.

        The generator mostly succeeds with plain prompts, so with real prompts alone a critic could guess the verdict
        from the words, and would learn to read instead of to look.
        """
        drawn = rng.random() < 0.5
        case = varied(self.case(rng.choice(self.drawn if drawn else self.edited)), rng)
        if case.after is None:
            return case
        voice = Voice(rng, RICHNESS)
        if case.before is None:
            fits = case.after.present and rng.random() < self.right_share
            prompt = voice.describe(case.after if fits else one_off(case.after, rng))
        else:
            edit = random_edit(case.before, rng, removal=0.02)
            changed = [a for a in ATTRIBUTES if getattr(case.before, a) != getattr(case.after, a)]
            if case.after.present and len(changed) == 1 and rng.random() < self.right_share + 0.1:
                edit = Edit(changed[0], getattr(case.after, changed[0]))
            prompt = voice.instruct(edit, case.before)
        used = prompt if rng.random() < 0.5 else plain_prompt(prompt, prompt, case.before)
        return replace(case, prompt=prompt, used=used)

    def group(self, rng: random.Random) -> list[Case]:
        """Two to five attempts at one step, in any order."""
        chosen = list(rng.choice(self.several))
        rng.shuffle(chosen)
        return [varied(self.case(i), rng) for i in chosen[: rng.randint(2, 5)]]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def varied(case: Case, rng: random.Random) -> Case:
    """The case with its images a pixel aside and a shade lighter or darker, so that no image is learned by heart.

    The checker must read the same scene in the moved image as before. It may reject a small shape that was moved by a
    pixel. With the old label, such an image would teach the critic to overlook the generator's errors.
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
