"""The closed world: what a scene is, how it is drawn, and which scenes there are.

One coloured shape on a coloured background, 64 x 64 pixels. Everything here is exact: the renderer
is analytic and anti-aliased, and `checker.py` reads a picture back into a `Scene`.
Knows nothing of words (`language.py`), requests (`requests.py`) or models.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64
"""Edge of a picture in pixels."""

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.12, 0.12),
    "green": (0.12, 0.70, 0.20),
    "blue": (0.12, 0.25, 0.90),
    "yellow": (0.95, 0.88, 0.10),
    "purple": (0.55, 0.15, 0.75),
    "orange": (0.98, 0.55, 0.05),
    "white": (0.97, 0.97, 0.97),
    "black": (0.03, 0.03, 0.03),
}
"""Name -> RGB in [0, 1]."""

SHAPES = ("circle", "square", "triangle", "star")
SIZES: dict[str, float] = {"small": 0.16, "medium": 0.24, "big": 0.32}
"""Name -> radius as a fraction of the picture's edge."""
POSITIONS: dict[str, tuple[float, float]] = {
    "center": (0.0, 0.0),
    "left": (-0.18, 0.0),
    "right": (0.18, 0.0),
    "top": (0.0, -0.18),
    "bottom": (0.0, 0.18),
}
"""Name -> offset (x, y) of the shape's centre from the picture's centre, as a fraction of the edge."""

ATTRIBUTES = ("size", "color", "shape", "position", "background")


@dataclass(frozen=True)
class Scene:
    """What a picture shows. With `present=False` only `background` has a meaning."""

    shape: str
    color: str
    size: str
    position: str
    background: str
    present: bool = True

    def values(self) -> tuple[str, ...]:
        """The visible attributes in the order of `ATTRIBUTES`; only the background if nothing is there."""
        if not self.present:
            return ("none", self.background)
        return (self.size, self.color, self.shape, self.position, self.background)

    def shows_the_same_as(self, other: Scene) -> bool:
        return self.values() == other.values()

    def with_(self, **changes: object) -> Scene:
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Jitter:
    """Small deviations of a drawing from its scene; an edit keeps those of the picture before."""

    dx: float = 0.0
    dy: float = 0.0
    scale: float = 1.0

    @staticmethod
    def draw(rng: random.Random) -> Jitter:
        return Jitter(rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03), rng.uniform(0.94, 1.06))


def random_scene(rng: random.Random) -> Scene:
    """A scene in which the shape always differs in colour from its background."""
    color = rng.choice(list(COLORS))
    return Scene(
        shape=rng.choice(SHAPES),
        color=color,
        size=rng.choice(list(SIZES)),
        position=rng.choice(list(POSITIONS)) if rng.random() < 0.6 else "center",
        background=rng.choice([c for c in COLORS if c != color]),
    )


def render_batch(scenes: Sequence[Scene], jitters: Sequence[Jitter] | None = None, side: int = SIDE) -> NDArray[Any]:
    """Draw scenes. Returns float32 of shape (batch, side, side, 3) in [0, 1]."""
    jitters = jitters or [Jitter()] * len(scenes)

    def column(values: list[float]) -> NDArray[Any]:
        return np.asarray(values, dtype=np.float32)[:, None, None]

    axis = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    pairs = list(zip(scenes, jitters, strict=True))
    x = axis[None, None, :] - column([POSITIONS[s.position][0] + j.dx for s, j in pairs])
    y = axis[None, :, None] - column([POSITIONS[s.position][1] + j.dy for s, j in pairs])
    radius = column([SIZES[s.size] * j.scale for s, j in pairs])
    distance = _signed_distance([s.shape for s in scenes], x, y, radius)
    cover = np.clip(0.5 - distance * side, 0.0, 1.0)
    cover *= column([float(s.present) for s in scenes])
    fore = np.asarray([COLORS[s.color] for s in scenes], dtype=np.float32)[:, None, None, :]
    back = np.asarray([COLORS[s.background] for s in scenes], dtype=np.float32)[:, None, None, :]
    out: NDArray[Any] = fore * cover[..., None] + back * (1.0 - cover[..., None])
    return out


NOTCH, FAT_NOTCH = 0.45, 0.52
"""Distance of a star's notches from its centre, in radii."""
FAT_STAR = "fat star"
"""Drawn by nobody: what a generator makes of a star when it rounds the tips. The checker knows it for a star."""


def _signed_distance(shapes: list[str], x: NDArray[Any], y: NDArray[Any], r: NDArray[Any]) -> NDArray[Any]:
    """Distance in edge units to each shape's outline, negative inside; shape (batch, side, side)."""
    x, y = np.broadcast_arrays(x, y)
    out = np.empty(x.shape, dtype=np.float32)
    for i, shape in enumerate(shapes):
        xi, yi, ri = x[i], y[i], r[i]
        if shape == "circle":
            out[i] = np.hypot(xi, yi) - ri
        elif shape == "square":
            out[i] = np.maximum(np.abs(xi), np.abs(yi)) - ri * 0.88
        elif shape == "triangle":
            yt = yi - ri * 0.2
            out[i] = np.maximum(yt - ri * 0.62, (np.abs(xi) * 0.86603 - yt * 0.5) - ri * 0.62)
        else:
            out[i] = _star_distance(xi, yi, ri, FAT_NOTCH if shape == FAT_STAR else NOTCH)
    return out


def _star_distance(x: NDArray[Any], y: NDArray[Any], r: NDArray[Any], notch: float) -> NDArray[Any]:
    """Five points: fold the plane into one tenth, then the distance to the edge from tip to notch."""
    tenth = math.pi / 5
    angle = np.mod(np.arctan2(x, -y) + tenth, 2 * tenth) - tenth
    rho = np.hypot(x, y)
    px, py = rho * np.cos(angle), np.abs(rho * np.sin(angle))
    tip = r * 1.12
    notch_x, notch_y = r * notch * math.cos(tenth), r * notch * math.sin(tenth)
    edge_x, edge_y = notch_x - tip, notch_y
    out: NDArray[Any] = ((px - tip) * edge_y - py * edge_x) / np.hypot(edge_x, edge_y)
    return out


def to_image(pixels: NDArray[Any]) -> Image.Image:
    """(height, width, 3) in [0, 1] -> 8-bit RGB."""
    return Image.fromarray((np.clip(pixels, 0, 1) * 255.0 + 0.5).astype(np.uint8), "RGB")


def render(scene: Scene, jitter: Jitter | None = None, side: int = SIDE) -> Image.Image:
    return to_image(render_batch([scene], [jitter or Jitter()], side)[0])
