"""Options with two spellings: every command takes both, on the command line and in a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from interleave_thinker.cli import research, tinyworld
from interleave_thinker.cli.config_file import save_options, with_config
from interleave_thinker.cli.options import generator_choice, size_for
from interleave_thinker.cli.research.ray_options import ray_workers
from interleave_thinker.errors import ConfigError
from interleave_thinker.research.worker_pool import WorkerSpec

TRAJECTORIES = ["data", "trajectories", "r.jsonl", "--out", "o", "--critic", "c", "--generator", "comfyui"]
GENERATE = ["bench", "wise", "generate", "--out", "o", "--generator", "comfyui"]
GRPO = ["grpo", "--data", "d", "--model", "m", "--out", "o", "--generator", "tiny", "--judge", "checker"]
JUDGE = ["bench", "wise", "judge", "--out", "o", "--judge", "tiny"]
SCORE = ["data", "score", "d", "--judge", "checker"]
AGREE = ["data", "agree", "d", "--critic", "tiny"]


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    research.add_commands(commands, tinyworld.add_commands(commands))
    return parser.parse_args(with_config(parser, words))


@pytest.mark.parametrize("spelling", ["--output-node", "--output-input"])
@pytest.mark.parametrize("command", [TRAJECTORIES, GENERATE], ids=["trajectories", "generate"])
def test_the_output_node_has_two_spellings(command: list[str], spelling: str) -> None:
    options = parsed([*command, "--workflow", "w.json", "--prompt-input", "1.text", spelling, "9"])
    choice = generator_choice(options)
    assert choice.workflow_inputs == {"prompt": "1.text", "seed": None, "image": None, "output": "9"}
    assert (choice.spec, choice.workflow, choice.server) == ("comfyui", Path("w.json"), "http://127.0.0.1:8188")


@pytest.mark.parametrize("spelling", ["--workers", "--concurrency"])
@pytest.mark.parametrize("command", [TRAJECTORIES, GENERATE, GRPO, JUDGE, SCORE, AGREE], ids=" ".join)
def test_the_number_of_workers_has_two_spellings(command: list[str], spelling: str) -> None:
    options = vars(parsed([*command, spelling, "7"]))
    assert options.get("workers", options.get("concurrency")) == 7


@pytest.mark.parametrize("name", ["unknown-words", "strangers"])
def test_the_share_of_unknown_words_has_two_spellings(name: str) -> None:
    assert parsed(["tinyworld", "train", "generator", "--out", "o", f"--{name}", "0.2"]).strangers == 0.2


@pytest.mark.parametrize("name", ["output-node", "output_input", "output-input"])
def test_a_file_may_have_either_spelling_and_a_saved_one_is_read_back(tmp_path: Path, name: str) -> None:
    file, saved = tmp_path / "options.yaml", tmp_path / "saved.yaml"
    file.write_text(f"{name}: 9\nconcurrency: 7\nserver: [a, b]\n")
    first = parsed([*TRAJECTORIES, "--config", str(file)])
    assert (first.output_input, first.workers, first.server) == ("9", 7, ["a", "b"])
    save_options(first, saved)
    assert "output-input: '9'" in saved.read_text() and "workers: 7" in saved.read_text()
    again = parsed([*TRAJECTORIES, "--config", str(saved)])
    assert {k: v for k, v in vars(again).items() if k not in ("config", "do")} == {
        k: v for k, v in vars(first).items() if k not in ("config", "do")
    }
    assert parsed([*TRAJECTORIES, "--config", str(saved), "--output-node", "5"]).output_input == "5"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], []),
        (["--server", "a"], []),
        (["--ray", "--server", "a", "--gpus", "2"], [WorkerSpec("a"), WorkerSpec(gpu=True), WorkerSpec(gpu=True)]),
        (["--ray", "--workers", "2"], [WorkerSpec(), WorkerSpec()]),
    ],
)
@pytest.mark.parametrize("command", [TRAJECTORIES, GRPO], ids=["trajectories", "grpo"])
def test_ray_gets_a_worker_for_each_server_and_gpu(command: list[str], words: list[str], wanted: list[Any]) -> None:
    assert ray_workers(parsed([*command, *words])) == wanted


@pytest.mark.parametrize("words", [["--gpus", "1"], ["--server", "a", "--server", "b"]])
def test_several_servers_need_ray(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="--ray"):
        ray_workers(parsed([*GRPO, *words]))


def test_the_tiny_worlds_generator_has_a_size_of_its_own() -> None:
    assert size_for("tiny", None) == (64, 64) and size_for("tiny", "128x96") == (128, 96)
    assert size_for("comfyui", None) is None and size_for(None, None) is None
