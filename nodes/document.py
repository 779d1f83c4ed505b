"""What comes out: lists for other nodes, and a saved document to read and share."""

from __future__ import annotations

import io as bytes_io
import json
from pathlib import Path
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..interleave_thinker.errors import ConfigError, RunError
from ..interleave_thinker.export.language import is_language
from ..interleave_thinker.export.markdown import to_markdown
from ..interleave_thinker.export.page import LAYOUTS, Layout, PageOptions, to_html
from ..interleave_thinker.export.pictures import Picture, page_picture, with_workflow
from ..interleave_thinker.export.saved_run import with_words
from ..interleave_thinker.files import write_atomically
from ..interleave_thinker.loop.document import Document, DocumentItem
from ..interleave_thinker.storage.run_folder import RunFolder, image_of_run, safe_name
from .events import editors_graph
from .folders import attempt_store, runs_root, saved_file
from .images import to_tensor
from .types import DOCUMENT, expect, schema

_CIRCUMSTANCES = {"seconds", "judge_seconds", "recalled", "file", "loads"}
"""What differs between a run and the same run resumed: not part of a saved image."""


def image_of(document: Document, key: str) -> Image.Image:
    """An image of the document: from the store, or from its run folder.

    Raises:
        RunError: it is in neither.
    """
    found = attempt_store().get_image(key)
    if found is not None:
        return found
    folder = runs_root() / safe_name(document.run, branch=True)
    found = image_of_run(folder, document.trajectory.attempts, key)
    if found is not None:
        return found
    raise RunError(f"A picture of run {document.run!r} is gone from the attempt store and the run folder.")


class UnpackDocument(io.ComfyNode):
    """Images, texts and verdicts as lists, for stock nodes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "UnpackDocument",
            display_name="Interleave Unpack Document",
            description="A document's pictures, texts and verdicts as lists, and its last picture.",
            search_aliases=["document", "list of images", "interleave output", "InterleaveThinker"],
            inputs=[DOCUMENT.Input("document", tooltip="From Loop Close.")],
            outputs=[
                io.Image.Output("IMAGES", "images", is_output_list=True, tooltip="One picture a step, in order."),
                io.String.Output("TEXTS", "texts", is_output_list=True, tooltip="One text a step, in order."),
                io.Boolean.Output(
                    "ACCEPTED", "accepted", is_output_list=True, tooltip="Per picture: did the critic accept it?"
                ),
                io.Image.Output("FINAL_IMAGE", "final_image", tooltip="The last picture."),
            ],
        )

    @classmethod
    def execute(cls, document: Document) -> io.NodeOutput:
        document = expect(document, Document, "Unpack Document")
        images = [to_tensor(image_of(document, i.image_key)) for i in document.images]
        texts = [i.text for i in document.items if i.kind == "text"]
        verdicts = [i.accepted for i in document.images]
        nothing = ExecutionBlocker(None)  # of a document without a picture: ComfyUI leaves out what would show one
        return io.NodeOutput(
            images or [nothing], texts or [nothing], verdicts or [nothing], images[-1] if images else nothing
        )


class SaveDocument(io.ComfyNode):
    """Writes document.md, a self-contained document.html and the images into the run folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "SaveDocument",
            display_name="Interleave Save Document",
            description="Save the interleaved document as a page to pass on (HTML), as Markdown, and as PNGs that hold "
            "the workflow.",
            search_aliases=["save story", "export HTML", "export Markdown", "interleave", "InterleaveThinker"],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                DOCUMENT.Input("document", tooltip="From Loop Close."),
                io.String.Input("title", default="", optional=True, tooltip="Empty: the planner's, or the request's."),
                io.Combo.Input(
                    "layout",
                    options=list(LAYOUTS),
                    default="story",
                    optional=True,
                    tooltip="Of the page: text above pictures, numbered steps, a comic's grid, or one step a screen.",
                ),
                io.Boolean.Input(
                    "details",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Say in the document how it was made: attempts, prompts, what the critic did not accept.",
                ),
                io.Boolean.Input(
                    "workflow_in_page",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Put the workflow into the page's pictures, for whoever gets the page. Those of the run "
                    "folder hold it anyway.",
                ),
                io.String.Input(
                    "language",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Of the page, such as en or pt-BR. Empty: the texts tell.",
                ),
            ],
            outputs=[io.String.Output("PATH", "path", tooltip="Path of document.html.")],
        )

    @classmethod
    def validate_inputs(cls, language: str | None = "") -> bool | str:
        if not (language or "").strip() or is_language(str(language).strip()):
            return True
        return f"language is {str(language)[:60]!r}; write a tag such as en or pt-BR, or leave it empty."

    @classmethod
    def execute(
        cls,
        document: Document,
        title: str = "",
        layout: Layout = "story",
        details: bool = False,
        workflow_in_page: bool = False,
        language: str = "",
    ) -> io.NodeOutput:
        document = with_words(expect(document, Document, "Save Document"), title)
        options = PageOptions(layout, details, language.strip())
        run = RunFolder(runs_root(), document.run)
        folder = run.path
        graph = editors_graph(cls.hidden.extra_pnginfo) if workflow_in_page else None
        if workflow_in_page and graph is None:
            raise ConfigError("workflow_in_page is on, but the prompt was queued without the editor's workflow.")
        names: dict[DocumentItem, str] = {}
        pictures: dict[DocumentItem, Picture] = {}
        for number, item in enumerate(document.images, 1):
            image = image_of(document, item.image_key)
            names[item] = f"image_{number:02d}.png"
            pictures[item] = page_picture(image) if graph is None else with_workflow(image, graph)
            write_atomically(folder / names[item], _png(image, _metadata(cls.hidden, document, item)))
        markdown = to_markdown(document, names.__getitem__, details=details)
        write_atomically(folder / "document.md", markdown.encode("utf-8", "replace"))
        page = to_html(document, pictures.__getitem__, options)
        write_atomically(folder / "document.html", page.encode("utf-8", "replace"))
        images = [folder / name for name in names.values()]
        shown = _ui(document, run, images, markdown)
        if editors_graph(cls.hidden.extra_pnginfo) is None:
            shown["files"] = shown["interleave_document"][0]["files"]
        return io.NodeOutput(str(folder / "document.html"), ui=shown)


def _ui(document: Document, run: RunFolder, images: list[Path], markdown: str) -> dict[str, Any]:
    """What the node shows, and for API clients its files, as /view takes them, and the whole document.

    Clients look for files in each list. The editor does so too, and its app mode then shows the last one, a file that
    it cannot display, as the result. So where the editor queued, the files stand in `interleave_document` alone.
    """
    files = [run.path / "document.html", run.path / "document.md", run.trajectory_file]
    whole = {
        "path": str(run.path / "document.html"),  # on the server's disk, for the command line and older clients
        "run": document.run,
        "files": [saved_file(path) for path in files if path.is_file()],
        "document": document.to_dict(),
    }
    return {"images": [saved_file(path) for path in images], "text": [markdown], "interleave_document": [whole]}


def _metadata(hidden: Any, document: Document, item: DocumentItem) -> PngInfo:
    """The workflow, as stock Save Image writes it, and what made this image."""
    info = PngInfo()
    if hidden.prompt is not None:
        info.add_text("prompt", json.dumps(hidden.prompt, default=str))
    for name, value in (hidden.extra_pnginfo or {}).items():
        info.add_text(name, json.dumps(value, default=str))
    attempts = [
        {k: v for k, v in a.to_dict().items() if k not in _CIRCUMSTANCES}
        for a in document.trajectory.attempts_of(item.step)
    ]
    info.add_text("interleave", json.dumps({"run": document.run, "step": item.step, "attempts": attempts}))
    return info


def _png(image: Image.Image, info: PngInfo) -> bytes:
    buffer = bytes_io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info, compress_level=4)
    return buffer.getvalue()
