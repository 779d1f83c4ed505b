""" "Check this machine" in the sidebar: the open workflow is measured, and the report can be read by everybody."""

from __future__ import annotations

import re

from axe_playwright_python.sync_playwright import Axe
from comfy_test_graphs import tiny_story
from editor_page import load, open_editor, open_sidebar, prompt, set_value, show, show_api, wait_until

CONTRAST = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => { const [r, g, b] = channels(color).slice(0, 3).map((c) => c / 255)
    .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (node) => { for (let n = node; n; n = n.parentElement) {
    const color = getComputedStyle(n).backgroundColor; if ((channels(color)[3] ?? 1) > 0.99) return color; } return "rgb(0,0,0)"; };
  return [...document.querySelectorAll(".itk-check li, .itk-check h3, .itk-check button, .itk-check p, .itk-runs button")]
    .map((node) => { const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((x, y) => y - x);
      return [node.textContent, (a + 0.05) / (b + 0.05)]; });
}"""


def begin(page) -> None:
    """By keyboard."""
    page.get_by_role("button", name="Check this machine").focus()
    page.keyboard.press("Enter")


def report(page) -> str:
    page.get_by_role("button", name="Close the report").wait_for(timeout=120_000)
    return page.locator(".itk-check").inner_text()


def violations(page) -> list[str]:
    found = Axe().run(page, context=".itk-side", options={"runOnly": ["wcag2a", "wcag2aa"]})
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found.response["violations"]]


def test_the_open_workflow_is_measured_and_stays_as_it_is(own_editor) -> None:
    page, comfy = own_editor
    load(page, "tiny_story")
    before = prompt(page)
    saved = {path for path in comfy.output.rglob("*") if path.is_file()}
    open_sidebar(page)
    begin(page)
    page.get_by_role("status").filter(has_text=re.compile("Asking|Making|Looking")).first.wait_for()
    assert page.get_by_role("button", name="Stop checking").is_visible()
    told = report(page)
    assert told.index("What to change") < told.index("A run") < told.index("Critic: tiny-critic"), "the answer is first"
    assert "6 of 6 right: it sees the pictures" in told
    assert re.search(r"ComfyUI 0\.\d+", told) and re.search(r"tokens a second", told)
    assert prompt(page) == before and {p for p in comfy.output.rglob("*") if p.is_file()} == saved
    assert violations(page) == []
    assert [text for text, ratio in page.evaluate(CONTRAST) if ratio < 4.5] == []
    assert (
        page.evaluate("() => { const v = document.querySelector('.itk-check'); return v.scrollWidth - v.clientWidth }")
        <= 2
    )
    open_sidebar(page)  # closes it
    open_sidebar(page)
    assert report(page) == told, "the report outlives the sidebar"
    page.get_by_role("button", name="Close the report").click()
    assert not page.locator(".itk-check").is_visible()
    assert page.problems == []


def test_a_graph_without_an_agent_is_told_what_to_do(page, comfy) -> None:
    open_editor(page, comfy)
    show(page, {"nodes": [], "links": [], "version": 0.4})
    open_sidebar(page)
    begin(page)
    told = report(page)
    assert "There is no agent to ask" in told and "Wrap in Interleave Loop" in told and "shows no picture" in told
    assert page.problems == []


def test_a_missing_model_is_named_and_markup_in_it_stays_text(page, comfy) -> None:
    open_editor(page, comfy)
    graph = tiny_story()
    graph["10"]["inputs"]["unet_name"] = "<img src=x onerror=alert(1)>.safetensors"
    show_api(page, graph, "missing")
    open_sidebar(page)
    begin(page)
    told = report(page)
    assert "<img src=x onerror=alert(1)>.safetensors', which this ComfyUI does not have" in told
    assert page.locator(".itk-check img").count() == 0 and "Missing: node 10" in told


def test_a_person_can_stop_and_is_told_what_was_left_out(page, comfy) -> None:
    open_editor(page, comfy)
    load(page, "tiny_story")
    set_value(page, 26, "steps", 4000)
    open_sidebar(page)
    begin(page)
    page.get_by_role("status").filter(has_text="Making picture 1").wait_for(timeout=60_000)
    page.get_by_role("button", name="Stop checking").click()
    told = report(page)
    assert "Making picture 1: stopped by a person after" in told and "Making picture 2: the check was stopped" in told
    assert "The time was over" not in told and "interleave-thinker doctor" not in told
    assert "it sees the pictures" in told
    wait_until(page, lambda: comfy.get("/prompt")["exec_info"]["queue_remaining"] == 0, 60)


def test_while_a_run_is_under_way_nothing_is_measured(page, comfy) -> None:
    open_editor(page, comfy)
    load(page, "tiny_story")
    graph = tiny_story()
    graph["26"]["inputs"] |= {"steps": 3000, "seed": 1, "positive": ["20", 0]}
    graph["20"]["inputs"]["text"] = "busy"
    graph["24"]["inputs"]["conditioning"] = ["20", 0]
    graph["40"] = {"class_type": "PreviewImage", "inputs": {"images": ["27", 0]}}
    busy = comfy.post("/prompt", {"prompt": graph, "partial_execution_targets": ["40"]})
    open_sidebar(page)
    begin(page)
    assert "ComfyUI is at work" in report(page)
    comfy.post("/interrupt", {"prompt_id": busy["prompt_id"]})
    wait_until(page, lambda: comfy.get("/prompt")["exec_info"]["queue_remaining"] == 0, 60)
