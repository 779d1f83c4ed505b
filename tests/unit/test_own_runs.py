"""docs/training.md, first page: from a folder of runs to a critic that Load Agent takes, by the printed commands."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_adapters import WHOLE_CRITIC

from interleave_thinker.agents.transformers_agent import load_agent
from interleave_thinker.cli import main
from interleave_thinker.errors import ConfigError
from interleave_thinker.research.data.filters import FilterOptions, filtered_by_label
from interleave_thinker.research.data.records import CriticRecord
from interleave_thinker.roles.critic import judge
from interleave_thinker.tinyworld.scene import Scene, render

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def printed() -> list[list[str]]:
    part = PAGE.read_text(encoding="utf-8").split("## From your own runs to your own critic")[1]
    block = re.findall(r"```\n(.*?)```", part, re.S)[0]
    return [shlex.split(line)[1:] for line in block.splitlines()]


def made_runs(folder: Path) -> None:
    """Runs of the tiny world where ComfyUI would have put them."""
    for line in (
        "data prompts --world tiny --count 5 --seed 3 --out requests",
        "data trajectories requests/requests.jsonl --critic tiny --generator tiny --t-max 2 --workers 5 --out made",
    ):
        assert main(line.split()) == 0, line
    runs = folder / "ComfyUI" / "output" / "interleave"
    runs.mkdir(parents=True)
    for run in {file.parent for file in (folder / "made").rglob("run.json")}:
        shutil.copytree(run, runs / run.name)


def test_the_printed_commands_make_a_critic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    made_runs(tmp_path)
    commands = printed()
    assert [words[:2] for words in commands] == [
        ["data", "from-runs"],
        ["data", "filter"],
        ["data", "export"],
        ["sft", "critic"],
    ]
    for words in commands:
        words = [str(WHOLE_CRITIC) if word == "FOLDER" else word for word in words]
        if "sft" in words:
            words += ["--steps", "2"]
        capsys.readouterr()
        assert main(words) == 0, (words, capsys.readouterr().err)
        if "filter" in words:
            assert re.search(
                r"\d+ attempts, 0 labelled by a person and \d+ by the critic\. No scores", capsys.readouterr().out
            )
    assert main(["data", "export", "my_data", "--format", "trl", "--resume"]) == 0, "with the wrong prompt texts"
    assert main(["sft", "critic", "--model", str(WHOLE_CRITIC), "--data", "my_data", "--out", "other"]) == 1
    assert "--prompts FOLDER" in capsys.readouterr().err
    agent = load_agent(tmp_path / "my_critic" / "model", device="cpu")
    red = render(Scene("circle", "red", "big", "center", "white"))
    assert judge(agent, None, red, "a big red circle at the center on a white background", "the same").parsed


@pytest.mark.parametrize(("words", "said"), [
    (["data", "filter", "FOLDER"], "`data from-runs RUNS"),
    (["data", "export", "FOLDER", "--format", "trl"], "run `data filter"),
])  # fmt: skip
def test_a_command_that_comes_too_early_says_what_it_needs(words: Any, said: str, tmp_path: Path, capsys: Any) -> None:
    assert main([str(tmp_path) if word == "FOLDER" else word for word in words]) == 1
    assert said in capsys.readouterr().err


def record(number: int, success: bool, refined: str = "", by: Any = "user") -> CriticRecord:
    return CriticRecord(
        f"run/{number}.1", f"run/{number}", "", number, 1, "", "a cat", "a cat", None, "a.png", success, by, refined, ""
    )


def test_labels_alone_choose_what_is_learned_from() -> None:
    records = [record(n, True) for n in range(6)] + [record(n, False, "a big cat") for n in (6, 7)] + [record(8, False)]
    kept, drops = filtered_by_label(records, FilterOptions())
    assert sorted(r.success for r in kept) == [False, False, True, True]
    assert drops.seen == 9 and drops.kept == 4
    assert len(filtered_by_label(records, FilterOptions(balance=0, need_refined=False))[0]) == 9


@pytest.mark.parametrize(("records", "lacking"), [
    ([record(n, True) for n in range(3)] + [record(4, False)], "failures with a refined prompt"),
    ([record(n, False, "a dog") for n in range(3)], "successes"),
])  # fmt: skip
def test_one_kind_of_label_teaches_nothing_and_says_what_would(records: list[CriticRecord], lacking: str) -> None:
    with pytest.raises(ConfigError, match=f"none are {lacking}.*--balance 0"):
        filtered_by_label(records, FilterOptions())
    assert filtered_by_label(records, FilterOptions(balance=0))[0]
