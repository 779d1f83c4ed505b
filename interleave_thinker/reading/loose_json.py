"""Read one object or list of a text that is nearly JSON, as it comes in, without guessing.

Models write JSON, Python literals and mixtures: `True` beside `null`, curly quotes, full-width colons, quotes inside
of quotes, a missing comma. `ObjectReader` reads all of these in one pass: each character is looked at once, however
the text is cut into pieces. A quotation mark ends a text only where something follows that can follow a value.
What has no quotes and is no word or number of either language is kept as `Bare`: its meaning would be a guess.

`repaired` is the last resort: the package json_repair, with a bound on its work.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Literal

MAX_DEPTH = 40
MAX_BARE_KEY = 41
MAX_KEY = 200
"""Characters of a key; a longer one is a text whose end was not found."""
MAX_REPAIR = 4_000
"""Characters that json_repair gets to see."""
MAX_REPAIR_CALLS = 60_000
"""Function calls that json_repair may make, about a tenth of a second; its time can grow with the text's square."""

_CLOSERS = {'"': '"', "'": "'", "`": "`", "‘": "‘’'", "’": "‘’'", "「": "」"} | dict.fromkeys("“”„‟＂", '“”„‟＂"')
_STOP = {opener: re.compile("[\\\\" + re.escape(closers) + "]") for opener, closers in _CLOSERS.items()}
_SPACE = re.compile(r"[\s\u200b\u2060\ufeff]*")
_COLON, _COMMA = ":：", ",，"
_OPEN, _CLOSE = {"{": "}", "｛": "}", "[": "]", "［": "]"}, {"}": "}", "｝": "}", "]": "]", "］": "]"}
_BARE_END = re.compile(r"//|/\*|(?<=\s)#|[,，}｝\]］\"“”<{\[]")
_BARE_KEY_END = re.compile(r"[^\w\s.-]")
BARE_KEY = r"\w[\w .-]{0,40}[\s]{0,40}"
_BARE_KEY = re.compile(BARE_KEY)
_NEXT_BARE_KEY = re.compile(BARE_KEY + r"(?P<end>[:：]|\Z)")
_UNSURE = re.compile(r"\b(?:or|true|false|either)\b", re.I)
"""In a remark behind a verdict: the verdict is a form, such as `true, // or false`."""
MAX_STOPS = 8
_LITERAL = re.compile(r"(?:true|false|null|None|True|False)\s*[,\]]")
_WORDS = {"true", "false", "yes", "no", "none", "null", "accept", "accepted", "reject", "rejected", "0", "1"}
"""Texts of one word that end at their comma: nobody quotes these inside of a longer text."""
_NAMED = {"true": True, "false": False, "null": None, "none": None}
_NUMBER = re.compile(r"-?\d{1,300}(?:\.\d{1,300})?(?:[eE][+-]?\d{1,4})?")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.S)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""} | {c: c for c in "\"'\\/"}
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class Bare(str):
    """A value without quotes that is no word or number: `true or false`, `a red cat`."""


Ended = Literal["", "whole", "broken", "tag"]


class ObjectReader:
    """Reads one object or list. `read` may be called with ever more of the same text.

    ended: "" while it is open; "whole"; "broken" where something stands that cannot stand there; "tag" where a tag
        such as `</answer>` comes before its end.
    exact: False where a comma or a quotation mark had to be put right.
    too_deep: it is broken because of its nesting.
    repeated: a key came twice with different values; the first one is kept.
    key_begun, quoted_key: a key in quotation marks was begun or read, so that it is no brace of the prose.
    sure: how many members at the top level are surely over: what follows them is a key or the end.
    stopped: a member of `watched` at the top level is complete; `read` goes on from there.
    visited: how many characters were looked at.
    """

    def __init__(self, opening: str, watched: frozenset[str] = frozenset()):
        self.watched = watched
        self.ended: Ended = ""
        self.exact, self.repeated, self.stopped, self.quoted_key = True, False, False, False
        self.visited = 0
        self.root: Any = None
        self._stack: list[tuple[Any, str | None]] = []
        self._key: str | None = None
        self._written: str | None = None
        self._state: Callable[[str, int], int | None] = self._in_value
        self._back: Callable[[str, int], int | None] = self._state
        self._start = self._quote = self._key_start = self._key_end = 0
        self._opener = self._key_opener = '"'
        self._is_key = self._bare_keys = False
        self._remark_at, self._block = 0, False
        self._last, self._stops, self.sure = "", 0, 0
        self.key_begun = self.too_deep = False
        self._quotes = (-1, -1)
        self._push(opening)

    def read(self, text: str, at: int) -> int:
        """Read `text` from `at` on; returns how far it came. Stops early where `ended` or `stopped` is set."""
        self.stopped = False
        while at < len(text) and not self.ended and not self.stopped:
            state = self._state
            after = state(text, at)
            if after is None or (after == at and state == self._state and not self.ended):
                break  # more must come
            self.visited += after - at
            at = after
        return at

    def partial(self) -> Any:
        """What is whole of an object that is not: its members, and the items of lists, but no half-read object."""
        if self.root is not None:
            return self.root
        inner: Any = None
        for depth in reversed(range(len(self._stack))):
            container, key = self._stack[depth]
            if isinstance(inner, list):
                container = [*container, inner] if isinstance(container, list) else {**container, key or "": inner}
            inner = container if depth == 0 or isinstance(container, list) else None
        return inner

    @property
    def key(self) -> str | None:
        """The top-level key whose value is being read, if any."""
        return self._key if len(self._stack) == 1 else (self._stack[0][1] if self._stack else None)

    # -- containers

    def _push(self, opening: str) -> None:
        if len(self._stack) >= MAX_DEPTH:
            self.ended, self.too_deep = "broken", True
            return
        if self._stack:
            container, _ = self._stack[-1]
            self._stack[-1] = (container, self._key)
        self._stack.append(({} if _OPEN[opening] == "}" else [], None))
        self._key = None
        self._state = self._in_key if _OPEN[opening] == "}" else self._in_value

    def _close(self) -> None:
        container, _ = self._stack.pop()
        if not self._stack:
            self.root, self.ended = container, "whole"
            return
        self._key = self._stack[-1][1]
        self._add(container)

    def _add(self, value: Any) -> None:
        container, _ = self._stack[-1]
        if isinstance(container, list):
            container.append(value)
        else:
            key = self._key or ""
            self._written = self._last = key
            if key in container:
                self.repeated = self.repeated or container[key] != value
                self._written = None
            else:
                container[key] = value
            self._key = None
        self._state = self._in_comma

    def _in_object(self) -> bool:
        return isinstance(self._stack[-1][0], dict)

    def _confirm(self) -> None:
        """The last member is surely over: what follows it is known."""
        top = self._stack[0][0]
        written, self._written = self._written, None
        if written is not None and len(self._stack) == 1:
            self.sure = len(top)
        if written is None or len(self._stack) > 1 or not isinstance(top, dict) or self._stops >= MAX_STOPS:
            return
        if plain_key(written) in self.watched and not isinstance(top[written], (dict, list)):
            self.stopped = True
            self._stops += 1

    def _break(self, at: int) -> int:
        self.ended = "broken"
        return at

    # -- states: each looks at the text from `at` on and says how far it came, or None where more must come

    def _in_value(self, text: str, at: int) -> int | None:
        at = self._past_space(text, at)
        if at == len(text):
            return at
        c = text[at]
        if c in _OPEN:
            self._push(c)
            return at + 1
        if c in _CLOSERS:
            return self._begin_string(c, at, is_key=False)
        if c in _CLOSE and not self._in_object() and _CLOSE[c] == "]":
            self._close()
            return at + 1
        if c in _CLOSE or c in _COMMA:
            self.exact = False
            if not self._in_object():
                return self._break(at) if c in _CLOSE else at + 1
            self._add(Bare(""))
            return at
        if c == "<":
            self.ended = "tag"
            return at
        if c in "/#":
            return self._begin_comment(text, at, self._in_value)
        self._start, self._state = at, self._in_bare
        return at

    def _in_key(self, text: str, at: int) -> int | None:
        at = self._past_space(text, at)
        if at == len(text):
            return at
        c = text[at]
        if c in _CLOSERS:
            self._confirm()
            return self._begin_string(c, at, is_key=True)
        if c in _CLOSE and _CLOSE[c] == "}":
            self._close()
            return at + 1
        if c in _COMMA:
            self.exact = False
            return at + 1
        if c == "<":
            self.ended = "tag"
            return at
        if c in "/#":
            return self._begin_comment(text, at, self._in_key)
        if c == "_" or c.isalnum():
            self._start, self._state = at, self._in_bare_key
            return at
        return self._break(at)

    def _in_bare_key(self, text: str, at: int) -> int | None:
        found = _BARE_KEY_END.search(text, at)
        end = found.start() if found else len(text)
        if found is None and end - self._start < 2 * MAX_BARE_KEY:
            return end
        key = text[self._start : min(end, self._start + 3 * MAX_BARE_KEY)]
        if found is None or found.group() not in _COLON or not _BARE_KEY.fullmatch(key):
            return self._break(end)
        key = key.strip()
        self.exact = self.exact and (key.isdigit() or key == "None")
        self._bare_keys = True
        return self._key_read(key, found.end())

    def _key_read(self, key: str, at: int) -> int:
        self._confirm()
        self._key, self._state = key, self._in_value
        return at

    def _begin_string(self, opener: str, at: int, *, is_key: bool) -> int:
        self._opener, self._start, self._is_key = opener, at + 1, is_key
        self._quotes, self._state = (-1, -1), self._in_string
        self.key_begun = self.key_begun or is_key
        self.exact = self.exact and opener in "\"'"
        return at + 1

    def _in_string(self, text: str, at: int) -> int | None:
        end = min(len(text), self._start + MAX_KEY) if self._is_key else len(text)
        found = _STOP[self._opener].search(text, at, end)
        if found is None:
            return self._break(end) if self._is_key and end < len(text) else end
        if found.group() == "\\":
            self._state = self._in_escape
        else:
            self._quote = found.start()
            self._state = self._after_key if self._is_key else self._after_quote
        return found.end()

    def _in_escape(self, text: str, at: int) -> int | None:
        self._state = self._in_string
        return at + 1

    def _after_key(self, text: str, at: int) -> int | None:
        at = self._past_space(text, at)
        if at == len(text):
            return at
        c = text[at]
        if c in _COLON:
            self.quoted_key = True
            return self._key_read(_decoded(text[self._start : self._quote]), at + 1)
        if c in _COMMA or c in _CLOSE:
            return self._break(at)
        return self._inner_quote(text, at)

    def _after_quote(self, text: str, at: int) -> int | None:
        """A quotation mark in a text: its end, if what follows can follow a value."""
        at = self._past_space(text, at)
        if at == len(text):
            return at
        c = text[at]
        if c in _CLOSE and _CLOSE[c] == ("}" if self._in_object() else "]"):
            return self._end_string(text, at)
        if c in _COMMA:
            if self._quote - self._start < 12 and text[self._start : self._quote].strip().lower() in _WORDS:
                return self._end_string(text, at)
            self._state = self._after_comma
            return at + 1
        if c in _COLON and self._in_object() and self._lacks_comma(text):
            first, second = self._quotes
            self.exact = False
            self._add(_decoded(text[self._start : first]))
            return self._key_read(_decoded(text[second + 1 : self._quote]), at + 1)
        if c in "</":
            if at + 1 == len(text):
                return None
            if text[at : at + 2] in ("</", "//", "/*"):
                return self._end_string(text, at)
        return self._inner_quote(text, at)

    def _after_comma(self, text: str, at: int) -> int | None:
        """A quotation mark and a comma in a text: its end, if a key or another item follows."""
        at = self._past_space(text, at)
        if at == len(text):
            return at
        c = text[at]
        if self._in_object():
            if c in _CLOSERS:
                self._key_opener, self._key_start, self._state = c, at + 1, self._in_next_key
                return at + 1
            bare = _NEXT_BARE_KEY.match(text, at) if self._bare_keys else None
            if bare is not None and not bare.group("end"):
                return None
            if (c in _CLOSE and _CLOSE[c] == "}") or bare is not None:
                self._end_string(text, at)
                self._state = self._in_key
                return at
            return self._inner_quote(text, at)
        if c in "tfnTFN":
            if len(text) - at < 6:
                return None
            if not _LITERAL.match(text, at):
                return self._inner_quote(text, at)
        elif not (c in _CLOSERS or c in _OPEN or c in "]］-" or c.isdigit()):
            return self._inner_quote(text, at)
        self._end_string(text, at)
        self._state = self._in_value
        return at

    def _in_next_key(self, text: str, at: int) -> int | None:
        found = _STOP[self._key_opener].search(text, at)
        if found is None:
            return len(text)
        if found.group() == "\\":
            self._state = self._in_next_key_escape
        else:
            self._key_end, self._state = found.start(), self._after_next_key
        return found.end()

    def _in_next_key_escape(self, text: str, at: int) -> int | None:
        self._state = self._in_next_key
        return at + 1

    def _after_next_key(self, text: str, at: int) -> int | None:
        at = self._past_space(text, at)
        if at == len(text):
            return at
        if text[at] in _COLON:
            self._end_string(text, at)
            self._confirm()
            self.quoted_key = True
            return self._key_read(_decoded(text[self._key_start : self._key_end]), at + 1)
        self.exact = False
        self._quotes = (self._quote, self._key_start - 1)
        if text[self._key_end] in _CLOSERS[self._opener]:
            self._quote, self._state = self._key_end, self._after_quote
        else:
            self._state = self._in_string
        return at

    def _in_comma(self, text: str, at: int) -> int | None:
        at = self._past_space(text, at)
        if at == len(text):
            return at
        c = text[at]
        if c in _COMMA:
            self._state = self._in_key if self._in_object() else self._in_value
            return at + 1
        if c in _CLOSE:
            if _CLOSE[c] != ("}" if self._in_object() else "]"):
                return self._break(at)
            self._close()
            return at + 1
        if c in _CLOSERS or (c in _OPEN and not self._in_object()):
            self.exact = False
            self._state = self._in_key if self._in_object() else self._in_value
            return at
        if c == "<":
            self.ended = "tag"
            return at
        if c in "/#":
            return self._begin_comment(text, at, self._in_comma)
        return self._break(at)

    def _in_bare(self, text: str, at: int) -> int | None:
        found = _BARE_END.search(text, at)
        if found is None:
            return max(at, len(text) - text.endswith("/"))
        self._add(_plain_value(text[self._start : found.start()].strip()))
        return found.start()

    def _begin_comment(self, text: str, at: int, back: Callable[[str, int], int | None]) -> int | None:
        if text[at] == "/":
            if at + 1 == len(text):
                return None
            if text[at + 1] not in "/*":
                return self._break(at)
        self._back, self._state, self._remark_at = back, self._in_comment, at
        self._block = text[at : at + 2] == "/*"
        return at + 1

    def _in_comment(self, text: str, at: int) -> int | None:
        end = text.find("/" if self._block else "\n", at)
        if end < 0:
            return len(text)
        if self._block and (text[end - 1] != "*" or end < self._remark_at + 3):
            return end + 1
        top = self._stack[0][0]
        if len(self._stack) == 1 and isinstance(top, dict) and isinstance(top.get(self._last), bool):
            if _UNSURE.search(text, self._remark_at, min(end, self._remark_at + MAX_KEY)):
                top[self._last] = Bare("a remark says otherwise")
        self._state = self._back
        return end + 1

    # -- texts

    def _past_space(self, text: str, at: int) -> int:
        found = _SPACE.match(text, at)
        return found.end() if found else at

    def _end_string(self, text: str, at: int) -> int:
        self._add(_decoded(text[self._start : self._quote]))
        return at

    def _inner_quote(self, text: str, at: int) -> int:
        between_letters = text[self._quote] in "'‘’" and text[self._quote - 1].isalnum() and at == self._quote + 1
        self.exact = self.exact and between_letters
        self._quotes = (self._quotes[1], self._quote)
        self._state = self._in_string
        return at

    def _lacks_comma(self, text: str) -> bool:
        """Whether the last two quotation marks were a text's end and the next key's beginning."""
        first, second = self._quotes
        return first >= self._start and not text[first + 1 : second].strip() and second > first


def plain_key(key: str) -> str:
    """A key as it is compared: small letters, underscores for blanks, hyphens and capitals in a word."""
    key = re.sub(r"[\\\u200b\u2060\ufeff]", "", key).strip().rstrip(":：")
    return re.sub(r"[\s_-]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower())


def _plain_value(word: str) -> Any:
    named = word.lower()
    if named in _NAMED:
        return _NAMED[named]
    if _NUMBER.fullmatch(word):
        number = float(word)
        if math.isfinite(number):
            return int(word) if re.fullmatch(r"-?\d+", word) else number
    return Bare(word)


def _decoded(raw: str) -> str:
    """What a quoted text means; an escape that neither language knows stays as it is."""
    if len(raw) >= 4 and raw[:2] == raw[-2:] and raw[:2] in ('""', "''"):  # """a text"""
        raw = raw[2:-2]
    if "\\" not in raw:
        return raw
    text = _ESCAPE.sub(_unescaped, raw)
    return _PAIR.sub(lambda m: m.group().encode("utf-16", "surrogatepass").decode("utf-16"), text)


def _unescaped(found: re.Match[str]) -> str:
    sign = found.group(1)
    return chr(int(sign[1:], 16)) if len(sign) == 5 else _ESCAPED.get(sign, found.group())


def repaired(text: str, keys: frozenset[str]) -> Any:
    """`repair` of a text that holds one of `keys` in quotation marks; None for any other."""
    quoted = re.findall(r"[\"']([\w -]{1,40})[\"']\s*:", text[: MAX_REPAIR + 1])
    return repair(text) if any(plain_key(k) in keys for k in quoted) else None


def repair(text: str) -> Any:
    """What json_repair makes of a text; None if the package is missing, the text too long, or the work too much."""
    if len(text) > MAX_REPAIR:
        return None
    try:
        import json_repair
    except ImportError:
        return None
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > MAX_REPAIR_CALLS:
            raise _TooMuchWork

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        return json_repair.loads(text, skip_json_loads=True)
    except (Exception, _TooMuchWork):  # it guesses; on garbage anything may go wrong in it
        return None
    finally:
        sys.setprofile(before)


class _TooMuchWork(BaseException):
    pass
