"""Nothing is lost and nothing is made twice: sessions on the same store and folder, killed at any point."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from interleave_thinker import driver
from interleave_thinker.agents.base import Completion, Message, OnText, Sampling
from interleave_thinker.agents.scripted import ScriptedAgent
from interleave_thinker.driver import drive, drive_all
from interleave_thinker.errors import GeneratorError, RunError
from interleave_thinker.loop.document import Document
from interleave_thinker.loop.plan import Plan, PlanStep
from interleave_thinker.loop.trajectory import RAW_LIMIT, Attempt, Judgment
from interleave_thinker.session import Signature
from interleave_thinker.storage import images as images_module
from interleave_thinker.storage.attempt_store import AttemptStore
from interleave_thinker.storage.images import image_key
from interleave_thinker.storage.run_folder import RunFolder, read_state, read_trajectory
from interleave_thinker.storage.write_behind import WriteBehind, WriteNow, wait_for_writes


def drawn(*prompts: str | None) -> Plan:
    return Plan(tuple(PlanStep(i, auxiliary_text=f"text {i}", prompt=p) for i, p in enumerate(prompts, 1)))


def critic(messages: Sequence[Message]) -> str:
    """Accepts what says "sound", never accepts a step that says "never"; of several attempts always the same."""
    text = str(messages[-1].parts[-1])
    _, *attempts = (image.tobytes() for image in messages[-1].images)
    if len(attempts) > 1:
        return json.dumps({"best": attempts.index(min(attempts)) + 1}).join(("<answer>", "</answer>"))
    accepted = "sound" in text.split("Judge AFTER")[0].split("given this time")[1] and "never" not in text
    return f"<answer>{json.dumps({'previous_step_success': accepted, 'refine_prompt': 'a sound one'})}</answer>"


PLAN = drawn("a", "b sound", None, "never c", "d")
"""Retries, an immediate acceptance, a step of text and one that is exhausted."""
CALLS = 2 + 1 + 3 + 2


def plain(attempt: Attempt) -> Attempt:
    """Without what differs between two runs by nature."""
    return dataclasses.replace(attempt, seconds=0.0, judge_seconds=0.0, recalled=False)


def outcome(document: Document) -> Document:
    attempts = tuple(plain(a) for a in document.trajectory.attempts)
    return dataclasses.replace(document, trajectory=dataclasses.replace(document.trajectory, attempts=attempts))


def files(folder: Path) -> dict[str, bytes]:
    wait_for_writes()
    return {f.name: f.read_bytes() for f in sorted((folder / "attempts").iterdir())}


@pytest.fixture(params=[WriteNow, WriteBehind])
def studio(studio: Any, request: pytest.FixtureRequest) -> Any:
    """As the command line runs it, and as ComfyUI does."""
    return dataclasses.replace(studio, line=request.param)


@pytest.fixture
def whole(studio: Any) -> tuple[Document, list[Attempt], dict[str, bytes]]:
    """An uninterrupted run elsewhere: document, recorded lines, pictures."""
    other = dataclasses.replace(studio, root=studio.root / "uninterrupted")
    run = other.run(PLAN, [critic], on_exhausted="best")
    folder = run.session.folder.path
    return outcome(run.document), [plain(a) for a in read_trajectory(folder)], files(folder)


# --- recall ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["last", "best", "first", "stop"])
def test_a_second_session_recalls_everything_and_asks_nobody(studio: Any, policy: str) -> None:
    first = studio.run(PLAN, [critic], on_exhausted=policy)
    again = studio.run(PLAN, [critic], on_exhausted=policy)
    assert (again.painter.requests, again.critic.calls) == ([], [])
    assert outcome(again.document) == outcome(first.document)
    assert all(a.recalled for a in again.session.attempts)
    assert len(read_trajectory(again.session.folder.path)) == len(first.session.attempts), "no line is written twice"


def test_another_run_folder_recalls_from_the_same_store(studio: Any) -> None:
    first = studio.run(PLAN, [critic])
    again = studio.run(PLAN, [critic], name="elsewhere")
    assert (again.painter.requests, again.critic.calls) == ([], [])
    assert files(again.session.folder.path) == files(first.session.folder.path)


def test_an_edited_late_step_costs_only_itself(studio: Any) -> None:
    studio.run(PLAN, [critic])
    edited = Plan((*PLAN.steps[:4], dataclasses.replace(PLAN.steps[4], prompt="d sound")))
    run = studio.run(edited, [critic])
    assert run.prompts == ["d sound"] and len(run.critic.calls) == 1


def test_an_edited_early_step_costs_what_is_built_on_it(studio: Any) -> None:
    studio.run(drawn("a sound", "b sound", "c sound"), [critic])
    run = studio.run(drawn("x sound", "b sound", "c sound"), [critic])
    assert run.prompts == ["x sound", "b sound", "c sound"]


def test_another_generator_agent_size_or_prompt_text_is_another_request(
    studio: Any, painter: Any, tmp_path: Path
) -> None:
    plan = drawn("a sound")
    studio.run(plan, [critic])
    assert studio.run(plan, [critic], painter=painter("other")).prompts == ["a sound"]
    run = studio.prepare(plan, [critic])
    run.critic.name = "another critic"
    run.session.judged_by = studio.loop(run).judged_by
    drive(run.session, studio.loop(run))
    assert (len(run.painter.requests), len(run.critic.calls)) == (0, 1), "the picture is recalled, the verdict is not"
    loop = studio.loop(run)
    (tmp_path / "critic.md").write_text("{original_instruction} {rewritten_prompt}")
    assert dataclasses.replace(loop, prompt_folders=[str(tmp_path)]).judged_by != loop.judged_by
    assert dataclasses.replace(loop, size=(8, 8)).made_by != loop.made_by


def test_an_unreadable_judgment_is_asked_for_again(studio: Any) -> None:
    """It may have been a hiccup of the server; keeping it would make the hiccup permanent."""
    studio.run(drawn("a"), ["?"], on_exhausted="first", t_max=2)
    again = studio.run(drawn("a"), ["?"], on_exhausted="first", t_max=2)
    assert again.painter.requests == [] and len(again.critic.calls) == 4


# --- crash and resume -------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed_at", range(1, CALLS + 1))
def test_killed_in_the_generator_then_resumed_equals_an_uninterrupted_run(
    studio: Any, painter: Any, whole: Any, killed_at: int
) -> None:
    killed = painter(fails_at=killed_at)
    with pytest.raises(KeyboardInterrupt):
        studio.run(PLAN, [critic], painter=killed, on_exhausted="best")
    resumed = studio.run(PLAN, [critic], on_exhausted="best")
    assert len(killed.requests) + len(resumed.painter.requests) == CALLS, "only unfinished attempts are made"
    assert all(a.recalled for a in resumed.session.attempts[: killed_at - 1])
    folder = resumed.session.folder.path
    assert (outcome(resumed.document), [plain(a) for a in read_trajectory(folder)], files(folder)) == whole


@pytest.mark.parametrize("event", range(1, 24, 2))
def test_killed_between_any_two_writes_then_resumed_equals_an_uninterrupted_run(
    studio: Any, whole: Any, event: int
) -> None:
    run = studio.prepare(PLAN, [critic], on_exhausted="best")
    left = event

    def kill(name: str, facts: Mapping[str, Any]) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt

    run.session.notify = kill
    with pytest.raises(KeyboardInterrupt):
        drive(run.session, studio.loop(run))
    resumed = studio.run(PLAN, [critic], on_exhausted="best")
    lost = len(run.painter.requests) + len(resumed.painter.requests) - CALLS
    assert lost == 0 if studio.line is WriteNow else 0 <= lost <= 3, "made while the rest was still to be written"
    folder = resumed.session.folder.path
    assert (outcome(resumed.document), [plain(a) for a in read_trajectory(folder)], files(folder)) == whole


def test_killed_in_the_critic_then_resumed_makes_no_picture_again(studio: Any, whole: Any) -> None:
    def interrupted(messages: Sequence[Message]) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        studio.run(PLAN, [critic, critic, interrupted], on_exhausted="best")
    resumed = studio.run(PLAN, [critic], on_exhausted="best")
    assert len(resumed.painter.requests) == CALLS - 3
    assert outcome(resumed.document) == whole[0]


@dataclasses.dataclass
class Hearing(ScriptedAgent):
    """Keeps the earlier replies that each call may look into. `killed_at`: the call that never answers."""

    killed_at: int = 0
    earlier: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        if len(self.earlier) + 1 == self.killed_at:
            raise KeyboardInterrupt
        self.earlier.append(sampling.earlier)
        return super().complete(messages, sampling, on_text)


@pytest.mark.parametrize("killed_at", [1, 2, 5, 7])
def test_a_resumed_runs_critic_may_look_into_the_replies_that_an_uninterrupted_ones_may(
    studio: Any, killed_at: int
) -> None:
    """So that it guesses the same: this run's own replies, the newest first, and nothing of the process."""

    def heard(name: str, killed_at: int = 0) -> list[tuple[str, ...]]:
        agent = Hearing([critic], killed_at=killed_at)
        run = studio.prepare(PLAN, [critic], name=name)
        run.critic = agent
        try:
            drive(run.session, studio.loop(run))
        except KeyboardInterrupt:
            assert killed_at
        return agent.earlier

    whole = heard("whole")
    assert [len(earlier) for earlier in whole] == list(range(7)), "the last attempt that a step may take is not judged"
    assert len(set(whole[-1])) > 1 and all(later[1:] == earlier for earlier, later in pairwise(whole))
    shutil.rmtree(studio.root / "store")
    assert heard("killed", killed_at) + heard("killed") == whole


def test_a_line_cut_off_by_a_crash_is_passed_over_and_does_not_spoil_the_next(studio: Any, whole: Any) -> None:
    run = studio.run(PLAN, [critic], on_exhausted="best")
    lines = run.session.folder.path / "trajectory.jsonl"
    lines.write_bytes(lines.read_bytes()[:-40])
    resumed = studio.run(PLAN, [critic], on_exhausted="best")
    assert resumed.painter.requests == []
    assert [plain(a) for a in read_trajectory(resumed.session.folder.path)] == whole[1]


def test_a_generator_that_fails_leaves_everything_finished_on_disk(studio: Any, painter: Any) -> None:
    failing = painter(fails_at=3, error=GeneratorError("out of memory"))
    with pytest.raises(GeneratorError):
        studio.run(PLAN, [critic], painter=failing)
    wait_for_writes()
    folder = studio.runs / "run"
    assert len(read_trajectory(folder)) == 2 and len(files(folder)) == 2
    state = read_state(folder)
    assert state is not None and len(state["state"]["plan"]["execution_plan"]) == 5


def test_what_goes_downstream_is_the_stored_picture_also_in_the_first_run(studio: Any) -> None:
    """Otherwise a resumed run would differ from an uninterrupted one in the last bits."""
    run = studio.run(drawn("a sound", "b sound"), [critic])
    stored = run.session.store.get_image(run.session.attempts[0].image_key)
    assert run.painter.requests[1].references[0].tobytes() == stored.tobytes()


# --- damage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"not a png", b"\x89PNG\r\n\x1a\n", None])
def test_damaged_pictures_are_made_again_and_the_run_folder_is_mended(studio: Any, damage: bytes | None) -> None:
    first = studio.run(PLAN, [critic])
    for file in (studio.root / "store" / "images").iterdir():
        file.write_bytes(file.read_bytes()[:-20] if damage is None else damage)
    for file in (first.session.folder.path / "attempts").iterdir():
        file.write_bytes(file.read_bytes()[:-20] if damage is None else damage)
    again = studio.run(PLAN, [critic])
    assert outcome(again.document) == outcome(first.document)
    for picture in files(again.session.folder.path):
        Image.open(again.session.folder.path / "attempts" / picture).load()


def test_damaged_records_are_made_again(studio: Any) -> None:
    first = studio.run(PLAN, [critic])
    for kind in ("attempts", "judgments"):
        for file in (studio.root / "store" / kind).iterdir():
            file.write_bytes(b'{"image_key": null, "judgment": 3, "seconds": "x"}')
    lines = first.session.folder.trajectory_file
    lines.write_bytes(lines.read_bytes().replace(b'"seed": ', b'"seed": 1'))  # otherwise the folder refills the store
    again = studio.run(PLAN, [critic])
    assert len(again.painter.requests) == CALLS
    assert outcome(again.document) == outcome(first.document)


def test_a_picture_that_the_store_dropped_comes_from_the_run_folder(studio: Any) -> None:
    """A store limit of one picture slows later runs down; it must not break this one."""
    small = dataclasses.replace(studio, limit=150)
    run = small.run(PLAN, [critic], on_exhausted="best")
    assert run.session.state.status == "done"
    assert [run.session.image(i.image_key).size for i in run.document.images] == [(16, 12)] * 4


def test_a_picture_that_is_nowhere_is_an_error_that_names_run_and_picture(studio: Any) -> None:
    run = studio.run(drawn("a sound"), [critic])
    key = run.session.attempts[0].image_key
    for file in (*(studio.root / "store" / "images").iterdir(), *(run.session.folder.path / "attempts").iterdir()):
        file.write_bytes(b"gone")
    with pytest.raises(RunError, match=f"{key}.*'run'"):
        run.session.image(key)


def test_a_record_that_names_a_file_elsewhere_does_not_lead_there(studio: Any) -> None:
    """Run folders are shared; a line of theirs must not open other files."""
    run = studio.run(drawn("a sound"), [critic])
    attempt = run.session.attempts[0]
    Image.new("RGB", (1, 1)).save(studio.root / "secret.png")
    run.session.attempts = [dataclasses.replace(attempt, file="../../secret.png", image_key="abc")]
    with pytest.raises(RunError, match="gone"):
        run.session.image("abc")


# --- the run folder refills the store ------------------------------------------------------------------------

LOST = {
    "everything": lambda store: shutil.rmtree(store),
    "the pictures": lambda store: shutil.rmtree(store / "images"),
    "the records": lambda store: [shutil.rmtree(store / k) for k in ("attempts", "judgments", "comparisons")],
    "every picture swapped with another": lambda store: swap(store / "images"),
}


def swap(folder: Path) -> None:
    files = sorted(folder.iterdir())
    data = [f.read_bytes() for f in files]
    for file, other in zip(files, [*data[1:], data[0]], strict=True):
        file.write_bytes(other)


@pytest.mark.parametrize("lost", LOST)
def test_what_the_store_lost_comes_from_the_run_folder(studio: Any, whole: Any, lost: str) -> None:
    studio.run(PLAN, [critic], on_exhausted="best")
    LOST[lost](studio.root / "store")
    again = studio.run(PLAN, [critic], on_exhausted="best")
    folder = again.session.folder.path
    assert (again.painter.requests, again.critic.calls) == ([], [])
    assert (outcome(again.document), [plain(a) for a in read_trajectory(folder)], files(folder)) == whole
    shutil.rmtree(folder)
    wait_for_writes()
    other = studio.run(PLAN, [critic], on_exhausted="best", name="elsewhere")
    assert (other.painter.requests, other.critic.calls) == ([], []), "the store has them again"


def test_other_pixels_in_the_run_folder_are_not_recalled(studio: Any, whole: Any) -> None:
    run = studio.run(PLAN, [critic], on_exhausted="best")
    shutil.rmtree(studio.root / "store")
    swap(run.session.folder.path / "attempts")
    again = studio.run(PLAN, [critic], on_exhausted="best")
    assert len(again.painter.requests) == CALLS
    assert files(again.session.folder.path) == whole[2]


def test_an_edit_in_the_run_folder_does_not_change_the_store(studio: Any, whole: Any) -> None:
    run = studio.run(PLAN, [critic], on_exhausted="best")
    for file in (run.session.folder.path / "attempts").iterdir():
        Image.new("RGB", (16, 12), "white").save(file)
    again = studio.run(PLAN, [critic], on_exhausted="best")
    assert again.painter.requests == [] and files(again.session.folder.path) == whole[2]


def test_another_judge_does_not_take_verdicts_from_the_folder(studio: Any) -> None:
    studio.run(drawn("a sound"), [critic])
    shutil.rmtree(studio.root / "store")
    run = studio.prepare(drawn("a sound"), [critic])
    run.critic.name = "another critic"
    run.session.judged_by = studio.loop(run).judged_by
    drive(run.session, studio.loop(run))
    assert (len(run.painter.requests), len(run.critic.calls)) == (0, 1)
    shutil.rmtree(studio.root / "store")
    again = studio.prepare(drawn("a sound"), [critic])
    again.critic.name = "another critic"
    again.session.judged_by = studio.loop(again).judged_by
    drive(again.session, studio.loop(again))
    assert again.critic.calls == [], "the same verdict of another judge is a record of its own"


@pytest.mark.parametrize("limit", [1, 150])
def test_a_store_of_one_picture_makes_nothing_twice(studio: Any, painter: Any, whole: Any, limit: int) -> None:
    small = dataclasses.replace(studio, limit=limit)
    made = 0
    for killed_at in range(2, CALLS + 2):
        killed = painter(fails_at=2)
        with contextlib.suppress(KeyboardInterrupt):
            small.run(PLAN, [critic], painter=killed, on_exhausted="best")
        made += len(killed.requests)
        wait_for_writes()
        assert made == killed_at - 1, "one each time, and none of those before"
    again = small.run(PLAN, [critic], on_exhausted="best")
    folder = again.session.folder.path
    assert (again.painter.requests, again.critic.calls) == ([], [])
    assert (outcome(again.document), [plain(a) for a in read_trajectory(folder)], files(folder)) == whole
    assert len(list((studio.root / "store" / "images").iterdir())) == 1
    assert again.session._at_hand == {}, "pictures stay in memory only until they are written"


def test_a_picture_that_another_process_evicts_at_once_is_kept(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = AttemptStore.put_expected

    def evicted(store: AttemptStore, key: str) -> None:
        real(store, key)
        (store.root / "images" / f"{key}.png").unlink()

    monkeypatch.setattr(AttemptStore, "put_expected", evicted)
    run = studio.run(PLAN, [critic], on_exhausted="best")
    assert run.session.state.status == "done" and len(files(run.session.folder.path)) == CALLS


@pytest.mark.parametrize("limit", [1, 10**9])
def test_the_users_pictures_survive_the_loss_of_the_store(studio: Any, limit: int) -> None:
    small = dataclasses.replace(studio, limit=limit)
    plan, keys = drawn("a sound", "b sound"), small.keep("red")
    first = small.run(plan, [critic], user_images=keys, reference_policy="pinned")
    folder = first.session.folder.path
    assert [f.name for f in (folder / "inputs").iterdir()] == [f"{keys[0]}.png"]
    shutil.rmtree(studio.root / "store")
    longer = drawn("a sound", "b sound", "c sound")
    again = small.run(longer, [critic], user_images=keys, reference_policy="pinned")
    assert again.prompts == ["c sound"] and image_key(again.painter.requests[0].references[0]) == keys[0]


def test_several_pictures_of_the_users_survive_a_store_of_one(studio: Any) -> None:
    store = AttemptStore(studio.root / "store", 1)
    keys = tuple(store.put_image(Image.new("RGB", (20, 10), c)) for c in ("red", "green", "blue"))
    run = studio.prepare(drawn("a sound"), [critic], user_images=keys, reference_policy="first")
    run.session.store = store
    drive(run.session, studio.loop(run))
    assert image_key(run.painter.requests[0].references[0]) == keys[0]
    assert len(list((run.session.folder.path / "inputs").iterdir())) == 3


def test_a_run_folder_that_is_deleted_during_the_run_is_made_again(studio: Any, painter: Any, whole: Any) -> None:
    folder = studio.runs / "run"

    class Deleting(painter):  # type: ignore[misc]
        def generate(self, request: Any) -> Image.Image:
            wait_for_writes()
            if len(self.requests) == 4:
                shutil.rmtree(folder)
            return super().generate(request)  # type: ignore[no-any-return]

    run = studio.run(PLAN, [critic], painter=Deleting(), on_exhausted="best")
    assert outcome(run.document) == whole[0] and read_state(folder) is not None
    assert [plain(a) for a in read_trajectory(folder)] == whole[1] and files(folder) == whole[2]


def test_what_an_ancestor_made_is_taken_from_its_folder(studio: Any) -> None:
    studio.run(PLAN, [critic], on_exhausted="best", user_images=studio.keep("red"))
    shutil.rmtree(studio.root / "store")
    longer = drawn("a", "b sound", None, "never c", "d", "e sound")
    run = studio.prepare(longer, [critic], name="branch", on_exhausted="best", user_images=studio.keep("red"))
    run.session.folder.ancestors = (RunFolder(studio.runs, "run"),)
    drive(run.session, studio.loop(run))
    assert run.prompts == ["e sound"] and len(run.critic.calls) == 1
    assert len(files(run.session.folder.path)) == CALLS + 1, "a branch is whole by itself"


def test_a_long_reply_is_cut_everywhere(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "judge", lambda *_, **__: Judgment(True, raw="x" * 10**6))
    run = studio.run(drawn("a sound"), [critic])
    (line,) = read_trajectory(run.session.folder.path)
    assert line.judgment is not None and len(line.judgment.raw) == RAW_LIMIT
    assert line.judgment == run.session.attempts[0].judgment, "a resumed run equals an uninterrupted one"


def test_a_resumed_run_decodes_each_picture_once(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = studio.run(PLAN, [critic], on_exhausted="best")
    wait_for_writes()
    monkeypatch.setattr(images_module, "_verified", images_module.VerifiedFiles())  # as a new process
    decoded: list[int] = []
    real = images_module.decode_png
    monkeypatch.setattr(images_module, "decode_png", lambda file: (decoded.append(1), real(file))[1])
    studio.run(PLAN, [critic], on_exhausted="best")
    wait_for_writes()
    different = len({a.image_key for a in run.session.attempts})
    assert len(decoded) == different, "the copy in the run folder is the same, byte by byte"


def test_a_new_run_decodes_no_picture(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "decode_png", lambda file: 1 / 0)
    studio.run(drawn("a", "b sound"), [critic])


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["replace", "chmod"])
def test_a_full_disk_is_said_with_its_path_and_costs_nothing_finished(
    studio: Any, painter: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        studio.run(PLAN, [critic], painter=painter(fails_at=4))
    folder = studio.runs / "run"
    kept = files(folder)
    with monkeypatch.context() as full, pytest.raises(RunError, match=f"{studio.root}.*No space left"):
        full.setattr(os, call, no_space)
        studio.run(PLAN, [critic])
    assert files(folder) == kept and not list(studio.root.rglob(".writing-*"))
    resumed = studio.run(PLAN, [critic])
    assert resumed.session.state.status == "done" and len(resumed.painter.requests) >= CALLS - 3 - 1


def test_a_disk_that_fails_behind_the_loop_is_said_too(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some disks take what is written and only say at the sync that they could not keep it."""
    with monkeypatch.context() as full, pytest.raises(RunError, match=f"{studio.root}.*No space left"):
        full.setattr(os, "fsync", no_space)
        studio.run(PLAN, [critic])
    again = studio.run(PLAN, [critic])
    assert again.session.state.status == "done"


def test_a_finished_run_is_on_the_disk_itself(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after "done" costs nothing: every picture and, after the last line, the trajectory are synced."""
    synced: list[int] = []
    real = os.fsync

    def slow(handle: int) -> None:
        time.sleep(0.01)
        real(handle)
        synced.append(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", slow)
    run = studio.run(PLAN, [critic])
    folder = run.session.folder
    assert {folder.image_file(a).stat().st_ino for a in run.session.attempts} <= set(synced)
    assert synced[-1] == folder.trajectory_file.stat().st_ino


# --- gates ------------------------------------------------------------------------------------------------


def test_gate_stop_after_step_stops_after_each_new_step_and_a_requeue_goes_on(studio: Any) -> None:
    made, statuses = [], []
    for _ in range(5):
        run = studio.run(PLAN, [critic], gate="stop_after_step", on_exhausted="best")
        made.append(len(run.painter.requests))
        statuses.append(run.session.state.status)
        assert not run.document.reason or "Queue again" in run.document.reason
    assert (made, statuses) == ([2, 1, 3, 2, 0], ["stopped", "stopped", "stopped", "done", "done"])


def test_gate_stop_on_reject_stops_at_each_new_rejection_and_a_requeue_goes_on(studio: Any) -> None:
    made, reasons = [], []
    for _ in range(6):
        run = studio.run(PLAN, [critic], gate="stop_on_reject")
        made.append(run.prompts)
        reasons.append(run.document.reason.split(", because")[0])
    again = "a sound one"
    assert made == [["a"], [again, "b sound", "never c"], [again], [again], ["d"], [again]]
    assert reasons[:2] == ["Stopped at the rejected attempt 1 of step 1", "Stopped at the rejected attempt 1 of step 4"]
    assert reasons[5] == ""


def test_gate_the_user_accepts_the_attempt_that_the_critic_rejected(studio: Any) -> None:
    studio.run(PLAN, [critic], gate="stop_on_reject")
    run = studio.run(PLAN, [critic], gate="stop_on_reject", picks={1: 1})
    assert run.prompts == ["b sound", "never c"], "on to step 2 without another attempt at step 1"
    first = run.document.images[0]
    assert first.accepted and run.session.attempts[0].overridden
    recorded = read_trajectory(run.session.folder.path)
    assert [(a.step, a.overridden) for a in recorded][:2] == [(1, False), (1, True)], "both verdicts are kept"


def test_gate_an_edited_prompt_is_new_work(studio: Any) -> None:
    studio.run(PLAN, [critic], gate="stop_on_reject")
    edited = Plan((dataclasses.replace(PLAN.steps[0], prompt="z"), *PLAN.steps[1:]))
    run = studio.run(edited, [critic], gate="stop_on_reject")
    assert (run.prompts, run.session.state.status) == (["z"], "stopped")


def test_gate_does_not_stop_a_run_that_is_done(studio: Any) -> None:
    for gate in ("stop_after_step", "stop_on_reject"):
        run = studio.run(drawn("a sound"), [critic], gate=gate, name=gate)
        assert run.session.state.status == "done"


# --- what is told ---------------------------------------------------------------------------------------------


def test_what_was_recalled_can_be_shown_with_the_values_that_made_it(studio: Any) -> None:
    plan = drawn("a", "b")
    first = studio.run(plan)
    second = studio.run(plan)
    assert first.session.recalled == []
    assert [(r.values["step"], r.values["prompt"], r.values["image"]) for r in second.session.recalled] == [
        (a.step, a.prompt, a.image_key) for a in second.session.attempts
    ]


def test_a_warning_is_said_once(studio: Any) -> None:
    heard: list[tuple[str, Any]] = []
    run = studio.prepare(drawn("a"))
    run.session.notify = lambda event, facts: heard.append((event, facts))
    run.session.warn("Beware.")
    run.session.warn("Beware.")
    run.session.writer.settle()
    assert heard == [("warning", {"text": "Beware.", "run": run.session.folder.name})]


def test_what_always_changes_is_recalled_in_its_run_alone() -> None:
    signature = Signature("body", frozenset({"prompt"}))
    values = {"prompt": "a", "seed": 1}
    assert signature.in_run("x").of(values) == signature.in_run("x").of({**values, "seed": 2})
    assert len({signature.of(values), signature.in_run("x").of(values), signature.in_run("y").of(values)}) == 3
    assert signature.in_run("").of(values) == signature.of(values)


def test_events_say_what_happens_in_order(studio: Any) -> None:
    run = studio.run(drawn("a", None, "b sound"), [critic])
    told = [(name, facts.get("step"), facts.get("attempt")) for name, facts in run.events]
    assert told == [
        ("plan", None, None),
        ("attempt", 1, 1),
        ("judgment", 1, 1),
        ("attempt", 1, 2),
        ("judgment", 1, 2),
        ("chosen", 1, None),
        ("chosen", 2, None),
        ("attempt", 3, 1),
        ("judgment", 3, 1),
        ("chosen", 3, None),
        ("done", None, None),
    ]
    json.dumps(run.events)


EVENTS = Path(__file__).parents[1] / "js" / "events.json"


def test_the_events_that_the_browsers_tests_read_are_those_that_a_session_sends(studio: Any) -> None:
    """tests/js/events.test.mjs folds them into a run: what the page reads of an event is what is in it."""
    replies = ["hm", "hm", studio.no("a better"), studio.yes(), studio.yes()]
    run = studio.run(drawn("a", None, "b"), replies, t_max=4)
    sent = [{"event": name, **json.loads(json.dumps(facts))} for name, facts in run.events]
    for event in sent:
        event.update({name: 0.5 for name in ("seconds", "judge_seconds") if name in event})
    if not EVENTS.exists():  # after a change that is meant: delete the file and run the test again
        EVENTS.write_text(json.dumps(sent, indent=1) + "\n", encoding="utf-8")
    assert sent == json.loads(EVENTS.read_text(encoding="utf-8"))


def test_run_json_holds_the_finished_state(studio: Any) -> None:
    run = studio.run(PLAN, [critic])
    state = read_state(run.session.folder.path)
    assert state is not None
    assert state["state"] == json.loads(json.dumps(run.session.state.to_dict()))
    assert state["trajectory"] == json.loads(json.dumps(run.session.trajectory().to_dict()))


# --- many at a time --------------------------------------------------------------------------------------


@dataclasses.dataclass
class Batches:
    """Makes pictures one by one, and keeps what was asked for at a time."""

    painter: Any
    name: str = "painter"
    batches: list[list[str]] = dataclasses.field(default_factory=list)

    def generate(self, request: Any) -> Image.Image:
        raise AssertionError("one by one")

    def generate_all(self, requests: Sequence[Any]) -> list[Image.Image]:
        self.batches.append([r.prompt for r in requests])
        return [self.painter.generate(r) for r in requests]


def test_many_runs_at_a_time_are_what_each_is_alone_in_as_few_batches_as_attempts(studio: Any) -> None:
    plans = [PLAN, drawn("f sound"), drawn(None), drawn("g", "never h")]
    alone = [studio.run(plan, [critic], name=f"run {n}", on_exhausted="best") for n, plan in enumerate(plans)]
    other = dataclasses.replace(studio, root=studio.root / "together")
    runs = [other.prepare(plan, [critic], name=f"run {n}", on_exhausted="best") for n, plan in enumerate(plans)]
    loop = other.loop(runs[0])
    generator = Batches(runs[0].painter)
    drive_all([r.session for r in runs], loop, generator)
    assert [outcome(r.document) for r in runs] == [outcome(r.document) for r in alone]
    assert generator.batches[0] == ["a", "f sound", "g"] and len(generator.batches) == CALLS


def test_a_failure_among_many_keeps_what_was_finished(studio: Any, painter: Any) -> None:
    failing = painter(fails_at=4, error=GeneratorError("out of paint"))
    runs = [studio.prepare(drawn(f"{n}", "end"), [critic], name=f"run {n}", painter=failing) for n in range(2)]
    with pytest.raises(GeneratorError, match="out of paint"):
        drive_all([r.session for r in runs], studio.loop(runs[0]), Batches(failing))
    again = [studio.prepare(drawn(f"{n}", "end"), [critic], name=f"run {n}") for n in range(2)]
    drive_all([r.session for r in again], studio.loop(again[0]), Batches(again[0].painter))
    assert again[0].prompts[0] != "0" and all(r.session.state.finished for r in again)
