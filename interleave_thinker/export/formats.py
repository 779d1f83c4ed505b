"""A run's document in any of the formats that can be passed on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, RunError
from ..loop.document import DocumentItem
from .archive import file_stem, to_zip
from .page import PageOptions, to_html
from .pictures import Picture, page_picture, with_workflow
from .saved_run import pictures_of, read_document, with_words, workflow_of
from .video import to_video
from .word import to_docx

TYPES = {
    "html": "text/html",
    "zip": "application/zip",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "mp4": "video/mp4",
}
"""Format -> MIME type. A text is UTF-8."""
FORMATS = tuple(TYPES)


@dataclass(frozen=True)
class Exported:
    """name: a file's name, made of the title."""

    name: str
    data: bytes
    type: str


def export_run(
    folder: Path,
    form: str,
    options: PageOptions | None = None,
    *,
    title: str = "",
    lead: str = "",
    with_graph: bool = False,
) -> Exported:
    """The document of the run in `folder` as a file.

    form: one of `FORMATS`. title, lead: in place of the document's own.
    with_graph: the editor's workflow goes along, in the pictures of an HTML or ZIP file.

    Raises:
        ConfigError: there is no such format, or it needs a library that is not installed.
        RunError: there is no run, nothing of it is finished, or a picture is gone.
    """
    if form not in FORMATS:
        raise ConfigError(f"format is {form[:40]!r}; choose one of {', '.join(FORMATS)}.")
    options = options or PageOptions()
    document = with_words(read_document(folder), title, lead)
    if not document.items:
        raise RunError(f"No step of run {folder.name!r} is finished yet.")
    image = pictures_of(folder, document)
    workflow = workflow_of(folder) if with_graph else None
    if with_graph and workflow is None:
        raise RunError(f"Run {folder.name!r} has no workflow with it: it was queued without the editor.")

    def picture(item: DocumentItem) -> Picture:
        return page_picture(image(item)) if workflow is None else with_workflow(image(item), workflow)

    make: dict[str, Callable[[], str | bytes]] = {
        "html": lambda: to_html(document, picture, options),
        "zip": lambda: to_zip(document, image, options, workflow=workflow),
        "docx": lambda: to_docx(document, image, options),
        "mp4": lambda: to_video(document, image),
    }
    data = make[form]()
    whole = data.encode("utf-8", "replace") if isinstance(data, str) else data
    return Exported(f"{file_stem(document)}.{form}", whole, TYPES[form])
