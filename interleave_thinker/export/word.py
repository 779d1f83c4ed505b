"""A Word file (.docx), by python-docx."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any

from PIL import Image

from ..errors import ConfigError
from ..loop.document import Document, DocumentItem, alt_of, one_line
from .archive import dateless
from .language import direction_of, language_of
from .page import PageOptions, heading_of, paragraphs_of, remark_of, sections_of
from .pictures import bare

WIDTH_CM, HEIGHT_CM = 15.0, 9.0
"""The largest a picture is: two steps fit onto a page."""
LONGEST_PROPERTY = 255
"""Characters that Word takes of a title in the file's properties."""


def to_docx(
    document: Document, image: Callable[[DocumentItem], Image.Image], options: PageOptions | None = None
) -> bytes:
    """A whole .docx file. A picture stays on the page of the text above it; nothing tells of its making but on request.

    Raises:
        ConfigError: python-docx is not installed.
        RunError: a picture is gone.
    """
    try:
        import docx
    except ImportError:
        raise ConfigError("A Word file needs python-docx: install it with `pip install python-docx`.") from None
    options = options or PageOptions()
    made = docx.Document()
    texts = "\n".join([document.title, document.lead, *(i.text for i in document.items if i.kind == "text")])
    language = options.language or language_of(texts)
    _note_properties(made, document, language)
    if document.title:
        _write(made.add_heading(level=0), document.title)
    for paragraph in paragraphs_of(document.lead):
        _write(made.add_paragraph(style="Subtitle"), paragraph)
    for step in sections_of(document):
        if options.layout == "guide":
            _write(made.add_heading(level=1), f"{step.number}. {heading_of(step)}".rstrip(". "))
        for paragraph in paragraphs_of(step.text):
            _write(made.add_paragraph(), paragraph, keep=step.picture is not None)
        if step.picture is not None:
            _add_picture(made, step.picture, image(step.picture))
            if options.details:
                _write(made.add_paragraph(style="Caption"), f"Step {step.number} · {remark_of(step.picture)}")
    if options.details and document.stop:
        _write(made.add_paragraph(), f"The run was stopped: {document.stop}")
    buffer = io.BytesIO()
    made.save(buffer)
    return dateless(buffer.getvalue())


def _write(paragraph: Any, text: str, keep: bool = False) -> None:
    """keep: on one page with what follows."""
    paragraph.add_run(_legal(text))
    paragraph.paragraph_format.keep_with_next = keep or paragraph.style.name.startswith("Heading")
    if direction_of(text) == "rtl":
        paragraph._p.get_or_add_pPr().append(_element("w:bidi"))
        for run in paragraph.runs:
            run.font.rtl = True


def _add_picture(made: Any, item: DocumentItem, pixels: Image.Image) -> None:
    from docx.shared import Cm

    scale = min(WIDTH_CM / pixels.width, HEIGHT_CM / pixels.height)
    data = io.BytesIO(bare(pixels, "PNG" if max(pixels.size) <= 256 else "JPEG").data)
    shape = made.add_picture(data, width=Cm(pixels.width * scale), height=Cm(pixels.height * scale))
    facts = shape._inline.docPr
    facts.set("descr", _legal(alt_of(item)))
    facts.set("name", f"Picture {facts.get('id')}")


def _note_properties(made: Any, document: Document, language: str) -> None:
    """What the file says of itself: title and language, and nothing of python-docx's template or of this machine."""
    facts = made.core_properties
    title = _legal(one_line(document.title))[:LONGEST_PROPERTY]
    facts.title, facts.author, facts.comments, facts.language = title, "", "", language
    facts.created = facts.modified = datetime(1980, 1, 1, tzinfo=timezone.utc)
    if language:
        fonts = made.styles.element.find(".//{*}rPrDefault/{*}rPr/{*}lang")
        if fonts is not None:
            for name in ("val", "eastAsia", "bidi"):
                fonts.set(f"{{{fonts.nsmap['w']}}}{name}", language)


def _element(tag: str) -> Any:
    from docx.oxml import OxmlElement

    return OxmlElement(tag)


def _legal(text: str) -> str:
    """Without the control characters that XML has no place for."""
    return "".join(_kept(text))


def _kept(text: str) -> Iterable[str]:
    for c in text:
        if c in "\t\n" or (ord(c) >= 32 and not 0xD800 <= ord(c) <= 0xDFFF and ord(c) not in (0xFFFE, 0xFFFF)):
            yield c
