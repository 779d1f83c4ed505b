"""Make the gallery's thumbnails: what a run of the tiny world made, else a drawing of what the workflow does.

    python workflows/make_thumbnails.py [--url http://127.0.0.1:8188]

The run needs a running ComfyUI with this pack and the tiny world (--url). No thumbnail shows a picture that its
workflow did not make. What a drawing says is in pages.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from pages import PAGES, RUN, Box, Page
from PIL import Image, ImageDraw, ImageFont

from interleave_thinker.comfyui.client import ComfyClient

HERE = Path(__file__).resolve().parent
EDGE = 512
"""Of a thumbnail, which the gallery shows in a square half as large."""
CARD, INK, FAINT, FRAME = "#f6f5f1", "#1d1d1f", "#5c5c60", "#b9b7ae"
MARGIN, BADGE, RADIUS = 28, 68, 12
"""BADGE: what the gallery of newer editors covers at the top."""
BOX, LOOP, ARROW = 76, 36, 28
"""Heights; LOOP is what a loop has below its boxes."""


STRIP_SAYS = "made by the tiny world, on a CPU"


def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, so that each machine draws the same."""
    return ImageFont.load_default(size)


def centred(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int, width: float, fill: str = INK) -> None:
    """A line around (x, y), smaller where it is too wide."""
    while draw.textlength(text, font(size)) > width:
        size -= 1
    draw.text((x, y), text, fill, font(size), anchor="mm")


def strip(pictures: Sequence[Image.Image], said: str) -> Image.Image:
    """What a run made, numbered, and in words where it comes from. At most four pictures, for they stand two by two."""
    card = Image.new("RGB", (EDGE, EDGE), CARD)
    draw = ImageDraw.Draw(card)
    edge, gap = 190, 12
    left = (EDGE - 2 * edge - gap) // 2
    for number, picture in enumerate(pictures[:4]):
        x, y = left + number % 2 * (edge + gap), BADGE + number // 2 * (edge + gap)
        card.paste(picture.convert("RGB").resize((edge, edge), Image.Resampling.NEAREST), (x, y))
        draw.rectangle((x, y, x + edge - 1, y + edge - 1), outline=FRAME, width=2)
        draw.ellipse((x + 8, y + 8, x + 44, y + 44), fill=CARD, outline=FRAME)
        draw.text((x + 26, y + 26), str(number + 1), INK, font(24), anchor="mm")
    centred(draw, EDGE / 2, EDGE - 26, said, 26, EDGE - 32)
    return card


def diagram(rows: Sequence[Sequence[Box]], again: str) -> Image.Image:
    """Boxes from top to bottom; two in a row are the loop. again: what leads from the last box to the first."""
    card = Image.new("RGB", (EDGE, EDGE), CARD)
    draw = ImageDraw.Draw(card)
    heights = [BOX + (LOOP if len(row) > 1 else 0) for row in rows]
    y: float = BADGE + (EDGE - BADGE - MARGIN - sum(heights) - ARROW * (len(rows) - 1)) / 2
    left, right = MARGIN + (40 if again else 0), EDGE - MARGIN
    centres = []
    for row, height in zip(rows, heights, strict=True):
        if centres:
            downwards(draw, (left + right) / 2, y - ARROW, y)
        centres.append(y + height / 2)
        if len(row) == 1:
            box(draw, row[0], left + 20, y, right - 20)
        else:
            loop(draw, row, left - 12, y, right + 12, y + height)
        y += height + ARROW
    if again:
        back(draw, left, centres[-1], centres[0], again)
    return card


def box(draw: ImageDraw.ImageDraw, what: Box, left: float, top: float, right: float) -> None:
    draw.rounded_rectangle((left, top, right, top + BOX), RADIUS, "white", what.colour, 4)
    middle, width = (left + right) / 2, right - left - 20
    if what.detail:
        centred(draw, middle, top + 26, what.title, 28, width)
        centred(draw, middle, top + 54, what.detail, 23, width, FAINT)
    else:
        centred(draw, middle, top + BOX / 2, what.title, 28, width)


def loop(draw: ImageDraw.ImageDraw, row: Sequence[Box], left: float, top: float, right: float, bottom: float) -> None:
    draw.rounded_rectangle((left, top, right, bottom), RADIUS, "#eceae3", FRAME, 2)
    middle = (left + right) / 2
    box(draw, row[0], left + 10, top + 10, middle - 24)
    box(draw, row[1], middle + 24, top + 10, right - 10)
    for y, way in ((top + BOX / 2 - 2, 1), (top + BOX / 2 + 22, -1)):
        draw.line((middle - 18, y, middle + 18, y), INK, 3)
        draw.polygon([(middle + 20 * way, y), (middle + 8 * way, y - 7), (middle + 8 * way, y + 7)], INK)
    centred(draw, middle, bottom - 15, "try, judge, try again", 20, right - left - 40, FAINT)


def downwards(draw: ImageDraw.ImageDraw, x: float, top: float, bottom: float) -> None:
    draw.line((x, top + 3, x, bottom - 6), INK, 3)
    draw.polygon([(x, bottom - 2), (x - 8, bottom - 13), (x + 8, bottom - 13)], INK)


def back(draw: ImageDraw.ImageDraw, left: float, bottom: float, top: float, said: str) -> None:
    """From the last box up to the first, at the left of all."""
    x = left - 26
    draw.line((left + 18, bottom, x, bottom, x, top, left + 10, top), INK, 3)
    draw.polygon([(left + 18, top), (left + 6, top - 8), (left + 6, top + 8)], INK)
    words = Image.new("L", (int(bottom - top), 28), 0)
    ImageDraw.Draw(words).text((words.width / 2, 14), said, 255, font(20), anchor="mm")
    turned = words.rotate(90, expand=True)
    draw.bitmap((x - 32, top), turned, FAINT)


def run_pictures(url: str, name: str) -> list[Image.Image]:
    """What the API file makes, in the document's order."""
    prompt = json.loads((HERE / "api" / f"{name}.json").read_text(encoding="utf-8"))
    outputs = ComfyClient(url).run(prompt)
    documents = [d for output in outputs.values() for d in output.get("interleave_document", [])]
    return [Image.open(path) for path in sorted(Path(documents[0]["path"]).parent.glob("image_*.png"))]


def thumbnail(name: str, page: Page, url: str) -> Image.Image:
    if page.drawn == RUN:
        return strip(run_pictures(url, name), STRIP_SAYS)
    return diagram(page.drawn, page.again)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    options = parser.parse_args()
    for name, page in PAGES.items():
        thumbnail(name, page, options.url).save(HERE / f"{page.title}.jpg", quality=90, optimize=True)
        print(f"{page.title}.jpg")


if __name__ == "__main__":
    main()
