"""The parts of every benchmark: items, a system's outputs, and questions to a judge.

A benchmark reads its official records, writes outputs and scores in its official layout, and asks the judge about each
output. `runner.py` does the rest: it knows no benchmark, and a benchmark knows neither systems nor models.
"""

from __future__ import annotations

import csv
import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from PIL import Image

from ...agents.base import Part, Sampling
from ...errors import InterleaveError
from ...files import is_below
from ...reading.replies import answer_part, read_reply
from .metric import Metric

T = TypeVar("T")


class BenchError(InterleaveError):
    """A benchmark's file, setting or command that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Item:
    """One test case. A system gets `request` and `images`; `record` is the official record.

    mode: "document": text and pictures; "picture": the last picture is the answer; "text": text about
    the given pictures.
    """

    id: str
    group: str
    request: str
    images: tuple[Path, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    mode: Literal["document", "picture", "text"] = "document"


@dataclass(frozen=True)
class Step:
    """One step of a system's output: its text, and its image where it has one."""

    text: str = ""
    image: Image.Image | None = None


@dataclass(frozen=True)
class Output:
    """A system's output for an item, with its cost."""

    steps: tuple[Step, ...]
    generator_calls: int = 0
    seconds: float = 0.0

    @property
    def images(self) -> list[Image.Image]:
        return [s.image for s in self.steps if s.image is not None]

    @property
    def text(self) -> str:
        return "\n".join(s.text for s in self.steps if s.text)


class Ask(Protocol):
    """One call of the judge about one criterion of one item; None if it failed for good.

    `parse` returns None for a reply that it cannot read. Replies are kept, so asking again costs nothing.
    """

    def __call__(
        self,
        criterion: str,
        parts: Sequence[Part],
        parse: Callable[[str], T | None],
        *,
        system: str | None = None,
        sampling: Sampling = ...,
    ) -> T | None: ...


class Benchmark(ABC):
    """One benchmark on one data file."""

    name: ClassVar[str]
    where: ClassVar[str]
    """Where the official files are to be had, for error messages and help."""
    official: ClassVar[Mapping[str, int]] = {}
    """Items of the full official set by group, or {"": n} where its groups are not known."""
    only: frozenset[str] | None = None
    """Ids of the items that `aggregate` counts, where a run says which it judged; None: all of the data."""

    def pooled_as(self, metric: str) -> str | None:
        """The name under which `agree` puts the items of several systems' metrics together; None: left out."""
        return metric

    def counts(self, item: str) -> bool:
        """Whether `aggregate` counts an item of the data that the score files lack."""
        return self.only is None or item in self.only

    @abstractmethod
    def items(self) -> list[Item]:
        """The test cases in official order."""

    def census(self, items: Sequence[Item]) -> str:
        """How these items compare to the full official set: what is missing, by group; "" if nothing is."""
        found: dict[str, int] = {}
        for item in items:
            group = item.group if "" not in self.official else ""
            found[group] = found.get(group, 0) + 1
        lacking = [f"{found.get(g, 0)} of {n} {g}".strip() for g, n in self.official.items() if found.get(g, 0) != n]
        return f"not the full official set: {', '.join(lacking)} items" if lacking else ""

    @abstractmethod
    def judge_calls(self, item: Item) -> int:
        """How many times the judge is asked about this item."""

    @abstractmethod
    def save(self, outputs: Path, item: Item, output: Output) -> None:
        """Write one item's output in the official layout; whole or not at all."""

    def finish(self, outputs: Path, items: Sequence[Item]) -> None:  # noqa: B027 - most have nothing to add
        """Write the files that the official layout has once for all items."""

    @abstractmethod
    def has_output(self, outputs: Path, item: Item) -> bool:
        """Whether the official layout holds an output of this item."""

    @abstractmethod
    def judge(self, outputs: Path, item: Item, ask: Ask) -> dict[str, Any]:
        """Ask everything about one item. Returns its official score record, None where a call failed."""

    @abstractmethod
    def write_scores(self, folder: Path, verdicts: Mapping[str, dict[str, Any]], items: Sequence[Item]) -> Path:
        """Write the official score file or files. Returns the path for `aggregate`."""

    @abstractmethod
    def aggregate(self, paths: Sequence[Path]) -> list[Metric]:
        """Read official score files, ours or upstream's, and score them."""


def read_json(path: Path) -> Any:
    """A JSON or JSON-lines file.

    Raises:
        BenchError: it is missing or is neither.
    """
    text = read_text(path)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as whole:
        rows: list[Any] = []
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                if not rows:
                    raise BenchError(f"{path} is neither JSON nor JSON lines: {whole}.") from None
                raise BenchError(
                    f"{path}: line {number} is no whole JSON value ({error}). Repair it, or take it out if it was cut "
                    "off while it was written."
                ) from None
        if not rows:
            raise BenchError(f"{path} is empty.") from None
        found = rows
    return _without_halves(found) if _HALF.search(text) else found


_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _without_halves(value: Any) -> Any:
    """Half characters, which JSON may spell and no UTF-8 file can hold, become U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_without_halves(v) for v in value]
    if isinstance(value, dict):
        return {_without_halves(k): _without_halves(v) for k, v in value.items()}
    return value


def read_records(path: Path, need: Sequence[str], what: str, texts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The records of a data file (.json, .jsonl or .parquet), each with the fields `need`; `texts` are texts.

    Raises:
        BenchError: the file cannot be read, holds no list, or a record lacks a field; the message names it.
    """
    if not path.is_file():
        raise BenchError(f"There is no {what} file {path}.")
    rows: Any = _read_parquet(path) if path.suffix == ".parquet" else read_json(path)
    if isinstance(rows, dict) and set(need) <= set(rows):
        rows = [rows]
    if not isinstance(rows, list) or not rows:
        raise BenchError(f"{path} must hold a list of {what} records.")
    for number, row in enumerate(rows, 1):
        lacking = [n for n in need if not isinstance(row, dict) or row.get(n) is None]
        if lacking:
            raise BenchError(f"{path}: record {number} has no {lacking[0]!r}; {what} records need {', '.join(need)}.")
        for name in texts:
            if not isinstance(row[name], str) or not row[name].strip():
                raise BenchError(f"{path}: record {number} has {name} {str(row[name])[:60]!r}; it must be a text.")
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise BenchError(f"Reading {path.name} needs pyarrow: pip install pyarrow. Or save it as JSON lines.") from None
    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} is not a parquet file: {error}.") from None
    return rows


HALVES = "backslashreplace"
"""How half characters of a model's text are written into JSON: as the escape that JSON has for them."""


def dump(value: object) -> bytes:
    """Indented JSON as UTF-8, with a newline at the end."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8", HALVES)


def save_last_image(output: Output, item: Item, path: Path) -> None:
    """Write the output's last image to `path`, whole or not at all.

    Raises:
        BenchError: it has no image.
    """
    if not output.images:
        raise BenchError(f"Item {item.id}: the system made no picture.")
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(f".{path.name}")
    output.images[-1].save(writing)
    writing.replace(path)


def open_image(path: Path) -> Image.Image:
    """A picture file as RGB, fully read.

    Raises:
        BenchError: it is missing or no picture.
    """
    try:
        with Image.open(path) as file:
            image: Image.Image = file.convert("RGB")
            return image
    except Exception as error:  # whatever a decoder makes of a broken file
        raise BenchError(f"Cannot read picture {path}: {error}.") from None


def image_path(folder: Path, name: object) -> Path:
    """An image's path from a data file, which starts at `folder`.

    Raises:
        BenchError: it leads out of the folder.
    """
    path = folder / str(name)
    if not is_below(folder, path):
        raise BenchError(f"Picture path {str(name)[:80]!r} leads out of {folder}.")
    return path


def read_text(path: Path) -> str:
    """Raises BenchError if the file is missing or no UTF-8 text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BenchError(f"Cannot read {path}: {reason}.") from None


def read_rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """A CSV file's rows by its header."""
    try:
        rows = csv.DictReader(io.StringIO(read_text(path)), delimiter=delimiter)
        return [{k: v for k, v in row.items() if k is not None and v is not None} for row in rows]
    except csv.Error as error:
        raise BenchError(f"{path} is no table: {error}.") from None


def answered(raw: str) -> str:
    """A judge's reply without its thoughts, in which nothing counts as an answer; empty if it never stops thinking."""
    return answer_part(raw)


def answer_object(raw: str) -> dict[str, Any]:
    """The JSON object of a judge's answer; {} if only its thoughts have one, or if it would need a repair."""
    reply = read_reply(answered(raw))
    return (reply.answer or {}) if reply.exact else {}


_TAIL = re.compile(r"[ \t]*(?:(?:/|out of)[ \t]*(\d+))?(?P<rest>[^\n]*)", re.I)
_GOES_ON = re.compile(r"[ \t]*(?:[\d\-–—~|/½¼¾]|[.,][ \t]*\d|(?:or|to|and|out|of)\b)", re.I)


def whole_mark(text: str, start: int, low: int, high: int) -> int | None:
    """The whole number at `start`, if it stands for itself: "4", "4.", "4/5" and "4 out of 5" of a scale to 5.

    None for anything else: "4.5", "1-5", "0 or 1", "4/10", "4 1/2", a number out of range.
    """
    found = re.compile(r"\d+").match(text, start)
    if found is None or len(found.group()) > 9:
        return None
    tail = _TAIL.match(text, found.end())
    assert tail is not None
    if (tail.group(1) is not None and tail.group(1) != str(high)) or _GOES_ON.match(tail.group("rest")):
        return None
    value = int(found.group())
    return value if low <= value <= high else None


def number_in(value: object, low: float, high: float) -> float | None:
    """A number of the range, also one written as text; None for anything else (True is no number)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or "_" in str(value)[:400]:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if low <= number <= high else None


def of_categories(cells: Mapping[str, Any], categories: Sequence[str]) -> dict[str, Any]:
    """A table row's cells by category; blank cells (None) are left out, and a category that two columns name."""
    found = {c: [v for name, v in cells.items() if v is not None and names_category(name, c)] for c in categories}
    return {category: values[0] for category, values in found.items() if len(values) == 1}


_FIGURE = {"reasoning", "accuracy", "acc", "score"}


def names_category(column: str, category: str) -> bool:
    """Whether a column's name begins as the category does: "Cultural" is CULTURE, "Time per image" is no TIME."""
    words = re.findall(r"[^\W\d_]+", column.lower())
    return bool(words) and words[0][:4] == category[:4].lower() and set(words[1:]) <= _FIGURE


def plain_name(value: object, what: str) -> str:
    """An id from a data file as a file name: ids come from outside and must not lead anywhere.

    Raises:
        BenchError: it holds a path separator or a control character, is a dot name, or is empty or longer than 200
            bytes.
    """
    name = str(value)
    odd = not name or name.startswith(".") or any(c in '/\\:*?"<>|' or ord(c) < 32 or c == "\ufffd" for c in name)
    if odd or len(name.encode("utf-8", "surrogatepass")) > 200:
        raise BenchError(f"{what} {name[:60]!r} cannot be a file name; data files must use plain ids.")
    return name
