"""Text of others (a model, a server, a file's name) made safe to print: a terminal obeys what it is sent."""

from __future__ import annotations

import re
import unicodedata

_SEQUENCES = re.compile(
    r"""(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]        # colours, cursor, clearing
      | (?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)  # titles, links, the clipboard
    """,
    re.VERBOSE,
)
_LINE_ENDS = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Signs that turn the direction of writing, so that a line reads as another one."""
_CUT = "..."


def printable(text: str, *, lines: bool = False, longest: int | None = None) -> str:
    """`text` without control characters, escape sequences and turns of the direction of writing.

    lines: keep line ends, as "\\n"; else each is a space, and so is a tab. longest: characters of the result; what is
    cut off ends in "...".
    """
    text = _LINE_ENDS.sub("\n" if lines else " ", _SEQUENCES.sub("", text)).replace("\t", " ")
    text = "".join(sign for sign in text if sign == "\n" or not _is_control(sign))
    if longest is None or len(text) <= longest:
        return text
    return text[: max(0, longest - len(_CUT))] + _CUT[:longest]


def _is_control(sign: str) -> bool:
    return sign in _TURNS or unicodedata.category(sign) in ("Cc", "Cs")
