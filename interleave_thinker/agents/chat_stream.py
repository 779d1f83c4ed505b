"""What a chat server sent: bytes to events, events to text, and whether the text is whole.

Servers differ in where they put text, errors and the end of a reply; all forms seen in public are read
here. Knows nothing of connections (`chat_connection`) and of tries (`openai_compatible`).
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

SHORT_KEY = 8
"""A shorter key is not searched for in a reply: it could be part of a word."""
PIECE = 2**16
"""Bytes that are decompressed at a time."""

_TAG = re.compile(r"<(/?)think(?:ing)?>|\[(/?)THINK\]", re.I)
_AFTER = re.compile(r"(?:\s|</answer>|</tool_call>|```|~~~)*\Z", re.I)
"""What may follow the object that ends a reply."""
_BRACKET = re.compile(r"[{\[]")
_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
_TEXTS = ("text", "content", "value", "thinking", "reasoning", "summary")
_WORDS = ("message", "detail", "msg", "error", "errors")
_CANDIDATES = 2000
"""Places in a reply where an object is looked for, at most."""


class TooLong(Exception):
    """A line, an event or a body is longer than any reply may be."""


# --- text -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Delta:
    """What one chunk adds. `tokens`: the server's count so far, 0 where it does not say."""

    reasoning: str = ""
    content: str = ""
    finish: str = ""
    tokens: int = 0


def delta_of(chunk: Any, so_far: str = "") -> Delta:
    """Read a chunk, or a completion that was not streamed, liberally.

    so_far: the content before it. A `message` that repeats this text adds only what follows the text.
    """
    if not isinstance(chunk, dict):
        return Delta()
    usage = chunk.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    tokens = count if isinstance(count, int) and not isinstance(count, bool) else 0
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return Delta(tokens=tokens)
    choice = choices[0]
    delta, repeats = choice.get("delta"), False
    if not isinstance(delta, dict) or not delta:
        delta, repeats = choice.get("message"), True
    if not isinstance(delta, dict):
        delta = {}
    thought, content = _split(delta.get("content"))
    if repeats and len(so_far) >= 20 and content.startswith(so_far):
        content = content[len(so_far) :]
    apart = next((text for key in _REASONING if (text := _text(delta.get(key)))), "")
    finish = choice.get("finish_reason")
    return Delta(apart or thought, content, finish if isinstance(finish, str) else "", tokens)


def _split(content: Any) -> tuple[str, str]:
    """The reasoning and the content of a text or of a list of parts."""
    if isinstance(content, str):
        return "", content
    reasoning = text = ""
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, dict) else "text"
        kind = kind if isinstance(kind, str) else "text"
        if "think" in kind or "reason" in kind:
            reasoning += _text(part)
        elif kind in ("text", "output_text"):
            text += _text(part)
    return reasoning, text


def _text(thing: Any, depth: int = 0) -> str:
    """All text in a text, a part or a list of parts."""
    if isinstance(thing, str):
        return thing
    if isinstance(thing, list) and depth < 8:
        return "".join(_text(part, depth + 1) for part in thing)
    if isinstance(thing, dict) and depth < 8:
        return next((text for key in _TEXTS if (text := _text(thing.get(key), depth + 1))), "")
    return ""


@dataclass
class Wording:
    """Turns deltas into the reply's text: reasoning in `<think>` tags, the endpoint's key hidden.

    opened: the chat template opens a thought, so the reply begins inside it; the tag is put in front.
    thinking: reasoning that was sent apart is still open. tagged: the tag was put in front.
    """

    key: str | None = None
    opened: bool = False
    thinking: bool = field(default=False, init=False)
    tagged: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        forms = forms_of(self.key) if self.key and len(self.key) >= SHORT_KEY else []
        self._forms = forms
        self._pattern = re.compile("|".join(map(re.escape, forms))) if forms else None
        self._held = ""

    def add(self, delta: Delta) -> str:
        """The next piece of text; the beginning of a key is held back until it is known to be none."""
        text = ""
        if delta.reasoning:
            text += delta.reasoning if self.thinking else "<think>" + delta.reasoning
            self.thinking = True
        if delta.content:
            text += "</think>" + delta.content if self.thinking else delta.content
            self.thinking = False
        if self._pattern is not None:
            text = self._pattern.sub("[key]", self._held + text)
            keep = max(_begun(text, form) for form in self._forms)
            self._held = text[len(text) - keep :]
            text = text[: len(text) - keep]
        return self._in_front(text)

    def end(self) -> str:
        """What was held back."""
        text, self._held = self._held, ""
        return self._in_front(text)

    def _in_front(self, text: str) -> str:
        if not self.opened or not text.strip():
            return text
        self.opened = False
        tag = _TAG.match(text.lstrip())
        self.tagged = tag is None or "/" in tag.group()
        return "<think>" + text if self.tagged else text


def forms_of(key: str) -> list[str]:
    """A key as servers repeat it: plain, quoted for an address or for JSON, in base64; longest first."""
    forms = {key, quote(key), quote(key, safe=""), json.dumps(key)[1:-1]}
    if len(key) >= SHORT_KEY:
        forms.add(base64.b64encode(key.encode()).decode().rstrip("="))
    return sorted(forms, key=len, reverse=True)


def hide(text: str, key: str | None) -> str:
    """A server's words without the key, however short the key is."""
    for form in forms_of(key) if key else ():
        text = text.replace(form, "[key]")
    return text


def _begun(text: str, key: str) -> int:
    """How many characters at the end of `text` could be the beginning of `key`."""
    return next((n for n in range(min(len(key) - 1, len(text)), 0, -1) if text.endswith(key[:n])), 0)


def tags(text: str) -> list[str]:
    """ "open" or "close" for each thought tag, in order."""
    return ["close" if "/" in tag.group() else "open" for tag in _TAG.finditer(text)]


def is_whole(text: str) -> bool:
    """Whether the text ends with an exact JSON object or array, outside of thoughts.

    A text that breaks off inside an object is not whole, though an inner object may be.
    """
    at = 0
    for tag in _TAG.finditer(text):
        at = tag.end() if "/" in tag.group() else -1
    if at < 0:
        return False
    text = text[at:]
    text = text[: len(text) - len(_last(text))]
    if not text.endswith(("}", "]")):
        return False
    at, decoder = 0, json.JSONDecoder(strict=False)
    for _ in range(_CANDIDATES):
        begin = _BRACKET.search(text, at)
        if begin is None:
            return False
        try:
            _, at = decoder.raw_decode(text, begin.start())
        except json.JSONDecodeError as error:
            # The text ran out inside of this object. Other errors mean that the bracket begins none.
            if error.pos >= len(text) or "Unterminated" in error.msg:
                return False
            at = begin.end()
        except RecursionError:
            at = begin.end()
        else:
            if at == len(text):
                return True
    return False


def _last(text: str) -> str:
    """The closing tags, fences and blanks at the end of a text."""
    tail = text[-200:]
    found = _AFTER.search(tail)
    return found.group() if found else ""


# --- events -----------------------------------------------------------------------------------------


def inflated(raw: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress gzip or deflate in pieces of at most PIECE bytes.

    Raises:
        zlib.error: the data is neither.
    """
    zipped = None
    for data in raw:
        while True:
            if zipped is None:
                data = data.lstrip(b"\0")
                if not data:
                    break
                # 47: zlib or gzip, by their head; -15: deflate without a head.
                zipped = zlib.decompressobj(47 if data[0] in (0x1F, 0x78) else -15)
            piece = zipped.decompress(data, PIECE)
            data = zipped.unconsumed_tail
            if piece:
                yield piece
            if zipped.eof:
                data, zipped = zipped.unused_data, None
            elif not piece:
                break


def events(chunks: Iterable[bytes], bound: int) -> Iterator[tuple[str, str]]:
    """Kind and data of each server-sent event; also of the last one without an empty line after it.

    Raises:
        TooLong: a line or an event has more than `bound` bytes.
    """
    kind, data, size = "", list[str](), 0
    for line in _lines(chunks, bound):
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if not line:
            if data:
                yield kind, "\n".join(data)
            kind, data, size = "", [], 0
        elif name == b"data":
            data.append(text)
            size += len(line)
            if size > bound:
                raise TooLong
        elif name == b"event":
            kind = text
    if data:
        yield kind, "\n".join(data)


def _lines(chunks: Iterable[bytes], bound: int) -> Iterator[bytes]:
    line = bytearray()
    for chunk in chunks:
        *whole, rest = re.split(rb"\r\n|\n|\r", chunk)
        for end in whole:
            yield bytes(line) + end
            line.clear()
        line += rest
        if len(line) > bound:
            raise TooLong
    if line:
        yield bytes(line)


def values(data: str) -> list[Any]:
    """The JSON values of an event: one, or one in each line where a server forgets the empty lines.

    `[DONE]` becomes None.

    Raises:
        ValueError: the data is no JSON.
    """
    try:
        return _values([data])
    except ValueError:
        lines = data.split("\n")
        if len(lines) == 1:
            raise
        return _values(lines)


def _values(lines: list[str]) -> list[Any]:
    found: list[Any] = []
    for line in lines:
        line = line.strip()
        if line.startswith("[DONE]"):
            return [*found, None]
        if not line:
            continue
        try:
            value = json.loads(line)
        except RecursionError:
            raise ValueError("nested too deep") from None
        if value is not None:
            found.append(value)
    return found


# --- errors -----------------------------------------------------------------------------------------


def error_in(body: Any, *, whole: bool = False, kind: str = "") -> Any:
    """The error that a chunk or (`whole`) a body is about; None where it is about none."""
    if isinstance(body, list) and whole and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        return None
    if body.get("error"):
        return body["error"] if isinstance(body["error"], dict) else body
    if body.get("object") == "error" or body.get("type") == "error" or kind == "error":
        return body
    if whole and not body.get("choices") and any(body.get(key) for key in _WORDS):
        return body
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0].get("error") or None
    return None


def words_in(body: Any) -> str:
    """A server's own words in the body of an error, whatever the body looks like."""
    if isinstance(body, bytes):
        text = body.decode("utf-8", "replace")
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            return re.sub(r"<[^<>]*>", " ", text) if text.lstrip().startswith("<") else text
    for _ in range(4):
        if not isinstance(body, dict):
            break
        inner = body.get("error")
        words = inner if isinstance(inner, dict) and inner else next((body[k] for k in _WORDS if body.get(k)), None)
        if words is None:
            break
        body = words
    if isinstance(body, str) or not body:
        return body or ""
    try:
        return json.dumps(body, ensure_ascii=False)
    except RecursionError:
        return ""
