"""The document: what the user asked for, text and pictures in order. `export/` makes files of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import RunError
from .trajectory import StepResult, Trajectory, strict

LONGEST_ALT = 300


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

    run: name of the run folder. status: "done", or "stopped" with a reason. lead: a sentence or two below the title.
    """

    items: tuple[DocumentItem, ...]
    trajectory: Trajectory
    run: str = ""
    title: str = ""
    status: str = "done"
    reason: str = ""
    lead: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "items": [i.to_dict() for i in self.items],
            "trajectory": self.trajectory.to_dict(),
            "run": self.run,
            "title": self.title,
            "status": self.status,
            "reason": self.reason,
            **({"lead": self.lead} if self.lead else {}),
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

    @property
    def stop(self) -> str:
        """Why the run was stopped, on one line; "" for one that is done or under way."""
        return one_line(self.reason) if self.status not in ("done", "running") else ""


def compose(trajectory: Trajectory, *, run: str = "", title: str = "", reason: str = "") -> Document:
    """a_1, I_1, a_2, I_2, ... of the steps that have ended; a step of text only gives its text."""
    items: list[DocumentItem] = []
    for result in trajectory.results:
        step = trajectory.plan.steps[result.step - 1]
        if step.text:
            items.append(DocumentItem("text", result.step, text=step.text))
        if result.image_key:
            items.append(_image_item(trajectory, result))
    return Document(tuple(items), trajectory, run, title, trajectory.status, reason, trajectory.plan.lead)


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


def one_line(text: str) -> str:
    """Without line breaks and null bytes."""
    return " ".join(text.replace("\x00", "").split())


def alt_of(item: DocumentItem) -> str:
    """What stands for a picture where it is not seen: the planned prompt, on one line."""
    alt = one_line(item.text)
    return alt if len(alt) <= LONGEST_ALT else alt[: LONGEST_ALT - 1] + "…"
