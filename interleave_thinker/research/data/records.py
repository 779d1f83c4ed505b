"""Records for training: one for each judged attempt, one for each plan; as lines of JSON beside the images.

Paths are relative to the folder that the records lie in. `schema(cls)` is the JSON Schema of a record;
`docs/training.md` describes the fields.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

from PIL import Image

from ...errors import InterleaveError, PlanError
from ...files import is_below, write_atomically
from ...loop.plan import Plan
from ...storage.images import open_rgb

Labeller = Literal["critic", "user", "checker", "judge"]
"""Who says whether an attempt succeeded: the run's critic, the person who overruled it, a ground truth, a judge."""

CRITIC_FILE, PLANNER_FILE, REQUESTS_FILE, DROPS_FILE = "critic.jsonl", "planner.jsonl", "requests.jsonl", "drops.json"
SCORED_FILE = "scored.jsonl"


class DataError(InterleaveError):
    """Records or pictures that cannot be used."""


@dataclass(frozen=True)
class CriticRecord:
    """One attempt (I_{i-1}, I_i^t, p_i, r_i^t) and the judgment of it (paper, section 4).

    prompt: p_i, as planned. used: r_i^t, the prompt that really made `after`.
    before: None for a picture that was drawn from text alone.
    success: the label J_i. refined: the prompt that followed a rejection, "" else.
    semantics, quality: 0 to 10, VIEScore's SC and PQ; None until scored.
    """

    id: str
    group: str
    request: str
    step: int
    attempt: int
    instruction: str
    prompt: str
    used: str
    before: str | None
    after: str
    success: bool
    labelled_by: Labeller
    refined: str = ""
    reasoning: str = ""
    semantics: float | None = None
    quality: float | None = None

    @property
    def overall(self) -> float | None:
        """sqrt(SC * PQ), 0 to 10; None where one of them is missing."""
        if self.semantics is None or self.quality is None:
            return None
        return math.sqrt(self.semantics * self.quality)


@dataclass(frozen=True)
class PlannerRecord:
    """One request, the plan that was carried out, and the picture that each step ended with ("" for a step of text).

    edited: a person changed the plan; it is theirs, not the agent's.
    """

    id: str
    request: str
    images: tuple[str, ...]
    plan: Mapping[str, Any]
    pictures: tuple[str, ...] = ()
    edited: bool = False


@dataclass(frozen=True)
class RequestRecord:
    """A request that a trajectory starts from. images: the user's own. plan: where it is given, no planner is asked.
    domain, category, template: of the taxonomy, if `data prompts` wrote it.
    """

    id: str
    request: str
    images: tuple[str, ...] = ()
    plan: Mapping[str, Any] | None = None
    domain: str = ""
    category: str = ""
    template: str = ""


R = TypeVar("R", CriticRecord, PlannerRecord, RequestRecord)
RECORDS: dict[str, type[CriticRecord] | type[PlannerRecord] | type[RequestRecord]] = {
    "critic": CriticRecord,
    "planner": PlannerRecord,
    "request": RequestRecord,
}
AnyRecord = CriticRecord | PlannerRecord | RequestRecord


@dataclass
class Drops:
    """Counts of the records that were seen, kept, and dropped, by reason. They add up: `complete()`."""

    seen: int = 0
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def keep(self) -> None:
        self.seen += 1
        self.kept += 1

    def drop(self, reason: str, count: int = 1) -> None:
        self.seen += count
        if count:
            self.reasons[reason] += count

    def complete(self) -> bool:
        return self.seen == self.kept + sum(self.reasons.values())

    def to_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "kept": self.kept, "dropped": dict(self.reasons.most_common())}

    def lines(self) -> list[str]:
        return [
            f"{self.seen} seen, {self.kept} kept",
            *(f"  {n} dropped: {why}" for why, n in self.reasons.most_common()),
        ]


def write_records(path: Path, records: Sequence[AnyRecord]) -> None:
    lines = [json.dumps(asdict(r), ensure_ascii=False) for r in records]
    write_atomically(path, ("\n".join(lines) + "\n" if lines else "").encode("utf-8", "replace"))


def read_records(path: Path, cls: type[R]) -> Iterator[R]:
    """The records of a file, in order.

    Raises:
        DataError: the file cannot be read, or a line is no record; the message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8.") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _record(cls, line, f"{path}, line {number}")


def open_image(folder: Path, name: str) -> Image.Image:
    """A record's picture as RGB; `folder` is that of the records.

    Raises:
        DataError: it is missing, cannot be read, or lies elsewhere; the message is short, to be counted.
    """
    path = folder / name
    if not is_below(folder, path):
        raise DataError("a picture's path leads out of the folder")
    try:
        return open_rgb(path)
    except FileNotFoundError:
        raise DataError("a picture is missing") from None
    except OSError:
        raise DataError("a picture cannot be read") from None


def _record(cls: type[R], line: str, place: str) -> R:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not valid JSON: {error}.") from None
    problem = invalid(cls, data) or (_no_plan(data["plan"]) if cls is PlannerRecord else "")
    if problem:
        raise DataError(f"{place}: {problem}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return cls(**values)


def _no_plan(found: object) -> str:
    """Why a record's plan is none, or ""."""
    try:
        Plan.from_dict(cast("Mapping[str, Any]", found))
    except PlanError as error:
        return f"its plan: {error}"
    return ""


def invalid(cls: type[AnyRecord], data: object) -> str:
    """The first rule of `schema` that a record breaks, or ""."""
    if not isinstance(data, dict):
        return "a record must be an object."
    rules = schema(cls)
    for name in rules["required"]:
        if name not in data:
            return f"the key {name!r} is missing."
    for name, value in data.items():
        rule = rules["properties"].get(name)
        if rule is None:
            return f"unknown key {name!r}; known are {', '.join(rules['properties'])}."
        if not _fits(value, rule):
            return f"{name} is {value!r:.60}, which is not {rule.get('enum') or rule['type']}."
    return ""


def schema(cls: type[AnyRecord]) -> dict[str, Any]:
    """JSON Schema (2020-12) of a record, from the dataclass itself."""
    kinds: dict[str, dict[str, Any]] = {
        "str": {"type": ["string"]},
        "str | None": {"type": ["string", "null"]},
        "int": {"type": ["integer"], "minimum": 1},
        "bool": {"type": ["boolean"]},
        "float | None": {"type": ["number", "null"], "minimum": 0, "maximum": 10},
        "Labeller": {"type": ["string"], "enum": list(get_args(Labeller))},
        "tuple[str, ...]": {"type": ["array"], "items": {"type": ["string"]}},
        "Mapping[str, Any]": {"type": ["object"]},
        "Mapping[str, Any] | None": {"type": ["object", "null"]},
    }
    required = [f.name for f in fields(cls) if f.default is f.default_factory]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": cls.__name__,
        "type": "object",
        "properties": {f.name: kinds[str(f.type)] for f in fields(cls)},
        "required": required,
        "additionalProperties": False,
    }


_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def _fits(value: object, rule: Mapping[str, Any]) -> bool:
    if value is None:
        return "null" in rule["type"]
    kinds = [k for k in rule["type"] if k != "null" and isinstance(value, _TYPES[k])]
    if not kinds or (isinstance(value, bool) and "boolean" not in kinds):
        return False
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return bool(rule.get("minimum", -math.inf) <= value <= rule.get("maximum", math.inf))
    if isinstance(value, list):
        return all(isinstance(v, str) for v in value)
    return "enum" not in rule or value in rule["enum"]
