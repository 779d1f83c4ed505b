"""Run folders: names from outside never form a path, and a folder is read back whatever happened to it."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from interleave_thinker.errors import RunError
from interleave_thinker.loop.trajectory import RAW_LIMIT, Attempt, Judgment
from interleave_thinker.storage.images import image_key
from interleave_thinker.storage.png import encode_png
from interleave_thinker.storage.run_folder import (
    MAX_BYTES,
    MAX_NAME,
    RunFolder,
    input_file,
    read_state,
    read_trajectory,
    safe_name,
)

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
    ("a device with a blank before its ending", "aux .txt", "_aux .txt"),
    ("a device with a raised number", "com¹.log", "_com¹.log"),
    ("a printer with a raised number", "LPT²", "_LPT²"),
    ("a device with a dollar", "conin$", "conin_"),
    ("the clock", "CLOCK$", "CLOCK_"),
    ("a device with a dot at the end", "NUL.", "_NUL"),
    ("most bytes", "ж" * (MAX_BYTES // 2), "ж" * (MAX_BYTES // 2)),
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


def test_a_name_too_long_in_bytes_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    """File systems count bytes, and endings must fit too."""
    with pytest.raises(RunError, match=f"物物.*300 bytes in UTF-8; {MAX_BYTES} are allowed"):
        RunFolder(tmp_path, "物" * MAX_NAME)
    longest = RunFolder(tmp_path, "物" * (MAX_BYTES // 3)).path
    longest.with_name(f"{longest.name}-branch-of-a-branch.partial").mkdir()


@pytest.mark.parametrize("inside", ["", "attempts", "inputs"])
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


def flips(data: bytes, most: int) -> Iterator[bytes]:
    places = list(range(8 * len(data)))
    for place in random.Random(5).sample(places, min(most, len(places))):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        yield bytes(flipped)


def test_a_late_attempt_costs_what_an_early_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier ones are not written out again; a run of a hundred steps would wait for that."""
    folder, written = RunFolder(tmp_path, "run"), 0
    own = Attempt.to_dict

    def counted(attempt: Attempt) -> dict[str, Any]:
        nonlocal written
        written += 1
        return own(attempt)

    monkeypatch.setattr(Attempt, "to_dict", counted)
    for step in range(1, 41):
        folder.record(dataclasses.replace(ATTEMPT, step=step))
    assert written == 40


def test_a_flipped_bit_in_the_trajectory_is_a_miss_or_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    judgment = Judgment(False, "draw 7 discs", "there are 6", True, "<think>…</think>")
    kept = [dataclasses.replace(ATTEMPT, attempt=n, judgment=judgment, seconds=1.5, judgment_key="0a") for n in (1, 2)]
    for attempt in kept:
        folder.record(attempt)
    sound = folder.trajectory_file.read_bytes()
    assert read_trajectory(folder.path) == kept
    for damaged in flips(sound, 2500):
        folder.trajectory_file.write_bytes(damaged)
        assert all(a in kept for a in read_trajectory(folder.path)), damaged


def test_a_flipped_bit_in_the_state_or_a_comparison_is_a_miss_or_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    state = {"title": "a disc", "state": {"position": 3, "plan": ["a", "b"], "seed": 1.5}, "origin": {}}
    folder.write_state(state)
    folder.record_comparison("ab", 2)
    for name in ("run.json", "comparisons.jsonl"):
        sound = (folder.path / name).read_bytes()
        for damaged in flips(sound, 2500):
            (folder.path / name).write_bytes(damaged)
            if name == "run.json":
                assert folder.read_state() in (None, state) or "digest" not in json.loads(damaged), damaged
            else:
                assert RunFolder(tmp_path, "run").comparison("ab") in (None, 2)
        (folder.path / name).write_bytes(sound)
    assert folder.read_state() == state and RunFolder(tmp_path, "run").comparison("ab") == 2


def test_lines_of_older_versions_are_read_and_other_readers_find_the_fields(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    folder.record(ATTEMPT)
    line = json.loads(folder.trajectory_file.read_text())
    assert {**ATTEMPT.to_dict(), "digest": line["digest"]} == line, "beside the fields, for JavaScript"
    del line["digest"], line["judgment_key"]
    folder.trajectory_file.write_text(json.dumps(line) + "\n")
    assert read_trajectory(folder.path) == [ATTEMPT]
    (folder.path / "run.json").write_text('{"title": "old"}')
    assert folder.read_state() == {"title": "old"}


def test_a_long_reply_is_cut_in_the_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    folder.record(dataclasses.replace(ATTEMPT, judgment=Judgment(True, raw="x" * 10**6)))
    (read,) = read_trajectory(folder.path)
    assert read.judgment is not None and len(read.judgment.raw) == RAW_LIMIT
    assert not folder.record(dataclasses.replace(ATTEMPT, judgment=Judgment(True, raw="x" * 10**6))), "known already"


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_link_in_place_of_the_trajectory_is_refused(tmp_path: Path, when: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"theirs\n")
    (tmp_path / "runs" / "run").mkdir(parents=True)
    file = tmp_path / "runs" / "run" / "trajectory.jsonl"
    if when == "during":
        folder = RunFolder(tmp_path / "runs", "run")
        file.unlink()
    file.symlink_to(outside)
    with pytest.raises(RunError, match="symbolic link"):
        folder.record(ATTEMPT) if when == "during" else RunFolder(tmp_path / "runs", "run")
    assert outside.read_bytes() == b"theirs\n"


def test_a_folder_that_was_deleted_is_made_again_with_all_lines(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    second = dataclasses.replace(ATTEMPT, attempt=2)
    folder.record(ATTEMPT)
    folder.record_comparison("ab", 1)
    shutil.rmtree(folder.path)
    folder.record(second)
    folder.record_comparison("cd", 2)
    assert read_trajectory(folder.path) == [ATTEMPT, second]
    again = RunFolder(tmp_path, "run")
    assert (again.comparison("ab"), again.comparison("cd"), again.comparison("ef")) == (1, 2, None)


def test_a_file_in_place_of_the_deleted_folder_is_said(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    shutil.rmtree(folder.path)
    folder.path.write_text("a file")
    with pytest.raises(RunError, match=r"Cannot append to .*A file lies where a folder is needed") as error:
        folder.record(ATTEMPT)
    assert "free some space" not in str(error.value)


def test_half_written_files_of_a_crash_go_when_the_folder_is_opened(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    for name, age in (("attempts/.writing-a", 7200), (".writing-b", 7200), (".writing-c", 60), ("theirs", 7200)):
        (folder.path / name).write_bytes(b"")
        os.utime(folder.path / name, (time.time() - age,) * 2)
    RunFolder(tmp_path, "run")
    left = {p.name for p in folder.path.rglob("*") if p.is_file()}
    assert left == {"trajectory.jsonl", ".writing-c", "theirs"}


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


PICTURE = Image.new("RGB", (8, 6), (1, 2, 3))
KEY = image_key(PICTURE)
OTHER = encode_png(Image.new("RGB", (8, 6), (3, 2, 1)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source.png").write_bytes(encode_png(PICTURE))
    return tmp_path / "source.png"


def test_pictures_are_copied_never_linked(tmp_path: Path, source: Path) -> None:
    """Whoever edits a picture in the run folder must not change the store's."""
    folder = RunFolder(tmp_path / "runs", "run")
    name = folder.keep_image(2, 1, KEY, source)
    assert name == f"attempts/step02_attempt1_{KEY[:8]}.png"
    assert (folder.path / name).read_bytes() == source.read_bytes()
    (folder.path / name).write_bytes(OTHER)
    assert source.read_bytes() == encode_png(PICTURE)
    own = input_file(folder.path, KEY)
    assert folder.keep_png(own.relative_to(folder.path).as_posix(), KEY, source.read_bytes()) == own
    assert input_file(folder.path, KEY).stat().st_nlink == 1


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_link_that_an_older_version_or_somebody_else_made_becomes_a_copy(
    tmp_path: Path, source: Path, link: Any
) -> None:
    folder = RunFolder(tmp_path / "runs", "run")
    target = folder.path / "attempts" / f"step02_attempt1_{KEY[:8]}.png"
    link(source, target)
    folder.keep_image(2, 1, KEY, source)
    assert target.read_bytes() == source.read_bytes() and not target.is_symlink() and not target.samefile(source)


def test_half_a_copy_or_another_picture_is_replaced(tmp_path: Path, source: Path) -> None:
    folder = RunFolder(tmp_path / "runs", "run")
    name = folder.keep_image(1, 1, KEY, source)
    whole = source.read_bytes()
    for left in (whole[:9], bytes(len(whole)), OTHER):  # too short; of the right length, as after a power cut
        (folder.path / name).write_bytes(left)
        folder.keep_image(1, 1, KEY, source)
        assert (folder.path / name).read_bytes() == whole


def test_a_picture_is_only_what_its_record_says(tmp_path: Path, source: Path) -> None:
    folder = RunFolder(tmp_path / "runs", "run")
    name = folder.keep_image(1, 1, KEY, source)
    attempt = dataclasses.replace(ATTEMPT, image_key=KEY, file=name)
    found = folder.image(attempt)
    assert found is not None and image_key(found) == KEY
    folder.record(attempt)
    assert folder.find(KEY) == folder.path / name and folder.find("ab") is None
    assert folder.image(dataclasses.replace(attempt, file="")) is None
    (folder.path / name).write_bytes(OTHER)
    assert folder.image(attempt) is None and folder.find(KEY) is None
    folder.keep_png(f"inputs/{input_file(folder.path, KEY).name}", KEY, source.read_bytes())
    assert folder.find(KEY) == input_file(folder.path, KEY)


def test_a_source_with_other_pixels_is_not_kept(tmp_path: Path, source: Path) -> None:
    source.write_bytes(OTHER)
    with pytest.raises(RunError, match="is missing or is another picture"):
        RunFolder(tmp_path / "runs", "run").keep_image(1, 1, KEY, source)


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
