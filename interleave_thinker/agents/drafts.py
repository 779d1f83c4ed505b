"""Draft tokens for speculative decoding, from texts that a reply may repeat.

A wrong draft costs time and changes no token (`decoding.decode` reads near ties again, singly).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

LENGTHS = (4, 3, 2, 1)
"""Of the ends of the reply that are looked for, the longest first."""
DRAFT = 8
"""The most tokens of a draft."""
MOST_REPLIES = 32
"""The most earlier replies that are searched, the newest first."""


class KnownText:
    """Tokens, and where among them each short run of tokens ends; of equal runs the last counts."""

    def __init__(self, tokens: Sequence[int] = ()):
        self.tokens: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        """It follows what is known."""
        end = len(self.tokens)
        for length in LENGTHS:
            if length <= end:
                self._ends[tuple(self.tokens[end - length : end])] = end
        self.tokens.append(token)

    def after(self, run: tuple[int, ...], most: int) -> list[int]:
        """At most `most` tokens that follow a run; empty where it is not known."""
        end = self._ends.get(run)
        return [] if end is None else self.tokens[end : end + most]


class Drafts:
    """texts: the newest first. A retry describes the same picture before it again. The reply itself comes last."""

    def __init__(self, texts: Sequence[KnownText] = ()):
        self._own = KnownText()
        self._texts = [*texts, self._own]

    def took(self, token: int) -> None:
        """The reply goes on with this token."""
        self._own.add(token)

    def guess(self, most: int = DRAFT) -> list[int]:
        """What may follow, at most `most` tokens; empty where nothing like the reply's end is known."""
        if most > 0:
            for length in LENGTHS:
                run = tuple(self._own.tokens[-length:])
                for text in self._texts:
                    guess = text.after(run, most)
                    if guess:
                        return guess
        return []


class KnownTexts:
    """Earlier replies as tokens, each read once."""

    def __init__(self, tokens_of: Callable[[str], Sequence[int]], most: int = 4 * MOST_REPLIES):
        self.tokens_of, self._most = tokens_of, most
        self._known: OrderedDict[str, KnownText] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> list[KnownText]:
        """In their order."""
        found = []
        for text in texts:
            known = self._known.pop(text, None) or KnownText(self.tokens_of(text))
            self._known[text] = known
            found.append(known)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return found
