"""Pictures for what is passed on: without what their files hold beside the picture, and no larger than they need be."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image
from PIL.PngImagePlugin import PngInfo

SMALL = 256
"""Pixels of a side up to which a picture is stored exactly, and enlarged with sharp edges."""
QUALITY = 90
_KINDS = {b"\x89PNG": "png", b"RIFF": "webp", b"\xff\xd8\xff": "jpeg"}

Format = Literal["PNG", "WEBP", "JPEG"]
_LONGEST: dict[Format, int] = {"WEBP": 16_383, "JPEG": 65_500}
"""Pixels of a side that a format has room for; PNG has room for all."""


@dataclass(frozen=True)
class Picture:
    """data: a whole file. kind: "png", "webp" or "jpeg". width, height: in pixels."""

    data: bytes
    kind: str
    width: int
    height: int

    @property
    def is_small(self) -> bool:
        return max(self.width, self.height) <= SMALL


def bare(image: Image.Image, form: Format) -> Picture:
    """The pixels alone: no workflow, camera data, colour profile or comment goes along.

    A picture that is too long for the format becomes a PNG.
    """
    if max(image.size) > _LONGEST.get(form, max(image.size)):
        form = "PNG"
    shown = image if image.mode in ("RGB", "L") else image.convert("RGBA" if image.has_transparency_data else "RGB")
    if form == "JPEG" and shown.mode == "RGBA":
        shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    clean = Image.frombytes(shown.mode, shown.size, shown.tobytes())
    options: dict[str, Any] = {"quality": QUALITY} if form != "PNG" else {"compress_level": 3}
    return _picture(_written(clean, form, **options), *image.size)


def page_picture(image: Image.Image) -> Picture:
    """A small picture exactly, as PNG; a large one as WebP, a tenth of the size."""
    return bare(image, "PNG" if max(image.size) <= SMALL else "WEBP")


def with_workflow(image: Image.Image, workflow: Mapping[str, Any]) -> Picture:
    """As PNG with the editor's workflow in it, as ComfyUI's own Save Image writes it."""
    info = PngInfo()
    info.add_text("workflow", json.dumps(workflow))
    return _picture(
        _written(Image.frombytes(image.mode, image.size, image.tobytes()), "PNG", pnginfo=info), *image.size
    )


def _picture(data: bytes, width: int, height: int) -> Picture:
    return Picture(data, next(kind for begin, kind in _KINDS.items() if data.startswith(begin)), width, height)


def _written(image: Image.Image, form: Format, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
