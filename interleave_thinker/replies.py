"""Read the object out of an agent's reply, however untidy the reply is.

Wire format (paper, section 3): `<think>reasoning</think><answer>{...}</answer>` with JSON or a Python
literal inside. Real replies miss tags, sit in code fences, mix `true` with `True` or stop half-way.
Order: JSON, Python literal, the whole members of an object that was cut off, json_repair.
Nothing here raises on bad text: unreadable is `None`. Knows nothing of what the object means.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_REPLY = 4_000_000
"""Characters read of a reply; an agent that never stops must not cost more than its own tokens."""
MAX_REPAIR, MAX_DEPTH = 100_000, 30
"""Characters and nesting that json_repair gets to see; its time grows with their product."""

_ABSENT = {"", "none", "null", "n/a"}
_QUOTED = r"\"(?:\\(?:.|\Z)|[^\"\\])*(?:\"|\Z)|'(?:\\(?:.|\Z)|[^'\\])*(?:'|\Z)"
"""A quoted text, or the rest of the reply where its end is missing: linear on any text."""
_WORD = re.compile(rf"({_QUOTED})|\b(true|false|null)\b", re.S)
_BRACKET = re.compile(rf"{_QUOTED}|([{{}}\[\]])", re.S)

_APOSTROPHE = re.compile(r"(?<=[^\W\d_])'(?=[^\W\d_])")
"""Between two letters it is no quotation mark, though it may have ended a text in single quotes too early."""

_Reader = Callable[[str], "dict[str, Any] | None"]


@dataclass(frozen=True)
class Reply:
    """`reasoning`: the think block's text. `answer`: the object, or None. `raw`: what was written.

    `exact` is False where the object had to be closed or repaired: it may lack what was not written.
    """

    reasoning: str
    answer: dict[str, Any] | None
    raw: str
    exact: bool = True


def read_reply(raw: str) -> Reply:
    """Split a reply into reasoning and answer. Never raises on any text."""
    text = raw[:MAX_REPLY]
    reasoning = _reasoning(text)
    candidates = _candidates(text)
    mended = [m for c in candidates if (m := _APOSTROPHE.sub(r"\\'", c)) != c]
    readers: tuple[tuple[_Reader, list[str], bool], ...] = (
        (_exact, candidates, True),
        (_exact, mended, True),
        (_whole_members, candidates, False),
        (_whole_members, mended, False),
        (_repair, candidates, False),
    )
    for reader, places, exact in readers:
        for place in places:
            found = reader(place)
            if found is not None:
                return Reply(reasoning, found, raw, exact)
    return Reply(reasoning, None, raw)


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


def answer_part(text: str) -> str:
    """What follows the reasoning, as far as it is written; empty while the agent still thinks.

    Agents that think quote the form they were asked for: what stands in there is no answer.
    """
    opened, closed = text.rfind("<think>"), text.rfind("</think>")
    if opened > closed:
        return ""
    return text[closed + len("</think>") :] if closed >= 0 else text


def _reasoning(text: str) -> str:
    opened = re.search(r"<think>(.*?)(?:</think>|<answer>|\Z)", text, re.DOTALL)
    if opened:
        return opened.group(1).strip()
    closed = text.find("</think>")
    return text[:closed].strip() if closed > 0 else ""


def _candidates(text: str) -> list[str]:
    """The texts that may be the object, best first, each from its opening brace on."""
    after_think = answer_part(text)
    places = [m.group(1) for m in (_answered(after_think), _answered(text)) if m]
    places += [re.sub(r"</?answer>", "", after_think), re.sub(r"</?(?:answer|think)>", "", text)]
    out: dict[str, None] = {}
    for place in places:
        fenced = re.search(r"```[a-zA-Z]*\s*\n?(.*?)(?:```|\Z)", place, re.DOTALL)
        for body in (place, fenced.group(1) if fenced else ""):
            for opening in (r"\{", r"\{\s*[\"']"):
                found = re.search(opening, body)
                if found:
                    out[body[found.start() :].rstrip()] = None
    return list(out)


def _answered(text: str) -> re.Match[str] | None:
    return re.search(r"<answer>(.*?)(?:</answer>|\Z)", text, re.DOTALL)


def _exact(body: str) -> dict[str, Any] | None:
    """The object as it stands: up to its own closing brace, or up to the last one there is."""
    balanced = next((end for end, left in _objects(body) if not left), 0)
    for end in dict.fromkeys((balanced, body.rfind("}") + 1)):
        found = (_json(body[:end]) or _literal(body[:end])) if end else None
        if found:
            return found
    return None


def _whole_members(body: str) -> dict[str, Any] | None:
    """An object that was cut off, without the member that was being written."""
    ends = _objects(body)
    if not ends or body.count("{") <= body.count("}"):
        return None
    end, left = ends[-1]
    return _exact(body[:end] + "".join("}" if bracket == "{" else "]" for bracket in reversed(left)))


def _objects(body: str) -> list[tuple[int, str]]:
    """Where each object of `body` ends, up to the first's own end, and the brackets then still open."""
    ends: list[tuple[int, str]] = []
    opened = ""
    for found in _BRACKET.finditer(body):
        bracket = found.group(1)
        if bracket in ("{", "["):
            opened += bracket
        elif bracket:
            opened = opened[:-1]
            if bracket == "}":
                ends.append((found.end(), opened))
        if bracket and not 0 < len(opened) <= MAX_DEPTH:
            break
    return ends


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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "\d" in a text is no concern of the user's console
                found = ast.literal_eval(text)
            if isinstance(found, dict):
                return {str(k): v for k, v in found.items()}
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


def _python_words(body: str) -> str:
    """true/false/null outside of quotes -> True/False/None."""
    words = {"true": "True", "false": "False", "null": "None"}
    return _WORD.sub(lambda m: m.group(1) or words[m.group(2)], body)


def _repair(body: str) -> dict[str, Any] | None:
    """Last resort, and only where json_repair is installed: it guesses, the readers above do not.

    Of a text that was cut off it sees no more than the last closing brace: half a value is no value.
    """
    try:
        import json_repair
    except ImportError:
        return None
    if not body.endswith(("}", "]", ")", '"', "'")):
        body = body[: body.rfind("}") + 1]
    if not body or len(body) > MAX_REPAIR or _too_deep(body):
        return None
    try:
        found = json_repair.loads(_json_words(body))
    except Exception:  # a guesser on garbage: whatever goes wrong in it, the text is unreadable
        return None
    return found if isinstance(found, dict) and found else None


def _too_deep(body: str) -> bool:
    depth = 0
    for bracket in re.findall(r"[{}\[\]]", body):
        depth += 1 if bracket in "{[" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _json_words(body: str) -> str:
    """Python's None/True/False outside of quotes -> JSON: old json_repair swallows steps after None."""
    words = {"True": "true", "False": "false", "None": "null"}
    return re.sub(r"(:\s*)(True|False|None)(?=\s*[,}\]]|\s*\Z)", lambda m: m.group(1) + words[m.group(2)], body)
