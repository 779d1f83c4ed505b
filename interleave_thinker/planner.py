"""The Planner: request and pictures in, plan out (paper, section 3.2).

Two modes, chosen by whether pictures came along: pure text, and interleaved (Task A: text about the
pictures; Task B: continue them). Knows nothing of generators or of how a plan is executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from PIL import Image

from .agents.base import Agent, Completion, Message, OnText, Sampling
from .errors import PlanError
from .plan import Plan, PlanStep, checked
from .plan_text import plan_reader, plan_reading
from .prompts import fill, load_prompt
from .replies import Reply, ReplyReader, has_any

T = TypeVar("T")
_MARKER = re.compile(r"<image>", re.I)
SHOWN = 300


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
    max_steps: int = 20,
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
    sampling = sampling or Sampling()
    messages = [Message("user", planner_turn(request, images, max_steps, [*prompt_folders, agent.prompts]))]
    problem = ""
    raw = ""
    for again in range(2):
        if again:
            reask = fill(load_prompt("reask", [*prompt_folders, agent.prompts]), problem=problem)
            messages += [Message("assistant", (raw,)), Message("user", (reask,))]
            sampling = replace(sampling, seed=sampling.seed + 1)
        watch = Watch(plan_reader, on_text)
        completion = agent.complete(messages, sampling, watch)
        raw = completion.text
        reading = plan_reading(watch.read(raw), cut=completion.finish == "length")
        if reading.plan is None:
            problem = describe_unreadable(completion, reading.problem)
            continue
        try:
            plan = replace(reading.plan, request=request.strip())
            return Planned(_numbered(plan, len(images), max_steps), raw)
        except PlanError as error:
            problem = str(error)
    if single_step_fallback and request.strip():
        step = PlanStep(1, "", instruction=request.strip(), prompt=request.strip())
        return Planned(_numbered(Plan((step,), request=request.strip()), len(images), max_steps), raw, fallback=True)
    raise PlanError(
        f"The planner's reply is not a usable plan: {problem} It wrote: {raw[:SHOWN]!r}. "
        "Try another seed or a larger max_tokens, or write the plan yourself."
    )


class Watch:
    """An `on_text` that reads along and ends a reply where nothing more is read; then `read` has what was read.

    A reply that begins anew, because a server was asked again, is read anew.
    """

    def __init__(self, reader: Callable[[], ReplyReader], on_text: OnText | None = None):
        self._new, self._on_text = reader, on_text
        self._reader, self._length = reader(), 0

    def __call__(self, text: str) -> bool:
        more = self._on_text(text) if self._on_text else True
        if len(text) < self._length:
            self._reader = self._new()
        self._length = len(text)
        return not self._reader.read(text) and more

    def read(self, text: str) -> Reply:
        """The whole reply, which is what was last heard of it."""
        return (self._reader if len(text) == self._length else self._new()).finish(text)


def until_answered(on_text: OnText | None, keys: Iterable[str] | None = None) -> Watch:
    """End a reply behind the object of its answer, which has one of `keys`."""
    return Watch(lambda: ReplyReader(has_any(keys)), on_text)


def describe_unreadable(
    completion: Completion, problem: str = "no JSON object of the expected form was found in it."
) -> str:
    """What was wrong with a reply, for the agent and the user."""
    if completion.finish == "length":
        read = problem[problem.find("What was read") :] if "What was read" in problem else ""
        return f"it was cut off after {completion.tokens} tokens (max_tokens). {read}".rstrip()
    if not completion.text.strip():
        return "it was empty."
    return problem


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
