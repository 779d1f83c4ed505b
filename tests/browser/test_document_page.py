"""The page that is passed on, in a real browser: on paper, on a phone, in each script, in light and dark."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from axe_playwright_python.sync_playwright import Axe
from made_documents import made_document
from PIL import Image, ImageChops

from interleave_thinker.export.archive import to_zip
from interleave_thinker.export.page import LAYOUTS, PageOptions, to_html
from interleave_thinker.export.pictures import page_picture
from interleave_thinker.loop.document import Document, DocumentItem

MARK = 1000
"""Added to the number of a step at the end of its text, to find it on paper."""
LONG = (3, 8, 13)
SLOW = pytest.mark.slow


def marked(document: Document) -> Document:
    items = (replace(i, text=f"{i.text} {MARK + i.step}") if i.kind == "text" else i for i in document.items)
    return replace(document, items=tuple(items))


def page_of(
    folder: Path, options: PageOptions, document: Document, image: Callable[[DocumentItem], Image.Image]
) -> Path:
    file = folder / "document.html"
    file.write_text(to_html(document, lambda item: page_picture(image(item)), options), encoding="utf-8")
    return file


@pytest.fixture
def paper(chromium: Any, tmp_path: Path) -> Callable[[Path], pypdfium2.PdfDocument]:
    def printed(file: Path) -> pypdfium2.PdfDocument:
        page = chromium.new_page()
        page.goto(file.as_uri())
        page.pdf(path=tmp_path / "paper.pdf", prefer_css_page_size=True, print_background=True)
        page.close()
        return pypdfium2.PdfDocument(tmp_path / "paper.pdf")

    return printed


def pictures_and_texts(pdf: pypdfium2.PdfDocument) -> tuple[list[int], dict[int, int]]:
    """The page of each picture, in order; the page where the text of each step ends."""
    pictures: list[int] = []
    ends: dict[int, int] = {}
    for number, page in enumerate(pdf):
        pictures += [number for o in page.get_objects() if o.type == pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]
        marks = re.findall(r"(?<!\d)1\d{3}(?!\d)", page.get_textpage().get_text_bounded())
        ends |= {int(mark) - MARK: number for mark in marks}
    return pictures, ends


def used_share(page: pypdfium2.PdfPage) -> float:
    """How far down the page something is printed."""
    image = page.render(scale=0.4).to_pil().convert("L")
    box = ImageChops.invert(image).getbbox()
    return box[3] / image.height if box else 0.0


QUICK = {(layout, "en", LONG) for layout in LAYOUTS} | {("story", "ar", LONG), ("comic", "zh", ())}
ON_PAPER = [
    pytest.param(*case, id=f"{case[0]}-{case[1]}-{'long' if case[2] else 'short'}", marks=() if case in QUICK else SLOW)
    for case in product(LAYOUTS, ("en", "ar", "zh"), ((), LONG))
]


@pytest.mark.parametrize(("layout", "language", "long"), ON_PAPER)
def test_on_paper_no_picture_parts_from_its_text_and_no_page_is_half_empty(
    layout: Any, language: str, long: tuple[int, ...], paper: Any, tmp_path: Path
) -> None:
    document, image = made_document(language, 20, (512, 512), long)
    pdf = paper(page_of(tmp_path, PageOptions(layout), marked(document), image))
    pictures, ends = pictures_and_texts(pdf)
    assert len(pictures) == 20
    assert {step: ends.get(step) for step in range(1, 21)} == dict(enumerate(pictures, 1))
    if layout == "slides":
        assert len(pdf) == 21 and pictures == list(range(1, 21)), "a title, then a step a page"
        assert pdf[0].get_width() > pdf[0].get_height()
    else:
        shares = [round(used_share(page), 2) for page in pdf][:-1]
        assert min(shares) > 0.5, shares


@pytest.mark.parametrize("shape", [(1024, 512), (512, 1024), (64, 64), (2048, 256)])
def test_pictures_of_any_shape_stay_whole_on_their_page(shape: tuple[int, int], paper: Any, tmp_path: Path) -> None:
    document, image = made_document("en", 6, shape)
    pdf = paper(page_of(tmp_path, PageOptions(), marked(document), image))
    pictures, ends = pictures_and_texts(pdf)
    assert [ends[n] for n in range(1, 7)] == pictures
    for page in pdf:
        width, height = page.get_size()
        for found in page.get_objects():
            if found.type == pypdfium2.raw.FPDF_PAGEOBJ_IMAGE:
                left, bottom, right, top = found.get_pos() if hasattr(found, "get_pos") else found.get_bounds()
                assert left >= 0 and bottom >= 0 and right <= width and top <= height
                assert abs((right - left) / (top - bottom) - shape[0] / shape[1]) < 0.05, "not squeezed"


@pytest.mark.parametrize("language", ["en", "ar", "zh"])
def test_a_phone_shows_it_without_scrolling_sideways(language: str, page: Any, tmp_path: Path) -> None:
    document, image = made_document(language, 3, long=(2,))
    words = replace(document, title=document.title + "x" * 90, lead="y" * 200)
    page.set_viewport_size({"width": 390, "height": 844})
    for layout in LAYOUTS:
        page.goto(page_of(tmp_path, PageOptions(layout), words, image).as_uri())
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390, layout
        sizes = page.evaluate("() => [...document.images].map(i => [i.naturalWidth, i.getBoundingClientRect().width])")
        assert all(natural > 0 and 100 < shown <= 390 for natural, shown in sizes), layout


@pytest.mark.parametrize(("language", "direction"), [("ar", "rtl"), ("zh", "ltr"), ("ja", "ltr"), ("en", "ltr")])
def test_texts_run_as_their_language_does(language: str, direction: str, page: Any, tmp_path: Path) -> None:
    document, image = made_document(language, 2)
    page.goto(page_of(tmp_path, PageOptions(), document, image).as_uri())
    assert page.evaluate("() => document.documentElement.lang") == language
    found = page.evaluate("() => [...document.querySelectorAll('h1, p')].map(e => getComputedStyle(e).direction)")
    assert set(found) == {direction}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_the_page(theme: Any, page: Any, tmp_path: Path) -> None:
    document, image = made_document("en", 3, long=(2,))
    stopped = replace(document, status="stopped", reason="The critic accepted no attempt at step 4.")
    page.emulate_media(color_scheme=theme)
    for layout in LAYOUTS:
        page.goto(page_of(tmp_path, PageOptions(layout, details=True), stopped, image).as_uri())
        assert Axe().run(page).response["violations"] == [], layout


def test_every_picture_of_an_unpacked_zip_is_shown(page: Any, tmp_path: Path) -> None:
    document, image = made_document("zh", 3)
    with zipfile.ZipFile(io.BytesIO(to_zip(document, image))) as archive:
        archive.extractall(tmp_path)
    (file,) = tmp_path.rglob("document.html")
    page.goto(file.as_uri())
    widths = page.evaluate("() => Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
    assert widths == [512, 512, 512]
