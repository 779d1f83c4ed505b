"""The first commands of docs/benchmarks.md, as they are printed, in an empty folder: from nothing to a plot."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from interleave_thinker.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def commands() -> list[list[str]]:
    """Of the first block whose lines are whole commands."""
    blocks = re.findall(r"(?m)(?:^    interleave-thinker .*\n)+", PAGE.read_text(encoding="utf-8"))
    return [shlex.split(line, comments=True)[1:] for line in blocks[0].splitlines()]


def test_the_example_ends_in_a_report() -> None:
    words = commands()
    assert [w[2] for w in words] == ["generate", "generate", "judge", "judge", "report"]
    assert all(w[:2] == ["bench", "tiny"] for w in words)


@pytest.mark.slow
def test_the_example_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in commands():
        assert main(words) == 0, (words, capsys.readouterr().err)
    said = capsys.readouterr().out
    assert "minus the first" in said and "no output" not in said.lower()
    assert (tmp_path / "runs" / "planner" / "report.png").stat().st_size > 10_000
