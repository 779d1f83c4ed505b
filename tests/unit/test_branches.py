"""Which folder a run goes into: no run writes over another's, and what an earlier one made is found again."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from interleave_thinker.driver import LoopModels, drive
from interleave_thinker.errors import RunError
from interleave_thinker.loop.plan import Plan, PlanStep
from interleave_thinker.loop.state import LoopSettings, begin
from interleave_thinker.session import Session, Signature
from interleave_thinker.storage.branches import Work, open_run
from interleave_thinker.storage.run_folder import RunFolder, read_state, read_trajectory

PLAN = Plan(tuple(PlanStep(i, "", f"draw {i}", f"picture {i}") for i in (1, 2, 3)), request="a story")
WORK = Work(PLAN, LoopSettings(seed=5), ("0" * 24,), "body", "critic", "30")


def other_plan(step: int = 3) -> Plan:
    steps = [dataclasses.replace(s, prompt="another") if s.step_number == step else s for s in PLAN.steps]
    return dataclasses.replace(PLAN, steps=tuple(steps))


def settings(**changes: Any) -> LoopSettings:
    return dataclasses.replace(WORK.settings, **changes)


CHANGED = [
    ("the plan", dataclasses.replace(WORK, plan=other_plan())),
    ("the critic", dataclasses.replace(WORK, judge="another critic")),
    ("no critic", dataclasses.replace(WORK, judge="")),
    ("T_max", dataclasses.replace(WORK, settings=settings(t_max=5))),
    ("the policy at T_max", dataclasses.replace(WORK, settings=settings(on_exhausted="best"))),
    ("the reference policy", dataclasses.replace(WORK, settings=settings(reference_policy="first"))),
]
OTHER = [
    ("the seed", dataclasses.replace(WORK, settings=settings(seed=6))),
    ("the body", dataclasses.replace(WORK, body="another body")),
    ("the pictures", dataclasses.replace(WORK, user_images=("1" * 24,))),
]
SAME = [
    ("the gate", dataclasses.replace(WORK, settings=settings(gate="stop_on_reject"))),
    ("the planner's reasoning", dataclasses.replace(WORK, plan=dataclasses.replace(PLAN, reasoning="because"))),
]
ids = dict(ids=lambda c: c[0])


def carried_out(root: Path, work: Work, name: str = "") -> RunFolder:
    """A run that wrote its run.json and ended."""
    folder = open_run(root, work, name)
    state = {"origin": {"node": work.node}, "trajectory": {"plan": work.plan.to_dict()}}
    folder.write_state(state)
    folder.release()
    return folder


@pytest.mark.parametrize("name", ["", "my story"])
@pytest.mark.parametrize("case", SAME, **ids)
def test_the_same_work_goes_on_in_its_folder(tmp_path: Path, name: str, case: tuple[str, Work]) -> None:
    first = carried_out(tmp_path, WORK, name)
    assert carried_out(tmp_path, case[1], name).name == carried_out(tmp_path, WORK, name).name == first.name
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("name", ["", "my story"])
@pytest.mark.parametrize("case", CHANGED, **ids)
def test_what_changes_the_run_opens_a_branch_that_names_its_parent(
    tmp_path: Path, name: str, case: tuple[str, Work]
) -> None:
    first = carried_out(tmp_path, WORK, name)
    branch = carried_out(tmp_path, case[1], name)
    assert branch.name == f"{first.name}~2" and [a.name for a in branch.ancestors] == [first.name]
    state = read_state(branch.path)
    assert state is not None and state["parent"] == first.name and state["identity"] == case[1].identity
    assert carried_out(tmp_path, WORK, name).name == first.name, "queued as before, it goes on as before"
    assert [a.name for a in carried_out(tmp_path, case[1], name).ancestors] == [first.name]
    third = carried_out(tmp_path, dataclasses.replace(case[1], plan=other_plan(2)), name)
    assert [a.name for a in third.ancestors] == [branch.name, first.name]


@pytest.mark.parametrize("case", OTHER, **ids)
def test_other_work_has_another_name_but_a_name_that_is_given_holds(tmp_path: Path, case: tuple[str, Work]) -> None:
    first, other = carried_out(tmp_path, WORK), carried_out(tmp_path, case[1])
    assert "~" not in other.name != first.name and not other.ancestors
    carried_out(tmp_path, WORK, "mine")
    assert carried_out(tmp_path, case[1], "mine").about["parent"] == "mine"


def test_another_story_with_the_same_seed_is_no_branch(tmp_path: Path) -> None:
    carried_out(tmp_path, WORK)
    story = Plan((PlanStep(1, prompt="a boat"),), request="a boat trip")
    folder = carried_out(tmp_path, dataclasses.replace(WORK, plan=story))
    assert not folder.ancestors and folder.name.startswith("a-boat-trip-")


def test_of_two_critics_each_branches_from_its_own_run(tmp_path: Path) -> None:
    strict = dataclasses.replace(WORK, judge="strict", node="31")
    first, second = carried_out(tmp_path, WORK), carried_out(tmp_path, strict)
    for before, work in ((first, WORK), (second, strict)):
        branch = carried_out(tmp_path, dataclasses.replace(work, plan=other_plan()))
        assert branch.about["parent"] == before.name


def test_two_live_runs_never_share_a_folder(tmp_path: Path) -> None:
    first = open_run(tmp_path, WORK, "run")
    first.write_state({})
    second = open_run(tmp_path, WORK, "run")
    assert (first.name, second.name) == ("run", "run~2")
    assert [a.name for a in second.ancestors] == ["run"], "what the first made serves the second"
    first.release()
    assert open_run(tmp_path, WORK, "run").name == "run"


PROCESS = """
import sys, pathlib
sys.path[:0] = {paths!r}
from test_branches import WORK
from interleave_thinker.storage.branches import open_run
folder = open_run(pathlib.Path({root!r}), WORK, "run")
folder.write_state({{}})
print(folder.name, flush=True)
sys.stdin.read()
"""


def test_nor_do_two_servers_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    code = PROCESS.format(paths=[str(Path(__file__).parent), str(Path(__file__).parents[2])], root=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None and other.stdout.readline().strip() == "run"
        mine = open_run(tmp_path, WORK, "run")
        assert mine.name == "run~2"
        mine.release()
        other.kill()
    assert open_run(tmp_path, WORK, "run").name == "run"


def test_a_folder_of_which_nobody_knows_what_it_is_about_is_left_alone(tmp_path: Path) -> None:
    """Of an older version, or with a damaged run.json."""
    for name, text in (("old", '{"title": "x"}'), ("damaged", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
        (tmp_path / name / "trajectory.jsonl").write_text("{}\n")
        branch = open_run(tmp_path, WORK, name)
        assert branch.name == f"{name}~2" and branch.about["parent"] == name
        assert (tmp_path / name / "run.json").read_text() == text


def test_a_folder_in_which_nothing_was_written_is_taken(tmp_path: Path) -> None:
    """A crash may leave it between its making and its first record."""
    RunFolder(tmp_path, "run")
    assert open_run(tmp_path, WORK, "run").name == "run"


def test_a_parent_that_is_a_path_or_a_circle_leads_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for parent in ("../outside", "run", "gone", "/etc", ""):
        folder = open_run(tmp_path / "runs", WORK, "run")
        folder.about["parent"] = parent
        folder.write_state({})
        folder.release()
        again = open_run(tmp_path / "runs", WORK, "run")
        assert again.name == "run" and not again.ancestors
        again.release()
    assert not list(outside.iterdir())


def test_names_that_differ_only_in_case_are_one_family(tmp_path: Path) -> None:
    """On Windows and macOS they would be one folder."""
    carried_out(tmp_path, WORK, "Story")
    assert carried_out(tmp_path, dataclasses.replace(WORK, judge="x"), "story").about["parent"] == "Story"


def test_a_branchs_number_is_no_part_of_a_typed_name(tmp_path: Path) -> None:
    assert open_run(tmp_path, WORK, "story~2").name == "story_2"
    with pytest.raises(RunError):
        open_run(tmp_path, WORK, "..")


# --- what always changes


CHANGES = dataclasses.replace(WORK, always_changes=True)
ASKED = dataclasses.replace(CHANGES, reopens_finished=True)


def ended(root: Path, work: Work, status: str = "done", name: str = "", **result: Any) -> RunFolder:
    """A run with this status, whose last step ended so."""
    folder = open_run(root, work, name)
    results = [{"step": 1, "exhausted": False, **result}]
    trajectory = {"plan": work.plan.to_dict(), "status": status, "results": results}
    state = {"settings": {"on_exhausted": work.settings.on_exhausted}}
    folder.write_state({"origin": {"node": work.node}, "trajectory": trajectory, "state": state})
    folder.release()
    return folder


@pytest.mark.parametrize("name", ["", "my story"])
def test_a_run_under_way_goes_on_and_one_that_is_over_is_made_anew(tmp_path: Path, name: str) -> None:
    first = ended(tmp_path, CHANGES, "running", name)
    again = ended(tmp_path, CHANGES, "done", name)
    assert (again.name, again.about["token"]) == (first.name, first.about["token"])
    anew = ended(tmp_path, CHANGES, "done", name)
    assert anew.name != first.name and anew.about["token"] != first.about["token"] and not anew.ancestors
    newest = ended(tmp_path, CHANGES, "done", name)
    assert newest.name not in (first.name, anew.name)


def test_a_gate_or_an_accepted_attempt_means_the_run_that_was_seen_last(tmp_path: Path) -> None:
    ended(tmp_path, CHANGES)
    seen = ended(tmp_path, CHANGES)
    asked = ended(tmp_path, ASKED)
    assert (asked.name, asked.about["token"]) == (seen.name, seen.about["token"])


def test_a_run_that_a_gate_stopped_is_under_way_but_one_without_attempts_left_is_over(tmp_path: Path) -> None:
    stops = dataclasses.replace(CHANGES, settings=settings(on_exhausted="stop"))
    first = ended(tmp_path, stops, "stopped", exhausted=False)
    assert ended(tmp_path, stops, "stopped", exhausted=True).name == first.name
    assert ended(tmp_path, stops, "stopped", exhausted=True).name != first.name


def test_a_branch_goes_on_with_what_was_seen(tmp_path: Path) -> None:
    first = ended(tmp_path, CHANGES)
    branch = ended(tmp_path, dataclasses.replace(CHANGES, plan=other_plan()))
    assert branch.name != first.name and branch.about["token"] == first.about["token"]
    assert [f.name for f in branch.ancestors] == [first.name]


def test_a_damaged_state_is_no_run_that_is_over(tmp_path: Path) -> None:
    for damaged in ({"trajectory": []}, {"trajectory": {"status": "stopped", "results": []}}, {"state": 1}):
        folder = open_run(tmp_path, CHANGES)
        folder.write_state(damaged)
        folder.release()
        assert open_run(tmp_path, CHANGES).name == folder.name
        folder = RunFolder(tmp_path, folder.name)


def test_what_does_not_change_has_no_token(tmp_path: Path) -> None:
    assert "token" not in ended(tmp_path, WORK).about
    assert ended(tmp_path, WORK).name == ended(tmp_path, WORK).name


# --- what a branch finds again

BLIND = Signature("a body that ignores its prompt", frozenset({"step", "seed"}))


def drive_one(studio: Any, plan: Plan, replies: Any = (), **changes: Any) -> tuple[Session, list[str]]:
    run = studio.prepare(plan, replies)
    loop: LoopModels = studio.loop(run, True)
    chosen = LoopSettings(**changes)
    work = Work(plan, chosen, (), loop.made_by.key, loop.judged_by.key if loop.judged_by else "")
    session = Session(
        begin(plan, chosen), studio.store, open_run(studio.runs, work, "story"), loop.made_by, loop.judged_by
    )
    drive(session, loop)
    return session, [r.prompt for r in run.painter.requests]


def test_a_branch_recalls_what_its_ancestors_made_also_without_a_store(studio: Any) -> None:
    first, made = drive_one(studio, PLAN)
    assert made == ["picture 1", "picture 2", "picture 3"]
    before = {p.name: p.read_bytes() for p in (first.folder.path / "attempts").iterdir()}
    lines = read_trajectory(first.folder.path)
    for path in sorted((studio.root / "store").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    edited, made = drive_one(studio, other_plan())
    assert made == ["another"] and edited.folder.name == "story~2"
    assert {p.name: p.read_bytes() for p in (first.folder.path / "attempts").iterdir()} == before
    assert read_trajectory(first.folder.path) == lines, "the first run's folder is as it was"
    assert len(read_trajectory(edited.folder.path)) == 3, "the branch's folder is complete"
    longer, made = drive_one(studio, other_plan(), t_max=5)
    assert made == [] and longer.folder.name == "story~3"


def test_a_gate_does_not_stop_a_branch_at_steps_that_were_seen_before(studio: Any) -> None:
    drive_one(studio, PLAN, gate="stop_after_step")
    session, made = drive_one(studio, other_plan(2), gate="stop_after_step")
    assert made == ["another"] and "after step 2" in session.state.reason


def test_a_gate_stops_at_a_new_prompt_also_where_the_body_ignores_it(studio: Any) -> None:
    """The image is the same and is recalled; the person wants to see what the new prompt gave."""
    folder = RunFolder(studio.runs, "story")
    session = Session(begin(PLAN, LoopSettings(gate="stop_after_step")), studio.store, folder, BLIND, None)
    session.start()
    assert session.advance_from_store() and session.pending is None
    session.image_made(Image.new("RGB", (8, 8)), 0.1)
    assert not session.advance_from_store() and "after step 1" in session.state.reason
    edited = Session(begin(other_plan(1), LoopSettings(gate="stop_after_step")), studio.store, folder, BLIND, None)
    edited.start()
    assert not edited.advance_from_store() and "after step 1" in edited.state.reason


def test_run_json_says_why_a_run_stopped(studio: Any) -> None:
    session, _ = drive_one(studio, PLAN, gate="stop_after_step")
    state = read_state(session.folder.path)
    assert state is not None and "after step 1" in state["state"]["reason"]
    assert json.loads((session.folder.path / "run.json").read_text())["parent"] == ""
