"""The plan: what a Planner writes before any picture exists (paper, section 3.2).

Wire format: {"execution_plan": [{step_number, step_name, instruction, prompt, auxiliary_text}, ...]}.
A step whose `prompt` is None makes no picture (Task A): it only contributes its text.
Knows nothing of agents, pictures or how a plan is executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .errors import PlanError
from .replies import read_reply, text_or_none

MAX_STEPS = 100
MAX_ATTEMPTS = 300
"""Bound on steps x T_max of one run: deeper loops would meet ComfyUI's own recursion limits."""
MAX_TEXT = 8_000
"""Characters kept of any one text field of a plan."""

# Marks of a list: "3.", "3)", "3:", "3 -", "Step 3:", "**3.**"; but "3-legged", "2.5 m" and "16:9" are words.
_NUMBERED = re.compile(
    r"^\s*(?:[-*•]\s*)?(?:\*\*)?(?:step\s*)?\d{1,3}(?:\*\*)?\s*(?:[.):](?!\d)|[-–—](?=\s))\s*(?:\*\*)?\s*", re.I
)
_LABEL = re.compile(r"^\s*(?:\*\*)?step\s*\d{1,3}(?:\*\*)?\s*[:.)\-–—](?!\d)\s*(?:\*\*)?\s*", re.I)
_BULLET = re.compile(r"^\s*[-*•]\s+")
_FENCE = re.compile(r"^```\w*\s*")


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
    """Steps in order, the planner's reasoning, and the request that it answers where that is known."""

    steps: tuple[PlanStep, ...]
    reasoning: str = ""
    request: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "execution_plan": [s.to_dict() for s in self.steps],
            "reasoning": self.reasoning,
            "request": self.request,
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Plan:
        _refuse_unknown(data, {"execution_plan", "reasoning", "request"}, "plan")
        steps = data.get("execution_plan")
        if not isinstance(steps, Sequence) or isinstance(steps, str):
            raise PlanError("The plan has no list 'execution_plan'.")
        return Plan(
            tuple(PlanStep.from_dict(s) for s in steps),
            str(data.get("reasoning") or ""),
            str(data.get("request") or ""),
        )

    @property
    def image_steps(self) -> int:
        return sum(1 for s in self.steps if s.prompt is not None)


def _refuse_unknown(data: Mapping[str, Any], known: set[str], what: str) -> None:
    if not isinstance(data, Mapping):
        raise PlanError(f"A {what} must be an object, not {type(data).__name__}.")
    unknown = sorted(set(data) - known)
    if unknown:
        raise PlanError(f"Unknown key {unknown[0]!r} in a {what}; known keys are {sorted(known)}.")


def checked(plan: Plan, *, max_steps: int = MAX_STEPS, t_max: int = 1, first_number: int = 1) -> Plan:
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
    return Plan(tuple(steps), plan.reasoning[: MAX_TEXT * 4], plan.request[:MAX_TEXT])


def _bounded(text: str | None) -> str | None:
    return text_or_none(text[:MAX_TEXT].replace("\x00", "")) if text else None


def _unlabelled(text: str | None) -> str | None:
    return _LABEL.sub("", text, count=1) if text else text


def read_plan(raw: str) -> Plan | None:
    """A Planner's reply -> plan, or None where no steps can be read. Never raises on any text.

    Unknown keys and odd types of a model's reply are dropped or turned to text: strictness is for
    files (`Plan.from_dict`), tolerance for models.
    """
    reply = read_reply(raw)
    if reply.answer is None:
        return None
    listed = reply.answer.get("execution_plan", reply.answer.get("steps", reply.answer.get("plan")))
    if not isinstance(listed, list):
        return None
    steps: list[PlanStep] = []
    for entry in listed:
        if isinstance(entry, str):
            entry = {"instruction": entry, "prompt": entry}
        if not isinstance(entry, Mapping):
            return None
        step = PlanStep(
            steps[-1].step_number + 1 if steps else _first_number(entry),
            text_or_none(entry.get("step_name")) or "",
            text_or_none(entry.get("instruction")),
            text_or_none(entry.get("prompt")),
            text_or_none(entry.get("auxiliary_text")),
        )
        if _swallowed(step):
            return None
        steps.append(step)
    if not steps:
        return None
    reasoning = reply.reasoning or text_or_none(reply.answer.get("reasoning")) or ""
    return Plan(tuple(steps), reasoning, text_or_none(reply.answer.get("request")) or "")


def _first_number(entry: Mapping[str, Any]) -> int:
    """Where the numbers of a plan start: a plan that continues somebody's pictures says so (Task B)."""
    number = entry.get("step_number")
    return number if type(number) is int and 1 <= number <= MAX_ATTEMPTS else 1


def _swallowed(step: PlanStep) -> bool:
    """A repaired text that ate the following steps (a known failure of lenient JSON readers)."""
    texts = (step.step_name, step.instruction, step.prompt, step.auxiliary_text)
    return any(text and re.search(r"[\"']step_number[\"']", text) for text in texts)


def plan_from_text(text: str) -> Plan:
    """A plan somebody else wrote: JSON in the paper's form, or a plain list with one prompt a line.

    Raises:
        PlanError: the text is empty, or looks like JSON but holds no plan.
    """
    stripped = text.strip()
    if not stripped:
        raise PlanError("The plan text is empty. Write one step a line, or paste a plan as JSON.")
    body = _FENCE.sub("", stripped).removesuffix("```").rstrip()
    if re.match(r"[\[{]\s*[\"'{]", body) or ("{" in body and ("execution_plan" in body or body.startswith("<"))):
        plan = read_plan(f'{{"execution_plan": {body}}}' if body.startswith("[") else body)
        if plan is None:
            raise PlanError(
                "The plan text looks like JSON but no steps can be read from it. "
                'Expected {"execution_plan": [{"instruction": "...", "prompt": "..."}]}.'
            )
        return plan
    return _listed(stripped)


def plan_as_typed(text: str, max_steps: int) -> Plan:
    """`plan_from_text`, checked; its own first number is kept (Task B continues after the user's pictures).

    Raises:
        PlanError: no plan can be read, or it cannot be executed.
    """
    plan = plan_from_text(text)
    first = plan.steps[0].step_number if plan.steps else 1
    return checked(plan, max_steps=max_steps, first_number=max(1, first))


def _listed(text: str) -> Plan:
    """Numbered lines start a step, or else bulleted ones; other lines continue it, and lines before the
    first are an introduction. Without marks each line is a step.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    mark = next((m for m in (_NUMBERED, _BULLET) if any(m.match(line) for line in lines)), None)
    introduction: list[str] = []
    prompts: list[str] = []
    for line in lines:
        start = mark.match(line) if mark else None
        if start or not mark:
            prompts.append(line[start.end() :] if start else line)
        elif prompts:
            prompts[-1] += " " + _BULLET.sub("", line)
        else:
            introduction.append(line)
    steps = [PlanStep(i, instruction=p, prompt=p) for i, p in enumerate((p for p in prompts if p), 1)]
    return Plan(tuple(steps), " ".join(introduction))
