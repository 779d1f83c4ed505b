"""Read what a chat model wrote: its thoughts, its answer, and the objects in it.

Wire format (paper, section 3): `<think>reasoning</think><answer>{...}</answer>`. `ReplyReader` reads a reply once, from
its beginning, in pieces or as a whole, with the same result:

- Tagged: the first `<answer>` outside thoughts that holds an object decides. Nothing after that object is read.
- Untagged: the reply is read to its end. Every whole object outside thoughts that has our keys is found; the caller
  decides what they mean together (the last one counts, unless they disagree).
- Thoughts of any dialect hold no answer. An unclosed thought means: no answer.
- A tag that stands in quotation marks is a word, not a tag.
- After an object that breaks off in its midst nothing counts: what follows may lie inside of it.

Nothing here raises on bad text. Knows nothing of what an object means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .loose_json import BARE_KEY, ObjectReader, plain_key, repaired

MAX_REPLY = 1_000_000
"""Characters of a reply; a longer one is refused."""

_PROSE = re.compile(
    r"[<＜](?=[/|｜]{0,3}\s?(?:[^\W\d_]|\Z))|◁|【(?=/?(?:思|推|分|\Z))"  # a tag, perhaps
    r"|[\[［](?=[\s\u200b\u2060\ufeff]*(?:[{｛\[\"'“]|\Z)|/?(?:[tT][hH]|[tT]?\Z))"  # a list, or [THINK]
    rf"|[{{｛](?=[\s\u200b\u2060\ufeff]*(?:[\"'“”„‘’＂「`}}#]|/(?:[/*]|\Z)|{BARE_KEY}(?:[:：]|\Z)|\Z))"  # an object
)
"""Where something may begin that is no prose; other brackets of mathematics and prompt languages are passed over."""
_TAG_HEAD = re.compile(r"[<＜][/|｜]{0,3}\s?(?:(?P<name>[^\W\d_])|\Z)")
_THOUGHT = re.compile(r"[<＜\[◁【]")
_TAG_END = {
    "<": re.compile(r"[>\n<＜{｛◁【]"),
    "＜": re.compile(r"[＞>\n<＜{｛◁【]"),
    "[": re.compile(r"[\]\n\[［{｛<＜◁【]"),
    "◁": re.compile(r"[▷\n<＜{｛\[［【]"),
    "【": re.compile(r"[】\n<＜{｛\[［◁]"),
}
_TAG = re.compile(r"(?:[<＜][|｜]?\s?|\[|◁|【)(/?)\s*(/?)([^\W\d_][\w:.▁-]*)(?:[\s=][^>]*)?(?:[|｜]?[>＞]|\]|▷|】)")
MAX_TAG = 80
STRIDE = 20_000
"""Characters between two looks at whether the user interrupts."""
MAX_CLOSING = 32
"""Characters after the answer's object in which its closing tag is waited for."""
_THOUGHTS = re.compile(
    r"(?:[a-z]+[_:]){0,3}"
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|rationale|reflect(?:ion|ing)?|analy(?:sis|[sz]e|[sz]ing)|scratch_?pad"
    r"|monologue|deliberation|draft|musings?|brainstorm(?:ing)?|cot|思考|推理|分析)(?:_[a-z]+){0,2}"
)
"""Tags that hold thoughts: think, thinking, begin_of_thought, start_thinking, inner-monologue, draft, 思考."""
_ANSWERS = re.compile(
    r"answer|output|result|response|reply|json|tool|function|call|invoke|verdict|judg|evaluation|final|decision|review"
    r"|code|pre|object|data|box|critic"
)
"""Elements whose content may be an answer. Text in other elements, such as <observation>, does not count."""
_VOID = {"br", "hr", "img", "image", "video", "lora", "b", "i", "u", "p", "s", "em", "strong", "picture"}
_CHANNEL_NAME_END = re.compile(r"[\n<]")
_SPACE = re.compile(r"[\s\u200b\u2060\ufeff]*")
_CHANNEL_ENDS = {"end", "start", "channel", "return", "call", "im_end"}
_QUOTE_BEFORE = re.compile(r"[\s(\[{:：,，–—-]")


@dataclass(frozen=True)
class Found:
    """An object or list of a reply. `whole`: its last bracket was written. `exact`: nothing had to be put right.

    `open_key`: of an object that is not whole, the key whose value was being written. `broken`: something stands in it
    that cannot. `sure`: how many of its members are surely over. `starts_at`, `ends_at`: its place in the reply.
    `within`: the element that it stands in, if any. `repaired`: json_repair made it, of `text`.
    """

    value: Any
    whole: bool = True
    exact: bool = True
    repeated: bool = False
    open_key: str | None = None
    broken: bool = False
    sure: int = 0
    starts_at: int = 0
    ends_at: int = 0
    within: str = ""
    repaired: bool = False
    text: str = ""


@dataclass(frozen=True)
class Reply:
    """What was read.

    reasoning: the thoughts' text. prose: what stands outside thoughts, objects included.
    found: the object that decides (tagged), or all whole objects with our keys, in order (untagged).
    problem: why nothing could be read, in words for the model and the user; empty where `found` is not.
    cut: the object that was being written where the reply ended. thinking: it ended inside a thought.
    remains: something looked like an object or a tag of ours and could not be read.
    """

    raw: str
    reasoning: str = ""
    prose: str = ""
    found: tuple[Found, ...] = ()
    tagged: bool = False
    problem: str = ""
    cut: Found | None = None
    thinking: bool = False
    remains: bool = False

    @property
    def answer(self) -> dict[str, Any] | None:
        """The last whole object, where that is an object and not a list."""
        last = self.found[-1] if self.found else None
        return last.value if last is not None and last.whole and isinstance(last.value, dict) else None

    @property
    def exact(self) -> bool:
        return bool(self.found) and self.found[-1].exact


IsOurs = Callable[[Any], bool]
"""Whether an object or list (also one that is not whole yet) is what is looked for."""


def has_any(keys: Iterable[str] | None = None) -> IsOurs:
    """Objects with one of `keys` at their top level; without keys, any object that is not empty."""
    wanted = None if keys is None else {plain_key(k) for k in keys}
    return lambda value: (
        isinstance(value, dict) and bool(value) and (wanted is None or any(plain_key(k) in wanted for k in value))
    )


class ReplyReader:
    """Reads a reply. Call `read` with all text so far, as often as there is more; then `finish`.

    is_ours: which objects count. is_part: objects of which several make one answer.
    watched, decides: top-level keys of the answer's object, and whether such a member's value already decides; then
        `over` is set before the object is whole.
    thinking: the chat template opened a thought before the reply began.
    over: nothing that follows is read. visited: how many characters were looked at.
    answer_at: where the content of the `<answer>` that counts begins; None where there is none yet.
    thought_over_at: where the last thought was closed by `</think>` or `<channel|>`, while no answer has begun; else
        None.
    """

    def __init__(
        self,
        is_ours: IsOurs | None = None,
        *,
        is_part: IsOurs | None = None,
        watched: frozenset[str] = frozenset(),
        decides: Callable[[dict[str, Any]], bool] | None = None,
        thinking: bool = False,
    ):
        self.over = False
        self._is_ours = is_ours or has_any()
        self._is_part = is_part or (lambda value: False)
        self._watched, self._decides = watched, decides
        self._at = 0
        self._seen = 0
        self._state: Callable[[str], bool] = self._in_prose
        self._thoughts: list[str] = ["think"] if thinking else []
        self._spans: list[tuple[int, int, int, int]] = []  # of a thought: tag, first and last character, end of its tag
        self._outer_at = self._opened_at = 0
        self._thought_begun = False
        self._tag_at = self._object_at = 0
        self._object: ObjectReader | None = None
        self._found: list[Found] = []
        self._committed = self._saw_object = self._broken = self._remains = False
        self._decided: Found | None = None
        self._cut: Found | None = None
        self._elements: list[str] = []
        self._channel_at = -1
        self._content_at = self._closed_at = -1
        if thinking:
            self._state = self._in_thought

    @property
    def visited(self) -> int:
        return self._seen + (self._object.visited if self._object else 0)

    @property
    def thinking(self) -> bool:
        """Whether a thought is open where the reader is."""
        return bool(self._thoughts)

    @property
    def in_object(self) -> bool:
        """Whether an object or list is open where the reader is."""
        return self._object is not None

    @property
    def answer_at(self) -> int | None:
        return self._content_at if self._committed and not self._thoughts else None

    @property
    def thought_over_at(self) -> int | None:
        if self._closed_at < 0 or self._thoughts or self._committed or self.over:
            return None
        return self._closed_at

    def read(self, text: str) -> bool:
        """Read on in `text`, which begins with what was read before. Returns `over`."""
        if len(text) > MAX_REPLY:
            self.over = True
        while self._at < len(text) and not self.over:
            if not self._state(text):
                break
        return self.over

    def finish(self, text: str, check: Callable[[], None] | None = None) -> Reply:
        """The reply is at its end. check: called now and then while a long text is read; raises to interrupt."""
        if check is not None and len(text) <= MAX_REPLY:
            for end in range(STRIDE, len(text), STRIDE):
                self.read(text[:end])
                check()
        self.read(text)
        if len(text) > MAX_REPLY:
            return Reply(text, problem=f"it has {len(text)} characters; {MAX_REPLY} are read.")
        if self._decided is None and self._object is not None and not self.over:
            self._object_over(self._object, whole=False)
        thinking = bool(self._thoughts) and self._decided is None
        if thinking:
            self._spans.append((self._outer_at, self._opened_at, len(text), len(text)))
        parts = tuple(f for f in self._found if not self._committed or self._is_part(f.value))
        found = (self._decided,) if self._decided else () if thinking or self._broken else parts
        prose, end = [], 0
        for outer, _, _, after in self._spans:
            prose.append(text[end:outer])
            end = after
        prose.append(text[end:])
        return Reply(
            text,
            "\n".join(part for _, a, b, _ in self._spans if (part := text[a:b].strip())),
            "".join(prose),
            found,
            self._decided is not None,
            "" if found else _problem(text, thinking),
            self._cut,
            thinking,
            self._remains or self._saw_object or self._committed,
        )

    # -- states: each takes what it can from self._at on; False where more text must come

    def _take(self, at: int) -> bool:
        self._seen += at - self._at
        moved, self._at = at > self._at, at
        return moved

    def _in_prose(self, text: str) -> bool:
        found = _PROSE.search(text, self._at)
        self._seen += (found.start() if found else len(text)) - self._at  # what is looked ahead at is seen twice
        if found is None:
            return self._take(len(text))
        sign = found.group()
        if sign in "<＜◁【":
            self._begin_tag(found.start())
        elif sign in "[［":
            self._object_at, self._state = found.start(), self._after_bracket
        else:
            self._object_at, self._state = found.start(), self._after_brace
        return self._take(found.end())

    def _begin_tag(self, at: int) -> None:
        self._tag_at, self._state = at, self._in_tag

    def _base(self) -> Callable[[str], bool]:
        return self._in_thought if self._thoughts else self._in_prose

    def _in_thought(self, text: str) -> bool:
        found = _THOUGHT.search(text, self._at)
        if found is None:
            return self._take(len(text))
        self._begin_tag(found.start())
        return self._take(found.end())

    def _in_tag(self, text: str) -> bool:
        opening = text[self._tag_at]
        if opening in "<＜" and self._at == self._tag_at + 1:
            head = _TAG_HEAD.match(text, self._tag_at)
            if head is None or not head.group("name"):
                self._state = self._in_tag if head else self._base()
                return head is None
        limit = min(len(text), self._tag_at + MAX_TAG)
        found = _TAG_END[opening].search(text, self._at, limit)
        if found is None:
            if limit < len(text):
                self._state = self._base()
            return self._take(limit) or self._state != self._in_tag
        if found.group() not in ">＞]▷】":
            self._state = self._base()
            return self._take(found.start()) or True
        self._take(found.end())
        self._state = self._base()
        tag = _TAG.fullmatch(text[self._tag_at : found.end()])
        self._seen += found.end() - self._tag_at
        if tag is not None and not _is_quoted(text, self._tag_at):
            self._tag_read(text, tag.group(), tag.group(3).lower(), bool(tag.group(1) or tag.group(2)), found.end())
        return True

    def _tag_read(self, text: str, tag: str, name: str, closes: bool, end: int) -> None:
        name = re.sub(r"[-.▁]", "_", name)
        special = "|" in tag or "｜" in tag
        if special and (name in _CHANNEL_ENDS or name == "message"):
            return self._channel_tag(name, tag.startswith("<|"), end)
        closes = closes or bool({"end", "stop"} & set(name.split("_")))
        if _THOUGHTS.fullmatch(name) and (tag[0] != "[" or name.startswith("th")):
            if not closes:
                return self._open_thought(text, name, end)
            self._close_thought(name, end)
            self._closed_at = end if name in ("think", "thinking") and not self._thoughts else -1
            return None
        if self._thoughts or special or tag[0] == "[":
            return None
        if name != "answer":
            return self._element(name, closes)
        if not closes:
            if not self._committed:
                self._forget()
            self._committed, self._saw_object, self._content_at = True, False, end
        elif self._committed:
            self.over = self._saw_object
            self._committed = self._saw_object
        return None

    def _element(self, name: str, closes: bool) -> None:
        if name in _VOID or _ANSWERS.search(name):
            return
        if not closes:
            self._elements = [*self._elements[-8:], name]
        elif name in self._elements:
            del self._elements[len(self._elements) - 1 - self._elements[::-1].index(name) :]

    def _channel_tag(self, name: str, begins: bool, end: int) -> None:
        """Channels of harmony, and of models that write them alike: `<|channel|>analysis<|message|>...<|end|>`."""
        if "channel" in self._thoughts and name != "message":
            self._close_thought("channel", end)
            self._closed_at = end if name == "channel" and not begins and not self._thoughts else -1
        if name == "message" and self._thoughts and self._opened_at == self._tag_at:
            self._opened_at = end
        if name == "channel" and begins:
            self._channel_at, self._state = end, self._in_channel

    def _in_channel(self, text: str) -> bool:
        """The channel's name, up to the next tag or line end."""
        found = _CHANNEL_NAME_END.search(text, self._at)
        if found is None:
            return self._take(len(text))
        self._take(found.start())
        name = text[self._channel_at : min(found.start(), self._channel_at + 40)].strip().lower()
        if name.startswith("final") and not self._thoughts:
            self._forget()
        elif _THOUGHTS.match(name):
            self._thoughts.append("channel")
            self._outer_at, self._opened_at, self._thought_begun = self._channel_at, self._at, False
        self._state = self._base()
        return True

    def _open_thought(self, text: str, name: str, end: int) -> None:
        if not self._thoughts:
            self._thoughts.append(name)
            self._outer_at, self._opened_at, self._thought_begun = self._tag_at, end, False
        else:  # one that is quoted in a thought has an end of its own; the same tag twice at the beginning has not
            if not self._thought_begun:
                self._seen += self._tag_at - self._opened_at
                self._thought_begun = bool(text[self._opened_at : self._tag_at].strip())
            if self._thought_begun or len(self._thoughts) > 1:
                self._thoughts.append(name)
        self._state = self._in_thought

    def _close_thought(self, name: str, end: int) -> None:
        if not self._thoughts:
            if not (self._committed and self._saw_object):
                self._forget()  # all before it was a thought, which the chat template had opened
                self._committed = self._saw_object = False
                self._spans = [(0, 0, self._tag_at, end)]
            return
        last = max((i for i, opened in enumerate(self._thoughts) if opened == name), default=len(self._thoughts) - 1)
        del self._thoughts[last:]
        if not self._thoughts:
            self._spans.append((self._outer_at, self._opened_at, self._tag_at, end))
        self._state = self._base()

    def _forget(self) -> None:
        """Drop the objects found so far."""
        self._found.clear()
        self._broken = self._remains = False
        self._cut = None

    def _after_brace(self, text: str) -> bool:
        """An object, if a key or its end follows; otherwise a brace of the prose."""
        at = _past_space(text, self._at)
        self._take(at)
        if at == len(text):
            return False
        c = text[at]
        before = text[self._object_at - 1] if self._object_at else ""
        is_word = before == c and c in "\"'`" and at == self._object_at + 1  # the brace itself is quoted: "{"
        if is_word:
            if at + 1 == len(text):
                return False
            is_word = not text[at + 1].isalnum()
        if (c in "\"'“”„‘’＂「`}_/#" or c.isalnum()) and not is_word:
            self._begin_object("{")
        else:
            self._state = self._in_prose
        return True

    def _after_bracket(self, text: str) -> bool:
        """A list, if an object, a list or a text follows; a tag, if a letter does."""
        tag_like = self._at == self._object_at + 1
        at = _past_space(text, self._at)
        self._take(at)
        if at == len(text):
            return False
        c = text[at]
        if c in "{｛[\"'“":
            self._begin_object("[")
        elif tag_like and at == self._object_at + 1 and (c == "/" or c.isalpha()) and text[self._object_at] == "[":
            self._begin_tag(self._object_at)
        else:
            self._state = self._in_prose
        return True

    def _begin_object(self, opening: str) -> None:
        watched = self._watched if self._committed else frozenset()
        self._object, self._state = ObjectReader(opening, watched), self._in_object

    def _in_object(self, text: str) -> bool:
        reader = self._object
        assert reader is not None
        before = self._at
        self._at = reader.read(text, self._at)
        if reader.stopped:
            value = reader.partial()
            if self._decides is not None and isinstance(value, dict) and self._decides(value):
                self._decided = Found(value, False, reader.exact, reader.repeated, ends_at=self._at)
                self.over = True
            return True
        if not reader.ended:
            return self._at > before
        self._seen += reader.visited
        self._object = None
        self._state = self._in_prose
        self._object_over(reader, whole=reader.ended == "whole")
        return True

    def _object_over(self, reader: ObjectReader, *, whole: bool) -> None:
        value = reader.partial()
        ours = self._is_ours(value)
        part = not ours and whole and self._is_part(value)
        looks = reader.quoted_key or ours or (reader.key_begun and not reader.ended)
        self._remains = self._remains or (looks and not (whole and (ours or part)))
        found = Found(
            value,
            whole,
            reader.exact,
            reader.repeated,
            None if whole else reader.key,
            reader.ended == "broken",
            reader.sure,
            self._object_at,
            self._at,
            self._elements[-1] if self._elements and not self._committed else "",
        )
        if not whole and not reader.ended and (looks or any(self._is_part(f.value) for f in self._found)):
            self._cut = found
        if reader.too_deep:  # a text of brackets
            self._broken = self._remains = self.over = True
        if reader.ended == "broken" and reader.quoted_key:  # what follows may lie inside of it
            self._broken = True
            self.over = self._committed and not ours
        if part or (whole and ours and not self._committed):
            self._found.append(found)
        if reader.ended != "broken" or looks:  # a brace of the prose is no object
            self._saw_object = self._saw_object or self._committed
        if ours and self._committed:
            self._decided = found
            self._state = self._in_closing

    def _in_closing(self, text: str) -> bool:
        """Up to the closing tag, so that the reply keeps its form; nothing here is read."""
        assert self._decided is not None
        limit = self._decided.ends_at + MAX_CLOSING
        end = text.find(">", self._at, limit)
        self._take(end + 1 if end >= 0 else min(len(text), limit))
        self.over = end >= 0 or self._at >= limit
        return self.over


def read_reply(raw: str, keys: Iterable[str] | None = None, *, is_ours: IsOurs | None = None) -> Reply:
    """Read a whole reply. Never raises on any text.

    keys: names of which our objects have at least one; None takes any object. is_ours: a rule in place of keys.
    """
    return ReplyReader(is_ours or has_any(keys)).finish(raw)


def read_or_repair(raw: str, keys: Iterable[str]) -> Reply:
    """As `read_reply`; what it cannot read goes through json_repair, where that is installed (`loose_json.repaired`).

    Not for verdicts: what is repaired is a guess.
    """
    reply = read_reply(raw, keys)
    if reply.found or not reply.remains:
        return reply
    wanted = frozenset(plain_key(k) for k in keys)
    body = reply.prose[max(0, reply.prose.find("<answer>")) :]
    body = body[body.find("{") :].split("</answer>")[0].rstrip("`\n ")
    closed = body.endswith(("}", "]")) and all(body.count(a) == body.count(b) for a, b in ("{}", "[]"))
    value = repaired(body, wanted) if closed else None
    if not (isinstance(value, dict) and has_any(wanted)(value)):
        return reply
    found = Found(value, True, False, repaired=True, text=body, ends_at=len(raw))
    return Reply(raw, reply.reasoning, reply.prose, (found,), reply.tagged)


_ESCAPED = re.compile(r"[^{\[]*[{\[]\s*\\[\"']")


def unescaped(reply: Reply) -> str | None:
    """A reply whose JSON was written as the inside of a JSON text, {\\"key\\": ...}, without that layer."""
    if reply.found or reply.thinking or not _ESCAPED.match(reply.prose):
        return None
    return re.sub(r"\\([\"'\\])", r"\1", reply.raw)


def answer_part(text: str) -> str:
    """What stands outside thoughts, as far as it is written; empty while the agent still thinks."""
    reply = ReplyReader(lambda value: False).finish(text)
    return "" if reply.thinking else reply.prose


def _problem(text: str, thinking: bool) -> str:
    if not text.strip():
        return "it was empty."
    if thinking:
        return "it ended while thinking, before its answer."
    return "no JSON object of the expected form was found in it."


def _past_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _is_quoted(text: str, at: int) -> bool:
    """Whether a quotation mark that opens stands right before a tag."""
    mark = text[at - 1] if at else ""
    if mark in {"“", "‘", "「", "『", "«"}:
        return True
    return mark in {'"', "'", "`"} and (at == 1 or bool(_QUOTE_BEFORE.match(text[at - 2])))
