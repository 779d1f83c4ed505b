"""Critic-Refine may look into what the critic wrote in its run, also in a run that was interrupted and queued again."""

from __future__ import annotations

from typing import Any

from comfy_test_graphs import Graph, tiny_story
from watched_server import WatchedServer


def listened() -> Graph:
    graph = tiny_story()
    graph["9"] = {"class_type": "BodyHeard", "inputs": {"agent": ["2", 0]}}
    graph["30"]["inputs"]["agent"] = ["9", 0]
    graph["4"]["inputs"]["seed"] = 77
    return graph


def test_each_call_may_look_into_the_replies_of_its_run(bodies: WatchedServer) -> None:
    judged = 0

    def interrupt_at_the_third(kind: str, facts: dict[str, Any]) -> None:
        nonlocal judged
        judged += facts.get("event") == "judgment"
        if judged == 3:
            bodies.server.post("/interrupt", {})

    killed = bodies.queue(listened(), watch=interrupt_at_the_third)
    assert killed.errors
    resumed = bodies.queue(listened())
    assert not resumed.errors and resumed.recalled
    said: list[str] = []
    for call in [c for of in (killed, resumed) for c in of.calls if c["kind"] == "heard"]:
        assert call["earlier"] == said[::-1]
        said.append(call["said"])
    assert len(said) > 4
