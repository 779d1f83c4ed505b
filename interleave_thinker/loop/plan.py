"""The plan: what a Planner writes before any picture exists (paper, section 3.2).

Wire format: {"execution_plan": [{step_number, step_name, instruction, prompt, auxiliary_text}, ...]}, and beside the
steps "title" and "lead", which are ours: the paper's planners write none.
A step whose `prompt` is None makes no picture (Task A): it only contributes its text.
Knows nothing of agents, pictures or how a plan is executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..contract import MAX_ATTEMPTS, MAX_STEPS_LIMIT
from ..errors import PlanError

MAX_TEXT = 8_000
"""Characters kept of any one text field of a plan."""

MAX_TITLE, MAX_LEAD = 200, 1_000
"""Characters kept of a plan's title and lead."""
_SHORT = 64
"""Characters of a title that is made from a request."""

_TEXTS = ("reasoning", "request", "title", "lead")
_ABSENT = {"", "none", "null", "n/a"}
_MARK = re.compile(r"<image>", re.I)
_CLAUSE = re.compile(r".{12,}?(?:[.:;!?](?=\s|$)|[。！？；：])")
_LABEL = re.compile(r"^\s*(?:\*\*)?step\s*\d{1,3}(?:\*\*)?\s*[:.)\-–—](?!\d)\s*(?:\*\*)?\s*", re.I)


@dataclass(frozen=True)
class PlanStep:
    """One step: instruction u_i, generator prompt p_i and auxiliary text a_i of the paper."""

    step_number: int
    step_name: str = ""
    instruction: str | None = None
    prompt: str | None = None
    auxiliary_text: str | None = None

    @property
    def text(self) -> str:
        """What the document says at this step: a_i, or u_i where the plan has no a_i."""
        return self.auxiliary_text or self.instruction or ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> PlanStep:
        """Strict reading of `to_dict`'s form.

        Raises:
            PlanError: a key is unknown or a value has the wrong type.
        """
        _refuse_unknown(data, {f.name for f in fields(PlanStep)}, "plan step")
        number = data.get("step_number")
        if not isinstance(number, int) or isinstance(number, bool):
            raise PlanError(f"step_number is {number!r}; it must be a whole number.")
        for name in ("step_name", "instruction", "prompt", "auxiliary_text"):
            if not isinstance(data.get(name), str | None):
                raise PlanError(f"{name} of step {number} is {data[name]!r}; it must be text or null.")
        return PlanStep(
            number,
            data.get("step_name") or "",
            data.get("instruction"),
            data.get("prompt"),
            data.get("auxiliary_text"),
        )


@dataclass(frozen=True)
class Plan:
    """Steps in order, the planner's reasoning, and the request that it answers where that is known.

    title, lead: of the document; a lead is a sentence or two below the title. "" where nobody wrote one.
    """

    steps: tuple[PlanStep, ...]
    reasoning: str = ""
    request: str = ""
    title: str = ""
    lead: str = ""

    def to_dict(self) -> dict[str, Any]:
        written = {name: text for name, text in (("title", self.title), ("lead", self.lead)) if text}
        return {
            "execution_plan": [s.to_dict() for s in self.steps],
            "reasoning": self.reasoning,
            "request": self.request,
            **written,
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Plan:
        _refuse_unknown(data, {"execution_plan", *_TEXTS}, "plan")
        steps = data.get("execution_plan")
        if not isinstance(steps, Sequence) or isinstance(steps, str):
            raise PlanError("The plan has no list 'execution_plan'.")
        texts = {name: str(data.get(name) or "") for name in _TEXTS}
        return Plan(tuple(PlanStep.from_dict(s) for s in steps), **texts)

    @property
    def headline(self) -> str:
        """The title, or else what the request begins with."""
        return self.title or short_title(self.request)

    @property
    def image_steps(self) -> int:
        return sum(1 for s in self.steps if s.prompt is not None)


def _refuse_unknown(data: Mapping[str, Any], known: set[str], what: str) -> None:
    if not isinstance(data, Mapping):
        raise PlanError(f"A {what} must be an object, not {type(data).__name__}.")
    unknown = sorted(set(data) - known)
    if unknown:
        raise PlanError(f"Unknown key {unknown[0]!r} in a {what}; known keys are {sorted(known)}.")


def checked(plan: Plan, *, max_steps: int = MAX_STEPS_LIMIT, t_max: int = 1, first_number: int = 1) -> Plan:
    """A plan that can be executed: cleaned, bounded, numbered from `first_number` without gaps.

    Task B continues a sequence, so its numbers start after the user's last picture.

    Raises:
        PlanError: no step, more than `max_steps`, steps x t_max over `MAX_ATTEMPTS`, or a step with
            neither prompt nor text.
    """
    if not plan.steps:
        raise PlanError("The plan has no steps. Ask for at least one, or edit the plan.")
    if len(plan.steps) > max_steps:
        raise PlanError(
            f"The plan has {len(plan.steps)} steps, max_steps is {max_steps}. Raise max_steps or ask for fewer steps."
        )
    if plan.image_steps * t_max > MAX_ATTEMPTS:
        raise PlanError(
            f"{plan.image_steps} picture steps x T_max {t_max} exceed {MAX_ATTEMPTS} generator calls. "
            "Lower t_max or split the request."
        )
    steps = []
    for offset, step in enumerate(plan.steps):
        clean = replace(
            step,
            step_number=first_number + offset,
            step_name=_bounded(step.step_name) or "",
            instruction=_bounded(_unlabelled(step.instruction)),
            prompt=_bounded(_unlabelled(step.prompt)),
            auxiliary_text=_bounded(step.auxiliary_text),
        )
        if clean.prompt is None and not clean.text:
            raise PlanError(f"Step {clean.step_number} has neither a prompt nor a text. Give it one or remove it.")
        steps.append(clean)
    return replace(
        plan,
        steps=tuple(steps),
        reasoning=plan.reasoning[: MAX_TEXT * 4],
        request=plan.request[:MAX_TEXT],
        title=" ".join(plan.title.split())[:MAX_TITLE],
        lead=plan.lead.strip()[:MAX_LEAD],
    )


def short_title(request: str) -> str:
    """The beginning of a request as a title: its first clause, cut between two words where that is long."""
    first = " ".join(_MARK.sub(" ", request).strip().partition("\n")[0].split())
    clause = _CLAUSE.match(first)
    short = (clause[0] if clause else first).rstrip(" .:;,。：；、，")
    if len(short) <= _SHORT:
        return short
    cut = short[: _SHORT + 1]
    return (cut.rpartition(" ")[0] or cut[:_SHORT]).rstrip(" .:;,。：；、，") + "…"


def _bounded(text: str | None) -> str | None:
    return text_or_none(text[:MAX_TEXT].replace("\x00", "")) if text else None


def _unlabelled(text: str | None) -> str | None:
    return _LABEL.sub("", text, count=1) if text else text


def text_or_none(value: object) -> str | None:
    """A text field: None, "None", "null" and blank all mean absent (paper digest, section 2).

    Null bytes and halves of surrogate pairs, which no file, tokenizer or terminal takes, are dropped.
    """
    if value is None:
        return None
    try:
        text = str(value)
    except (ValueError, RecursionError):  # a number of 5000 digits, a list 1000 deep
        return None
    text = text.encode("utf-8", "ignore").decode("utf-8").replace("\x00", "").strip()
    return None if text.lower() in _ABSENT else text
