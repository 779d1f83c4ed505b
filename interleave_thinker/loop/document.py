"""The document: what the user asked for, text and pictures in order, to read, save and share.

Texts come from models and are untrusted: in HTML they are escaped and the page forbids scripts and
every outside address; in Markdown every punctuation mark is escaped, so that nothing of theirs is
markup. Knows nothing of ComfyUI.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import RunError
from .trajectory import StepResult, Trajectory, strict


@dataclass(frozen=True)
class DocumentItem:
    """A text, or a picture by store key. `step` counts from 1.

    Of a picture, `text` is the planned prompt; `accepted` and `judged` say what the critic thought of it: an
    attempt whose verdict could not change anything is not judged.
    """

    kind: Literal["text", "image"]
    step: int
    text: str = ""
    image_key: str = ""
    accepted: bool = True
    attempts: int = 0
    judged: bool = True

    @property
    def remark(self) -> str:
        """What a reader should know about the picture; empty for an accepted one."""
        if self.accepted:
            return ""
        return "not accepted by the critic" if self.judged else "the last attempt, not judged"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Document:
    """Texts and pictures in reading order, with the trajectory they came of.

    run: name of the run folder. status: "done", or "stopped" with a reason.
    """

    items: tuple[DocumentItem, ...]
    trajectory: Trajectory
    run: str = ""
    title: str = ""
    status: str = "done"
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "items": [i.to_dict() for i in self.items],
            "trajectory": self.trajectory.to_dict(),
            "run": self.run,
            "title": self.title,
            "status": self.status,
            "reason": self.reason,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Document:
        values = dict(data)
        try:
            values["items"] = tuple(strict(DocumentItem, i) for i in values["items"])
            values["trajectory"] = Trajectory.from_dict(values["trajectory"])
        except KeyError as error:
            raise RunError(f"A document lacks {error}.") from None
        return strict(Document, values)

    @property
    def images(self) -> tuple[DocumentItem, ...]:
        return tuple(i for i in self.items if i.kind == "image")


def compose(trajectory: Trajectory, *, run: str = "", title: str = "", reason: str = "") -> Document:
    """a_1, I_1, a_2, I_2, ... of the steps that have ended; a step of text only gives its text."""
    items: list[DocumentItem] = []
    for result in trajectory.results:
        step = trajectory.plan.steps[result.step - 1]
        if step.text:
            items.append(DocumentItem("text", result.step, text=step.text))
        if result.image_key:
            items.append(_image_item(trajectory, result))
    return Document(tuple(items), trajectory, run, title, trajectory.status, reason)


def _image_item(trajectory: Trajectory, result: StepResult) -> DocumentItem:
    attempts = trajectory.attempts_of(result.step)
    chosen = next((a for a in attempts if a.attempt == result.chosen), None)
    return DocumentItem(
        "image",
        result.step,
        trajectory.plan.steps[result.step - 1].prompt or "",
        result.image_key or "",
        result.accepted,
        len(attempts),
        judged=chosen is None or chosen.judgment is not None,
    )


def to_markdown(document: Document, image_path: Callable[[DocumentItem], str]) -> str:
    """Markdown with relative picture paths; `image_path` must give plain names of our own making."""
    lines = []
    if document.title:
        lines += [f"# {escape_markdown(_one_line(document.title))}", ""]
    for item in document.items:
        if item.kind == "text":
            lines += [escape_markdown(item.text), ""]
        else:
            note = f"\n\n*This picture: {item.remark}.*" if item.remark else ""
            lines += [f"![{escape_markdown(_one_line(item.text))}]({image_path(item)}){note}", ""]
    if document.status != "done":
        lines += [f"*The run was stopped: {escape_markdown(document.reason)}*", ""]
    return "\n".join(lines)


def to_html(document: Document, image_png: Callable[[DocumentItem], bytes]) -> str:
    """One self-contained page: pictures inside, no script, nothing loaded from anywhere."""
    parts = []
    for item in document.items:
        if item.kind == "text":
            parts.append(f"<p>{_escape_html(item.text)}</p>")
            continue
        png = image_png(item)
        data = base64.b64encode(png).decode("ascii")
        tries = f"{item.attempts} attempt{'' if item.attempts == 1 else 's'}"
        mark = f" &middot; {item.remark}" if item.remark else ""
        parts.append(
            f'<figure class="{"accepted" if item.accepted else "rejected"}">'
            f'<img alt="{html.escape(_one_line(item.text))}" src="data:image/png;base64,{data}"'
            f"{' class=small' if _is_small(png) else ''}>"
            f"<figcaption>step {item.step} &middot; {tries}{mark}</figcaption></figure>"
        )
    if document.status != "done":
        parts.append(f'<p class="stopped">The run was stopped: {_escape_html(document.reason)}</p>')
    title = html.escape(_one_line(document.title or document.run or "Interleaved document"))
    heading = f"<h1>{title}</h1>" if document.title else ""
    return _PAGE.format(title=title, heading=heading, body="\n".join(parts))


def _is_small(png: bytes) -> bool:
    """Whether a PNG is so small (its header says) that enlarging should keep its pixels sharp."""
    return png[12:16] == b"IHDR" and int.from_bytes(png[16:20], "big") <= 128


def escape_markdown(text: str) -> str:
    """Text that every Markdown reader shows as it is: punctuation escaped, blank lines kept."""
    escaped = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text.replace("\x00", ""))
    return "\n".join(line.strip() for line in escaped.splitlines())


def _escape_html(text: str) -> str:
    return html.escape(text.replace("\x00", "")).replace("\n", "<br>\n")


def _one_line(text: str) -> str:
    return " ".join(text.replace("\x00", "").split())


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 2rem auto; padding: 0 1rem; max-width: 44rem; font: 17px/1.6 system-ui, sans-serif;
       color: #1d1d1f; background: #fff; }}
h1 {{ font-size: 1.4rem; line-height: 1.3; }}
figure {{ margin: 1rem 0 2rem; }}
img {{ display: block; width: 100%; max-width: 32rem; border-radius: 6px; }}
img.small {{ width: 16rem; image-rendering: pixelated; }}
figcaption {{ font-size: .8rem; color: #6e6e73; margin-top: .4rem; }}
.rejected img {{ outline: 3px solid #d9822b; }}
.stopped {{ color: #a33; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #eee; background: #1c1c1e; }} }}
</style>
</head>
<body>
{heading}
{body}
</body>
</html>
"""
