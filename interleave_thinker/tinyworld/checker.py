"""Pixels -> scene: the world's ground truth, in place of a hosted judge.

Analysis by synthesis: find background and colour from the palette, the cover of the shape from the
colours, then the shape, radius and centre whose drawing overlaps that cover best. Uses no model.
`measure` says how often it is right on rendered pictures (`docs/tiny-world.md` has the figures).
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .language import scene_after
from .scene import (
    COLORS,
    FAT_STAR,
    POSITIONS,
    SHAPES,
    SIDE,
    SIZES,
    Jitter,
    Scene,
    _signed_distance,
    random_scene,
    render,
)

MIN_COVER = 0.012
"""Below this share of the picture there is no shape."""
MIN_FIT = {"circle": 0.70, "square": 0.70, "triangle": 0.70, "star": 0.58, FAT_STAR: 0.70}
"""Below this overlap with the best drawing, what is there is no shape of this world. A star has long thin points:
one that any person calls a star overlaps with the exact drawing by little more than 0.6."""

DRAWINGS = {**{shape: shape for shape in SHAPES}, FAT_STAR: "star"}
"""What a cover is compared with, and the shape that each stands for."""

_NAMES = list(COLORS)
_PALETTE = np.asarray([COLORS[n] for n in _NAMES], dtype=np.float32)


@dataclass(frozen=True)
class Reading:
    """What a picture shows. `scene` is None if it is none of this world; `fit` is the overlap in [0, 1]."""

    scene: Scene | None
    fit: float


def read(image: Image.Image) -> Reading:
    """Read a picture of any size back into a scene."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, dtype=np.float32) / 255.0
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    votes = np.bincount(_nearest(edge), minlength=len(_NAMES))
    background = int(votes.argmax())
    cover, color = _cover(pixels, background)
    share = float(cover.mean())
    if share < MIN_COVER:
        empty = Scene("circle", "red", "medium", "center", _NAMES[background], present=False)
        return Reading(empty, 1.0)
    drawing, radius, (x, y), fit = _best_drawing(cover, share)
    if fit < MIN_FIT[drawing]:
        return Reading(None, fit)
    shape = DRAWINGS[drawing]
    radius *= (_unit_measures()[drawing][0] / _unit_measures()[shape][0]) ** 0.5  # the exact drawing of the same area
    size = min(SIZES, key=lambda n: abs(SIZES[n] - radius))
    position = min(POSITIONS, key=lambda n: (POSITIONS[n][0] - x) ** 2 + (POSITIONS[n][1] - y) ** 2)
    return Reading(Scene(shape, _NAMES[color], size, position, _NAMES[background]), fit)


def shows(image: Image.Image, wanted: Scene | None) -> bool:
    """Whether the picture shows exactly this scene."""
    found = read(image).scene
    return wanted is not None and found is not None and found.shows_the_same_as(wanted)


def step_succeeded(prompt: str, before: Image.Image | None, after: Image.Image) -> bool:
    """Whether `after` is what `prompt` (of either vocabulary) makes of `before`.

    The world's ground truth for the critic's verdict. A prompt or a picture before that cannot be
    read counts as failure.
    """
    start = read(before).scene if before is not None else None
    if before is not None and start is None:
        return False
    return shows(after, scene_after(prompt, start))


def measure(count: int = 500, seed: int = 0) -> float:
    """Share of rendered random scenes that are read back exactly."""
    rng = random.Random(seed)
    right = 0
    for _ in range(count):
        scene = random_scene(rng)
        right += shows(render(scene, Jitter.draw(rng)), scene)
    return right / count


def _nearest(colors: NDArray[Any]) -> NDArray[Any]:
    nearest: NDArray[Any] = ((colors[:, None, :] - _PALETTE[None]) ** 2).sum(-1).argmin(1)
    return nearest


def _cover(pixels: NDArray[Any], background: int) -> tuple[NDArray[Any], int]:
    """How much of each pixel the shape covers, (SIDE, SIDE) in [0, 1], and the shape's colour."""
    away = np.linalg.norm(pixels - _PALETTE[background], axis=-1)
    strong = away > max(0.25, 0.6 * float(np.quantile(away, 0.995)))
    if not strong.any():
        return np.zeros((SIDE, SIDE), dtype=np.float32), background
    votes = np.bincount(_nearest(pixels[strong]), minlength=len(_NAMES))
    votes[background] = 0
    if not votes.any():  # blurred background, and no colour of its own
        return np.zeros((SIDE, SIDE), dtype=np.float32), background
    color = int(votes.argmax())
    line = _PALETTE[color] - _PALETTE[background]
    cover = ((pixels - _PALETTE[background]) @ line) / float(line @ line)
    return np.clip(cover, 0.0, 1.0).astype(np.float32), color


@functools.lru_cache(maxsize=1)
def _unit_measures() -> dict[str, tuple[float, float]]:
    """Per drawing: area / radius^2 and vertical offset of the centroid / radius."""
    axis = (np.arange(400, dtype=np.float32) + 0.5) / 400 * 2 - 1
    x, y = np.meshgrid(axis, axis)
    count = len(DRAWINGS)
    radius = np.full((count, 1, 1), 0.7, dtype=np.float32)
    inside = _signed_distance(list(DRAWINGS), np.stack([x] * count), np.stack([y] * count), radius) < 0
    return {
        drawing: (float(mask.sum()) * (2 / 400) ** 2 / 0.49, float(y[mask].mean()) / 0.7)
        for drawing, mask in zip(DRAWINGS, inside, strict=True)
    }


def _best_drawing(cover: NDArray[Any], share: float) -> tuple[str, float, tuple[float, float], float]:
    axis = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE - 0.5
    weight = cover / cover.sum()
    center_x = float((weight.sum(0) * axis).sum())
    center_y = float((weight.sum(1) * axis).sum())
    tries: list[tuple[str, float, float]] = []
    for drawing in DRAWINGS:
        area, offset = _unit_measures()[drawing]
        radius = (share / area) ** 0.5
        tries += [(drawing, radius * k, center_y - offset * radius * k) for k in (0.92, 1.0, 1.08)]
    radii = np.asarray([r for _, r, _ in tries], dtype=np.float32)[:, None, None]
    x = np.broadcast_to(axis[None, None, :] - center_x, (len(tries), SIDE, SIDE))
    y = axis[None, :, None] - np.asarray([c for *_, c in tries], dtype=np.float32)[:, None, None]
    distance = _signed_distance([s for s, *_ in tries], x, np.broadcast_to(y, x.shape), radii)
    drawn = np.clip(0.5 - distance * SIDE, 0.0, 1.0)
    overlap = np.minimum(drawn, cover).sum((1, 2)) / np.maximum(drawn, cover).sum((1, 2))
    fat = np.asarray([drawing == FAT_STAR for drawing, *_ in tries])
    overlap[fat & (overlap < MIN_FIT[FAT_STAR])] = 0.0  # then it is no star, or one with thin points
    best = int(overlap.argmax())
    drawing, radius, y0 = tries[best]
    return drawing, radius, (center_x, y0), float(overlap[best])
