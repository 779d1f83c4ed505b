"""Decode a reply's text token by token, in linear time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNREADABLE = "\ufffd"
LONGEST = 8
"""Tokens of one character at most; after so many a character that still cannot be read never will be."""


class TokenText:
    """Pieces of text, token by token. Together they are what `decode` makes of all tokens at once.

    A token may be a part of a character, and may read otherwise at the beginning of a text than behind another. So the
    last readable piece is decoded again together with what came after it, and no more than that.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]):
        self._decode = decode
        self._ids: list[int] = []
        self._begin = self._read = 0

    def add(self, token: int) -> str:
        """The text that this token completes; empty in the middle of a character."""
        self._ids.append(token)
        known = self._decode(self._ids[self._begin : self._read]) if self._read > self._begin else ""
        text = self._decode(self._ids[self._begin :])
        whole = not text.endswith(UNREADABLE) or len(self._ids) - self._read >= LONGEST
        if not whole or len(text) <= len(known):
            return ""
        self._begin, self._read = self._read, len(self._ids)
        return text[len(known) :]

    def rest(self) -> str:
        """The end of the text, where it ends inside a character; empty after it was given."""
        known = self._decode(self._ids[self._begin : self._read]) if self._read > self._begin else ""
        text = self._decode(self._ids[self._begin :]) if self._read < len(self._ids) else ""
        self._begin = self._read = len(self._ids)
        return text[len(known) :]
