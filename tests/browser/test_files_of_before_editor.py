"""Workflows that the editor saved with version 0.1.0 open in it as they were.

The files are in tests/files_of_0_1_0. A saved workflow holds the values of a node's widgets without their names.
"""

from __future__ import annotations

import json

import pytest
from comfy_server import REPO
from editor_page import new_page, open_editor, prompt, show

FILES = REPO / "tests" / "files_of_0_1_0"
NODES = {n: s for n, s in json.loads((FILES / "object_info.json").read_text()).items() if not s.get("dev_only")}
SAVED = sorted(p.stem for p in (FILES / "editor").glob("*.json"))
VALUES = {"STRING": "as saved", "BOOLEAN": False, "INT": 17, "FLOAT": 0.25}


@pytest.fixture(scope="module")
def one_page(chromium, comfy):
    page = new_page(chromium)
    open_editor(page, comfy)
    yield page
    page.close()


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_workflow_is_queued_as_before(one_page, name):
    """Further inputs are further keys; nodes that only show something are not in the API file."""
    one_page.problems.clear()
    show(one_page, json.loads((FILES / "editor" / f"{name}.json").read_text()))
    queued = prompt(one_page)
    for node_id, before in json.loads((FILES / "editor" / "api" / f"{name}.json").read_text()).items():
        assert queued[node_id]["class_type"] == before["class_type"]
        inputs = queued[node_id]["inputs"]
        assert {n: inputs.get(n) for n in before["inputs"]} == before["inputs"], node_id
    assert one_page.problems == []


def saved_values(node):
    """The widgets of a node of 0.1.0 in their order, as name and value; none of the values is a default."""
    for group in ("required", "optional"):
        for name in node["input_order"].get(group, []):
            kind, facts = node["input"][group][name]
            if kind == "COMBO":
                options = [o for o in facts["options"] if o != facts.get("default")]
                yield name, (options or facts["options"] or ["a file"])[-1]
            elif kind in VALUES and not facts.get("forceInput"):
                value = VALUES[kind]
                yield name, not facts.get("default") if kind == "BOOLEAN" else min(value, facts.get("max", value))
                if control := facts.get("control_after_generate"):
                    yield control if isinstance(control, str) else "control_after_generate", "increment"


@pytest.mark.parametrize("name", NODES)
def test_every_widget_of_a_saved_node_has_its_own_value(one_page, name):
    one_page.problems.clear()
    saved = list(saved_values(NODES[name]))
    node = {"id": 1, "type": name, "pos": [50, 50], "size": [400, 400], "flags": {}, "order": 0, "mode": 0}
    node |= {"inputs": [], "outputs": [], "properties": {}, "widgets_values": [value for _, value in saved]}
    show(one_page, {"last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "version": 0.4})
    widgets = one_page.evaluate(
        "() => Object.fromEntries((window.app.graph.getNodeById(1).widgets ?? []).map(w => [w.name, w.value]))"
    )
    assert {n: widgets.get(n) for n, _ in saved} == dict(saved)
    assert one_page.problems == []
