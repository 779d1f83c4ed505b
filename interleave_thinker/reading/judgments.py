"""Read a judgment out of a critic's reply: the verdict, and the refined prompt of a rejection.

The rules are those of `replies`, and these:

- Only a key at the top level of its object is a verdict; an object may lie in a tool call, or one level below any name.
- A verdict is a truth value or a whole word, never a form such as `true or false`. The first one of an object counts.
- A reply with two opposite verdicts has no verdict. A quoted acceptance does not count.
- A rejection whose refined prompt was written but cannot be read for certain is asked again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..loop.plan import text_or_none
from ..loop.trajectory import Judgment
from .loose_json import Bare, plain_key
from .replies import Found, Reply, ReplyReader, unescaped

EXACT_KEY = "previous_step_success"
VERDICT_KEYS = (EXACT_KEY, "success", "accepted", "judgment", "verdict")
PROMPT_KEYS = (
    "refine_prompt", "refined_prompt", "rewritten_prompt", "rewrite_prompt", "refineprompt", "new_prompt",
    "improved_prompt", "revised_prompt", "updated_prompt", "corrected_prompt", "suggested_prompt", "next_prompt",
    "better_prompt", "optimized_prompt", "prompt_refined", "refinement", "refined", "refine",
)  # fmt: skip
CALL_KEYS = (
    "arguments", "parameters", "input", "args", "function", "function_call", "tool_call", "tool_calls", "action_input",
)  # fmt: skip
"""Where a tool call keeps what it was called with."""
_STATUS_KEYS = {"message", "data", "result", "results", "status", "code", "error", "errors", "output"}
"""Beside `success`, they make an object the report of a tool and not a judgment."""
_YES, _NO = (
    {"true", "yes", "1", "accept", "accepted", "pass", "passed"},
    {"false", "no", "0", "reject", "rejected", "fail", "failed"},
)
_PLACEHOLDER = re.compile(
    r"[\s.…_-]*|[<\[{][^<>\[\]{}]*\b(?:prompt|your|insert|refined|here|description|new text)\b[^<>\[\]{}]*[>\]}]", re.I
)
"""What stands in a form where a prompt belongs: dots, or a remark in brackets."""
_PROMPT_WORDS = re.compile(r"(?:refined?|rewritten|improved|revised|new)[ _\\]{0,2}prompt\W{0,6}[:=：]", re.I)
_SWALLOWED = re.compile(
    r"[\"”“][^\n\"]{0,20}[\"“”'][\w ]{1,40}[\"”“']\s*[:：=]|[\"”]\s*(?:\+|//|#\s|/\*|;|<br)|[\"”]\s*\n\s*[\"“]"
)
"""In a prompt: what follows it in its object. The quotation mark that ends it was not known for one."""
_CLOSING_LATER = re.compile(r"\s*[\"”']|[^{\n]*[\"”']\s*[}｝]")
_MARKS = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "「": "」", "『": "』"}
MAX_PROMPT = 4_000
"""Characters of a refined prompt that are passed to the generator."""
MOST_OBJECTS = 100
"""Objects with our keys in one reply; a reply with more is no answer."""
LOOKED_AT = 4_000
"""Characters behind an object in which a prompt is looked for that is not in it."""

PROMPT_KEPT = "The refined prompt could not be read, so the prompt stays."


@dataclass(frozen=True)
class Verdict:
    """accepted None: no verdict. prompt None: absent or unreadable; `prompt_lost`: it was there and is unreadable.

    form: no verdict because the form was copied or an acceptance quoted.
    """

    accepted: bool | None
    prompt: str | None = None
    prompt_lost: bool = False
    form: bool = False


def read_judgment(raw: str) -> Judgment:
    """A critic's reply -> judgment. Never raises; what cannot be read has `parsed=False` and says why in `note`."""
    return judgment_reading(raw)[0]


def judgment_reading(raw: str | Reply, *, cut: bool = False) -> tuple[Judgment, bool]:
    """The judgment of a reply, and whether it is a rejection for certain (also where `parsed` is False).

    cut: the reply ended at its token limit; then an untagged object counts only where nothing follows it.
    """
    reply = judgment_reader().finish(raw) if isinstance(raw, str) else raw
    raw = reply.raw
    plain = unescaped(reply)
    if plain is not None:
        reply = judgment_reader().finish(plain)
    verdict, problem = _decided(reply, cut)
    if verdict is None:
        return Judgment(False, "", reply.reasoning, parsed=False, raw=raw, note=problem), False
    rejected = verdict.accepted is False
    if rejected and verdict.prompt_lost:
        problem = "its verdict was read, but its refined prompt was no whole text."
        return Judgment(False, "", reply.reasoning, parsed=False, raw=raw, note=problem), True
    prompt = (verdict.prompt or "")[:MAX_PROMPT]
    return Judgment(not rejected, prompt, reply.reasoning, raw=raw), rejected


def judgment_reader(*, until_accepted: bool = False) -> ReplyReader:
    """A reader for critics' replies. until_accepted: it is over as soon as an acceptance is certain."""
    if not until_accepted:
        return ReplyReader(_is_ours)
    return ReplyReader(_is_ours, watched=frozenset(VERDICT_KEYS), decides=lambda value: _top_verdict(value) is True)


def _decided(reply: Reply, cut: bool) -> tuple[Verdict | None, str]:
    """The verdict, or why there is none."""
    if len(reply.found) > MOST_OBJECTS:
        return None, f"it holds {len(reply.found)} objects."
    read = [(f, _verdict(reply, f)) for f in reply.found if reply.tagged or not _is_before_final(reply.raw, f)]
    if not reply.tagged and (reply.cut is not None or (cut and read and _goes_on(reply, read[-1][0]))):
        return None, "it was cut off before its end."
    verdicts = [v for _, v in read if v.accepted is not None]
    if not verdicts:
        return None, reply.problem or "its verdict is neither true nor false."
    if len({v.accepted for v in verdicts}) > 1:
        return None, "it holds two verdicts that say opposite things."
    last = read[-1][1]
    if last.accepted is None and (last.form or not (last.prompt or last.prompt_lost)):
        return None, "its last verdict is neither true nor false."
    verdict = verdicts[-1]
    if verdict.accepted and not reply.tagged and _ends_in_a_sentence(reply.raw[read[-1][0].ends_at :]):
        return None, "it ends in the midst of a sentence, before its verdict was sure."
    if verdict.prompt is None and not verdict.form:  # the prompt stands in another object of the reply
        other = next((v.prompt for _, v in reversed(read) if v.prompt), None)
        verdict = replace(verdict, prompt=other, prompt_lost=False) if other else verdict
    if (
        not reply.tagged
        and verdict.prompt is None
        and _PROMPT_WORDS.search(reply.raw, read[-1][0].ends_at, read[-1][0].ends_at + LOOKED_AT)
    ):
        verdict = replace(verdict, prompt_lost=True)
    return verdict, ""


def _ends_in_a_sentence(rest: str) -> bool:
    """Whether a reply was cut off in the words behind an object, which then was only spoken of."""
    end = rest[-LOOKED_AT:].rstrip()
    return len(end.split()) > 2 and end[-1].isalnum()


def _goes_on(reply: Reply, found: Found) -> bool:
    return bool(re.sub(r"[\s`]|</?\w+>", "", reply.raw[found.ends_at : found.ends_at + LOOKED_AT]))


def _is_ours(value: Any) -> bool:
    return bool(_judgments_in(value)) or (isinstance(value, dict) and any(_is_prompt_key(k) for k in value))


def _verdict(reply: Reply, found: Found) -> Verdict:
    """What one object says, by itself and by where it stands."""
    value = found.value
    own = isinstance(value, dict) and any(_is_verdict(k, v) for k, v in value.items())
    if found.broken and isinstance(value, dict):
        value = dict(list(value.items())[: found.sure])
        own = any(_is_verdict(k, v) for k, v in value.items())
    if not found.whole:
        verdict = _at_top(value) if own else Verdict(None)
        if verdict.accepted is False and verdict.prompt is None:
            lost = found.broken or (found.open_key is not None and _is_prompt_key(found.open_key))
            verdict = replace(verdict, prompt_lost=verdict.prompt_lost or lost)
        return verdict if found.exact or verdict.prompt is None else replace(verdict, prompt=None, prompt_lost=True)
    verdict = _of_whole(value, tagged=reply.tagged)
    if not reply.tagged and verdict.accepted and (found.repeated or found.within or _is_only_quoted(reply.raw, found)):
        return Verdict(None, form=True)
    if not reply.tagged and verdict.form:
        return Verdict(None, form=True)
    if verdict.prompt is not None and not found.exact:
        rest = reply.raw[found.ends_at : found.ends_at + LOOKED_AT].split("</answer>")[0]
        bare = isinstance(value, dict) and any(isinstance(v, Bare) for k, v in value.items() if not _is_prompt_key(k))
        odd = verdict.prompt.count('"') % 2 == 1  # one of them was taken for the end, or for none
        if bare or odd or _CLOSING_LATER.match(rest) or _SWALLOWED.search(verdict.prompt):
            return replace(verdict, prompt=None, prompt_lost=True)
    elif verdict.prompt is not None and re.match(r"\s{0,9}[\"”]", reply.raw[found.ends_at : found.ends_at + 10]):
        return replace(verdict, prompt=None, prompt_lost=True)
    return verdict


def _of_whole(value: Any, *, tagged: bool) -> Verdict:
    """The verdict of a whole object: its own, that of a tool call's arguments, or one below another name."""
    inside = _judgments_in(value)
    if not inside:
        return _at_top(value) if isinstance(value, dict) else Verdict(None)
    own = inside[0] is value
    if tagged and own:
        return _with_prompt(_at_top(value), value)
    said = {_top_verdict(v) for v in inside if not own or v is value or _is_judgment(v, exact=True)}
    if own:
        said |= {_truth(v) for k, v in value.items() if _is_verdict(k, v) and _truth(v) is not None}
        if _is_report(value):
            return Verdict(None, form=True)
    if len(said) != 1:
        return Verdict(None)
    verdict = _at_top(inside[0])
    if not own and isinstance(value, dict) and any(_is_prompt_key(k) for k in value):
        outer = _at_top(value)
        if verdict.prompt is not None and outer.prompt is not None:
            return Verdict(None)  # which of them is the draft?
        verdict = replace(
            verdict, prompt=verdict.prompt or outer.prompt, prompt_lost=verdict.prompt_lost or outer.prompt_lost
        )
    return _with_prompt(verdict, value)


def _with_prompt(verdict: Verdict, value: Any) -> Verdict:
    """A rejection's prompt may stand one level below another name than its verdict."""
    if verdict.accepted is not False or verdict.prompt is not None or not isinstance(value, dict):
        return verdict
    below = [_at_top(v) for v in value.values() if isinstance(v, dict) and any(_is_prompt_key(k) for k in v)]
    prompts = {v.prompt for v in below if v.prompt}
    if len(prompts) == 1 and not verdict.prompt_lost:
        return replace(verdict, prompt=prompts.pop())
    return replace(
        verdict, prompt_lost=verdict.prompt_lost or bool(below and (prompts or any(v.prompt_lost for v in below)))
    )


def _judgments_in(value: Any, depth: int = 0) -> list[dict[str, Any]]:
    """Objects that are judgments: the value itself, first; those of a tool call; those one level below any name."""
    if isinstance(value, list):
        inside = _judgments_in(value[0], depth + 1) if len(value) == 1 and depth < 4 else []
        return [v for v in inside if _is_judgment(v)]  # a list of checks is no judgment
    if not isinstance(value, dict):
        return []
    own = [value] if any(_is_verdict(k, v) for k, v in value.items()) else []
    found: list[dict[str, Any]] = []
    for key, below in value.items():
        if plain_key(key) in CALL_KEYS and depth < 4:
            found += _judgments_in(as_object(below), depth + 1)
        elif depth < 4:
            below = as_object(below)
            below = below[0] if isinstance(below, list) and len(below) == 1 else below
            found += [below] if isinstance(below, dict) and _is_judgment(below, exact=bool(own)) else []
    return [*own, *found]


def _is_verdict(key: str, value: Any) -> bool:
    return plain_key(key) in VERDICT_KEYS and not isinstance(value, dict)


def _is_prompt_key(key: str) -> bool:
    return plain_key(key) in PROMPT_KEYS


def _is_judgment(value: dict[str, Any], *, exact: bool = False) -> bool:
    """Whether an object below another is a judgment, and not one of several checks."""
    keys = {plain_key(k) for k, v in value.items() if _is_verdict(k, v)}
    prompt = any(_is_prompt_key(k) for k in value)
    return EXACT_KEY in keys or (bool(keys) and prompt and not exact)


def _is_report(value: dict[str, Any]) -> bool:
    """Whether an object says that a tool worked: {"success": true, "message": "image loaded"}."""
    keys = {plain_key(k) for k in value}
    return EXACT_KEY not in keys and bool(keys & _STATUS_KEYS) and not any(_is_prompt_key(k) for k in value)


def as_object(called: Any) -> Any:
    """An object that may be written as a text."""
    if isinstance(called, str) and not isinstance(called, Bare) and called.lstrip()[:1] in {"{", "["}:
        found = ReplyReader(lambda value: True).finish(called).found
        return found[0].value if len(found) == 1 and found[0].whole else None
    return called


def _is_only_quoted(raw: str, found: Found) -> bool:
    """Whether an object stands in quotation marks in a sentence, in a remark of HTML, or in a fence of thoughts."""
    mark = raw[found.starts_at - 1] if found.starts_at else ""
    if _MARKS.get(mark, "\0") == raw[found.ends_at : found.ends_at + 1]:
        before = raw[: found.starts_at - 1].rpartition("\n")[2]
        behind = raw[found.ends_at + 1 :].partition("\n")[0]
        if re.search(r"\w", before + behind):
            return True
    fence = raw.rfind("```", 0, found.starts_at)
    if fence >= 0 and re.match(r"```\s?(?:think|thought|reason)", raw[fence : fence + 20], re.I):
        return True
    return raw.rfind("<!--", 0, found.starts_at) > raw.rfind("-->", 0, found.starts_at)


def _is_before_final(raw: str, found: Found) -> bool:
    """Whether an object stands in harmony's analysis, of which a server took the tokens away."""
    if not re.match(r"analysis[A-Z\n]", raw):
        return False
    final = raw.find("assistantfinal")
    return found.starts_at < (final if final >= 0 else len(raw))


def _top_verdict(value: dict[str, Any]) -> bool | None:
    """The first verdict at an object's top level. The exact key is one or none; a near key may hold other words."""
    for key, said in value.items():
        if _is_verdict(key, said):
            truth = _truth(said)
            if truth is not None or plain_key(key) == EXACT_KEY:
                return truth
    return None


def _at_top(value: dict[str, Any]) -> Verdict:
    """The first verdict and the first prompt at an object's top level."""
    accepted = _top_verdict(value)
    lost = form = False
    for given in _prompts(value):
        if given is None or (isinstance(given, str) and not isinstance(given, Bare) and text_or_none(given) is None):
            continue
        if isinstance(given, Bare) or not isinstance(given, str):
            lost = True
        elif _PLACEHOLDER.fullmatch(given):
            form = True
        else:
            return Verdict(accepted, text_or_none(given))
    others = [v for k, v in value.items() if not _is_prompt_key(k) and isinstance(v, str)]
    names = [plain_key(k) for k, v in value.items() if isinstance(v, str) and not _is_prompt_key(k)]
    lost = lost or any(_PROMPT_WORDS.search(v) for v in others) or any("prompt" in name for name in names)
    return Verdict(accepted, None, accepted is False and (lost or form), form)


def _prompts(value: dict[str, Any]) -> Iterator[Any]:
    return (v for k, v in value.items() if _is_prompt_key(k))


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, Bare) or not isinstance(value, (str, int)):
        return None
    word = str(value)[:20].strip().lower().rstrip(".!")
    return True if word in _YES else False if word in _NO else None
