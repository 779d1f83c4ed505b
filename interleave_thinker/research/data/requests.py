"""Requests of the tiny world, and copies of the user's images."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from .records import DataError, RequestRecord


def tiny_requests(count: int, seed: int, out: Path) -> list[RequestRecord]:
    """`count` requests of the tiny world with their right plans; pictures go to `out`/images.

    Never those of `tinyworld eval`: that draws from another stream.
    """
    from ...tinyworld.requests import draw_request

    rng = random.Random(f"data-{seed}")
    records = []
    for number in range(count):
        request = draw_request(rng)
        name = f"tiny-{seed}-{number:05d}"
        images = []
        for at, image in enumerate(request.images()):
            path = out / "images" / f"{name}-{at}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
            images.append(str(path.relative_to(out)))
        plan = request.plan.to_dict() | {"reasoning": request.plan.reasoning}
        records.append(RequestRecord(name, request.text, tuple(images), plan, "tiny world", request.kind))
    return records


def copied_images(folder: Path, out: Path) -> list[str]:
    """Copies of a folder's pictures in `out`/images; their names, relative to `out`.

    Raises:
        DataError: the folder holds none.
    """
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if not found:
        raise DataError(f"{folder} holds no pictures (png, jpg, webp).")
    (out / "images").mkdir(parents=True, exist_ok=True)
    return [str(Path(shutil.copy(p, out / "images" / p.name)).relative_to(out)) for p in found]
