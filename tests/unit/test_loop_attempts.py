"""Attempts for the critic's lessons as the loop makes them, with the shipped tiny models."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from interleave_thinker.cli import main
from interleave_thinker.research.tinyworld import loop_attempts
from interleave_thinker.research.tinyworld.attempt_pool import AttemptPool, varied
from interleave_thinker.tinyworld import checker
from interleave_thinker.tinyworld.convert import WEIGHTS
from interleave_thinker.tinyworld.pipeline import TinyKontextPipeline


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


def test_a_picture_that_is_moved_still_shows_what_its_label_says(made: Path) -> None:
    """A small shape a pixel aside may be no drawing to the checker: taught as right, it would teach to overlook that."""
    pool, rng = AttemptPool([made]), random.Random(3)
    moved = 0
    for index in range(len(pool.records)):
        case = pool.case(index)
        new = varied(case, rng)
        assert checker.read(new.after_image).scene == case.after == new.after
        moved += new is not case
    assert moved > len(pool.records) * 0.8


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
