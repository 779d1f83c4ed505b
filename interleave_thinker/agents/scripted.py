"""An agent that says what it was told to say: the test double, shipped as a normal backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .base import Completion, Message, OnText, Sampling, TextStream


@dataclass
class ScriptedAgent:
    """Replies in order; the last one repeats. A reply may be a function of the messages.

    `calls` keeps the messages of every call.
    """

    replies: Sequence[str | Callable[[Sequence[Message]], str]]
    name: str = "scripted"
    prompts: str | None = None
    calls: list[Sequence[Message]] = field(default_factory=list)

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        reply = self.replies[min(len(self.calls), len(self.replies) - 1)]
        self.calls.append(list(messages))
        stream = TextStream(on_text)
        words = _words(reply if isinstance(reply, str) else reply(messages))
        for word in words:
            if stream.tokens >= sampling.max_tokens:
                return stream.completion(cut_off=True)
            if not stream.push(word):
                break
        return stream.completion(cut_off=False)


def _words(text: str) -> Iterator[str]:
    """Pieces about as long as tokens."""
    for start in range(0, len(text), 4):
        yield text[start : start + 4]
