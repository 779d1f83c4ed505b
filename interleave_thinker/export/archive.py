"""A ZIP file: the document as Markdown and as a page, with its pictures beside them."""

from __future__ import annotations

import io
import json
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from ..loop.document import Document, DocumentItem
from ..storage.run_folder import RESERVED
from .markdown import to_markdown
from .page import PageOptions, to_html
from .pictures import Picture, bare, with_workflow

_DATE = (1980, 1, 1, 0, 0, 0)
"""Of each entry: the same document makes the same file."""


def to_zip(
    document: Document,
    image: Callable[[DocumentItem], Image.Image],
    options: PageOptions | None = None,
    *,
    workflow: Mapping[str, Any] | None = None,
) -> bytes:
    """document.md, document.html and images/*.png, in a folder that is named as the document.

    workflow: of the editor; it goes along as workflow.json and in each picture. Without it the pictures hold pixels
    alone.

    Raises:
        RunError: a picture is gone.
    """
    options = options or PageOptions()
    names = {item: f"images/{number:02d}.png" for number, item in enumerate(document.images, 1)}
    pictures: dict[DocumentItem, Picture] = {}
    for item in names:
        pixels = image(item)
        pictures[item] = bare(pixels, "PNG") if workflow is None else with_workflow(pixels, workflow)
    texts = {
        "document.md": to_markdown(document, names.__getitem__, details=options.details),
        "document.html": to_html(document, pictures.__getitem__, options, address=names.__getitem__),
    }
    if workflow is not None:
        texts["workflow.json"] = json.dumps(workflow, ensure_ascii=False, indent=1)
    buffer, folder = io.BytesIO(), file_stem(document)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(_entry(f"{folder}/{name}"), text.encode("utf-8", "replace"), zipfile.ZIP_DEFLATED)
        for item, name in names.items():
            archive.writestr(_entry(f"{folder}/{name}"), pictures[item].data, zipfile.ZIP_STORED)
    return buffer.getvalue()


def file_stem(document: Document) -> str:
    """A file's name without its ending, of letters and digits of the title; "document" where there are none.

    Marks stay on their letters, as Hindi and Thai need them. It is no name that Windows keeps for devices.
    """
    title = unicodedata.normalize("NFC", document.title or document.run)
    words = "".join(c if c.isalnum() or unicodedata.category(c).startswith("M") else " " for c in title).split()
    stem = "-".join(word for word in words if word[0].isalnum())[:60].strip("-")
    return f"document-{stem}" if RESERVED.match(stem) else stem or "document"


def dateless(data: bytes) -> bytes:
    """A ZIP file with the same entries, none of which tells when it was made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as made, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in made.namelist():
            archive.writestr(_entry(name), made.read(name), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.external_attr = 0o644 << 16
    return entry
