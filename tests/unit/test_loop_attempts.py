"""Attempts for the critic's lessons as the loop makes them, with the shipped tiny models."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import pytest

from interleave_thinker.cli import main
from interleave_thinker.tinyworld import checker, loop_attempts
from interleave_thinker.tinyworld.attempt_pool import AttemptPool, repainted
from interleave_thinker.tinyworld.attempts import attempt_record
from interleave_thinker.tinyworld.convert import WEIGHTS
from interleave_thinker.tinyworld.language import Voice
from interleave_thinker.tinyworld.lessons import Case
from interleave_thinker.tinyworld.pipeline import TinyKontextPipeline
from interleave_thinker.tinyworld.scene import POSITIONS, SHAPES, SIZES, Scene, render


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("attempts")
    pipeline = TinyKontextPipeline.from_pretrained(WEIGHTS / "generator")
    pipeline.set_progress_bar_config(disable=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_attempts, "STORIES", 6)
        assert loop_attempts.make_loop_attempts(pipeline, WEIGHTS / "critic", out, 30, seed=4) >= 30
        assert loop_attempts.make_loop_attempts(pipeline, WEIGHTS / "critic", out, 36, seed=4) >= 36  # goes on
    return out


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "attempts.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_step_is_tried_as_the_loop_tries_it(made: Path) -> None:
    """Same start and wish at each try, at most T_max, none after an accepted one; refined prompts are used."""
    groups: dict[str, list[dict]] = {}
    for record in records(made):
        groups.setdefault(record["group"], []).append(record)
    for tries in groups.values():
        assert len(tries) <= loop_attempts.T_MAX
        assert not any(t["accepted"] for t in tries[:-1])
        assert len({(t["prompt"], t["before_image"]) for t in tries}) == 1
        assert tries[0]["used"] == tries[0]["prompt"]
    assert any(a["used"] != b["used"] for tries in groups.values() for a, b in pairwise(tries))


def test_a_step_starts_from_the_last_attempt_of_the_one_before(made: Path) -> None:
    last: dict[str, str] = {}
    later = 0
    for record in records(made):
        story, step = record["group"].split("-")
        if step != "0":
            later += 1
            assert record["before_image"] == last[f"{story}-{int(step) - 1}"]
        last[record["group"]] = record["after_image"]
    assert later


def test_each_attempt_becomes_a_lesson(made: Path) -> None:
    pool = AttemptPool([made])
    assert len(pool.records) == len(records(made)) == len(pool.right) + len(pool.wrong)


@pytest.fixture
def every_place(tmp_path: Path) -> AttemptPool:
    """Attempts at every shape, size and place of a red thing on white, each drawn as it was wanted."""
    records = []
    for number, (shape, size, position) in enumerate(product(SHAPES, SIZES, POSITIONS)):
        scene = Scene(shape, "red", size, position, "white")
        render(scene).save(tmp_path / f"{number}.png")
        prompt = Voice(random.Random(number)).describe(scene)
        records.append(attempt_record(f"{number}-0", prompt, prompt, None, scene, "", f"{number}.png"))
    (tmp_path / "attempts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return AttemptPool([tmp_path], right_share=0.5)


def test_beside_another_picture_what_was_there_tells_nothing_of_what_came(every_place: AttemptPool) -> None:
    """Half are right; the others miss by one thing that the edit is not about, so that looking at both is needed."""
    every_place.wrong = every_place.right  # there are none: all were drawn as wanted
    rng = random.Random(1)
    cases = [every_place.crossed_case(rng) for _ in range(200)]
    crossed = [case for case in cases if case.before is not None]
    assert len(crossed) > 100
    for case in crossed:
        assert case.before_image is not None
        assert checker.read(case.after_image).scene == case.after, "the label is true of the picture that is shown"
        assert case.misses == (0 if case.right else 1)
    assert 0.3 < sum(case.right for case in crossed) / len(crossed) < 0.7


def test_in_other_colours_and_in_a_mirror_a_drawing_shows_what_its_label_says(every_place: AttemptPool) -> None:
    """Of every drawing, also of an empty ground; what does not change with it, size and shape, stays."""
    rng = random.Random(2)
    painted = 0
    for index in range(len(every_place.records)):
        case = every_place.case(index)
        new = repainted(replace(case, before=case.after, before_image=case.after_image), rng)
        assert new.after is not None and case.after is not None
        assert (new.after.shape, new.after.size) == (case.after.shape, case.after.size)
        assert checker.read(new.after_image).scene == new.after == new.before, "both in the same colours"
        painted += new.after != case.after
    assert painted > len(every_place.records) * 0.9
    empty = Scene("circle", "red", "medium", "center", "blue", present=False)
    gone = repainted(Case(None, empty, "", "", None, render(empty)), rng)
    assert gone.after is not None and not gone.after.present
    assert checker.read(gone.after_image).scene == gone.after


def lessons(made: Path, out: Path, *options: str) -> list[dict]:
    words = ["tinyworld", "lessons", str(made), "--out", str(out), "--count", "200", *options]
    assert main(words) == 0
    return [json.loads(line) for line in (out / "lesson_sft.jsonl").read_text(encoding="utf-8").splitlines()]


def reply(row: dict) -> str:
    return row["completion"][0]["content"][0]["text"]


def test_lessons_compare_the_attempts_at_a_step_where_asked(made: Path, tmp_path: Path) -> None:
    rows = lessons(made, tmp_path, "--compare", "20")
    compared = [row for row in rows if '"best"' in reply(row)]
    assert (len(rows), len(compared)) == (220, 20)
    for row in compared:  # the start, and two attempts or more
        assert len(row["images"]) >= 3
        assert all((tmp_path / name).is_file() for name in row["images"])


def test_fewer_right_attempts_where_a_stricter_critic_is_wanted(made: Path, tmp_path: Path) -> None:
    def right(share: str) -> int:
        rows = lessons(made, tmp_path / share, "--right-share", share)
        return sum('"previous_step_success": true' in reply(row) for row in rows)

    assert right("0.2") < right("0.5") < right("0.8")


def test_a_share_is_no_percentage(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tinyworld", "lessons", str(made), "--out", str(tmp_path), "--right-share", "40"]
    assert main(words) == 1
    assert "--right-share is 40.0" in capsys.readouterr().err
