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

    Further inputs may come behind those of before.
    """
    old, new = NODES[name], comfy.get("/object_info")[name]
    for key in ("output", "output_name", "output_is_list", "output_node", "category", "display_name", "dev_only"):
        assert new.get(key) == old.get(key), key
    assert new["input_order"].keys() >= old["input_order"].keys()
    for group, names in old["input_order"].items():
        assert new["input_order"][group][: len(names)] == names
        for socket in names:
            were, are = (told(of["input"][group][socket], socket) for of in (old, new))
            if (name, socket) in OTHER_DEFAULTS:
                assert type(were[1].pop("default")) is type(are[1].pop("default"))
            assert are == were, socket


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
