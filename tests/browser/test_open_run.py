"""An address that names a saved run opens the editor with that run: what `dev.py demo --open` ends in."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
from comfy_server import REPO
from editor_page import ready, value

from interleave_thinker.comfyui.client import ComfyClient
from interleave_thinker.comfyui.workflow import prepare

STORY = "A first story, without a GPU"
REQUEST = "Draw this in 2 steps: start with a big green star at the center on a black background, then dye the star {}."


@pytest.fixture(params=["comfy", pytest.param("newer_comfy", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest):
    """Of each editor that we support."""
    return request.getfixturevalue(request.param)


def make_story(server, color: str, *, graph: bool = True) -> str:
    """As `interleave-thinker run` makes it, without a page. Returns the run's name."""
    asked = REQUEST.format(color)
    prompt = prepare(json.loads((REPO / "workflows" / "api" / "tiny_story.json").read_text()), request=asked)
    editors = json.loads((REPO / "workflows" / f"{STORY}.json").read_text())
    for node in editors["nodes"]:
        node["widgets_values"] = [asked if str(v).startswith("Draw ") else v for v in node.get("widgets_values", [])]
    client = ComfyClient(server.url, graph=editors if graph else None)
    with ThreadPoolExecutor() as elsewhere:  # Playwright has this thread's event loop
        outputs = elsewhere.submit(client.run, prompt).result()
    [document] = [d for output in outputs.values() for d in output.get("interleave_document", ())]
    return str(document["run"])


def address(server, run: str) -> str:
    return f"{server.url}/?{urlencode({'interleave_run': run})}"


def nodes(page) -> list[str]:
    return list(page.evaluate("() => window.app.graph.nodes.map(node => node.type)"))


def test_the_page_opens_with_the_story_in_the_sidebar_and_its_workflow_ready_to_run(server, page, tmp_path) -> None:
    first, last = make_story(server, "purple"), make_story(server, "orange")
    assert first != last
    page.goto(address(server, first))  # not the last one, which the sidebar would show by itself
    side = page.locator(".itk-side")
    side.locator(".itk-step").nth(1).wait_for(timeout=120_000)
    page.wait_for_function("() => !new URLSearchParams(location.search).has('interleave_run')")
    assert page.get_by_role("dialog").count() == 0, "a new user sees the story, not the gallery over it"
    assert side.get_by_label("Saved runs").input_value() == first
    assert side.locator(".itk-head strong").get_attribute("title") == first
    assert side.locator(".itk-thumb img").count() >= 2
    assert nodes(page).count("InterleaveThinkerLoopClose") == 1
    assert value(page, 3, "request") == REQUEST.format("purple"), "Run makes this story, not the template's"
    page.wait_for_timeout(1000)
    page.screenshot(path=str(tmp_path / "story.png"))
    side.get_by_role("button", name="Accept this attempt and continue").or_(side.locator(".itk-thumb")).first.click()
    assert side.locator(".itk-own textarea").count() == 1, "it can be steered from here"

    page.evaluate("() => { window.app.graph.getNodeById(3).widgets.find(w => w.name === 'request').value = 'mine' }")
    page.evaluate("() => window.app.extensionManager.workflow.activeWorkflow.changeTracker?.checkState?.()")
    page.wait_for_timeout(1500)  # the editor keeps what is open
    page.reload()
    ready(page)
    page.wait_for_timeout(1500)
    assert value(page, 3, "request") == "mine", "a page that is loaded again opens what was open"
    assert page.problems == []


def test_a_run_that_was_queued_without_a_graph_is_shown_over_the_workflow_that_is_open(server, page) -> None:
    run = make_story(server, "white", graph=False)
    page.goto(address(server, run))
    side = page.locator(".itk-side")
    side.locator(".itk-step").nth(1).wait_for(timeout=120_000)
    assert side.locator(".itk-head strong").get_attribute("title") == run
    assert "InterleaveThinkerLoopClose" not in nodes(page), "what the editor begins with stays"


@pytest.mark.parametrize(
    "name", ["<b>x</b>", *(pytest.param(n, marks=pytest.mark.slow) for n in ("a run", "../../user"))]
)
def test_a_name_that_is_no_saved_run_is_told_and_nothing_is_asked_for(server, page, name: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/view?" in request.url else None)
    page.goto(address(server, name))
    page.get_by_text(f"There is no saved run {name}.").first.wait_for(timeout=120_000)
    assert not [url for url in asked if "workflow.json" in url or "run.json" in url]
    assert page.problems == []
