"""What version 0.1.0 left to ComfyUI is taken by this one: workflows, run folders, attempt store.

The files, and the script that made them with that version, are in tests/files_of_0_1_0.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from comfy_server import REPO, Comfy

FILES = REPO / "tests" / "files_of_0_1_0"
GRAPHS: dict[str, Any] = json.loads((FILES / "comfy" / "graphs.json").read_text())
NODES: dict[str, Any] = {
    name: said
    for name, said in json.loads((FILES / "object_info.json").read_text()).items()
    if not said.get("dev_only")  # a loop places these for itself: no saved workflow has them
}
OF_MODELS = {"model", "adapter", "pipeline"}
"""Inputs whose choices are the model files that are there."""
OTHER_DEFAULTS = {("InterleaveThinkerPlanner", "max_steps"), ("InterleaveThinkerAgentFromServer", "endpoint")}
"""New nodes start with 20 steps, as wrapped workflows always did; an endpoint's default is the user's first."""


@pytest.mark.parametrize("name", NODES)
def test_every_node_of_before_has_its_sockets_in_their_order(comfy: Comfy, name: str) -> None:
    """Saved workflows name nodes and inputs, count outputs, and keep values in the order of the inputs.

    Further inputs come behind those of before and may be left out; further outputs come behind as well.
    """
    old, new = NODES[name], comfy.get("/object_info")[name]
    for key in ("output", "output_name", "output_is_list"):
        assert new[key][: len(old[key])] == old[key], key
    for key in ("output_node", "category", "display_name", "dev_only"):
        assert new.get(key) == old.get(key), key
    order = new["input_order"]
    assert order["required"] == old["input_order"]["required"], "a required input is missing in every saved prompt"
    assert order.get("optional", [])[: len(old["input_order"].get("optional", []))] == old["input_order"].get(
        "optional", []
    ), "a value stands at the place of another one in every saved workflow"
    assert all("default" in of[1] or is_socket(of) for of in later_inputs(new, old).values())
    for group, names in old["input_order"].items():
        for socket in names:
            were, are = (told(of["input"][group][socket], socket) for of in (old, new))
            if (name, socket) in OTHER_DEFAULTS:
                assert type(were[1].pop("default")) is type(are[1].pop("default"))
            assert are == were, socket


def later_inputs(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """What is said of the optional inputs that 0.1.0 did not have, by name."""
    known = old["input_order"].get("optional", [])
    return {name: of for name, of in new["input"].get("optional", {}).items() if name not in known}


def is_socket(of: Any) -> bool:
    """An input without a value of its own."""
    return of[0] not in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO") or bool(of[1].get("forceInput"))


def told(value: Any, socket: str) -> Any:
    """What is said of an input, without what only explains it, and without the choice of model files."""
    if isinstance(value, dict):
        return {k: told(v, socket) for k, v in value.items() if k not in ("tooltip", "description", "options")} | (
            {"options": value["options"]} if "options" in value and socket not in OF_MODELS else {}
        )
    return [told(v, socket) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("lost", ["nothing", "store", "runs"])
def test_runs_of_before_are_recalled_and_nothing_is_made(new_comfy: Any, lost: str) -> None:
    """Bodies and judges of the loop have the signatures that they had; the workflow is queued as it was."""
    server = new_comfy()
    runs, store = server.output / "interleave", server.base / "user" / "interleave_thinker"
    if lost != "runs":
        shutil.copytree(FILES / "comfy" / "output" / "interleave", runs)
    if lost != "store":
        shutil.copytree(FILES / "comfy" / "user" / "interleave_thinker", store, dirs_exist_ok=True)
    for name, before in GRAPHS.items():
        kept = documents(runs / name)
        ran = server.run(before["graph"])
        assert ran.made == [] and ran.folder.name == name
        known = plain(before["document"])
        if name == "halted":  # the gate lets pass what was seen, and "told" has drawn the rest
            known["trajectory"]["attempts"] = known["trajectory"]["attempts"][:2]
            assert plain(ran.document)["trajectory"]["attempts"][:2] == known["trajectory"]["attempts"]
            continue
        assert plain(ran.document) == known
        assert kept == (documents(ran.folder) if kept else {})


def documents(folder: Path) -> dict[str, bytes]:
    """Lines and pictures of a run."""
    return {p.name: p.read_bytes() for p in (*folder.glob("*.md"), *folder.glob("*.jsonl"), *folder.glob("*/*.png"))}


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """Without what says whether an attempt was made this time."""
    found: dict[str, Any] = json.loads(json.dumps(document).replace('"recalled": true', '"recalled": false'))
    return found


LATER = """

def _with_a_later_input(kind):
    defined, run, judged = kind.define_schema.__func__, kind.execute.__func__, kind.__dict__.get("validate_inputs")

    def define_schema(cls):
        schema = defined(cls)
        schema.inputs.append(io.String.Input("later", default="as before", optional=True))
        return schema

    def execute(cls, *values, later="as before", **named):
        return run(cls, *values, **named)

    kind.define_schema, kind.execute = classmethod(define_schema), classmethod(execute)


for _module, _names in {
    agents: ("AgentFromClip", "LoadAgent", "AgentFromServer"),
    planner: ("Planner", "PlanFromText"),
    loop_open: ("LoopOpen",),
    critic: ("CriticRefine", "JudgmentNode"),
    loop_close: ("LoopClose",),
    document: ("UnpackDocument", "SaveDocument"),
    diffusers: ("GenerateOrEdit",),
}.items():
    for _name in _names:
        _with_a_later_input(getattr(_module, _name))
"""
"""One more input for each node, as a later version may have it."""


def test_a_later_input_at_its_default_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    """The editor writes every input of a node into the prompt. What was stored without one is found all the same.

    The pack of this server has one input more on each node, besides those that were added since 0.1.0.
    """
    pack = tmp_path / "comfy" / "custom_nodes" / "interleave-thinker"
    pack.mkdir(parents=True)
    for name in ("__init__.py", "interleave_thinker", "js", "locales", "subgraphs", "workflows"):
        (pack / name).symlink_to(REPO / name)
    shutil.copytree(REPO / "nodes", pack / "nodes")
    with (pack / "nodes" / "__init__.py").open("a") as file:
        file.write(LATER)
    server = Comfy(tmp_path / "comfy")
    shutil.copytree(FILES / "comfy" / "output" / "interleave", server.output / "interleave")
    shutil.copytree(FILES / "comfy" / "user" / "interleave_thinker", server.base / "user" / "interleave_thinker")
    try:
        server.start()
        said = server.get("/object_info")
        for name, before in GRAPHS.items():
            graph = with_later_inputs(before["graph"], said)
            assert all("later" in n["inputs"] for n in graph.values() if n["class_type"] in NODES)
            ran = server.run(graph)
            assert ran.made == [] and ran.folder.name == name
        changed = with_later_inputs(GRAPHS["told"]["graph"], said)
        changed["21"]["inputs"]["later"] = "otherwise"
        ran = server.run(changed)
        assert ran.of("judgment") and ran.folder.name not in GRAPHS, "at another value it counts"
    finally:
        server.stop()


def with_later_inputs(graph: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """The prompt with each input that its nodes of ours have by now, at its default."""
    full = json.loads(json.dumps(graph))
    for node in full.values():
        if node["class_type"] in NODES:
            later = later_inputs(said[node["class_type"]], NODES[node["class_type"]])
            node["inputs"] |= {name: of[1]["default"] for name, of in later.items() if "default" in of[1]}
    return full
