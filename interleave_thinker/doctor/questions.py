"""What an agent is asked to see whether it can be used: drawn pictures whose right answer is known.

Coloured shapes on plain canvases, in words that the tiny world's agents know and that any model understands. Each
wanted answer is one that the tiny world's ground truth gives too.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ..tinyworld.scene import Scene, render

PLANNED_PICTURES = 3
PLAN_REQUEST = (
    "Draw this in 3 steps: start with a medium red circle at the center on a white background, then change the circle "
    "to blue, finally turn the circle into a star. With a short caption each."
)
"""Asks for `PLANNED_PICTURES` pictures."""


@dataclass(frozen=True)
class CriticQuestion:
    """name: what the picture shows, as the end of "shown ...". accept: the right verdict."""

    name: str
    instruction: str
    before: Scene | None
    after: Scene
    accept: bool

    def pictures(self, side: int) -> tuple[Image.Image | None, Image.Image]:
        """Before (None: drawn from text) and after, of side x side pixels."""
        return (render(self.before, side=side) if self.before else None), render(self.after, side=side)


def _scene(color: str, shape: str, background: str = "white", size: str = "medium") -> Scene:
    return Scene(shape, color, size, "center", background)


_CIRCLE, _SQUARE = _scene("red", "circle"), _scene("green", "square")
_STAR = "a big yellow star at the center on a blue background"

CRITIC_QUESTIONS = (
    CriticQuestion("an edit that was made", "change the circle to blue", _CIRCLE, _scene("blue", "circle"), True),
    CriticQuestion("an edit that was not made", "change the circle to blue", _CIRCLE, _CIRCLE, False),
    CriticQuestion("what was asked for", _STAR, None, _scene("yellow", "star", "blue", "big"), True),
    CriticQuestion("something else", _STAR, None, _scene("red", "square", "white", "big"), False),
    CriticQuestion("a changed shape", "turn the square into a triangle", _SQUARE, _scene("green", "triangle"), True),
    CriticQuestion("the wrong color", "change the square to purple", _SQUARE, _scene("orange", "square"), False),
)
"""Right verdicts take turns: what was asked before the time was over still tells one that always accepts."""
