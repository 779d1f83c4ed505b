"""The Planner: request and pictures in, plan out (paper, section 3.2).

Two modes, chosen by whether pictures came along: pure text, and interleaved (Task A: text about the
pictures; Task B: continue them). Knows nothing of generators or of how a plan is executed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ..agents.base import Agent, Completion, OnText, Sampling
from ..agents.reply_form import ReplyForm
from ..contract import MAX_STEPS
from ..errors import PlanError
from ..loop.plan import Plan, PlanStep, checked
from ..reading.plan_text import plan_reader, plan_reading
from ..reading.replies import Reply
from .asking import ask_twice, describe_unreadable, in_form
from .prompt_files import fill, load_prompt

T = TypeVar("T")
_MARKER = re.compile(r"<image>", re.I)
SHOWN = 300

_TEXT_OR_NULL = '{"type": ["string", "null"]}'
_PLAN_SCHEMA = (
    '{"type": "object", "properties": {"execution_plan": {"type": "array", "minItems": 1, "items": {"type": "object", '
    '"properties": {"step_number": {"type": "integer"}, "step_name": {"type": "string"}, '
    f'"instruction": {_TEXT_OR_NULL}, "prompt": {_TEXT_OR_NULL}, "auxiliary_text": {_TEXT_OR_NULL}}}, '
    '"required": ["step_number", "step_name", "instruction", "prompt", "auxiliary_text"], '
    '"additionalProperties": false}}, "title": {"type": "string"}, "lead": {"type": "string"}}, '
    '"required": ["execution_plan"], "additionalProperties": false}'
)
PLAN_FORMS = (
    ReplyForm(('{"execution_plan": [{"step_number": ',), schema=_PLAN_SCHEMA),
    ReplyForm(('{"execution_plan": [{"',)),
)
"""The second is for prompts that name other keys of a step, or in another order."""


@dataclass(frozen=True)
class Planned:
    """A plan, what the agent wrote for it, and whether the declared fallback had to be used."""

    plan: Plan
    raw: str
    fallback: bool = False


def make_plan(
    agent: Agent,
    request: str,
    images: Sequence[Image.Image] = (),
    *,
    max_steps: int = MAX_STEPS,
    sampling: Sampling | None = None,
    prompt_folders: Sequence[str | None] = (),
    single_step_fallback: bool = False,
    on_text: OnText | None = None,
) -> Planned:
    """Ask for a plan, once more if the reply cannot be used, and then give up in the declared way.

    `request` may say `<image>` where a picture belongs; pictures without a marker follow the text.
    `single_step_fallback`: an unusable second reply becomes one step with the request as its prompt.

    Raises:
        PlanError: both replies are unusable and there is no fallback, or the request is empty.
        AgentError: the agent cannot be used.
    """
    if not request.strip() and not images:
        raise PlanError("The request is empty. Write what the pictures should tell.")
    folders = [*prompt_folders, agent.prompts]
    made: Plan | None = None
    problem = raw = ""

    def take(completion: Completion, reply: Reply) -> str | None:
        nonlocal made, problem, raw
        raw = completion.text
        reading = plan_reading(reply, cut=completion.finish == "length")
        if reading.plan is None:
            problem = describe_unreadable(completion, reading.problem)
            return problem
        try:
            made = _numbered(replace(reading.plan, request=request.strip()), len(images), max_steps)
        except PlanError as error:
            problem = str(error)
            return problem
        return None

    name = "planner_images" if images else "planner_text"
    turn = planner_turn(request, images, max_steps, folders)
    ask_twice(
        agent,
        turn,
        take,
        reader=plan_reader,
        sampling=in_form(sampling or Sampling(), PLAN_FORMS, agent, name, folders),
        prompt_folders=folders,
        on_text=on_text,
    )
    if made is not None:
        return Planned(made, raw)
    if single_step_fallback and request.strip():
        step = PlanStep(1, "", instruction=request.strip(), prompt=request.strip())
        return Planned(_numbered(Plan((step,), request=request.strip()), len(images), max_steps), raw, fallback=True)
    raise PlanError(
        f"The planner's reply is not a usable plan: {problem} It wrote: {raw[:SHOWN]!r}. "
        "Try another seed or a larger max_tokens, or write the plan yourself."
    )


def _numbered(plan: Plan, images: int, max_steps: int) -> Plan:
    continues = images > 0 and plan.image_steps > 0
    return checked(plan, max_steps=max_steps, first_number=images + 1 if continues else 1)


def planner_turn(
    request: str, images: Sequence[T], max_steps: int, prompt_folders: Sequence[str | Path | None] = ()
) -> tuple[T | str, ...]:
    """What the planner is asked, as parts of one user turn: the template around the request, pictures where the
    request's `<image>` marks stand. Pictures may be anything that stands for one."""
    name = "planner_images" if images else "planner_text"
    before, after = load_prompt(name, prompt_folders).split("{text_input}", 1)
    before, after = (fill(part, max_steps=str(max_steps)) for part in (before, after))
    pieces = _MARKER.split(request)
    parts: list[T | str] = [before]
    left = list(images)
    for position, piece in enumerate(pieces):
        parts.append(piece)
        if position < len(pieces) - 1 and left:
            parts.append(left.pop(0))
    parts += [*left, after]
    merged: list[T | str] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, str) and isinstance(last, str):
            merged[-1] = last + part
        elif part != "":
            merged.append(part)
    if isinstance(merged[-1], str):
        merged[-1] = merged[-1].rstrip()
    return tuple(part for part in merged if part != "")
