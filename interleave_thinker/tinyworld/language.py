"""The world's two vocabularies: the generator's plain one and the richer one that people and plans use.

The generator is trained on plain sentences only. A request says "a crimson disc"; the generator knows
"a red circle". That is the gap a critic can close by rewriting, as with real generators.
`describe` and `instruct` write sentences, `read_caption` and `read_edit` read both vocabularies back.
Knows nothing of pixels or models.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from .scene import COLORS, POSITIONS, SHAPES, SIZES, Scene

SYNONYMS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet", "ruby"),
    "green": ("emerald", "jade", "verdant"),
    "blue": ("azure", "sapphire", "cobalt"),
    "yellow": ("golden", "lemon", "saffron"),
    "purple": ("violet", "lavender", "amethyst"),
    "orange": ("amber", "tangerine", "apricot"),
    "white": ("ivory", "snowy", "chalky"),
    "black": ("ebony", "charcoal", "inky"),
    "circle": ("disc", "ball"),
    "square": ("box", "block"),
    "triangle": ("pyramid", "wedge"),
    "star": ("pentagram", "sparkle"),
    "small": ("tiny", "little"),
    "medium": ("moderate", "ordinary"),
    "big": ("huge", "giant"),
    "center": ("middle", "heart"),
    "left": ("west", "port"),
    "right": ("east", "starboard"),
    "top": ("north", "summit"),
    "bottom": ("south", "floor"),
    "background": ("backdrop", "scenery"),
}
PLAIN_OF = {rich: plain for plain, many in SYNONYMS.items() for rich in many}

EDIT_KINDS = ("color", "background", "shape", "size", "position", "remove")

_PLAIN_CAPTIONS = (
    "a {size} {color} {shape} at the {position} on a {background} {ground}",
    "{size} {color} {shape} at the {position}, {background} {ground}",
    "a {background} {ground} with a {size} {color} {shape} at the {position}",
)
_RICH_CAPTIONS = (
    "{size} {color} {shape} resting at the {position} before a {background} {ground}",
    "one {size} {color} {shape} placed at the {position} over a {background} {ground}",
)
_EMPTY_CAPTION = "an empty {background} {ground}"

_PLAIN_EDITS: dict[str, tuple[str, ...]] = {
    "color": ("change the {shape} to {value}", "make the {shape} {value}"),
    "background": ("change the {ground} to {value}", "make the {ground} {value}"),
    "shape": ("turn the {shape} into a {value}", "replace the {shape} with a {value}"),
    "size": ("make the {shape} {value}", "change the size of the {shape} to {value}"),
    "position": ("move the {shape} to the {value}", "put the {shape} at the {value}"),
    "remove": ("remove the {shape}", "delete the {shape}"),
}
_RICH_EDITS: dict[str, tuple[str, ...]] = {
    "color": ("dye the {shape} {value}", "paint the {shape} {value}"),
    "background": ("dye the {ground} {value}", "paint the {ground} {value}"),
    "shape": ("morph the {shape} into a {value}", "reforge the {shape} as a {value}"),
    "size": ("rescale the {shape} to {value}", "render the {shape} {value}"),
    "position": ("shift the {shape} to the {value}", "slide the {shape} over to the {value}"),
    "remove": ("erase the {shape}", "banish the {shape}"),
}
WORDS = {
    word
    for form in (
        *_PLAIN_CAPTIONS,
        *_RICH_CAPTIONS,
        *(form for table in (_PLAIN_EDITS, _RICH_EDITS) for forms in table.values() for form in forms),
    )
    for word in re.findall(r"[a-z]+", re.sub(r"{\w+}", "", form))
} | {*SYNONYMS, *PLAIN_OF}
"""All words that sentences of either vocabulary are made of."""

_VERBS = {form.split()[0] for table in (_PLAIN_EDITS, _RICH_EDITS) for forms in table.values() for form in forms}
_REMOVERS = {"remove", "delete", "erase", "banish"}
_RESHAPERS = {"turn", "replace", "morph", "reforge"}


@dataclass(frozen=True)
class Edit:
    """One change of one attribute; `kind` is one of `EDIT_KINDS`, `value` is "" for a removal."""

    kind: str
    value: str = ""

    def apply(self, scene: Scene) -> Scene:
        if self.kind == "remove":
            return scene.with_(present=False)
        return scene.with_(**{self.kind: self.value})


def random_edit(scene: Scene, rng: random.Random, *, removal: float = 0.05) -> Edit:
    """An edit that changes the picture and keeps the shape visible against its background."""
    if rng.random() < removal:
        return Edit("remove")
    kind = rng.choices(EDIT_KINDS[:-1], (28, 24, 24, 12, 12))[0]
    if kind in ("color", "background"):
        return Edit(kind, rng.choice([c for c in COLORS if c not in (scene.color, scene.background)]))
    options = {"shape": SHAPES, "size": tuple(SIZES), "position": tuple(POSITIONS)}[kind]
    return Edit(kind, rng.choice([v for v in options if v != getattr(scene, kind)]))


class Voice:
    """Chooses words: each slot and each sentence form is rich with probability `richness`."""

    def __init__(self, rng: random.Random, richness: float = 0.0):
        self.rng, self.richness = rng, richness

    def word(self, plain: str) -> str:
        if self.rng.random() < self.richness:
            return self.rng.choice(SYNONYMS[plain])
        return plain

    def _form(self, plain: tuple[str, ...], rich: tuple[str, ...]) -> str:
        return self.rng.choice(rich if self.rng.random() < self.richness else plain)

    def describe(self, scene: Scene) -> str:
        """A caption that names every visible attribute."""
        if not scene.present:
            return with_articles(
                _EMPTY_CAPTION.format(background=self.word(scene.background), ground=self.word("background"))
            )
        form = self._form(_PLAIN_CAPTIONS, _RICH_CAPTIONS)
        return with_articles(
            form.format(
                size=self.word(scene.size),
                color=self.word(scene.color),
                shape=self.word(scene.shape),
                position=self.word(scene.position),
                background=self.word(scene.background),
                ground=self.word("background"),
            )
        )

    def instruct(self, edit: Edit, scene: Scene) -> str:
        """An imperative sentence for `edit` of a picture that shows `scene`."""
        form = self._form(_PLAIN_EDITS[edit.kind], _RICH_EDITS[edit.kind])
        return with_articles(
            form.format(
                shape=self.word(scene.shape),
                ground=self.word("background"),
                value=self.word(edit.value) if edit.value else "",
            )
        )


def with_articles(text: str) -> str:
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def words_of(text: str) -> list[str]:
    """Lower-case words with every synonym replaced by its plain word."""
    return [PLAIN_OF.get(w, w) for w in re.findall(r"[a-z]+", text.lower())]


def read_caption(text: str) -> Scene | None:
    """The scene a caption of either vocabulary describes, or None if it is not a full caption."""
    words = words_of(text)
    if "background" not in words:
        return None
    ground = words.index("background")
    if ground == 0 or words[ground - 1] not in COLORS:
        return None
    background = words[ground - 1]
    rest = words[: ground - 1] + words[ground + 1 :]
    if "empty" in rest:
        return Scene("circle", "red", "medium", "center", background, present=False)
    found = [[w for w in rest if w in options] for options in (SHAPES, tuple(COLORS), tuple(SIZES), tuple(POSITIONS))]
    if any(len(f) != 1 for f in found):
        return None
    shape, color, size, position = (f[0] for f in found)
    return Scene(shape, color, size, position, background)


def read_edit(text: str) -> Edit | None:
    """The edit an instruction of either vocabulary asks for, or None if it asks for none or several."""
    words = words_of(text)
    if not words or words[0] not in _VERBS:
        return None
    if words[0] in _REMOVERS:
        return Edit("remove")
    shapes = [w for w in words if w in SHAPES]
    if words[0] in _RESHAPERS:
        return Edit("shape", shapes[-1]) if len(shapes) == 2 else None
    found = [
        (kind, [w for w in words if w in options])
        for kind, options in (("color", COLORS), ("size", SIZES), ("position", POSITIONS))
    ]
    named = [(kind, values[0]) for kind, values in found if len(values) == 1]
    if len(named) != 1 or any(len(values) > 1 for _, values in found):
        return None
    kind, value = named[0]
    if "background" in words:
        return Edit("background", value) if kind == "color" else None
    return Edit(kind, value) if shapes else None


def scene_after(text: str, before: Scene | None) -> Scene | None:
    """What a picture should show once `text` was carried out on `before` (None: from scratch)."""
    if before is None:
        return read_caption(text)
    edit = read_edit(text)
    return edit.apply(before) if edit and before.present else None
