"""Read a judgment out of a critic's reply: the verdict, and the refined prompt of a rejection.

The rules are those of `replies`, and: only a key at the top level of its object is a verdict; a verdict is a whole word
or truth value, never a form such as `true or false`; the first one of an object counts. Objects of one reply that say
opposite things are no verdict. A rejection whose refined prompt was written but cannot be read is asked again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .loose_json import Bare, plain_key
from .replies import Found, Reply, ReplyReader, text_or_none
from .trajectory import Judgment

VERDICT_KEYS = ("previous_step_success", "success", "accepted", "judgment")
PROMPT_KEYS = ("refine_prompt", "refined_prompt", "rewritten_prompt")
ARGUMENT_KEYS = ("arguments", "parameters", "input", "args", "function")
"""Where a tool call keeps what it was called with."""
_YES, _NO = {"true", "yes", "1", "accept", "accepted"}, {"false", "no", "0", "reject", "rejected"}
_PLACEHOLDER = re.compile(r"[\s.…_-]*|<[^<>]*>|\[[^\[\]]*\]")
"""What stands in a form where a prompt belongs: dots, or a remark in brackets."""
MAX_PROMPT = 4_000
"""Characters of a refined prompt that are passed to the generator."""
PROMPT_KEPT = "The refined prompt could not be read, so the prompt stays."


@dataclass(frozen=True)
class Verdict:
    """accepted None: no verdict. prompt None: absent or unreadable; `prompt_lost`: it was there and is unreadable.

    form: the prompt is a placeholder: the form was copied, not filled in.
    """

    accepted: bool | None
    prompt: str | None = None
    prompt_lost: bool = False
    form: bool = False


def read_judgment(raw: str) -> Judgment:
    """A critic's reply -> judgment. Never raises; what cannot be read has `parsed=False` and says why in `note`."""
    return reading(raw)[0]


def reading(raw: str | Reply, *, cut: bool = False) -> tuple[Judgment, bool]:
    """The judgment of a reply, and whether it is a rejection for certain (also where `parsed` is False).

    cut: the reply ended at its token limit; then an untagged object counts only where nothing follows it.
    """
    reply = judgment_reader().finish(raw) if isinstance(raw, str) else raw
    raw = reply.raw
    verdict, problem = _decided(reply, cut)
    if verdict is None:
        return Judgment(False, "", reply.reasoning, False, raw, problem), False
    rejected = verdict.accepted is False
    if rejected and verdict.prompt_lost:
        problem = "its verdict was read, but its refined prompt was no whole text."
        return Judgment(False, "", reply.reasoning, False, raw, problem), True
    prompt = (verdict.prompt or "")[:MAX_PROMPT]
    return Judgment(not rejected, prompt, reply.reasoning, True, raw), rejected


def judgment_reader(*, until_accepted: bool = False) -> ReplyReader:
    """A reader for critics' replies. until_accepted: it is over as soon as an acceptance is certain."""
    if not until_accepted:
        return ReplyReader(_is_ours)
    return ReplyReader(_is_ours, watched=frozenset(VERDICT_KEYS), decides=lambda value: _at_top(value).accepted is True)


def _decided(reply: Reply, cut: bool) -> tuple[Verdict | None, str]:
    """The verdict, or why there is none."""
    read = [(found, _verdict(found)) for found in reply.found]
    if not reply.tagged:
        read = [(f, Verdict(None, form=True) if v.form else v) for f, v in read]
    if not reply.tagged and cut and read and _goes_on(reply, read[-1][0]):
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
    if verdict.prompt is None and not verdict.prompt_lost:  # the prompt stands in an object of its own
        alone = next((v for _, v in reversed(read) if v.accepted is None and v.prompt), None)
        verdict = Verdict(verdict.accepted, alone.prompt) if alone else verdict
    return verdict, ""


def _goes_on(reply: Reply, found: Found) -> bool:
    return bool(re.sub(r"[\s`]|</?\w+>", "", reply.raw[found.ends_at :]))


def _is_ours(value: Any) -> bool:
    return _inner(value) is not None


def _verdict(found: Found) -> Verdict:
    inner = _inner(found.value)
    assert inner is not None
    open_key = found.open_key if inner is found.value else None
    verdict = _at_top(inner)
    if open_key is not None and plain_key(open_key) in PROMPT_KEYS and verdict.prompt is None:
        return Verdict(verdict.accepted, None, True)
    return verdict


def _inner(value: Any, depth: int = 0) -> dict[str, Any] | None:
    """The object that holds the judgment: itself, a tool call's arguments, or one level below any name."""
    if isinstance(value, list):
        return _inner(value[0], depth + 1) if len(value) == 1 and depth < 2 else None
    if not isinstance(value, dict):
        return None
    if any(_is_scalar_verdict(k, v) for k, v in value.items()):
        return value
    for key, called in value.items():
        if plain_key(key) in ARGUMENT_KEYS and depth < 3:
            inner = _inner(_as_object(called), depth + 1)
            if inner is not None:
                return inner
    below = [v for v in value.values() if isinstance(v, dict) and _is_judgment(v)]
    if len(below) == 1:
        return below[0]
    return value if not below and any(plain_key(k) in PROMPT_KEYS for k in value) else None


def _is_scalar_verdict(key: str, value: Any) -> bool:
    return plain_key(key) in VERDICT_KEYS and not isinstance(value, dict)


def _is_judgment(value: dict[str, Any]) -> bool:
    """Whether an object below another is the judgment, and not one of several checks."""
    keys = {plain_key(k) for k, v in value.items() if not isinstance(v, dict) or plain_key(k) in PROMPT_KEYS}
    return "previous_step_success" in keys or bool(keys & set(VERDICT_KEYS) and keys & set(PROMPT_KEYS))


def _as_object(called: Any) -> Any:
    """The arguments of a call, which may be written as a text."""
    if isinstance(called, str) and called.lstrip()[:1] in {"{", "["}:
        reply = ReplyReader(lambda value: True).finish(called)
        return reply.found[0].value if len(reply.found) == 1 else None
    return called


def _at_top(value: dict[str, Any]) -> Verdict:
    """The first verdict and the first prompt at an object's top level."""
    accepted = next((_truth(v) for k, v in value.items() if _is_scalar_verdict(k, v)), None)
    prompts = _prompts(value)
    given = next(prompts, None)
    if given is None or (isinstance(given, str) and text_or_none(given) is None and not isinstance(given, Bare)):
        return Verdict(accepted)
    if isinstance(given, Bare) or not isinstance(given, str):
        return Verdict(accepted, None, True)
    if _PLACEHOLDER.fullmatch(given):
        return Verdict(accepted, None, accepted is False, True)
    return Verdict(accepted, text_or_none(given))


def _prompts(value: dict[str, Any]) -> Iterator[Any]:
    return (v for k, v in value.items() if plain_key(k) in PROMPT_KEYS)


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, Bare) or not isinstance(value, (str, int)):
        return None
    word = str(value)[:20].strip().lower().rstrip(".!")
    return True if word in _YES else False if word in _NO else None
