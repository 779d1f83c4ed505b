"""Every run that somebody made can be learned from: their own verdicts count, and nothing unfit slips in unseen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from interleave_thinker.agents.base import Message
from interleave_thinker.cli import main
from interleave_thinker.loop.plan import Plan, PlanStep
from interleave_thinker.research.data.export import sequences
from interleave_thinker.research.data.filters import FilterOptions, filtered_by_label
from interleave_thinker.research.data.from_runs import from_runs, runs_below
from interleave_thinker.research.data.records import (
    CriticRecord,
    DataError,
    PlannerRecord,
    read_records,
    schema,
    write_records,
)


def asked(*prompts: str | None) -> Plan:
    steps = tuple(PlanStep(i, instruction=p, prompt=p, auxiliary_text=f"text {i}") for i, p in enumerate(prompts, 1))
    return Plan(steps, request="Show it.")


def critic(messages: Sequence[Message]) -> str:
    """Accepts what it has rewritten itself."""
    text = str(messages[-1].parts[-1])
    accepted = "plainly" in text.split("Judge AFTER")[0].split("given this time")[1]
    answer = {"previous_step_success": accepted, "refine_prompt": "a plainly said one"}
    return f"<think>because</think><answer>{json.dumps(answer)}</answer>"


@pytest.fixture
def made(studio: Any) -> Any:
    studio.run(asked("one", None, "two"), [critic], name="first", user_images=studio.keep("red"))
    return studio


def records(studio: Any, out: Path) -> tuple[list[CriticRecord], list[PlannerRecord], Any]:
    return from_runs(runs_below(studio.runs), out, studio.store)


def test_each_judged_attempt_is_a_record_with_the_prompt_that_made_it(made: Any, tmp_path: Path) -> None:
    found, plans, drops = records(made, tmp_path / "out")
    assert [(r.step, r.attempt, r.prompt, r.used, r.success) for r in found] == [
        (1, 1, "one", "one", False),
        (1, 2, "one", "a plainly said one", True),
        (3, 1, "two", "two", False),
        (3, 2, "two", "a plainly said one", True),
    ]
    assert all(r.labelled_by == "critic" and r.reasoning == "because" for r in found)
    assert found[0].refined == "a plainly said one" and found[1].refined == ""
    assert found[0].before == found[1].before, "a retry starts from the step's reference"
    assert found[2].before == found[1].after, "a step starts from the picture that was accepted"
    (plan,) = plans
    assert plan.pictures == (found[1].after, "", found[3].after) and len(plan.images) == 1 and not plan.edited
    for name in {r.after for r in found} | {r.before for r in found if r.before} | set(plan.images):
        assert (tmp_path / "out" / name).is_file()
    assert all(d.complete() for d in drops.values())


def test_a_persons_verdict_is_the_label_and_their_plan_is_theirs(studio: Any, tmp_path: Path) -> None:
    studio.run(asked("one"), [critic], name="overruled", picks={1: 1})
    node = {"type": "InterleaveThinkerPlanner", "widgets_values": ["Show it.", 12, 0, '{"execution_plan": []}']}
    (studio.runs / "overruled" / "workflow.json").write_text(json.dumps({"nodes": [node]}))
    found, plans, _ = records(studio, tmp_path / "out")
    assert [(r.attempt, r.success, r.labelled_by, r.refined) for r in found] == [(1, True, "user", "")]
    assert plans[0].edited


def test_a_step_that_was_done_again_from_another_picture_is_a_group_of_its_own(studio: Any, tmp_path: Path) -> None:
    """A person accepts the first attempt of step 1 after the run: step 2 is done again, in the same run folder. Each
    record has an id of its own, and what the filter drops is what it counts."""
    plan = asked("one", "two")
    for picks in ({}, {1: 1}):
        studio.run(plan, [critic], name="twice", picks=picks)
    (run,) = runs_below(studio.runs)
    found, plans, drops = records(studio, tmp_path / "out")
    second = [r for r in found if r.step == 2]
    assert len({r.before for r in second}) == 2 and len({r.group for r in second}) == 2
    assert len({r.id for r in found}) == len(found) == len(second) + 2 and drops["attempts"].complete()
    assert {r.group for r in second} == {f"{run.name}/2", f"{run.name}/2~2"}
    kept, dropped = filtered_by_label(found, FilterOptions())
    assert dropped.complete() and dropped.seen == len(found) and dropped.kept == len(kept)
    rows, _ = sequences(plans, found, hard=True)
    (row,) = rows
    assert row["images"][-1] == plans[0].pictures[-1] and len(row["images"]) == 1 + 2, "one of step 1, two of step 2"


def test_what_cannot_be_used_is_counted_with_its_reason(made: Any, tmp_path: Path) -> None:
    made.run(asked("other"), ["nonsense", "more nonsense"] * 3, name="unread", t_max=2)
    made.run(asked("third"), None, name="unjudged")
    made.run(replace(asked("fourth"), request=""), [made.yes()], name="no request")
    pictures = sorted((made.runs / "first" / "attempts").iterdir())
    pictures[-1].write_bytes(b"no picture")
    for file in (made.runs / "first" / "inputs").iterdir():
        file.unlink()
    (made.runs / "broken").mkdir()
    (made.runs / "broken" / "run.json").write_text("{")
    found, plans, drops = from_runs(runs_below(made.runs), tmp_path / "out", None)
    why = drops["attempts"].reasons
    assert why["the critic's reply could not be read"] == 1 and why["it was not judged"] >= 1
    assert why["a picture cannot be read"] >= 1 and why["a picture is missing"] >= 1, "the user's picture is gone"
    assert drops["plans"].reasons["run.json cannot be read"] == 1
    assert drops["plans"].reasons["it has no request"] == 1
    assert all(d.complete() for d in drops.values())
    assert len(found) == drops["attempts"].kept and len(plans) == drops["plans"].kept


def test_the_same_work_in_two_runs_counts_once(made: Any, tmp_path: Path) -> None:
    made.run(asked("one", None, "two"), [critic], name="second", user_images=made.keep("red"))
    found, plans, drops = records(made, tmp_path / "out")
    assert len(found) == 4 and len(plans) == 1
    assert drops["attempts"].reasons["the same attempt in another run"] == 4


def test_records_are_what_their_schema_says_and_come_back_as_they_were(made: Any, tmp_path: Path) -> None:
    found, plans, _ = records(made, tmp_path / "out")
    for name, kind, mine in (("c", CriticRecord, found), ("p", PlannerRecord, plans)):
        path = tmp_path / name
        write_records(path, mine)
        for line in path.read_text().splitlines():
            Draft202012Validator(schema(kind)).validate(json.loads(line))
        assert list(read_records(path, kind)) == mine


BROKEN = {
    "no json": ("{", "not valid JSON"),
    "a list": ("[]", "must be an object"),
    "unknown key": ('{"id": "x", "colour": 1}', "missing|unknown key 'colour'"),
    "nothing": ("{}", "'id' is missing"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_line_that_is_no_record_is_named(name: str, tmp_path: Path) -> None:
    line, message = BROKEN[name]
    (tmp_path / "x.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(DataError, match=message) as error:
        list(read_records(tmp_path / "x.jsonl", CriticRecord))
    assert "line 2" in str(error.value)


def test_values_of_the_wrong_kind_are_refused(made: Any, tmp_path: Path) -> None:
    found, _, _ = records(made, tmp_path / "out")
    good = json.loads(json.dumps(found[0].__dict__))
    for key, bad in {
        "step": 0,
        "success": "yes",
        "labelled_by": "me",
        "semantics": 11,
        "before": 5,
        "attempt": True,
    }.items():
        (tmp_path / "bad.jsonl").write_text(json.dumps(good | {key: bad}))
        with pytest.raises(DataError, match=key):
            list(read_records(tmp_path / "bad.jsonl", CriticRecord))
        assert list(Draft202012Validator(schema(CriticRecord)).iter_errors(good | {key: bad}))


def test_the_command(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["data", "from-runs", str(made.runs), "--out", str(out), "--store", str(made.root / "store")]
    assert main([*words, "--dry-run"]) == 0 and not out.exists()
    assert main(words) == 0
    assert "attempts: 4 seen, 4 kept" in capsys.readouterr().out
    assert json.loads((out / "drops.json").read_text())["attempts"] == {"seen": 4, "kept": 4, "dropped": {}}
    assert main(words) == 1 and "--resume" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert main(["data", "from-runs", str(tmp_path / "none"), "--out", str(tmp_path / "o")]) == 1
    assert "holds no run folder" in capsys.readouterr().err
    assert main(["data", "schema", "critic"]) == 0


def other(row: dict[str, Any]) -> dict[str, Any]:
    """Of another prompt, as a version without digests wrote it."""
    prompt = "1" if row["prompt"] == "one" else row["prompt"]
    return {name: value for name, value in row.items() if name != "digest"} | {"prompt": prompt}


def test_a_users_picture_comes_from_the_run_folder(made: Any, tmp_path: Path) -> None:
    """The run folder alone is enough to learn from."""
    found, plans, _ = from_runs(runs_below(made.runs), tmp_path / "out", None)
    assert len(found) == 4 and len(plans[0].images) == 1


def test_a_picture_with_other_pixels_is_no_record(made: Any, tmp_path: Path) -> None:
    """Its label would be of another picture."""
    files = sorted((made.runs / "first" / "attempts").iterdir())
    files[0].write_bytes(files[-1].read_bytes())
    found, _, drops = from_runs(runs_below(made.runs), tmp_path / "out", None)
    assert drops["attempts"].reasons["a picture cannot be read"] == 1 and len(found) == 3


def test_two_runs_of_one_name_in_two_folders_stay_two(made: Any, tmp_path: Path) -> None:
    """Else their steps would be one step to the filter."""
    import shutil

    for place in ("pc1", "pc2"):
        shutil.copytree(made.runs / "first", tmp_path / place / "first")
    state = tmp_path / "pc2" / "first" / "trajectory.jsonl"
    rows = [json.loads(line) for line in state.read_text().splitlines()]
    state.write_text("".join(json.dumps(other(row)) + "\n" for row in rows))
    found, _, _ = from_runs(runs_below(tmp_path), tmp_path / "out", made.store)
    assert {r.group.split("/")[0] for r in found} == {"pc1", "pc2"}
