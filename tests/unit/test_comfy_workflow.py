"""Putting a request into a workflow file: only where it belongs, never into the file itself."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from interleave_thinker.comfyui.client import WorkflowError
from interleave_thinker.comfyui.workflow import load_workflow, prepare


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


WORKFLOW = {
    "1": node(
        "InterleaveThinkerPlanner", request="old", seed=1, **{"images.image_0": ["9", 0], "images.image_1": ["9", 0]}
    ),
    "2": node("InterleaveThinkerLoopOpen", plan=["1", 0], seed=2),
    "50:11": node("KSampler", seed=["2", 5]),
    "4": node("InterleaveThinkerLoopClose", loop=["2", 0], t_max=3),
    "9": node("LoadImage", image="example.png"),
}
FROM_TEXT = {
    "1": node("InterleaveThinkerPlanFromText", text="old"),
    "2": node("InterleaveThinkerLoopOpen", plan=["1", 0]),
}


def test_request_seed_and_t_max_go_where_they_belong() -> None:
    prompt = prepare(WORKFLOW, request="a story", seed=7, t_max=5)
    assert prompt["1"]["inputs"]["request"] == "a story"
    assert [prompt[i]["inputs"]["seed"] for i in ("1", "2", "50:11")] == [7, 7, ["2", 5]]
    assert prompt["4"]["inputs"]["t_max"] == 5


def test_the_workflow_itself_is_left_alone() -> None:
    before = copy.deepcopy(WORKFLOW)
    prepare(WORKFLOW, request="x", images=["a.png"], seed=7, t_max=5)
    assert before == WORKFLOW


def test_what_is_not_given_stays_as_it_is() -> None:
    assert prepare(WORKFLOW) == WORKFLOW
    assert prepare(WORKFLOW, seed=0, t_max=1)["1"]["inputs"]["seed"] == 0, "0 is a seed"


def test_pictures_replace_the_workflows_examples_at_both_ends() -> None:
    """A template's second example picture must not slip in beside the user's one."""
    prompt = prepare(WORKFLOW, images=["mine.png"])
    for end in ("1", "2"):
        pictures = {k: v for k, v in prompt[end]["inputs"].items() if k.startswith("images.")}
        assert pictures == {"images.image_0": ["given_image_0", 0]}
    assert prompt["given_image_0"] == node("LoadImage", image="mine.png")
    assert len(prepare(WORKFLOW, images=["a.png", "b.png"])) == len(WORKFLOW) + 2


def test_without_a_planner_the_request_is_the_plan_text() -> None:
    assert prepare(FROM_TEXT, request="1. a\n2. b")["1"]["inputs"]["text"] == "1. a\n2. b"
    both = {**WORKFLOW, "7": node("InterleaveThinkerPlanFromText", text="old")}
    assert prepare(both, request="new")["7"]["inputs"]["text"] == "old"


def test_what_nothing_can_take_is_refused() -> None:
    with pytest.raises(WorkflowError, match="could take a request"):
        prepare({"1": node("KSampler")}, request="x")
    with pytest.raises(WorkflowError, match="could take pictures"):
        prepare({"1": node("KSampler")}, images=["a.png"])


def test_a_file_in_api_format_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    file.write_text(json.dumps(WORKFLOW))
    assert load_workflow(file) == WORKFLOW


REFUSED: list[tuple[str, bytes | None, str]] = [
    ("no such file", None, "Cannot read"),
    ("no JSON", b"{", "not valid JSON"),
    ("no text", b"\xff\xfe\x00", "not valid JSON"),
    ("the editor's format", b'{"nodes": [], "links": []}', "Export"),
    ("a list", b"[]", "Export"),
    ("another object", b'{"name": "x"}', "not a workflow in API format"),
    ("a node without inputs", b'{"1": {"class_type": "KSampler"}}', "not a workflow in API format"),
]


@pytest.mark.parametrize(("why", "data", "said"), REFUSED, ids=[c[0] for c in REFUSED])
def test_other_files_are_refused_by_name(tmp_path: Path, why: str, data: bytes | None, said: str) -> None:
    file = tmp_path / "w.json"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(WorkflowError, match=said) as caught:
        load_workflow(file)
    assert str(file) in str(caught.value)


SHIPPED = sorted((Path(__file__).parents[2] / "workflows" / "api").glob("*.json"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_shipped_workflows_are_in_the_format_that_run_takes(file: Path) -> None:
    load_workflow(file)
