"""Run folders: names from outside never form a path, and a folder is read back whatever happened to it."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from interleave_thinker.errors import RunError
from interleave_thinker.runs import MAX_NAME, RunFolder, read_state, read_trajectory, safe_name
from interleave_thinker.trajectory import Attempt, Judgment

ATTEMPT = Attempt(1, 1, "a red disc", 0, None, "ab" * 12, Judgment(True), key="cd")

NAMES = [
    ("a plain name", "my story", "my story"),
    ("other scripts", "история 3 – 物語", "история 3 _ 物語"),
    ("emoji beside words", "cat 🎉", "cat _"),
    ("what shells and file systems do not like", 'a*b?c"d<e>f|g', "a_b_c_d_e_f_g"),
    ("newlines and null bytes", "a\nb\x00c", "a_b_c"),
    ("dots and spaces at the ends, which Windows drops", " .hidden. ", "hidden"),
    ("dots inside", "v1.2..3", "v1.2..3"),
    ("the longest", "x" * MAX_NAME, "x" * MAX_NAME),
    ("a device of Windows", "CON", "_CON"),
    ("a device with an ending", "nul.txt", "_nul.txt"),
    ("a word that starts like a device", "console", "console"),
]


@pytest.mark.parametrize(("why", "name", "folder"), NAMES, ids=[c[0] for c in NAMES])
def test_names_become_folder_names(tmp_path: Path, why: str, name: str, folder: str) -> None:
    assert safe_name(name) == folder
    assert RunFolder(tmp_path, name).path == tmp_path / folder and (tmp_path / folder).is_dir()


REFUSED = [
    ("up and away", "../../x", "is a path"),
    ("absolute", "/etc/x", "is a path"),
    ("a path of Windows", "C:\\x", "is a path"),
    ("a drive", "C:x", "is a path"),
    ("a share", "\\\\host\\x", "is a path"),
    ("a subfolder", "a/b", "is a path"),
    ("300 characters", "x" * 300, "300 characters"),
    ("only dots", "..", "no letter or digit"),
    ("one dot", ".", "no letter or digit"),
    ("only emoji: all of them would share one folder", "🎉🎉", "no letter or digit"),
    ("empty", "", "no letter or digit"),
    ("blank", " \t\n", "no letter or digit"),
    ("a null byte", "\x00", "no letter or digit"),
]


@pytest.mark.parametrize(("why", "name", "said"), REFUSED, ids=[c[0] for c in REFUSED])
def test_names_that_are_paths_or_nothing_are_refused(tmp_path: Path, why: str, name: str, said: str) -> None:
    with pytest.raises(RunError, match=said):
        RunFolder(tmp_path / "runs", name)
    assert not list(tmp_path.rglob("x")), "nothing was created anywhere"


def test_a_name_too_long_in_bytes_is_an_error_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Cannot create"):
        RunFolder(tmp_path, "物" * MAX_NAME)


@pytest.mark.parametrize("inside", ["", "attempts"])
def test_a_symlink_does_not_lead_out_of_the_folder_of_runs(tmp_path: Path, inside: str) -> None:
    (tmp_path / "outside").mkdir()
    link = tmp_path / "runs" / "story" / inside
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(RunError, match="leads out of"):
        RunFolder(tmp_path / "runs", "story")
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_folder_of_runs_that_is_itself_a_symlink_is_fine(tmp_path: Path) -> None:
    """People keep their outputs on another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk", target_is_directory=True)
    RunFolder(tmp_path / "runs", "story")
    assert (tmp_path / "disk" / "story" / "attempts").is_dir()


@pytest.mark.parametrize("taken", ["runs", "runs/story", "runs/story/attempts"])
def test_a_file_in_the_way_is_an_error_that_names_the_folder(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / taken).write_text("a file")
    with pytest.raises(RunError, match=str(tmp_path / "runs" / "story")):
        RunFolder(tmp_path / "runs", "story")


# --- the trajectory -----------------------------------------------------------------------------------------

TEXTS = ["a\u2028b\u2029c\x85d", "one\ntwo\r\nthree\x0b\x0c\x1c", "\ud800 alone", "\x00\x7f", "🎉" * 50]


@pytest.mark.parametrize("text", TEXTS)
def test_a_record_is_one_line_whatever_models_write(tmp_path: Path, text: str) -> None:
    """U+2028 and U+0085 end a line for str.splitlines, though not in JSON: such attempts must not be lost."""
    folder = RunFolder(tmp_path, "run")
    odd = dataclasses.replace(ATTEMPT, prompt=text, judgment=Judgment(False, text, text, True, text))
    folder.record(odd)
    folder.record(dataclasses.replace(ATTEMPT, attempt=2))
    assert read_trajectory(folder.path) == [odd, dataclasses.replace(ATTEMPT, attempt=2)]
    folder = RunFolder(tmp_path, "run")
    folder.record(odd)
    assert len(read_trajectory(folder.path)) == 2, "known already"


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_line_cut_off_by_a_crash_is_skipped_and_does_not_swallow_the_next(tmp_path: Path, cut: int) -> None:
    folder = RunFolder(tmp_path, "run")
    second = dataclasses.replace(ATTEMPT, attempt=2)
    for attempt in (ATTEMPT, second):
        folder.record(attempt)
    lines = folder.path / "trajectory.jsonl"
    lines.write_bytes(lines.read_bytes()[:-cut])
    kept = [ATTEMPT] if cut > 1 else [ATTEMPT, second]
    folder = RunFolder(tmp_path, "run")
    assert list(folder.known.values()) == kept
    third = dataclasses.replace(ATTEMPT, attempt=3)
    folder.record(third)
    assert read_trajectory(folder.path) == [*kept, third]


GARBAGE = [
    b"",
    b"\n\n",
    b"null\n3\n[]\n{}\n",
    b'{"step": 1, "colour": 2}\n',
    b"\xff\xfe\n",
    b'{"judgment": 5}\n',
    b"[" * 99_999,
]


@pytest.mark.parametrize("data", GARBAGE)
def test_garbage_in_a_folder_is_passed_over(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "trajectory.jsonl").write_bytes(data)
    (tmp_path / "run.json").write_bytes(data)
    assert read_trajectory(tmp_path) == []
    read_state(tmp_path)


def test_an_attempt_is_recorded_once_and_again_when_its_outcome_changed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    folder.record(ATTEMPT)
    folder.record(dataclasses.replace(ATTEMPT, seconds=9.0, recalled=True))
    assert len(read_trajectory(folder.path)) == 1
    picked = dataclasses.replace(ATTEMPT, overridden=True)
    folder.record(picked)
    assert read_trajectory(folder.path) == [ATTEMPT, picked]
    assert RunFolder(tmp_path, "run").known[ATTEMPT.identity] == picked, "the later line holds"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_while_recording_names_the_file_and_keeps_the_earlier_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path, "run")
    folder.record(ATTEMPT)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "trajectory_file", Path("/dev/full"))
        with pytest.raises(RunError, match=r"Cannot append to /dev/full.*No space left"):
            folder.record(dataclasses.replace(ATTEMPT, attempt=2))
    assert read_trajectory(folder.path) == [ATTEMPT]
    assert folder.record(dataclasses.replace(ATTEMPT, attempt=2)), "what could not be written is not taken for written"


# --- pictures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linked", [True, False])
def test_pictures_are_linked_or_else_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(errno.EXDEV, "another disk")

    if not linked:
        monkeypatch.setattr(os, "link", no_links)
    source = tmp_path / "source.png"
    source.write_bytes(b"picture")
    folder = RunFolder(tmp_path / "runs", "run")
    name = folder.keep_image(2, 1, "abcdef0123", source)
    assert name == "attempts/step02_attempt1_abcdef01.png"
    assert (folder.path / name).read_bytes() == b"picture"
    assert (folder.path / name).samefile(source) is linked


def test_half_a_copy_is_replaced(tmp_path: Path) -> None:
    source = tmp_path / "source.png"
    source.write_bytes(b"picture")
    folder = RunFolder(tmp_path / "runs", "run")
    name = folder.keep_image(1, 1, "abcdef01", source)
    for left in (b"pic", bytes(7)):  # too short, or of the right length and empty, as after a power cut
        (folder.path / name).unlink()
        (folder.path / name).write_bytes(left)
        folder.keep_image(1, 1, "abcdef01", source)
        assert (folder.path / name).read_bytes() == b"picture"


def test_a_picture_that_cannot_be_kept_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    with pytest.raises(RunError, match=r"step01_attempt1_abcdef01\.png"):
        folder.keep_image(1, 1, "abcdef01", tmp_path / "missing.png")
    assert list((folder.path / "attempts").iterdir()) == []


def test_only_the_name_in_a_record_counts_not_its_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    for file in ("../../etc/passwd", "/etc/passwd", "attempts/passwd"):
        assert folder.image_file(dataclasses.replace(ATTEMPT, file=file)) == folder.path / "attempts" / "passwd"


def test_state_round_trip(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    folder.write_state({"a": ["\ud800", "é"]})
    assert folder.read_state() == {"a": ["\ud800", "é"]}
