"""What happened: attempts, judgments and the chosen attempt of each step.

One `Attempt` is one generator call and, where the critic was asked, its judgment; the run folder keeps
them as lines of `trajectory.jsonl`, from which data construction and the document are made.
Knows nothing of how attempts are made or stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from ..errors import RunError
from .plan import Plan

T = TypeVar("T")

MOST_LOADS = 100
"""Models that an attempt loads, and characters of a name, that are kept."""
MOST_LOG_ODDS = 1000.0
"""Log-odds are kept within this on both sides: JSON has no infinity."""
RAW_LIMIT = 20_000
"""Characters of a critic's reply that are kept."""


@dataclass(frozen=True)
class Judgment:
    """The critic's word on one attempt: j, r^{t+1} and R of the paper, section 3.3.

    `parsed=False`: the reply could not be read; then `accepted` is the declared fallback and
    `refined_prompt` is empty, and `note` says what was wrong with it. A rejection that was read (`parsed=True`) has a
    `note` if its refined prompt could not be read. `raw` is always what the critic wrote.

    `log_odds`: of true against false at the verdict, in nats, as the agent had them; None where it gives no token
    probabilities. `strictness`: accept only if the log-odds of true exceed this. Above 0: stricter. Below 0: more
    lenient. 0: as trained, also where nothing could be shifted.
    """

    accepted: bool
    refined_prompt: str = ""
    reasoning: str = ""
    parsed: bool = True
    raw: str = ""
    note: str = ""
    strictness: float = 0.0
    log_odds: float | None = None

    @property
    def turned(self) -> bool:
        """Whether strictness made another verdict of it than the one that the critic itself thought likelier."""
        return self.strictness != 0 and self.log_odds is not None and self.accepted != (self.log_odds > 0)

    @property
    def bounded(self) -> Judgment:
        """With the first part of `raw` and a note where `raw` is longer than `RAW_LIMIT`."""
        if len(self.raw) <= RAW_LIMIT:
            return self
        note = f"\n[The reply had {len(self.raw)} characters; the rest was cut.]"
        return replace(self, raw=self.raw[: RAW_LIMIT - len(note)] + note)

    def to_dict(self) -> dict[str, Any]:
        """Without `strictness` and `log_odds` where there are none: as versions before wrote it."""
        values = asdict(self)
        if self.strictness == 0:
            del values["strictness"]
        if self.log_odds is None:
            del values["log_odds"]
        return values

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Judgment:
        if not isinstance(data, Mapping):
            raise RunError(f"A judgment is {str(data)[:40]!r}; it must be an object.")
        numbers = {"strictness": _number(data.get("strictness")) or 0.0, "log_odds": _number(data.get("log_odds"))}
        return strict(Judgment, {**data, **numbers})


@dataclass(frozen=True)
class Attempt:
    """One generator call. `step` and `attempt` count from 1; images are named by store keys.

    `key` names the request (body, prompt, seed, reference), `image_key` the pixels that came of it,
    `judgment_key` everything that made the judgment (judge, picture, prompts); a judgment is recalled by it.
    `overridden`: a person accepted it against, or instead of, the critic. `loads`: class names of the models that
    ComfyUI loaded for the picture and its judgment, in order; None where they are not counted.
    """

    step: int
    attempt: int
    prompt: str
    seed: int
    reference_key: str | None
    image_key: str
    judgment: Judgment | None = None
    seconds: float = 0.0
    judge_seconds: float = 0.0
    recalled: bool = False
    overridden: bool = False
    key: str = ""
    file: str = ""
    judgment_key: str = ""
    loads: tuple[str, ...] | None = None

    @property
    def identity(self) -> str:
        """What makes this record unique in its run."""
        return f"{self.step}.{self.attempt}.{self.key}"

    @property
    def accepted(self) -> bool:
        return self.overridden or (self.judgment is not None and self.judgment.accepted)

    def to_dict(self) -> dict[str, Any]:
        """Without `loads` where they are not counted: as versions before wrote it."""
        values = asdict(self)
        if self.judgment is not None:
            values["judgment"] = self.judgment.to_dict()
        if self.loads is None:
            del values["loads"]
        return values

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Attempt:
        values = dict(data)
        if values.get("judgment") is not None:
            values["judgment"] = Judgment.from_dict(values["judgment"])
        values["loads"] = _names(values.get("loads"))
        return strict(Attempt, values)


@dataclass(frozen=True)
class StepResult:
    """How one plan step ended. `chosen` is the attempt that went on, 0 for a step of text only."""

    step: int
    chosen: int = 0
    image_key: str | None = None
    accepted: bool = True
    exhausted: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> StepResult:
        return strict(StepResult, data)


@dataclass(frozen=True)
class Loads:
    """How often a run loaded a model. again: loads of a class that an earlier attempt had loaded; as a rule the model
    had left memory for another one (a swap).
    """

    count: int
    again: int


@dataclass(frozen=True)
class Verdicts:
    """How many of a run's attempts its critic judged, and how many of these it accepted. What a person accepted counts
    as what the critic said of it; a reply that could not be read is no verdict.

    strictness: the least and the greatest that a verdict was shifted by.
    """

    accepted: int
    judged: int
    strictness: tuple[float, float]


@dataclass(frozen=True)
class Trajectory:
    """A plan and everything that was done for it, in order."""

    plan: Plan
    attempts: tuple[Attempt, ...] = ()
    results: tuple[StepResult, ...] = ()
    status: str = "done"

    @property
    def loads(self) -> Loads | None:
        """Over all attempts; None where none was counted."""
        counted = [a.loads for a in self.attempts if a.loads is not None]
        again, known = 0, set[str]()
        for names in counted:
            again += sum(name in known for name in names)
            known.update(names)
        return Loads(sum(map(len, counted)), again) if counted else None

    @property
    def verdicts(self) -> Verdicts | None:
        """Over all attempts; None where none was judged."""
        judged = [a.judgment for a in self.attempts if a.judgment is not None and a.judgment_key and a.judgment.parsed]
        shifts = [judgment.strictness for judgment in judged]
        accepted = sum(judgment.accepted for judgment in judged)
        return Verdicts(accepted, len(judged), (min(shifts), max(shifts))) if judged else None

    def attempts_of(self, step: int) -> tuple[Attempt, ...]:
        return tuple(a for a in self.attempts if a.step == step)

    def to_dict(self) -> dict[str, Any]:
        return {
            "plan": self.plan.to_dict(),
            "attempts": [a.to_dict() for a in self.attempts],
            "results": [r.to_dict() for r in self.results],
            "status": self.status,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Trajectory:
        unknown = sorted(set(data) - {"plan", "attempts", "results", "status"})
        if unknown:
            raise RunError(f"Unknown key {unknown[0]!r} in a trajectory.")
        try:
            return Trajectory(
                Plan.from_dict(data["plan"]),
                tuple(Attempt.from_dict(a) for a in data["attempts"]),
                tuple(StepResult.from_dict(r) for r in data["results"]),
                data["status"],
            )
        except KeyError as error:
            raise RunError(f"A trajectory lacks {error}.") from None


def _names(loads: object) -> tuple[str, ...] | None:
    """A record's loads, bounded; None where they are no list of names. A run is read without them."""
    if not isinstance(loads, (list, tuple)) or not all(isinstance(name, str) for name in loads):
        return None
    return tuple(name[:MOST_LOADS] for name in loads[:MOST_LOADS])


def _number(value: object) -> float | None:
    """A record's number; None where it is none, or beyond `MOST_LOG_ODDS`. A run is read without it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -MOST_LOG_ODDS <= value <= MOST_LOG_ODDS:
        return None
    return float(value)


def strict(cls: type[T], data: Mapping[str, Any]) -> T:
    """Build a dataclass from a mapping of exactly its fields (fields with a default may be missing).

    Raises:
        RunError: a key is unknown or a required one is missing; the message names it.
    """
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - known)
    if unknown:
        raise RunError(f"Unknown key {unknown[0]!r} in a {cls.__name__}; known keys are {sorted(known)}.")
    try:
        return cls(**data)
    except TypeError as error:
        raise RunError(f"A {cls.__name__} cannot be read: {error}.") from None
