"""Lessons in which the generator learns what to draw for words that it does not know: a default, or no change.

A generator that misunderstands should draw something clean that was not asked for. A generator that never met an
unknown word in training draws a mixture instead: a house for a square or a circle, which shows neither. So a share of
its lessons hold unknown words. They are words of its tokenizer that are in neither vocabulary of this world.

- In a caption an unknown word stands for the attribute's value in `DEFAULT`.
- An edit whose verb or value is unknown changes nothing; an edit whose noun is unknown is about the shape.

The rich words themselves ("crimson") are never used as unknown words; the generator has to conclude by itself that it
does not know them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

from ...tinyworld.language import WORDS, Edit, Voice, with_articles
from ...tinyworld.scene import ATTRIBUTES, Scene

DEFAULT = Scene("circle", "black", "medium", "center", "white")
"""The values that a caption's unknown words stand for."""

ATTRIBUTE_RATE = 0.3
"""How often an unknown word names an attribute that has its default value, or an edit's verb, value or noun."""
GLUE_RATE = 0.15
"""How often an unknown word comes before a small word, or in its place: rich sentences are built otherwise as well."""

_GLUE = {"at", "on", "with", "to", "into", "the", "a"}


class UnknownWords:
    """Lessons with unknown words, for scenes and edits of a pool. tokens: a CLIP tokenizer's vocabulary."""

    def __init__(self, tokens: Iterable[str], scenes: Sequence[Scene], rng: random.Random):
        self.rng = rng
        self.plain = Voice(rng)
        vocabulary = (t.removesuffix("</w>") for t in tokens if t.endswith("</w>"))
        self.words = sorted(w for w in vocabulary if re.fullmatch("[a-z]{3,9}", w) and w not in WORDS)
        self.defaults = [{a for a in ATTRIBUTES if getattr(s, a) == getattr(DEFAULT, a)} for s in scenes]
        self.scenes = scenes
        self._with: dict[tuple[str, ...], list[int]] = {}

    def word(self) -> str:
        """One word, or two joined, which the tokenizer cuts."""
        return self.rng.choice(self.words) + (self.rng.choice(self.words) if self.rng.random() < 0.2 else "")

    def caption(self) -> tuple[int, str]:
        """Index of a scene, and its caption; unknown words name some of the attributes that are as in `DEFAULT`."""
        hidden = tuple(a for a in ATTRIBUTES if self.rng.random() < ATTRIBUTE_RATE)
        if hidden not in self._with:
            self._with[hidden] = [i for i, has in enumerate(self.defaults) if has.issuperset(hidden)]
        if not self._with[hidden]:  # of a small pool
            return self.caption()
        index = self.rng.choice(self._with[hidden])
        scene = self.scenes[index]
        names = {str(getattr(scene, a)) for a in hidden}
        if self.rng.random() < ATTRIBUTE_RATE:
            names.add("background")
        return index, self._rewritten(self.plain.describe(scene), names)

    def instruction(self, edit: Edit, scene: Scene) -> tuple[str, bool]:
        """An instruction with unknown words, and whether it takes effect."""
        text = self.plain.instruct(edit, scene)
        verb = text.split()[0]
        names = {w for w in (verb, edit.value) if w and self.rng.random() < ATTRIBUTE_RATE}
        understood = not names
        noun = "background" if edit.kind == "background" else scene.shape
        if self.rng.random() < ATTRIBUTE_RATE and (noun != "background" or not understood):
            names.add(noun)
        return self._rewritten(text, names), understood

    def _rewritten(self, text: str, names: set[str]) -> str:
        out: list[str] = []
        for word in re.findall(r"[a-z]+", text):
            word = {"an": "a"}.get(word, word)
            unknown = self.rng.random() < GLUE_RATE if word in _GLUE else word in names
            if unknown:
                out.append(self.word())
            if not unknown or (word in _GLUE and self.rng.random() < 0.5):
                out.append(word)
        return with_articles(" ".join(out))
