"""The tiny agents' thoughts in sentences, for people: "Saw a black circle; wanted a red one."

The agents are taught a shorthand (`lessons.py`, `requests.py`), which is what a run keeps and what lessons are made of;
only what is shown is put into sentences. `js/tiny_thoughts.mjs` does the same in the live view: mend both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .language import with_articles
from .scene import ATTRIBUTES, COLORS, POSITIONS, SHAPES, SIZES

_COLOR = "|".join(COLORS)
_SCENE = f"(?:none|(?:{'|'.join(SIZES)}) (?:{_COLOR}) (?:{'|'.join(SHAPES)}) (?:{'|'.join(POSITIONS)})) (?:{_COLOR})"
_JUDGED = re.compile(f"before (sheet|{_SCENE}) after (unclear|{_SCENE}) wanted ({_SCENE}) so ((?:ok|bad)(?: ok| bad)*)")
_NUMBERED = re.compile("([0-9]+) (.+)")


def in_sentences(thought: str) -> str:
    """A thought in the tiny agents' shorthand (of a judgment, a comparison or a plan) -> sentences.

    Any other text is returned as it is.
    """
    words = " ".join(thought.split())
    numbered = [_NUMBERED.fullmatch(part) for part in words.split(" ; ")]
    told = [(m[1], _sentence(m[2])) for m in numbered if m]
    if len(told) == len(numbered) and all(sentence for _, sentence in told):
        return " ".join(f"{number}: {sentence}" for number, sentence in told)
    return _judged(words) or thought


def _sentence(words: str) -> str:
    if re.fullmatch(_SCENE, words):
        whole = _whole(words.split())
        return f"{whole[0].upper()}{whole[1:]}."
    return _judged(words)


def _judged(words: str) -> str:
    """ "" where it is no judgment, or one whose parts do not belong together."""
    found = _JUDGED.fullmatch(words)
    if found is None:
        return ""
    before, after, wanted = (found[i].split() for i in (1, 2, 3))
    wrong = [flag == "bad" for flag in found[4].split()]
    if after == ["unclear"]:
        saw = "Could not tell what the picture shows"
    else:
        saw = f"Saw {_whole(after)}{', as before' if after == before else ''}"
    if after == ["unclear"] or len(after) != len(wanted):
        return f"{saw}; wanted {_whole(wanted)}." if wrong == [True] else ""
    if len(wrong) != len(wanted):
        return ""
    differs = [a != w for a, w in zip(after, wanted, strict=True)]
    if wrong != differs:  # the model contradicts itself
        names = [name for name, bad in zip(_names(wanted), wrong, strict=True) if bad]
        return f"{saw}; wanted {_whole(wanted)}; found {' and '.join(names) or 'nothing'} wrong."
    if not any(differs):
        return f"Saw {_whole(after)}, as wanted."
    if len(wanted) < len(ATTRIBUTES):
        return f"{saw}; wanted {_whole(wanted)}."
    as_before = ", as before" if after == before else ""
    return f"Saw {_part(after, differs)}{as_before}; wanted {_part(wanted, differs, again=True)}."


def _names(values: Sequence[str]) -> Sequence[str]:
    """Of the visible attributes."""
    names = ATTRIBUTES if len(values) == len(ATTRIBUTES) else ("shape", "background")
    return [f"the {name}" for name in names]


def _whole(values: Sequence[str]) -> str:
    """`Scene.values()` in words."""
    if len(values) < len(ATTRIBUTES):
        return with_articles(f"an empty {values[-1]} background")
    return _part(values, [True] * len(ATTRIBUTES))


def _part(values: Sequence[str], shown: Sequence[bool], *, again: bool = False) -> str:
    """Those attributes that are `shown`. again: the shape was named before, and is named only where it is shown."""
    size, color, shape, position, background = values
    words = [value for value, show in zip((size, color), shown, strict=False) if show]
    if not again or shown[2]:
        thing = " ".join(["a", *words, shape])
    else:
        thing = " ".join(["a", *words, "one"]) if words else "it"
    thing += f" at the {position}" if shown[3] else ""
    return with_articles(thing + (f" on a {background} background" if shown[4] else ""))
