"""Guesses, kept pictures and layers called several tokens at once: the agents say what plain `generate` says."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from comfy_server import REPO, Comfy
from comfy_test_graphs import ours, tiny_story
from inside import run_inside

sys.path.insert(0, str(REPO / "benchmarks"))
from agent_speed import WEIGHTS, make_runs, write_calls

REQUESTS = 2


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    work = tmp_path_factory.mktemp("runs")
    calls = write_calls(make_runs(work / "runs", REQUESTS), work, 16)
    return run_inside("recorded_calls.py", str(WEIGHTS), str(calls), "16", "16", seconds=600)


def test_the_calls_of_a_run_are_answered_in_fewer_passes_and_say_the_same(found: dict[str, Any]) -> None:
    """Counted, not timed: benchmarks/agent_speed.py has the times."""
    assert found["calls"] >= 10 and found["equal"] == 1
    assert found["forwards_share"] <= 0.6
    assert found["images_per_call"] <= 1.1


def test_guesses_change_no_token_that_is_drawn(found: dict[str, Any]) -> None:
    assert found["sampled"] >= 10 and found["same_tokens"] == 1
    assert found["sampled_forwards_share"] <= 0.6


def test_an_earlier_reply_is_text_and_another_packs_wrapper_stays(tmp_path: Path) -> None:
    """A reply of a model may name an embedding file of ComfyUI's, or hold marks of the chat form."""
    said = run_inside("odd_texts.py", str(WEIGHTS), str(tmp_path))
    assert said["with"] == [said["plain"]] * 4
    assert said["wrapped"] == said["plain"] and said["asked"] and said["kept"]


STEPS = 50


@pytest.mark.slow
def test_agent_and_sampler_take_turns_without_a_second_copy_or_another_load(tmp_path: Path) -> None:
    """After the first attempt nothing is loaded, and the server's tensors grow by the pictures that the critic keeps (16
    patches of 1,536 numbers each, up to a bound of their own) and by nothing else."""
    server = Comfy(tmp_path)
    (server.base / "custom_nodes").mkdir(parents=True)
    shutil.copy(REPO / "benchmarks" / "memory_probe.py", server.base / "custom_nodes")
    server.start()
    graph = tiny_story()
    plan = "\n".join(f"{n}. a big {('red', 'blue', 'green')[n % 3]} circle on a white background" for n in range(STEPS))
    graph["3"] = ours("PlanFromText", text=plan, max_steps=100, title="")
    graph["31"]["inputs"]["t_max"] = 2
    held: list[int] = []

    def probe(event: str, facts: dict[str, Any]) -> None:
        if event == "judgment" and facts["step"] in (5, STEPS):
            held.append(server.get("/memory_probe")["bytes"])

    try:
        ran = server.run(graph, probe)
    finally:
        server.stop()
    loads = [facts["loads"] for facts in ran.of("attempt")]
    assert len(loads) >= STEPS and not any(loads[1:]), "all models lie in memory from the first attempt on"
    kept = 2 * STEPS * 16 * 1536 * 4
    assert held[-1] - held[0] < kept + 2**20, "a second copy of the critic, 15 MB, would be more"


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs_whole_on_a_small_shape() -> None:
    """Its figures are a GPU's to tell; that each part runs is seen here."""
    found = run_inside("decode_shapes.py", "small", "64", "40", "4", "0.01", seconds=300)
    assert {"host", "text", "speed", "swap"} <= set(found)
    assert found["text"]["tokens"] == 4000
    assert all(
        value > 0 for part in ("host", "speed", "swap") for name, value in found[part].items() if name != "agent"
    )
