"""Markdown that reads like Markdown: a mark of a text is escaped only where a reader would take it for markup."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..loop.document import Document, DocumentItem, alt_of, one_line

_ALWAYS = re.compile(r"[\\`*\[\]<|~]")
_INSIDE = re.compile(
    r"""
    (?<![^\W_])_ | _(?![^\W_])                    # emphasis; not the one within a word
    | &(?=\#?\w{1,32};)                            # an entity
    | :(?=//) | (?<=www)\. | (?<=\w)@(?=\w)        # what becomes a link by itself
    | :(?=[\w+-]+:) | =(?==) | (?<==)=             # :smile:, ==marked==
    | (?<=\])\(                                    # what would be a link's address
    | \$(?=[^\n]*\$) | (?<=\$)\$ | \$(?=\S)        # mathematics
    """,
    re.X,
)
_AT_START = re.compile(r"^(\#{1,6}(?=\s|$)|>|[-+](?=\s|$)|[-=+_:]{1,}(?=[-=\s|:]*$))")
_NUMBER = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
_HTML_CHARACTERS = str.maketrans({"\x00": "", "\u2028": "\n", "\u2029": "\n", "\x0b": "\n", "\x0c": "\n", "\x85": "\n"})


def to_markdown(document: Document, image_path: Callable[[DocumentItem], str], *, details: bool = False) -> str:
    """Markdown with relative picture paths; `image_path` must give plain names of our own making.

    details: also say which pictures the critic did not accept, and why a run was stopped.
    """
    parts = []
    if document.title:
        parts.append(f"# {_heading(one_line(document.title))}")
    if document.lead:
        parts.append(escape_markdown(document.lead))
    for item in document.items:
        if item.kind == "text":
            parts.append(escape_markdown(item.text))
            continue
        parts.append(f"![{escape_markdown(alt_of(item))}]({image_path(item)})")
        if details and item.remark:
            parts.append(f"*This picture: {item.remark}.*")
    if details and document.stop:
        parts.append(f"*The run was stopped: {escape_markdown(document.stop)}*")
    return "\n\n".join(part for part in parts if part) + "\n"


def escape_markdown(text: str) -> str:
    """Text that every Markdown reader shows as it is: in the same lines and paragraphs."""
    lines = "\n".join(_line(line.strip()) for line in text.translate(_HTML_CHARACTERS).splitlines())
    return re.sub(r"(?<=\S)\n(?=\S)", "  \n", lines)


def _heading(text: str) -> str:
    """A row of # at the end would close the heading."""
    return re.sub(r"(^|\s)(?=#+$)", r"\1\\", escape_markdown(text))


def _line(line: str) -> str:
    numbered = _NUMBER.match(line)
    start = len(numbered[1]) if numbered else 0
    if numbered or _AT_START.match(line):
        return line[:start] + "\\" + line[start] + _inside(line[start + 1 :], line[: start + 1])
    return _inside(line, "")


def _inside(text: str, before: str) -> str:
    whole = before + text
    marks = {m.start() for pattern in (_ALWAYS, _INSIDE) for m in pattern.finditer(whole, len(before))}
    return "".join(f"\\{c}" if at in marks else c for at, c in enumerate(whole) if at >= len(before))
