"""Putting a request into a workflow file: only where it belongs, never into the file itself."""

from __future__ import annotations

import copy
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interleave_thinker.comfyui.client import ComfyClient, WorkflowError
from interleave_thinker.comfyui.workflow import load_graph, load_workflow, prepare


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


def test_strictness_goes_into_each_critic_and_is_refused_where_there_is_none() -> None:
    critics = {"5": node("InterleaveThinkerCriticRefine", agent=["1", 0]), "6": node("InterleaveThinkerCriticRefine")}
    prompt = prepare({**WORKFLOW, **critics}, strictness=-0.5)
    assert [prompt[i]["inputs"]["strictness"] for i in critics] == [-0.5, -0.5]
    assert prepare({**WORKFLOW, **critics}, strictness=0)["5"]["inputs"]["strictness"] == 0, "0 undoes what a file has"
    with pytest.raises(WorkflowError, match="no Critic-Refine"):
        prepare(WORKFLOW, strictness=0)


def test_a_graph_is_taken_only_in_the_editors_format(tmp_path: Path) -> None:
    """It goes into the run's folder, from where the editor opens it."""
    file = tmp_path / "graph.json"
    file.write_text(json.dumps({"id": "w", "nodes": []}))
    assert load_graph(file) == {"id": "w", "nodes": []}
    for text, said in ((json.dumps(WORKFLOW), "not in the editor's format"), ("[]", "not in the"), ("{", "not valid")):
        file.write_text(text)
        with pytest.raises(WorkflowError, match=said):
            load_graph(file)
    with pytest.raises(WorkflowError, match="Cannot read"):
        load_graph(tmp_path / "none.json")


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
    ("nothing in it", b"{}", "not a workflow in API format"),
    ("text that is no Unicode", '{"1": "caf\xe9"}'.encode("latin-1"), "save it as UTF-8"),
    ("nested without end", b"[" * 100_000, "nested too deeply"),
    ("a node whose pack was missing", b'{"1": {"class_type": "A", "inputs": {}}, "2": {"inputs": {}}}', "Node 2 of"),
    ("a title is all of it", b'{"1": {"class_type": "A"}, "2": {"_meta": {"title": "x"}}}', "has no class_type"),
    ("a node that another reads", b'{"1": {"class_type": "A", "inputs": {"x": ["2", 0]}}, "2": {}}', "Node 2 of"),
    ("a class_type that is none", b'{"1": {"class_type": "A"}, "2": {"class_type": null}}', "has no class_type"),
    ("inputs in a list", b'{"1": {"class_type": "A", "inputs": []}}', "inputs of node 1"),
    (
        "two workflows",
        b'{"a": {"1": {"class_type": "A"}}, "b": [{"1": {"class_type": "B"}}]}',
        "2 different workflows: a, b.0",
    ),
    ("two in the editor's format", b'[{"nodes": []}, {"nodes": [], "links": []}]', "2 different workflows"),
]


@pytest.mark.parametrize(("why", "data", "said"), REFUSED, ids=[c[0] for c in REFUSED])
def test_other_files_are_refused_by_name(tmp_path: Path, why: str, data: bytes | None, said: str) -> None:
    file = tmp_path / "w.json"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(WorkflowError, match=said) as caught:
        load_workflow(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, encoding: str) -> None:
    """Windows PowerShell writes UTF-16, Notepad UTF-8 with a mark."""
    graph = {"1": node("CLIPTextEncode", text="\ufeff\u57ce\u5e02 \U0001f389")}
    file = tmp_path / "w.json"
    for text in (json.dumps(graph), json.dumps(graph, ensure_ascii=False)):
        file.write_bytes(text.encode(encoding))
        assert load_workflow(file) == graph
    big_endian = b"\xfe\xff" + json.dumps(graph).encode("utf-16-be")
    file.write_bytes(big_endian)
    assert load_workflow(file) == graph


EDITORS = {"nodes": [{"id": 1, "type": "KSampler"}], "links": [], "version": 0.4}
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
BESIDE = st.dictionaries(st.text(max_size=8), SCALARS | st.just(EDITORS) | st.just(WORKFLOW), max_size=3)


def bodies(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One level around a workflow: an object under any name, a list, or JSON as a text."""
    named = st.tuples(BESIDE, st.text(max_size=8), inner).map(lambda parts: {**parts[0], parts[1]: parts[2]})
    return named | inner.map(lambda held: [7, held, None]) | inner.map(json.dumps)


@given(body=bodies(st.just(WORKFLOW)) | bodies(bodies(st.just(WORKFLOW))) | bodies(bodies(bodies(st.just(WORKFLOW)))))
def test_a_workflow_is_found_in_any_body(tmp_path_factory: pytest.TempPathFactory, body: Any) -> None:
    """As sent to /prompt, to RunPod, as /history gives it, or as a picture holds it."""
    file = tmp_path_factory.getbasetemp() / "body.json"
    file.write_text(json.dumps(body))
    told: list[str] = []
    assert load_workflow(file, note=told.append) == WORKFLOW
    assert not told or "left out the rest" in told[0]


def test_a_body_is_named_in_the_note(tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    file.write_text(json.dumps({"input": {"workflow": WORKFLOW, "images": [{"name": "a", "image": "b"}]}}))
    told: list[str] = []
    load_workflow(file, note=told.append)
    assert told == [f'Took the workflow under "input.workflow" in {file} and left out the rest of the file.']


@pytest.mark.parametrize(
    ("key", "value"),
    [("version", 0.4), ("_comment", "mine"), ("_comment", {"inputs": "what goes in"}), ("extra", {}), ("#", None)],
)
def test_a_comment_beside_nodes_is_left_out_and_named(tmp_path: Path, key: str, value: Any) -> None:
    file = tmp_path / "w.json"
    file.write_text(json.dumps({key: value, **WORKFLOW}))
    told: list[str] = []
    assert load_workflow(file, note=told.append) == WORKFLOW
    assert told == [f"Left out of {file} what is no node: {key}."]


@pytest.mark.parametrize("fields", [{}, {"inputs": None}])
def test_a_node_without_inputs_has_none(tmp_path: Path, fields: dict[str, Any]) -> None:
    file = tmp_path / "w.json"
    file.write_text(json.dumps({"1": {"class_type": "KSampler", **fields}}))
    assert load_workflow(file) == {"1": node("KSampler")}


class Kinds(ComfyClient):
    """A server that knows a KSampler."""

    def node_kinds(self) -> dict[str, Any]:
        return {"KSampler": {}}


def converter(monkeypatch: pytest.MonkeyPatch, result: Any) -> None:
    """comfy-cli, as far as it is used."""

    class WorkflowConversionError(Exception):
        pass

    def convert_ui_to_api(workflow: Mapping[str, Any], kinds: Mapping[str, Any]) -> Any:
        assert workflow == EDITORS and kinds == {"KSampler": {}}
        if result == "log":
            logging.getLogger("comfy_cli.workflow_to_api").error("Failed to convert node id=1; skipping")
            return {}
        if isinstance(result, str):
            raise WorkflowConversionError(result)
        return result

    module = ModuleType("comfy_cli.workflow_to_api")
    vars(module).update(convert_ui_to_api=convert_ui_to_api, WorkflowConversionError=WorkflowConversionError)
    monkeypatch.setitem(sys.modules, "comfy_cli", ModuleType("comfy_cli"))
    monkeypatch.setitem(sys.modules, "comfy_cli.workflow_to_api", module)


def in_editors_format(folder: Path) -> Path:
    file = folder / "w.json"
    file.write_text(json.dumps(EDITORS))
    return file


def test_the_editors_format_is_converted_with_comfy_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server does not know and nothing is connected to, as a label, cannot matter."""
    converter(monkeypatch, {"1": node("KSampler", seed=1), "2": node("Label (rgthree)", text="hello")})
    told: list[str] = []
    found = load_workflow(in_editors_format(tmp_path), client=Kinds("http://none"), note=told.append)
    assert found == {"1": node("KSampler", seed=1)}
    assert "comfy-cli converted it" in told[0] and "2 (Label (rgthree))" in told[1]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("no links", "cannot convert .*: no links"),
        ("log", "cannot convert .*: Failed to convert node"),
        ({"1": node("KSampler", model=["2", 0]), "2": node("Unknown")}, r"http://none has no Unknown \(node 2\)"),
        ({"2": node("Unknown", model=["1", 0])}, r"no Unknown \(node 2\)"),
    ],
)
def test_what_cannot_be_converted_whole_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: Any, said: str
) -> None:
    converter(monkeypatch, result)
    with pytest.raises(WorkflowError, match=said) as refused:
        load_workflow(in_editors_format(tmp_path), client=Kinds("http://none"))
    assert "Export (API)" in str(refused.value)


def test_without_comfy_cli_or_a_server_the_editors_format_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = in_editors_format(tmp_path)
    monkeypatch.setitem(sys.modules, "comfy_cli", None)
    with pytest.raises(WorkflowError, match=r"Export it with Workflow > Export \(API\)\. .*pip install comfy-cli"):
        load_workflow(file)
    converter(monkeypatch, {})
    with pytest.raises(WorkflowError, match=r"Export \(API\)\. Or start the ComfyUI .* --server"):
        load_workflow(file, client=ComfyClient("http://127.0.0.1:9"))


SHIPPED = sorted((Path(__file__).parents[2] / "workflows" / "api").glob("*.json"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_shipped_workflows_are_in_the_format_that_run_takes(file: Path) -> None:
    load_workflow(file)
