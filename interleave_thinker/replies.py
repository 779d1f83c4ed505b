"""Read the object out of an agent's reply, however untidy the reply is.

Wire format (paper, section 3): `<think>reasoning</think><answer>{...}</answer>` with JSON or a Python
literal inside. Real replies miss tags, sit in code fences, mix `true` with `True` or stop half-way.
Order: JSON, Python literal, json_repair. Nothing here raises on bad text: unreadable is `None`.
Knows nothing of what the object means.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

MAX_REPLY = 1_000_000
"""Characters read of a reply; an agent that never stops must not cost more than its own tokens."""

_ABSENT = {"", "none", "null", "n/a"}


@dataclass(frozen=True)
class Reply:
    """`reasoning`: the think block's text. `answer`: the object, or None. `raw`: what was written."""

    reasoning: str
    answer: dict[str, Any] | None
    raw: str


def read_reply(raw: str) -> Reply:
    """Split a reply into reasoning and answer. Never raises on any text."""
    text = raw[:MAX_REPLY]
    reasoning = _reasoning(text)
    for candidate in _candidates(text):
        found = _parse(candidate)
        if found is not None:
            return Reply(reasoning, found, raw)
    return Reply(reasoning, None, raw)


def text_or_none(value: object) -> str | None:
    """A text field: None, "None", "null" and blank all mean absent (paper digest, section 2)."""
    if value is None:
        return None
    text = str(value).strip()
    return None if text.lower() in _ABSENT else text


def _reasoning(text: str) -> str:
    opened = re.search(r"<think>(.*?)(?:</think>|<answer>|\Z)", text, re.DOTALL)
    if opened:
        return opened.group(1).strip()
    closed = text.find("</think>")
    return text[:closed].strip() if closed > 0 else ""


def _candidates(text: str) -> list[str]:
    """The places where the object may be, best first."""
    places = []
    answered = re.search(r"<answer>(.*?)(?:</answer>|\Z)", text, re.DOTALL)
    if answered:
        places.append(answered.group(1))
    after_think = text.split("</think>")[-1]
    places += [re.sub(r"</?answer>", "", after_think), re.sub(r"</?(?:answer|think)>", "", text)]
    out: list[str] = []
    for place in places:
        fenced = re.search(r"```[a-zA-Z]*\s*\n?(.*?)(?:```|\Z)", place, re.DOTALL)
        body = (fenced.group(1) if fenced else place).strip()
        start = body.find("{")
        if start >= 0 and body[start:] not in out:
            out.append(body[start:])
    return out


def _parse(body: str) -> dict[str, Any] | None:
    end = body.rfind("}")
    whole = body[: end + 1] if end >= 0 else body
    for reader in (_json, _literal):
        found = reader(whole)
        if found is not None:
            return found
    return _repair(body)


def _json(body: str) -> dict[str, Any] | None:
    try:
        found, _ = json.JSONDecoder(strict=False).raw_decode(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _literal(body: str) -> dict[str, Any] | None:
    """Python literals, also with JSON's true, false and null between them."""
    for text in (body, _python_words(body)):
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(found, dict):
            return {str(k): v for k, v in found.items()}
    return None


def _python_words(body: str) -> str:
    """true/false/null outside of quotes -> True/False/None."""
    words = {"true": "True", "false": "False", "null": "None"}
    quoted = r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'"
    return re.sub(
        rf"({quoted})|\b(true|false|null)\b",
        lambda m: m.group(1) or words[m.group(2)],
        body,
        flags=re.DOTALL,
    )


def _repair(body: str) -> dict[str, Any] | None:
    """Last resort, and only where json_repair is installed: it guesses, the readers above do not."""
    try:
        import json_repair
    except ImportError:
        return None
    try:
        found = json_repair.loads(_json_words(body))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found else None


def _json_words(body: str) -> str:
    """Python's None/True/False outside of quotes -> JSON: old json_repair swallows steps after None."""
    words = {"True": "true", "False": "false", "None": "null"}
    return re.sub(r"(:\s*)(True|False|None)(?=\s*[,}\]]|\s*\Z)", lambda m: m.group(1) + words[m.group(2)], body)
