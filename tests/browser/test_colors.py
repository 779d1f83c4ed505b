"""Every text of our views and dialogs can be read in ComfyUI's palettes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from comfy_test_graphs import loop, node
from editor_page import command, load, look_at, open_sidebar, set_value, show_api, wait_until
from PIL import Image
from test_wrap_comfy import plain_graph

PALETTES = ("dark", "light", "solarized", "nord", "github", "arc")
LEAST = 4.5
"""WCAG 2 AA, for text of usual size."""
VIEWS = ".itk, .itk-side, .itk-check, dialog.itk-plan, dialog.itk-ask"
FAINT = """(least) => {
  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = color; pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
  const up = (node) => { const found = []; for (let n = node; n; n = n.parentElement) found.push(n); return found; };
  const behind = (node) => up(node).reverse().reduce((under, n) => over(rgba(getComputedStyle(n).backgroundColor), under), [255, 255, 255, 1]);
  const light = (color) => color.slice(0, 3).map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (node) => {
    const under = behind(node), [r, g, b, a] = rgba(getComputedStyle(node).color);
    const seen = up(node).reduce((opacity, n) => opacity * Number(getComputedStyle(n).opacity), a);
    const [hi, lo] = [light(over([r, g, b, seen], under)), light(under)].sort((p, q) => q - p);
    return (hi + 0.05) / (lo + 0.05);
  };
  const nodes = new Set();
  for (const view of document.querySelectorAll(VIEWS)) {
    for (const walk = document.createTreeWalker(view, NodeFilter.SHOW_TEXT); walk.nextNode();) {
      if (walk.currentNode.textContent.trim()) nodes.add(walk.currentNode.parentElement);
    }
    for (const field of view.querySelectorAll("textarea, select, input:not([type])")) nodes.add(field);
  }
  const shown = [...nodes].filter((n) => n.checkVisibility() && !n.closest(":disabled, style, script") && n.tagName !== "OPTION");
  return { texts: shown.length, faint: shown.map((n) => [n.className, String(n.value || n.textContent).slice(0, 60), ratio(n)]).filter(([,, r]) => r < least) };
}""".replace("VIEWS", json.dumps(VIEWS))


def axe(page: Any, inside: str, rules: list[str]) -> list[str]:
    kind = "tag" if rules[0].startswith("wcag") else "rule"
    found = Axe().run(page, context=inside, options={"runOnly": {"type": kind, "values": rules}}).response["violations"]
    return [
        f"{v['id']}: {n['html'][:160]} {n['any'][0]['message'] if n['any'] else ''}" for v in found for n in v["nodes"]
    ]


def readable(page: Any, inside: str, texts: int) -> None:
    """In each palette; by our own sum over all texts, and by axe, whose other rules hang on no colour."""
    setting = "window.app.extensionManager.setting"
    for palette in PALETTES:
        page.evaluate(f"palette => {setting}.set('Comfy.ColorPalette', palette)", palette)
        page.wait_for_timeout(400)  # ComfyUI's own colours fade over
        found = page.evaluate(FAINT, LEAST)
        assert found["faint"] == [], palette
        assert found["texts"] >= texts, "the views are there"
        assert axe(page, inside, ["color-contrast"]) == [], palette
    assert axe(page, inside, ["wcag2a", "wcag2aa"]) == []


PLAN = {
    "execution_plan": [{"step_number": i, "prompt": f"picture {i}", "auxiliary_text": f"Text {i}."} for i in (1, 2, 3)]
}


@pytest.fixture
def told(own_editor) -> tuple[Any, Callable[..., None]]:
    """The page with a loop and the sidebar open, and what sends it events as the server does."""
    page, comfy = own_editor
    pictures = comfy.output / "interleave" / "colours" / "attempts"
    pictures.mkdir(parents=True, exist_ok=True)
    for name in range(6):
        Image.new("RGB", (64, 64), (40 * name, 90, 160)).save(pictures / f"{name}.png")
    show_api(page, loop("1. one\n2. two\n3. three", accept="b > 1", seed=7951), "colours")
    open_sidebar(page)
    workflow = page.evaluate("() => (window.app.rootGraph ?? window.app.graph).id")

    def tell(event: str, kind: str = "interleave_thinker", **facts: Any) -> None:
        if kind == "interleave_thinker":
            facts = {"event": event, "node": "30", "workflow": workflow, "prompt_id": "told", "t_max": 4, **facts}
        page.evaluate("([kind, facts]) => window.app.api.dispatchCustomEvent(kind, facts)", [kind, facts])

    tell("", "status", exec_info={"queue_remaining": 1})  # as the server says before it runs a prompt
    tell("plan", run="colours", plan=PLAN)
    tell("warning", run="colours", text="Always changes: node 12.")
    judged = [{"accepted": False}, {"accepted": False, "parsed": False, "note": "no object"}, {"accepted": True}]
    for attempt, judgment in enumerate(judged, 1):
        place = {"step": 1, "attempt": attempt}
        tell(
            "attempt",
            **place,
            prompt=f"picture {attempt}",
            seed=attempt,
            seconds=2,
            file=f"colours/attempts/{attempt}.png",
        )
        said = {"parsed": True, "reasoning": "It is blue.", "refined_prompt": "a red one", **judgment}
        tell("judgment", **place, judgment=said, judge_seconds=1)
    tell("chosen", step=1, chosen=3, accepted=True)
    tell(
        "attempt",
        step=2,
        attempt=1,
        prompt="picture 2",
        seed=1,
        seconds=2,
        file="colours/attempts/4.png",
        overridden=True,
    )
    tell(
        "judgment", step=2, attempt=1, judgment={"accepted": False, "parsed": True, "reasoning": "No."}, overridden=True
    )
    tell("chosen", step=2, chosen=1, accepted=True)
    return page, tell


def test_a_run_its_details_and_its_end_can_be_read_in_every_palette(told) -> None:
    page, tell = told
    side = page.locator(".itk-side")
    side.locator(".itk-thumb").nth(1).click()
    look_at(page, 30)  # the smaller view on the node
    tell("trying", step=3, attempt=1)
    tell("attempt", step=3, attempt=1, prompt="picture 3", seed=1, seconds=2, file="colours/attempts/5.png")
    tell("", "progress_text", nodeId="30.s3a1.b21", text="Judging\nI look at the picture.")
    side.get_by_text("I look at the picture.").wait_for()
    readable(page, ".itk-side", 30)
    side.get_by_text("Compare with another").click()
    side.locator(".itk-thumb").first.click()
    tell("done", status="stopped", reason="Stopped after step 2.")
    side.get_by_role("alert").wait_for()
    assert side.locator(".itk-pair mark").count()
    readable(page, ".itk-side", 30)
    side.get_by_text("Document", exact=True).click()
    readable(page, ".itk-side", 5)
    assert page.problems == []


def test_the_wait_and_an_error_can_be_read_in_every_palette(told) -> None:
    page, tell = told
    side = page.locator(".itk-side")
    graph = {
        "1": node("InterleaveThinkerPlanner", agent=["2", 0]),
        "2": node("InterleaveThinkerLoadAgent"),
        "30": node("InterleaveThinkerLoopClose"),
    }
    workflow = page.evaluate("() => (window.app.rootGraph ?? window.app.graph).id")
    entry = [0, "next", graph, {"extra_pnginfo": {"workflow": {"id": workflow}}}, []]
    queue = json.dumps({"queue_running": [entry], "queue_pending": []})
    page.route("**/queue", lambda route: route.fulfill(body=queue, content_type="application/json"))
    tell("", "status", exec_info={"queue_remaining": 1})
    side.get_by_text("Planning…").wait_for()
    tell("", "progress_text", nodeId="1", text='Planning\n<think>First a boat.</think>{"step_number": 1')
    side.get_by_text("First a boat.").wait_for()
    assert side.get_by_text("Planning… step 1").is_visible()
    readable(page, ".itk-side", 6)
    tell("", "execution_error", prompt_id="next", node_id="1", node_type="P", exception_message="The server is off.\nx")
    alert = side.get_by_role("alert")
    alert.wait_for()
    assert "The server is off." in alert.inner_text() and "then press Run" in alert.inner_text()
    readable(page, ".itk-side", 6)
    assert page.problems == []


def test_plans_and_their_errors_can_be_read_in_every_palette(told) -> None:
    page, _ = told
    look_at(page, 1)
    set_value(page, 1, "text", '{"execution_plan": [{"step_number": 1}]}')
    wait_until(page, lambda: page.locator(".itk-planview .itk-note-bad").count(), 10)
    readable(page, ".itk-planview", 10)
    set_value(page, 1, "text", "1. one\n2. two")
    wait_until(page, lambda: page.locator(".itk-planview li").count() == 2, 10)
    readable(page, ".itk-planview", 10)
    page.locator(".itk-planview button", has_text="Edit plan").first.click()
    dialog = page.locator("dialog.itk-plan")
    dialog.get_by_text("Instruction for the critic").first.click()
    dialog.get_by_text("Text only", exact=False).last.click()
    dialog.get_by_label("Prompt for the generator").first.fill("")
    wait_until(page, lambda: dialog.locator(".itk-problem").inner_text(), 10)
    readable(page, "dialog.itk-plan", 15)
    assert page.problems == []


@pytest.mark.slow
def test_the_doctors_report_can_be_read_in_every_palette(own_editor) -> None:
    page, _ = own_editor
    load(page, "tiny_story")
    open_sidebar(page)
    page.get_by_role("button", name="Check this machine").click()
    page.get_by_role("button", name="Stop checking").wait_for()
    readable(page, ".itk-side", 5)
    page.get_by_role("button", name="Stop checking").click()
    page.get_by_role("button", name="Close the report").wait_for(timeout=120_000)
    readable(page, ".itk-side", 10)
    assert page.problems == []


@pytest.mark.slow
def test_the_question_of_wrap_can_be_read_in_every_palette(own_editor) -> None:
    page, _ = own_editor
    graph = plain_graph()
    graph["13"] = node("CLIPTextEncode", clip=["2", 0], text="a cat")
    graph["17"] = node("KSampler", **graph["7"]["inputs"] | {"positive": ["13", 0], "seed": 12})
    graph["18"] = node("VAEDecode", samples=["17", 0], vae=["3", 0])
    graph["19"] = node("SaveImage", images=["18", 0], filename_prefix="cat")
    show_api(page, graph, "asked")
    command(page, "InterleaveThinker.Wrap")
    page.locator("dialog.itk-ask").wait_for(timeout=20_000)
    readable(page, "dialog.itk-ask", 6)
    page.keyboard.press("Escape")
    assert page.problems == []
