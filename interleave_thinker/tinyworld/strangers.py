"""What the generator is taught to make of words that it does not know: a default, or nothing at all.

A generator that misunderstands draws something clean that was not asked for. One that never met an unknown word in
training draws neither of two things instead: a house for a square or a circle, of which nobody can say what it shows.
So a share of its lessons hold strangers, words of its tokenizer that belong to neither vocabulary of this world:

- In a caption a stranger stands for the attribute's value in `DEFAULT`.
- An edit whose verb or value is a stranger changes nothing; one whose noun is a stranger is about the shape.

The rich words themselves ("crimson") are never among them; that they are taken for strangers is for the generator to
conclude.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

from .language import WORDS, Edit, Voice, with_articles
from .scene import ATTRIBUTES, Scene

DEFAULT = Scene("circle", "black", "medium", "center", "white")
"""What a caption's unknown words are taken for, attribute by attribute."""

ATTRIBUTE_RATE = 0.3
"""How often an attribute that could be is named by a stranger; so are an edit's verb, value and noun."""
GLUE_RATE = 0.15
"""How often one comes before a small word, or in its place: the rich sentences are built otherwise as well."""

_GLUE = {"at", "on", "with", "to", "into", "the", "a"}


class Strangers:
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
        """One word, or two in one, which the tokenizer cuts."""
        return self.rng.choice(self.words) + (self.rng.choice(self.words) if self.rng.random() < 0.2 else "")

    def caption(self) -> tuple[int, str]:
        """A scene of the pool, and a caption in which some of what is as in `DEFAULT` is named by strangers."""
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
        """An instruction with strangers, and whether it takes effect."""
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
            strange = self.rng.random() < GLUE_RATE if word in _GLUE else word in names
            if strange:
                out.append(self.word())
            if not strange or (word in _GLUE and self.rng.random() < 0.5):
                out.append(word)
        return with_articles(" ".join(out))
