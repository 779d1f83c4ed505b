"""Read a plan: out of a planner's reply, or out of what a person typed or pasted. Both have the same reader.

A plan is a list of steps under a name we know, a bare list, objects of one step each, or numbered keys (prompt1,
prompt2, ...); wrapped once in any name, or in a tool call. A typed text may be a plain list as well. Where a step has
no prompt, its prompt must be null: an absent prompt is a key that we do not know, and the plan is refused. So is a plan
whose object was not written to its end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import PlanError
from .judgments import ARGUMENT_KEYS
from .loose_json import Bare, plain_key
from .plain_list import listed
from .plan import MAX_ATTEMPTS, Plan, PlanStep, checked
from .replies import MAX_REPLY, Found, Reply, ReplyReader, read_or_repair, text_or_none

PLAN_KEYS = (
    "execution_plan", "steps", "plan", "storyboard", "scenes", "shots", "panels", "frames", "pages", "prompts",
    "image_prompts",
)  # fmt: skip
NEAR_KEYS = {
    "prompt": (
        "image_prompt", "picture_prompt", "img_prompt", "visual_prompt", "generation_prompt", "generator_prompt",
        "image_generation_prompt", "t2i_prompt", "text_to_image_prompt", "edit_prompt", "editing_prompt",
        "positive_prompt",
    ),
    "instruction": ("instructions",),
    "auxiliary_text": ("caption", "captions", "auxiliary", "aux_text", "narration", "accompanying_text", "story_text"),
    "step_name": ("name", "title"),
    "step_number": ("step", "number", "step_id", "index"),
}  # fmt: skip
"""Names that models write for ours. Closed: a name that is not here is not taken for one of ours."""
_FIELD = {near: name for name, nears in NEAR_KEYS.items() for near in (name, *nears)}
_NUMBERED_KEY = re.compile(r"([a-z_]*?)_?(\d{1,3})")
_STEP_WORDS = ("", "step", "scene", "shot", "panel", "frame", "page", "image", "picture")
_STEP_KEYS = frozenset(("prompt", *NEAR_KEYS["prompt"], "instruction", "auxiliary_text"))


@dataclass(frozen=True)
class PlanReading:
    """plan: None where there is none to be used. problem: why, for the model and the user."""

    plan: Plan | None
    problem: str = ""


def read_plan(raw: str) -> Plan | None:
    """A Planner's reply -> plan, or None where no whole plan can be read. Never raises on any text."""
    return plan_reading(raw).plan


def plan_reading(raw: str | Reply, *, cut: bool = False) -> PlanReading:
    """The plan of a reply, or what is wrong with it. cut: the reply ended at its token limit."""
    return _meaning(plan_reader().finish(raw) if isinstance(raw, str) else raw, cut)[0]


def plan_reader() -> ReplyReader:
    """A reader for planners' replies; over behind the object of the answer."""
    return ReplyReader(_is_ours, is_part=_is_step)


def _meaning(reply: Reply, cut: bool = False) -> tuple[PlanReading, bool]:
    """The plan of a reply, and whether something was there that looks like a plan or like markup."""
    raw = reply.raw
    found = tuple(f for f in reply.found if not _is_beside_words(raw, f))
    steps = [f for f in found if _is_step(f.value)]
    if found and not found[-1].whole:
        return PlanReading(None, _cut_off(found[-1])), True
    if reply.cut is not None and len(steps) == len(found):
        return PlanReading(None, _cut_off(reply.cut)), True
    if steps and cut:
        return PlanReading(None, f"its plan is not written to its end ({len(steps)} steps are whole)."), True
    if not found and reply.remains:
        found = read_or_repair(raw, PLAN_KEYS).found
    if not found:
        return PlanReading(None, reply.problem), reply.remains
    try:
        plans = [_plan(one) for one in _joined(found)]
    except PlanError as error:
        return PlanReading(None, str(error)), True
    if any(plan.steps != plans[-1].steps for plan in plans):
        return PlanReading(None, "it holds several plans that differ; write one."), True
    plan = plans[-1]
    return PlanReading(replace(plan, reasoning=reply.reasoning or plan.reasoning)), True


def _cut_off(found: Found) -> str:
    steps = _listed_steps(found.value) or []
    prompts = [text for step in steps if isinstance(step, Mapping) and (text := _shown(step))]
    what = f" What was read: {'; '.join(prompts)[:200]}." if prompts else ""
    return f"its plan is not written to its end ({len(steps)} steps are whole).{what}"


def _shown(step: Mapping[str, Any]) -> str:
    return str(next((v for k, v in step.items() if _FIELD.get(plain_key(k)) in ("prompt", "instruction")), ""))[:80]


def _joined(found: Sequence[Found]) -> list[Found]:
    """Objects of one step each are one plan; a plan in several versions stays several."""
    steps = [f for f in found if _is_step(f.value)]
    if len(steps) < 2 or len(steps) < len(found):
        return list(found)
    return [replace(found[-1], value=[f.value for f in steps], repeated=any(f.repeated for f in steps))]


def _is_ours(value: Any) -> bool:
    return _inner(value) is not None


def _inner(value: Any, depth: int = 0) -> Any:
    """What holds the steps: the value itself, a tool call's arguments, or what lies one level below any name."""
    if _listed_steps(value) is not None:
        return value
    if not isinstance(value, dict) or not value:
        return None
    for key, called in value.items():
        if plain_key(key) in ARGUMENT_KEYS and depth < 3:
            if isinstance(called, str) and called.lstrip()[:1] in {"{", "["}:
                inside = ReplyReader(lambda v: True).finish(called).found
                called = inside[0].value if len(inside) == 1 else None
            inner = _inner(called, depth + 1)
            if inner is not None:
                return inner
    below = [v for v in value.values() if _listed_steps(v) is not None and (isinstance(v, dict) or _of_objects(v))]
    return below[0] if len(below) == 1 else None


def _of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(_is_step(v) for v in value)


def _is_step(value: Any) -> bool:
    """Whether a value is one step, and not a plan of several."""
    return isinstance(value, dict) and any(plain_key(k) in _STEP_KEYS for k in value) and _listed_steps(value) is None


def _is_beside_words(raw: str, found: Found) -> bool:
    """A list of texts in the midst of a line: brackets of somebody's prompt, such as ["wide shot"] a cat."""
    if not (isinstance(found.value, list) and all(isinstance(v, str) for v in found.value)):
        return False
    rest = raw[found.ends_at : found.ends_at + 200].split("\n")[0].strip(" \t`.,;")
    return bool(rest) and not rest.startswith("<")


def _listed_steps(value: Any) -> list[Any] | None:
    """The steps of a list, of a known name, or of numbered keys; None where the value is no plan."""
    if isinstance(value, list):
        fits = value and all(isinstance(v, str) and not isinstance(v, Bare) for v in value)
        return value if fits or (value and all(_is_step(v) for v in value)) else None
    if not isinstance(value, dict):
        return None
    for key in value:
        if plain_key(key) in PLAN_KEYS and isinstance(value[key], (list, dict)):
            listed = value[key]
            return listed if isinstance(listed, list) else _listed_steps(listed)
    return _numbered_keys(value)


def _numbered_keys(value: Mapping[str, Any]) -> list[Any] | None:
    """{"prompt1": ..., "caption1": ..., "prompt2": ...} or {"step 1": {...}, ...}, where the numbers run on from 1."""
    steps: dict[int, Any] = {}
    for key, content in value.items():
        found = _NUMBERED_KEY.fullmatch(plain_key(key))
        if found is None:
            continue
        name, number = found.group(1).strip("_"), int(found.group(2))
        if name in _STEP_WORDS and isinstance(content, (dict, str)) and number not in steps:
            steps[number] = content
        elif name in _FIELD and isinstance(steps.setdefault(number, {}), dict):
            steps[number][name] = content
        else:
            return None
    return [steps[n] for n in sorted(steps)] if steps and sorted(steps) == list(range(1, len(steps) + 1)) else None


def _plan(found: Found) -> Plan:
    """Raises PlanError: a step is no step, or its prompt is absent."""
    if found.repeated:
        raise PlanError("A key of the plan comes twice with different values. Write each step as an object of its own.")
    value = found.value if _is_step(found.value) else _inner(found.value)
    entries = [value] if _is_step(value) else _listed_steps(value)
    if not entries:
        raise PlanError("The plan has no steps.")
    steps: list[PlanStep] = []
    for place, entry in enumerate(entries, 1):
        step = _step(entry, place, steps[-1].step_number + 1 if steps else 0)
        steps.append(step)
    holder = value if isinstance(value, dict) else {}
    return Plan(tuple(steps), text_or_none(holder.get("reasoning")) or "", text_or_none(holder.get("request")) or "")


def _step(entry: Any, place: int, number: int) -> PlanStep:
    if isinstance(entry, str) and not isinstance(entry, Bare):
        entry = {"instruction": entry, "prompt": entry}
    if not isinstance(entry, Mapping):
        raise PlanError(f'Step {place} is no object. Write it as {{"instruction": ..., "prompt": ...}}.')
    fields: dict[str, Any] = {}
    for key, value in entry.items():
        name = _FIELD.get(plain_key(key))
        if name is not None and (name not in fields or plain_key(key) == name):
            fields[name] = value
    if "prompt" not in fields:
        keys = ", ".join(sorted(map(str, entry)))[:120] or "no keys"
        raise PlanError(
            f'Step {place} has no prompt (it has {keys}). Write "prompt", or "prompt": null for a step of text only.'
        )
    step = PlanStep(
        number or _first_number(fields),
        _text(fields.get("step_name"), place) or "",
        _text(fields.get("instruction"), place),
        _text(fields["prompt"], place),
        _text(fields.get("auxiliary_text"), place),
    )
    if any(
        text and re.search(r"[\"']step_number[\"']", text)
        for text in (step.step_name, step.instruction, step.prompt, step.auxiliary_text)
    ):
        raise PlanError(f"A text of step {place} holds the steps behind it: a quotation mark is missing or too many.")
    return step


def _text(value: Any, place: int) -> str | None:
    """A text field; an object or a list becomes its JSON text, as prompts of some generators are written."""
    if isinstance(value, Bare):
        raise PlanError(f"A text of step {place} has no quotation marks: {str(value)[:40]!r}.")
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return text_or_none(value)


def _first_number(fields: Mapping[str, Any]) -> int:
    """Where the numbers of a plan start: a plan that continues somebody's pictures says so (Task B)."""
    number = fields.get("step_number")
    return number if type(number) is int and 1 <= number <= MAX_ATTEMPTS else 1


# -- typed texts


def plan_as_typed(text: str, max_steps: int, check: Callable[[], None] | None = None) -> Plan:
    """`plan_from_text`, checked; its own first number is kept (Task B continues after the user's pictures).

    Raises:
        PlanError: no plan can be read, or it cannot be executed.
    """
    plan = plan_from_text(text, check)
    first = plan.steps[0].step_number if plan.steps else 1
    return checked(plan, max_steps=max_steps, first_number=max(1, first))


def plan_from_text(text: str, check: Callable[[], None] | None = None) -> Plan:
    """A plan somebody else wrote: JSON as from the Planner, or a plain list with one prompt a line.

    check: called now and then while a long text is read; raises to interrupt.

    Raises:
        PlanError: the text is empty or too long, or holds JSON or markup that is no plan.
    """
    text = text.lstrip("\ufeff")
    if not text.strip():
        raise PlanError("The plan text is empty. Write one step a line, or paste a plan as JSON.")
    if len(text) > MAX_REPLY:
        raise PlanError(f"The plan text has {len(text)} characters; {MAX_REPLY} are read.")
    reply = plan_reader().finish(text, check)
    reading, remains = _meaning(reply)
    if reading.plan is not None:
        return reading.plan
    if remains:
        raise PlanError(
            f"The plan text looks like JSON but no steps can be read from it: {reading.problem} "
            'Expected {"execution_plan": [{"instruction": "...", "prompt": "..."}]}.'
        )
    if reply.thinking:
        raise PlanError("The plan text ends inside a thought (<think>). Paste the part behind it.")
    return listed(reply.prose)
