"""Records: what is written is what is read back, and nothing unknown slips in."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from interleave_thinker.errors import InterleaveError, RunError
from interleave_thinker.loop.document import Document, DocumentItem, compose
from interleave_thinker.loop.plan import Plan, PlanStep
from interleave_thinker.loop.state import LoopSettings, LoopState, begin
from interleave_thinker.loop.trajectory import RAW_LIMIT, Attempt, Judgment, Loads, StepResult, Trajectory

JUDGMENT = Judgment(False, "a red disc", "too blue", True, "<think>…</think>\u2028\x85")
ATTEMPT = Attempt(
    1, 2, "a disc", 1001, "ab", "cd", JUDGMENT, 1.5, 0.5, True, False, "ef", "attempts/x.png", "0a", ("Flux",)
)
PLAN = Plan((PlanStep(1, "n", "i", "p", "a"), PlanStep(2, auxiliary_text="t")), "r", "q")
RESULT = StepResult(1, 2, "cd", False, True)
TRAJECTORY = Trajectory(
    PLAN, (ATTEMPT, dataclasses.replace(ATTEMPT, judgment=None)), (RESULT, StepResult(2)), "stopped"
)
STATE = dataclasses.replace(
    begin(PLAN, LoopSettings(5, "best", "first", "stop_on_reject", 7), ("ff",), {1: 2}), tried=(ATTEMPT,), prompt="p2"
)

RECORDS = [
    JUDGMENT,
    Judgment(True),
    ATTEMPT,
    RESULT,
    StepResult(3),
    TRAJECTORY,
    STATE,
    compose(TRAJECTORY, run="x", title="t"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_round_trip_through_json(record: Any) -> None:
    data = json.loads(json.dumps(record.to_dict()))
    assert type(record).from_dict(data) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_unknown_keys_are_refused_by_name(record: Any) -> None:
    """A file of a newer version, or a typo, must not be half understood."""
    with pytest.raises(RunError, match="'colour'"):
        type(record).from_dict({**record.to_dict(), "colour": 1})


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_a_missing_key_is_an_error_for_the_user_not_a_traceback(record: Any) -> None:
    data = record.to_dict()
    required = [k for k in data if k in ("accepted", "step", "plan", "attempts", "results", "items", "trajectory")]
    for key in required if not isinstance(record, StepResult) else ["step"]:
        with pytest.raises(InterleaveError):
            type(record).from_dict({k: v for k, v in data.items() if k != key})


def test_unknown_keys_inside_are_refused_too() -> None:
    data = TRAJECTORY.to_dict()
    data["attempts"][0]["judgment"]["mood"] = "grim"
    with pytest.raises(RunError, match="'mood'"):
        Trajectory.from_dict(data)
    with pytest.raises(RunError, match="'speed'"):
        LoopState.from_dict({**STATE.to_dict(), "settings": {"speed": 1}})
    with pytest.raises(RunError, match="'font'"):
        Document.from_dict({**compose(TRAJECTORY).to_dict(), "items": [{"kind": "text", "step": 1, "font": "x"}]})


def test_records_are_frozen() -> None:
    for record in (*RECORDS, DocumentItem("text", 1)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, dataclasses.fields(record)[0].name, None)


def test_a_load_counts_as_again_if_an_earlier_attempt_loaded_that_model() -> None:
    """Two models of one class in one attempt are no swap; an attempt that was recalled says nothing."""
    loads = [("Clip", "Flux", "Flux"), None, (), ("Clip", "Vlm"), ("Vlm", "Flux")]
    attempts = [dataclasses.replace(ATTEMPT, attempt=n, loads=names) for n, names in enumerate(loads, 1)]
    assert dataclasses.replace(TRAJECTORY, attempts=tuple(attempts)).loads == Loads(7, 3)
    assert dataclasses.replace(TRAJECTORY, attempts=(attempts[1],)).loads is None


@pytest.mark.parametrize("loads", [5, True, "abc", {"Flux": 1}, [["Flux"]], [{}], [1, None]])
def test_a_record_whose_loads_are_no_names_is_read_without_them(loads: Any) -> None:
    """They say little; a run is worth more."""
    assert Attempt.from_dict({**ATTEMPT.to_dict(), "loads": loads}) == dataclasses.replace(ATTEMPT, loads=None)


def test_loads_of_a_record_are_bounded() -> None:
    loads = Attempt.from_dict({**ATTEMPT.to_dict(), "loads": ["x" * 10_000] * 10_000}).loads
    assert loads == ("x" * 100,) * 100


def test_accepted_is_the_critics_word_unless_a_person_overrides_it() -> None:
    cases = [
        (None, False, False),
        (Judgment(False), False, False),
        (Judgment(True), False, True),
        (Judgment(False), True, True),
        (None, True, True),
    ]
    for judgment, overridden, accepted in cases:
        record = dataclasses.replace(ATTEMPT, judgment=judgment, overridden=overridden)
        assert record.accepted is accepted


def test_identity_tells_the_same_attempt_of_another_request_apart() -> None:
    """After an edited plan the folder holds two attempts 1.2; both must stay."""
    assert ATTEMPT.identity != dataclasses.replace(ATTEMPT, key="other").identity
    assert ATTEMPT.identity == dataclasses.replace(ATTEMPT, seconds=9.0, recalled=False).identity


def test_attempts_of_a_step() -> None:
    other = dataclasses.replace(ATTEMPT, step=2)
    assert Trajectory(PLAN, (ATTEMPT, other)).attempts_of(2) == (other,)


def test_a_long_reply_is_cut_once_and_says_so() -> None:
    assert JUDGMENT.bounded is JUDGMENT
    cut = dataclasses.replace(JUDGMENT, raw="x" * (RAW_LIMIT + 1)).bounded
    assert len(cut.raw) == RAW_LIMIT and cut.raw.startswith("xxx") and f"{RAW_LIMIT + 1} characters" in cut.raw
    assert cut.bounded == cut and dataclasses.replace(cut, raw="") == dataclasses.replace(JUDGMENT, raw="")
