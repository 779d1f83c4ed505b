"""JSON of workflow files, read and written so that what is not changed stays as it was written, to the byte."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from typing import Any

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; UTF-32's begins with UTF-16's."""


class WrittenNumber(float):
    """A number with a point or an exponent that keeps how it was written: 1e-7 is not written back as 1e-07."""

    text: str

    def __new__(cls, written: str | float) -> WrittenNumber:
        number = super().__new__(cls, written)
        number.text = str(written)
        return number


def read_json(data: bytes) -> Any:
    """What a file holds: UTF-8 with or without byte order mark, UTF-16 or UTF-32 with one, as Windows writes them.

    Raises:
        ValueError: it is no such text, or no JSON; says why.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(f"it is no {encoding.upper()} text; save it as UTF-8") from None
    return parse_json(text.lstrip("\ufeff"))


def parse_json(text: str) -> Any:
    """Raises:
    ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_float=WrittenNumber)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_json(value: object) -> bytes:
    """As the editor's Export (API) writes it."""
    return _text(value, "\n").encode("utf-8", "backslashreplace")  # half a surrogate pair becomes its JSON escape


def _text(value: object, line: str) -> str:
    """`line`: the line break with the indent of the line that the value begins in."""
    inner = f"{line}  "
    if isinstance(value, Mapping) and value:
        entries = [f"{json.dumps(str(k), ensure_ascii=False)}: {_text(v, inner)}" for k, v in value.items()]
        return f"{{{inner}{f',{inner}'.join(entries)}{line}}}"
    if isinstance(value, (list, tuple)) and value:
        return f"[{inner}{f',{inner}'.join(_text(v, inner) for v in value)}{line}]"
    return value.text if isinstance(value, WrittenNumber) else json.dumps(value, ensure_ascii=False)
