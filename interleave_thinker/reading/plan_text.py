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

from ..contract import MAX_ATTEMPTS
from ..errors import PlanError
from ..loop.plan import Plan, PlanStep, checked, text_or_none
from .judgments import CALL_KEYS, as_object
from .loose_json import Bare, plain_key
from .plain_list import listed
from .replies import MAX_REPLY, Found, Reply, ReplyReader, read_or_repair, unescaped

PLAN_KEYS = (
    "execution_plan", "steps", "plan", "storyboard", "scenes", "shots", "panels", "frames", "pages", "prompts",
    "image_prompts",
)  # fmt: skip
NEAR_KEYS = {
    "prompt": (
        "image_prompt", "picture_prompt", "img_prompt", "visual_prompt", "generation_prompt", "generator_prompt",
        "image_generation_prompt", "t2i_prompt", "text_to_image_prompt", "edit_prompt", "editing_prompt",
        "positive_prompt", "prompt_text", "text_prompt", "detailed_prompt", "final_prompt", "prompt_en",
        "full_prompt", "english_prompt", "sd_prompt", "image_description", "visual_description", "scene_description",
        "提示词", "画面描述",
    ),
    "instruction": ("instructions",),
    "auxiliary_text": ("caption", "captions", "auxiliary", "aux_text", "narration", "accompanying_text", "story_text"),
    "step_name": ("name", "title"),
    "step_number": ("step", "number", "step_id", "index"),
}  # fmt: skip
"""Names that models write for ours. Closed: a name that is not here is not taken for one of ours."""
_FIELD = {near: name for name, nears in NEAR_KEYS.items() for near in (name, *nears)}
MOST_OBJECTS = 2_000
_OWN_KEY = re.compile(
    r"[\"“”'](?:" + "|".join(k.replace("_", r"[ _]?") for k in _FIELD if len(k) > 5) + r")[\"“”']\s*[:：]", re.I
)
"""In a text of a step: what follows it. A quotation mark is missing or too many."""
_NO_IMAGE = {
    "-",
    "–",
    "—",
    "none",
    "null",
    "n/a",
    "na",
    "nil",
    "no image",
    "no picture",
    "text only",
    "无",
    "無",
    "なし",
    "없음",
}
_FORM = re.compile(r"\.{2,}|…+|<[^<>]*\b(?:prompt|description|image|text|here)\b[^<>]*>", re.I)
_JSON_BEGUN = re.compile(r"\s*(?:\{\s*(?:[\"“'`]|\Z)|\[\s*(?:\{|\Z))|[^\n]*(?:\{\s*\\[\"']|\{\s*&quot;)")
_JSON_FENCE = re.compile(r"^[ \t]{0,20}```[ \t]{0,9}json", re.I | re.M)
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
    plain = unescaped(reply)
    if plain is not None:
        reply = plan_reader().finish(plain)
    raw = reply.raw
    if len(reply.found) > MOST_OBJECTS:
        return PlanReading(None, f"it holds {len(reply.found)} objects; a plan has 100 steps at most."), True
    found = tuple(f for f in reply.found if not _is_beside_words(raw, f))
    if any(not _is_texts(f.value) for f in found):
        found = tuple(f for f in found if not _is_texts(f.value))
    steps = [f for f in found if _is_step(f.value)]
    if found and not found[-1].whole:
        return PlanReading(None, _cut_off(found[-1])), True
    if reply.cut is not None and not reply.tagged:
        return PlanReading(None, _cut_off(reply.cut)), True
    if steps and cut:
        return PlanReading(None, f"its plan is not written to its end ({len(steps)} steps are whole)."), True
    if not found and reply.remains:
        found = read_or_repair(raw, PLAN_KEYS).found
    if not found:
        return PlanReading(None, reply.problem), reply.remains
    plans: list[Plan] = []
    problem = ""
    for one in _joined(found):
        try:
            plans.append(_plan(one))
            problem = ""
        except PlanError as error:
            problem = str(error)
    if problem:
        return PlanReading(None, problem), True
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
    if isinstance(value, list) and len(value) == 1 and depth < 3:
        return _inner(value[0], depth + 1)
    if not isinstance(value, dict) or not value:
        return None
    for key, called in value.items():
        if plain_key(key) in CALL_KEYS and depth < 3:
            inner = _inner(as_object(called), depth + 1)
            if inner is not None:
                return inner
    below = [
        v
        for v in map(as_object, value.values())
        if _listed_steps(v) is not None and (isinstance(v, dict) or _of_objects(v))
    ]
    return below[0] if len(below) == 1 else None


def _of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(_is_step(v) for v in value)


def _is_step(value: Any) -> bool:
    """Whether a value is one step, and not a plan of several."""
    return isinstance(value, dict) and any(plain_key(k) in _STEP_KEYS for k in value) and _listed_steps(value) is None


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _is_beside_words(raw: str, found: Found) -> bool:
    """A list of texts in the midst of a line: brackets of somebody's prompt, such as ["wide shot"] a cat."""
    if not _is_texts(found.value):
        return False
    before = raw[max(0, found.starts_at - 200) : found.starts_at].rpartition("\n")[2].strip(" \t`")
    behind = raw[found.ends_at : found.ends_at + 200].partition("\n")[0].strip(" \t`.,;")
    return (bool(before) and not before.endswith(">")) or (bool(behind) and not behind.startswith("<"))


def _listed_steps(value: Any) -> list[Any] | None:
    """The steps of a list, of a known name, or of numbered keys; None where the value is no plan."""
    if isinstance(value, list):
        fits = value and all(isinstance(v, str) and not isinstance(v, Bare) for v in value)
        return value if fits or (value and all(_is_step(v) for v in value)) else None
    if not isinstance(value, dict):
        return None
    listed = [as_object(v) for k, v in value.items() if plain_key(k) in PLAN_KEYS]
    lists = [v for v in listed if isinstance(v, (list, dict)) and v]
    lists = [v for v in lists if not _is_texts(v)] or lists
    if len(lists) > 1:
        return ["", *lists]  # which of them is the plan?
    if lists:
        return lists[0] if isinstance(lists[0], list) else _listed_steps(lists[0])
    if any(plain_key(k) in PLAN_KEYS and v == [] for k, v in value.items()):
        return []
    return _numbered_keys(value)


def _numbered_keys(value: Mapping[str, Any]) -> list[Any] | None:
    """{"prompt1": ..., "caption1": ..., "prompt2": ...} or {"step 1": {...}, ...}, where the numbers run on from 1."""
    steps: dict[int, Any] = {}
    if any(_FIELD.get(plain_key(key)) == "prompt" for key in value):
        return None  # a step, whatever else is numbered in it
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
    if isinstance(value, dict) and not _is_step(value) and any(_FIELD.get(plain_key(k)) == "prompt" for k in value):
        raise PlanError("It holds steps inside of a step. Write a list of steps.")
    if entries[0] == "":
        raise PlanError("It holds several lists of steps; write one.")
    if found.repaired and len(entries) != len(re.findall(r"[\"']\s*(?:\w+_)?prompt\s*[\"']\s*:", str(found.text))):
        raise PlanError("Its JSON is broken. Write it again.")
    steps: list[PlanStep] = []
    for place, entry in enumerate(entries, 1):
        step = _step(entry, place, steps[-1].step_number + 1 if steps else 0)
        steps.append(step)
    holder = value if isinstance(value, dict) else {}
    texts = {name: text_or_none(holder.get(name)) or "" for name in ("reasoning", "request")}
    return Plan(tuple(steps), **texts, title=_shown_above(holder, "title"), lead=_shown_above(holder, "lead"))


def _shown_above(holder: Mapping[str, Any], name: str) -> str:
    """Title or lead; "" where it is no text, or the form that the prompt text shows was copied."""
    value = holder.get(name)
    text = text_or_none(value) if isinstance(value, str) else None
    return text if text and not _FORM.fullmatch(text) else ""


def _step(entry: Any, place: int, number: int) -> PlanStep:
    if isinstance(entry, str) and not isinstance(entry, Bare):
        entry = {"instruction": entry, "prompt": entry}
    if not isinstance(entry, Mapping):
        raise PlanError(f'Step {place} is no object. Write it as {{"instruction": ..., "prompt": ...}}.')
    fields: dict[str, Any] = {}
    for key, value in entry.items():
        name = _FIELD.get(plain_key(key))
        inner = value if isinstance(value, list) else [value]
        if (name is None and any(_is_step(v) for v in inner)) or re.fullmatch(
            r"(?:\w+_)?prompt_?[2-9]", plain_key(key)
        ):
            raise PlanError(f"Step {place} holds more steps under {key!r}. Write each step as an object of its own.")
        if name is not None and (name not in fields or plain_key(key) == name):
            fields[name] = value
    if "prompt" not in fields:
        keys = ", ".join(sorted(map(str, entry)))[:120] or "no keys"
        raise PlanError(
            f'Step {place} has no prompt (it has {keys}). Write "prompt", or "prompt": null for a step of text only.'
        )
    return PlanStep(
        number or _first_number(fields),
        _text(fields.get("step_name"), place) or "",
        _text(fields.get("instruction"), place),
        _prompt(fields["prompt"], place),
        _text(fields.get("auxiliary_text"), place),
    )


def _prompt(value: Any, place: int) -> str | None:
    if (
        isinstance(value, bool)
        or value in ([], {})
        or (isinstance(value, list) and len(value) > 1 and _is_texts(value))
    ):
        raise PlanError(f"The prompt of step {place} is {json.dumps(value)[:60]}. Write one text, or null.")
    text = _text(value, place)
    if text is not None and _FORM.fullmatch(text):
        raise PlanError(f"The prompt of step {place} is {text[:40]!r}: the form was copied, not filled in.")
    if text is not None and text.strip(" .()[]").lower() in _NO_IMAGE:
        raise PlanError(f"The prompt of step {place} is {text[:40]!r}. Write null for a step of text only.")
    return text


def _text(value: Any, place: int) -> str | None:
    """A text field; an object or a list becomes its JSON text, as prompts of some generators are written."""
    if isinstance(value, Bare):
        raise PlanError(f"A text of step {place} has no quotation marks: {str(value)[:40]!r}.")
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    text = text_or_none(value)
    if text and _OWN_KEY.search(text):
        raise PlanError(f"A text of step {place} holds what follows it: a quotation mark is missing or too many.")
    return text


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
    if remains or _JSON_BEGUN.match(reply.prose) or _JSON_FENCE.search(reply.prose):
        raise PlanError(
            f"The plan text looks like JSON but no steps can be read from it: {reading.problem} "
            'Expected {"execution_plan": [{"instruction": "...", "prompt": "..."}]}.'
        )
    if reply.thinking:
        raise PlanError("The plan text ends inside a thought (<think>). Paste the part behind it.")
    return listed(reply.prose)
