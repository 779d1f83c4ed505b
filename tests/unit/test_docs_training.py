"""docs/training.md: its commands, taken out of the page and run as they are printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from test_layout import config

from interleave_thinker.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
TINY_SIZES = {"--count": "6", "--steps": "1", "--batch": "8"}


def printed(heading: str) -> list[list[str]]:
    """The commands of the first block behind a heading that has any, without the program's name."""
    part = PAGE.read_text(encoding="utf-8").split(f"{heading}\n", 1)[1]
    blocks = re.findall(r"```\n(.*?)```", part, re.S)
    block = next(block for block in blocks if block.startswith("interleave-thinker "))
    return [shlex.split(line)[1:] for line in block.splitlines()]


def smaller(words: list[str]) -> list[str]:
    return [TINY_SIZES.get(before, word) for before, word in zip(["", *words], words, strict=False)]


def run_chain(commands: list[list[str]], capsys: Any) -> str:
    for words in commands:
        capsys.readouterr()
        assert main(words) == 0, (words, capsys.readouterr().err)
    return str(capsys.readouterr().out)


def test_the_chain_is_whole() -> None:
    stages = [(words[0], words[1]) if words[0] in ("data", "sft") else (words[0],) for words in printed(FROM_NOTHING)]
    data = [("data", name) for name in ("prompts", "trajectories", "from-runs", "score", "filter", "planner", "export")]
    assert stages == [*data, ("sft", "planner"), ("sft", "critic"), ("grpo",), ("data", "agree")]


FROM_NOTHING = "## From nothing, in five minutes"


def test_the_chain_runs_at_a_smaller_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    said = run_chain([smaller(words) for words in printed(FROM_NOTHING)], capsys)
    assert "balanced accuracy" in said and sum(1 for _ in (tmp_path / "made" / "runs").iterdir()) == 6


@pytest.mark.slow
def test_the_chain_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert "balanced accuracy" in run_chain(printed(FROM_NOTHING), capsys)


def test_the_dry_runs_say_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Memory and hours in the page's tables are those that the printed commands print."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(PAGE.parents[1] / "recipes")
    config("8b").save_pretrained(tmp_path / "MODEL")
    (tmp_path / "draw.json").write_text("{}")
    eight, small, sft, small_sft = printed("### Memory: what lies on each GPU")
    page = PAGE.read_text(encoding="utf-8")

    said = run_chain([eight], capsys)
    totals = re.findall(r"\*\*sum\*\* \| \*\*([\d.]+)\*\* \| of", said)
    assert [f"{float(total):.0f}" for total in totals] == ["55", "209", "15"]
    assert all(f"| {total} GB |" in page for total in ("55", "209")) and "| 15 GB |" in page

    said = run_chain([small], capsys)
    assert "**20.9**" in said and "with 6 GB for ComfyUI 21 GB" in page and "Fits" in said
    assert hours(said) == ["1.7", "2.0", "2.6", "6.3"]
    assert f"| {' h | '.join(hours(said))} h | 6 |" in page

    servers = [word for port in range(8) for word in ("--server", f"http://127.0.0.1:{8188 + port}")]
    said = run_chain([[*eight, *servers, "--ray", "--train-gpus", "8", "--gpu-gb", "80"]], capsys)
    assert f"| {' h | '.join(hours(said))} h | 94 |" in page and "812 steps on 8 devices" in said
    said = run_chain([[*eight, *servers[:4], "--ray", "--train-gpus", "6", "--gpu-gb", "80"]], capsys)
    assert f"| {' h | '.join(hours(said))} h | 302 |" in page
    for words, total in ((sft, "32"), (small_sft, "16")):
        said = run_chain([words], capsys)
        assert "Fits." in said and f"{total} GB | yes |" in page
        (found,) = re.findall(r"\*\*sum\*\* \| \*\*([\d.]+)", said)
        assert f"{float(found):.0f}" == total


def hours(said: str) -> list[str]:
    """Writing, learning, pictures, sum."""
    found = re.findall(r"(?m)^\| (?:writing|learning|pictures|\*\*sum\*\*) \| \**([\d.]+)\** \| (?!of)", said)
    assert len(found) == 4
    return list(found)
