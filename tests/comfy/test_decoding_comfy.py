"""Guesses, kept pictures and layers called several tokens at once: the agents say what plain `generate` says."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from comfy_server import REPO
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
