"""The pack's routes list and compute; what a run holds is read through ComfyUI's own file route."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from comfy_test_graphs import loop, node, ours, plan_text

from interleave_thinker.comfy_choice import find_places
from interleave_thinker.comfy_client import WorkflowError


def test_saved_runs_are_listed_and_can_be_read(comfy: Any) -> None:
    comfy.run(loop(plan_text(2), seed=8101, run_name="listed run"))
    comfy.run(loop(plan_text(1), seed=8102, run_name="later run"))
    (comfy.output / "interleave" / "no run").mkdir()
    listed = comfy.get("/interleave_thinker/runs")
    names = [entry["name"] for entry in listed]
    assert names.index("later run") < names.index("listed run") and "no run" not in names
    assert all(set(entry) == {"name", "title", "status", "origin"} for entry in listed)
    url = f"{comfy.url}/view?filename=trajectory.jsonl&subfolder=interleave/listed%20run&type=output"
    with urllib.request.urlopen(url) as reply:
        assert len([json.loads(line) for line in reply.read().splitlines()]) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_route_writes_nothing(comfy: Any, method: str) -> None:
    request = urllib.request.Request(f"{comfy.url}/interleave_thinker/runs", b"{}", method=method)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 405


def post(comfy: Any, path: str, body: bytes) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{comfy.url}/interleave_thinker/{path}", body, headers)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_editor_is_told_what_the_command_line_would_choose(comfy: Any) -> None:
    """One choice for both: the route is the core's function."""
    graph = {
        "1": node("CLIPTextEncode", text="a red bicycle", clip=["9", 0]),
        "2": node("KSampler", model=["9", 1], seed=4, positive=["1", 0], latent_image=["8", 0]),
        "3": node("VAEDecode", samples=["2", 0], vae=["9", 2]),
        "4": node("SaveImage", images=["3", 0], filename_prefix="x"),
    }
    status, found = post(comfy, "choose", json.dumps({"workflow": graph}).encode())
    assert status == 200
    assert found == {"outputs": ["4"], "prompts": [[["1", "text"]]], "seeds": [["2", "seed"]], "images": []}
    places = find_places(graph)
    assert [list(places.prompt)] == found["prompts"][0] and [list(places.seed or ())] == found["seeds"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"workflow": 5}', b'{"workflow": {"1": {}}}', b'{"workflow": {"nodes": []}}', b"\xff"],
)
def test_a_workflow_that_is_none_is_refused_with_a_reason(comfy: Any, body: bytes) -> None:
    status, found = post(comfy, "choose", body)
    assert status == 400 and found["error"]


def test_a_plans_text_is_read_and_checked(comfy: Any) -> None:
    status, found = post(comfy, "plan", json.dumps({"text": "1. a cat\n2. make it sit"}).encode())
    assert status == 200 and found["error"] == ""
    assert [s["prompt"] for s in found["plan"]["execution_plan"]] == ["a cat", "make it sit"]
    for text in ("", '{"execution_plan": []}', plan_text(9)):
        status, found = post(comfy, "plan", json.dumps({"text": text, "max_steps": 8}).encode())
        assert status == 200 and found["plan"] is None and found["error"]


def test_an_edited_plan_is_used_and_the_agent_is_not_loaded(comfy: Any) -> None:
    """The Planner's agent here cannot be loaded at all; the edited plan makes that of no matter."""
    graph = loop("", seed=8103, run_name="edited plan")
    graph["40"] = ours(
        "LoadAgent",
        model="tiny-planner",
        adapter="none",
        dtype="auto",
        max_tokens=64,
        temperature=0.0,
        max_megapixels=1.0,
        prompts="no such folder",
    )
    graph["1"] = ours(
        "Planner",
        agent=["40", 0],
        request="Two pictures",
        max_steps=4,
        seed=0,
        if_unreadable="error",
        edited_plan="1. one\n2. two",
    )
    ran = comfy.run(graph)
    assert [s["prompt"] for s in ran.document["trajectory"]["plan"]["execution_plan"]] == ["one", "two"]
    assert ran.document["title"] == "Two pictures" and "40" not in ran.started
    graph["1"]["inputs"]["edited_plan"] = '{"execution_plan": []}'
    with pytest.raises(WorkflowError, match=r"node 1 \(InterleaveThinkerPlanner\).*step"):
        comfy.run(graph)
