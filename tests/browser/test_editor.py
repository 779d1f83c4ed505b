"""What a person sees: the template opens in the editor, runs from there, and the document reads as a page."""

from __future__ import annotations

import json

import pytest
from comfy_server import REPO
from comfy_test_graphs import loop

WORKFLOWS = sorted(p.stem for p in (REPO / "workflows").glob("*.json"))


def open_editor(page, comfy):
    page.goto(comfy.url)
    page.wait_for_function("() => window.app?.graph && window.app?.extensionManager", timeout=120_000)
    page.wait_for_timeout(1500)


def load(page, name):
    graph = json.loads((REPO / "workflows" / f"{name}.json").read_text())
    page.evaluate("graph => window.app.loadGraphData(graph)", graph)
    page.wait_for_timeout(800)
    return graph


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_template_opens_and_becomes_the_api_workflow(page, comfy, name):
    """The editor itself turns our UI file into the prompt that our API file is."""
    open_editor(page, comfy)
    load(page, name)
    made = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    shipped = json.loads((REPO / "workflows" / "api" / f"{name}.json").read_text())
    assert set(made) == set(shipped)
    for node_id, node in shipped.items():
        assert made[node_id]["class_type"] == node["class_type"]
        assert made[node_id]["inputs"] == node["inputs"], node_id
    assert page.problems == []


def test_the_demo_runs_from_the_editor_and_its_document_reads_as_a_page(page, comfy, tmp_path):
    open_editor(page, comfy)
    load(page, "tiny_story")
    page.evaluate("async () => await window.app.queuePrompt(0)")
    history = {}
    for _ in range(1800):
        history = comfy.get("/history")
        if any(h["status"]["completed"] for h in history.values()):
            break
        page.wait_for_timeout(100)
    entries = [d for h in history.values() for o in h["outputs"].values() for d in o.get("interleave_document", [])]
    page.goto(f"file://{entries[-1]['path']}")
    order = page.evaluate("() => [...document.querySelectorAll('p, img')].map(e => e.tagName)")
    assert order[:4] == ["P", "IMG", "P", "IMG"]
    assert order.count("IMG") >= 3
    shown = page.evaluate("() => [...document.images].map(i => i.complete && i.naturalWidth)")
    assert all(shown)
    page.screenshot(path=str(tmp_path / "document.png"), full_page=True)
    assert page.problems == []


def test_an_error_inside_the_loop_is_shown_with_its_place(page, comfy, tmp_path):
    """ComfyUI reports it at Loop Close; the message beside it names step, attempt and the real node."""
    open_editor(page, comfy)
    graph = loop("1. 0.5\n2. nonsense", seed=7301, prompts_matter=True)
    page.evaluate("graph => window.app.loadApiJson(graph, 'broken')", graph)
    page.wait_for_timeout(800)
    page.evaluate("async () => await window.app.queuePrompt(0)")
    toast = page.locator(".p-toast-message", has_text="Step 2, attempt 1")
    toast.wait_for(timeout=60_000)
    assert "node 16" in toast.inner_text()
    page.screenshot(path=str(tmp_path / "toast.png"))
    assert page.problems == []
