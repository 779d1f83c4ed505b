"""A document from what a run left on disk; the run may have ended, been interrupted, or be under way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import InterleaveError, RunError
from ..files import is_below
from ..loop.document import Document, DocumentItem, compose
from ..loop.plan import Plan, PlanStep
from ..loop.trajectory import Attempt, StepResult, Trajectory
from ..storage.run_folder import image_of_run, read_state, read_trajectory

MAX_WORKFLOW = 16 * 1024**2
"""Bytes of a workflow.json that is read."""


def read_document(folder: Path) -> Document:
    """The document of the run in `folder`: of a run that is not over, as far as its steps have ended.

    Raises:
        RunError: there is no run, or its run.json or trajectory.jsonl cannot be read.
    """
    state = read_state(folder)
    if state is None:
        raise RunError(f"{folder.name!r} is no run: it has no run.json that can be read.")
    settings = state.get("state")
    reason = settings.get("reason") if isinstance(settings, Mapping) else ""
    try:
        saved = Trajectory.from_dict(state["trajectory"])
        if saved.status == "running":
            saved = _so_far(saved.plan, read_trajectory(folder))
        title = saved.plan.headline or str(state.get("title") or "")
        return compose(saved, run=folder.name, title=title, reason=str(reason or ""))
    except (InterleaveError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"The record of run {folder.name!r} cannot be read: {error}") from None


def pictures_of(folder: Path, document: Document) -> Callable[[DocumentItem], Image.Image]:
    """The document's pictures, from the run's folder."""

    def image(item: DocumentItem) -> Image.Image:
        """Raises:
        RunError: it is gone.
        """
        found = image_of_run(folder, document.trajectory.attempts, item.image_key)
        if found is None:
            raise RunError(f"The picture of step {item.step} is gone from the folder of run {folder.name!r}.")
        return found

    return image


def workflow_of(folder: Path) -> dict[str, Any] | None:
    """The editor's graph that made the run; None where it was queued without the editor."""
    path = folder / "workflow.json"
    if not is_below(folder, path):  # a link may lead anywhere
        return None
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_WORKFLOW))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _so_far(plan: Plan, attempts: Sequence[Attempt]) -> Trajectory:
    """What is known of a run without an end: a step has ended with the attempt that was accepted last, or with its last
    attempt where a later step has begun.
    """
    reached = max((a.step for a in attempts), default=0)
    results = []
    for number, step in enumerate(plan.steps, 1):
        result = _result(number, step, [a for a in attempts if a.step == number], number < reached)
        if result is None:
            break
        results.append(result)
    return Trajectory(plan, tuple(attempts), tuple(results), "running")


def _result(number: int, step: PlanStep, tried: Sequence[Attempt], is_past: bool) -> StepResult | None:
    if step.prompt is None:
        return StepResult(number)
    accepted = [a for a in tried if a.accepted]
    if not tried or not (accepted or is_past):
        return None
    last = (accepted or tried)[-1]
    return StepResult(number, last.attempt, last.image_key, bool(accepted), not accepted)


def with_words(document: Document, title: str = "", lead: str = "") -> Document:
    """The document under a title and lead of the user's; empty ones leave those that it has."""
    return replace(document, title=title.strip() or document.title, lead=lead.strip() or document.lead)
