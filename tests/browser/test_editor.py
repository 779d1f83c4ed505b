"""What a person sees: the template opens in the editor, runs from there, and the document reads as a page."""

from __future__ import annotations

import json

import pytest
from comfy_server import REPO
from comfy_test_graphs import loop, shipped_for_editor
from editor_page import (
    finished,
    load,
    look_at,
    new_page,
    open_editor,
    open_sidebar,
    queue,
    set_value,
    strip,
    wait_until,
)

SHOWS = {"PreviewImage", "PreviewAny", "InterleaveThinkerUnpackDocument"}
WORKFLOWS = sorted(p.stem for p in (REPO / "workflows" / "api").glob("*.json"))


@pytest.fixture(scope="module")
def one_page(chromium, comfy):
    """For all templates, one after the other: to open the editor takes longer than to open a workflow."""
    page = new_page(chromium)
    open_editor(page, comfy)
    yield page
    page.close()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_template_opens_and_becomes_the_api_workflow(one_page, name):
    """The editor itself turns our UI file into the prompt that our API file is, and nodes that only show something."""
    page = one_page
    page.problems.clear()
    load(page, name)
    made = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    shipped = json.loads((REPO / "workflows" / "api" / f"{name}.json").read_text())
    assert {made[i]["class_type"] for i in set(made) - set(shipped)} <= SHOWS
    for node_id, node in shipped.items():
        assert made[node_id]["class_type"] == node["class_type"]
        assert made[node_id]["inputs"] == node["inputs"], node_id
    assert page.problems == []


def test_the_demo_runs_from_the_editor_and_its_document_reads_as_a_page(page, comfy, tmp_path):
    open_editor(page, comfy)
    load(page, "tiny_story")
    page.evaluate("async () => await window.app.queuePrompt(0)")
    entries: list[dict[str, str]] = []
    for _ in range(1800):
        outputs = [o for h in comfy.get("/history").values() for o in h["outputs"].values()]
        entries = [d for o in outputs for d in o.get("interleave_document", [])]
        if entries:
            break
        page.wait_for_timeout(100)
    page.goto(f"file://{entries[-1]['path']}")
    order = page.evaluate("() => [...document.querySelectorAll('p, img')].map(e => e.tagName)")
    assert order[:4] == ["P", "IMG", "P", "IMG"]
    assert order.count("IMG") >= 3
    shown = page.evaluate("() => [...document.images].map(i => i.complete && i.naturalWidth)")
    assert all(shown)
    page.screenshot(path=str(tmp_path / "document.png"), full_page=True)
    assert page.problems == []


def test_the_editor_is_shown_what_api_clients_are_spared(own_editor):
    """Texts of Planner and critic on their nodes, and while they are written. Files beside the pictures do no harm."""
    page, _ = own_editor
    load(page, "tiny_story")
    for node in (3, 4):
        set_value(page, node, "seed", 7308)  # of Planner and Loop Open: nothing is recalled
    page.evaluate(
        "() => { window.told = { texts: 0, shown: {} }; const { api } = window.app;"
        " api.addEventListener('progress_text', () => { window.told.texts += 1 });"
        " api.addEventListener('executed', ({ detail }) => { window.told.shown[detail.display_node] = detail.output }) }"
    )
    queue(page)
    wait_until(page, lambda: page.evaluate("() => window.told.shown[32] ?? null"))
    told = page.evaluate("() => window.told")
    assert told["texts"] > 4
    assert told["shown"]["3"]["text"][0].startswith("1. ")
    assert told["shown"]["30"]["text"][0].startswith(("accepted", "rejected"))
    look_at(page, 32)
    assert len(page.evaluate("() => window.app.nodeOutputs[32].images")) == 4
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


def test_the_live_view_shows_attempts_and_survives_a_reload_and_a_second_tab(page, comfy, tmp_path):
    open_editor(page, comfy)
    graph = shipped_for_editor("tiny_story")
    close = next(n for n in graph["nodes"] if n["type"] == "InterleaveThinkerLoopClose")
    for node in graph["nodes"]:
        if node["type"] == "InterleaveThinkerLoopOpen":
            node["widgets_values"][0] = 4711  # another seed than other tests: nothing is recalled
    before = len(finished(comfy))
    page.evaluate("graph => window.app.loadGraphData(graph)", graph)
    other = page.context.browser.new_page(viewport={"width": 1600, "height": 950})
    open_editor(other, comfy)
    other.evaluate("graph => window.app.loadGraphData(graph)", graph)
    page.evaluate("async () => await window.app.queuePrompt(0)")
    wait_until(page, lambda: any(any(step) for view in strip(page) for step in view))
    page.reload()
    page.wait_for_function("() => window.app?.graph && window.app?.extensionManager", timeout=120_000)
    wait_until(page, lambda: len(finished(comfy)) > before)
    page.wait_for_timeout(1000)
    # What the reloaded page missed is in the run's folder; the other tab heard everything.
    folder = max((comfy.output / "interleave").glob("*/run.json"), key=lambda p: p.parent.stat().st_mtime).parent
    attempts = [json.loads(line) for line in (folder / "trajectory.jsonl").read_text().splitlines()]
    heard = strip(other)[0]
    assert sum(map(len, heard)) == len(attempts) and len(heard) == 4
    assert any("rejected" in label for step in heard for label in step)
    shown = other.evaluate("() => [...document.querySelectorAll('.itk img')].map(i => i.naturalWidth)")
    assert len(shown) == len(attempts)
    open_sidebar(other)
    other.locator(".itk-side .itk-thumb").nth(1).click()
    assert other.locator(".itk-side .itk-details").count() == 1
    other.screenshot(path=str(tmp_path / "live.png"))
    title = other.evaluate("id => window.app.graph.getNodeById(id).title", close["id"])
    assert title
    assert page.problems == []


def test_a_rejected_attempt_can_be_accepted_and_the_document_read(page, comfy):
    """The button fills in the node's own widget and queues an ordinary prompt; nothing is made twice."""
    open_editor(page, comfy)
    graph = loop("1. one\n2. two", accept="b > 1", seed=7702)
    page.evaluate("graph => window.app.loadApiJson(graph, 'steered')", graph)
    page.wait_for_timeout(800)
    before = len(finished(comfy))
    page.evaluate("async () => await window.app.queuePrompt(0)")
    wait_until(page, lambda: len(finished(comfy)) > before)
    open_sidebar(page)
    page.locator(".itk-side .itk-thumb").first.click()
    page.locator(".itk-side button", has_text="Accept this attempt").click()
    wait_until(page, lambda: len(finished(comfy)) > before + 1)
    assert (
        page.evaluate("() => window.app.graph.getNodeById(30).widgets.find(w => w.name === 'accept_attempts').value")
        == "1:1"
    )
    page.wait_for_timeout(500)
    page.locator(".itk-side button", has_text="Document").click()
    assert page.locator(".itk-side .itk-large").count() == 2
    page.get_by_label("Saved runs").focus()
    page.wait_for_timeout(500)
    assert page.get_by_label("Saved runs").locator("option").count() >= 2
    assert page.problems == []


def test_model_text_in_the_live_view_is_text(page, comfy):
    """Markup, script addresses, right-to-left text and a very long reply are shown, not run."""
    open_editor(page, comfy)
    load(page, "tiny_story")
    hostile = (
        '<img src=x onerror="window.hit=1"><script>window.hit=1</script> [a](javascript:window.hit=1) \u202eشكرا 🙂 '
    )
    plan = {"execution_plan": [{"step_number": 1, "prompt": hostile, "auxiliary_text": hostile}]}
    facts = {
        "step": 1,
        "attempt": 1,
        "t_max": 2,
        "prompt": hostile * 2,
        "seed": 1,
        "seconds": 1,
        "file": "x/attempts/none.png",
    }
    judgment = {"accepted": False, "parsed": True, "refined_prompt": hostile, "reasoning": hostile * 900}
    page.evaluate(
        "events => { for (const detail of events) window.app.api.dispatchCustomEvent('interleave_thinker', detail) }",
        [
            {"event": "plan", "node": "31", "run": hostile, "plan": plan},
            {"event": "attempt", "node": "31", **facts},
            {"event": "judgment", "node": "31", "judgment": judgment, **facts},
        ],
    )
    page.wait_for_timeout(1500)
    open_sidebar(page)
    page.locator(".itk-side .itk-thumb").first.click()
    page.wait_for_timeout(300)
    assert page.evaluate("() => window.hit") is None
    assert "<script>" in page.locator(".itk-side").inner_text()
    inside = page.evaluate("() => document.querySelectorAll('.itk script, .itk a, .itk iframe').length")
    assert inside == 0
    wide = "() => { const view = document.querySelector('.itk-side .itk'); return view.scrollWidth - view.clientWidth }"
    assert page.evaluate(wide) <= 2, "long words are broken, not pushed out of sight"


def test_model_text_is_text_in_plan_and_document(page, comfy):
    """A plan of 100 kB of markup: listed, edited, compared and read as what it is."""
    open_editor(page, comfy)
    load(page, "tiny_story")
    look_at(page, 3)
    hostile = '<img src=x onerror="window.hit=1"> [a](javascript:window.hit=1) \u202eشكرا 🙂 ' * 1500
    plan = {"execution_plan": [{"step_number": 1, "prompt": hostile, "auxiliary_text": hostile}]}
    place = {"node": "31", "step": 1, "t_max": 2, "seed": 1, "seconds": 1, "prompt": hostile}
    told = [
        {"event": "planned", "node": "3", "plan": plan},
        {"event": "plan", "node": "31", "run": "hostile", "plan": plan},
        {"event": "attempt", "attempt": 1, "file": "x/attempts/a.png", **place},
        {"event": "attempt", "attempt": 2, "file": "x/attempts/b.png", **place},
        {"event": "chosen", "node": "31", "step": 1, "chosen": 2, "accepted": True},
    ]
    page.evaluate(
        "events => { for (const detail of events) window.app.api.dispatchCustomEvent('interleave_thinker', detail) }",
        told,
    )
    page.wait_for_timeout(1000)
    assert "<img src=x" in page.locator(".itk-planview .itk-outline").inner_text()
    page.locator(".itk-planview button", has_text="Edit plan").click()
    assert page.locator("dialog.itk-plan textarea").first.input_value() == hostile
    page.keyboard.press("Escape")
    open_sidebar(page)
    side = page.locator(".itk-side")
    side.locator(".itk-thumb").first.click()
    side.get_by_text("Compare with another").click()
    side.locator(".itk-thumb").nth(1).click()
    assert side.locator(".itk-pair figure").count() == 2
    side.get_by_text("Document", exact=True).click()
    assert "<img src=x" in side.locator(".itk-said").inner_text()
    assert page.evaluate("() => window.hit") is None
    assert page.evaluate("() => document.querySelectorAll('.itk script, .itk a[href], .itk [onerror]').length") == 0


def test_the_nodes_come_to_rest(editor):
    """A view inside a node must not make the node grow, which makes the view grow, and so on."""
    page, _ = editor
    load(page, "tiny_story")
    look_at(page, 31)
    plan = {"execution_plan": [{"step_number": i, "prompt": f"picture {i}"} for i in range(1, 31)]}
    workflow = page.evaluate("() => (window.app.rootGraph ?? window.app.graph).id")
    place = {"node": "31", "workflow": workflow, "t_max": 2, "seed": 1, "seconds": 1, "prompt": "x"}
    told = [{"event": "plan", "node": "31", "workflow": workflow, "run": "long", "plan": plan}]
    told += [
        {"event": "attempt", "step": s, "attempt": a, "file": f"x/attempts/{s}{a}.png", **place}
        for s in range(1, 31)
        for a in (1, 2)
    ]
    page.evaluate(
        "events => { for (const detail of events) window.app.api.dispatchCustomEvent('interleave_thinker', detail) }",
        told,
    )
    sizes = (
        "() => [window.app.graph.getNodeById(31).size.map(Math.round),"
        " [...document.querySelectorAll('.itk-in-node')].map(e => e.offsetHeight)]"
    )
    page.wait_for_timeout(1500)
    first = page.evaluate(sizes)
    page.wait_for_timeout(2000)
    assert page.evaluate(sizes) == first
    assert max(first[1]) <= 460, "it scrolls inside instead"
