"""For everybody: by keyboard, with a screen reader, on a small window; shared, and without the pack."""

from __future__ import annotations

import itertools
import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from comfy_server import Comfy
from comfy_test_graphs import loop, shipped_for_editor
from editor_page import (
    command,
    finished,
    load,
    look_at,
    open_editor,
    open_sidebar,
    prompt,
    queue,
    show,
    show_api,
    wait_until,
)

SEEDS = itertools.count(7910)
"""A prompt that ran before is not run again, and says nothing."""


def violations(page, inside: str) -> list[str]:
    """What axe-core (WCAG 2 A and AA) finds in an element of ours."""
    options = {"runOnly": ["wcag2a", "wcag2aa"]}
    found = Axe().run(page, context=inside, options=options).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found]


@pytest.fixture
def ran(page, comfy):
    open_editor(page, comfy)
    show_api(page, loop("1. one\n2. two", accept="b > 1", seed=next(SEEDS)), "reached")
    open_sidebar(page)
    queue(page)
    page.locator(".itk-side").get_by_text("finished", exact=True).wait_for(timeout=60_000)
    return page


def test_the_live_view_and_the_document_can_be_read_by_a_screen_reader(ran) -> None:
    ran.locator(".itk-side .itk-thumb").first.click()
    assert violations(ran, ".itk-side") == []
    ran.locator(".itk-side").get_by_text("Compare with another").click()
    ran.locator(".itk-side .itk-thumb").nth(1).click()
    assert violations(ran, ".itk-side") == []
    ran.locator(".itk-side").get_by_text("Document", exact=True).click()
    assert violations(ran, ".itk-side") == []


def test_the_plan_editor_works_by_keyboard_alone(page, comfy) -> None:
    open_editor(page, comfy)
    show_api(page, loop("1. one\n2. two", seed=7902), "keys")
    look_at(page, 1)
    page.locator(".itk-planview button", has_text="Edit plan").first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog.itk-plan")
    dialog.wait_for()
    assert violations(page, "dialog.itk-plan") == []
    dialog.get_by_label("Prompt for the generator").first.focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("typed")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.textContent") == "Use this plan":
            break
        inside = page.evaluate("() => document.querySelector('dialog.itk-plan').contains(document.activeElement)")
        assert inside or page.evaluate("() => document.activeElement === document.body"), (
            "the focus stays in the dialog"
        )
    page.wait_for_timeout(400)
    page.keyboard.press("Enter")
    dialog.wait_for(state="detached")
    assert json.loads(prompt(page)["1"]["inputs"]["text"])["execution_plan"][0]["prompt"] == "typed"
    page.locator(".itk-planview button", has_text="Edit plan").first.click()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert page.problems == []


@pytest.mark.parametrize("size", [(1280, 720), (390, 844)], ids=["1280x720", "phone"])
def test_nothing_is_out_of_reach_in_a_small_window(ran, size) -> None:
    ran.set_viewport_size({"width": size[0], "height": size[1]})
    ran.wait_for_timeout(500)
    view = ran.locator(".itk-side .itk")
    if not view.is_visible():
        open_sidebar(ran)
    ran.locator(".itk-side .itk-thumb").first.click()
    assert (
        ran.evaluate(
            "() => { const v = document.querySelector('.itk-side .itk'); return v.scrollWidth - v.clientWidth }"
        )
        <= 2
    )
    box = ran.locator(".itk-side").get_by_text("Retry with this prompt").bounding_box()
    assert box and box["x"] + box["width"] <= size[0]
    ran.evaluate("() => window.app.graph.getNodeById(1)")
    command(ran, "InterleaveThinker.Wrap")
    assert ran.problems == []


def test_a_dialog_fits_a_phone(page, comfy) -> None:
    open_editor(page, comfy)
    show_api(page, loop("1. one", seed=7903), "phone")
    look_at(page, 1)
    page.locator(".itk-planview button", has_text="Edit plan").first.click()
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    box = page.locator("dialog.itk-plan").bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390
    save = page.locator("dialog.itk-plan .itk-main").bounding_box()
    assert save and save["y"] + save["height"] <= 844


def test_a_shared_workflow_gives_the_same_run_in_another_profile(chromium, comfy) -> None:
    """Saved in one profile with settings of its own, opened in another without them: the same prompt."""
    first = chromium.new_context().new_page()
    open_editor(first, comfy)
    graph = shipped_for_editor("tiny_story")
    show(first, graph)
    first.evaluate("() => window.app.extensionManager.setting.set('InterleaveThinker.TMax', 9)")
    first.evaluate(
        "() => { const n = window.app.graph.nodes.find(n => n.type === 'InterleaveThinkerPlanner');"
        " n.widgets.find(w => w.name === 'edited_plan').value = '1. a big red star at the top on a white background' }"
    )
    saved, mine = first.evaluate("() => window.app.graph.serialize()"), prompt(first)
    first.context.close()
    second = chromium.new_context().new_page()
    open_editor(second, comfy)
    show(second, saved)
    assert prompt(second) == mine
    done = len(finished(comfy))
    queue(second)
    wait_until(second, lambda: len(finished(comfy)) > done)
    second.context.close()


def test_without_the_pack_comfyui_names_what_is_missing(chromium, tmp_path) -> None:
    bare = Comfy(tmp_path, ("--disable-all-custom-nodes",)).start()
    try:
        page = chromium.new_context().new_page()
        open_editor(page, bare)
        load(page, "tiny_story")
        page.wait_for_timeout(2000)
        page.screenshot(path=str(tmp_path / "missing.png"))
        page.get_by_text("View details").first.click()
        page.get_by_text("interleave-thinker", exact=True).first.click()  # the pack, and below it its nodes
        page.get_by_text("InterleaveThinkerPlanner", exact=False).first.wait_for(timeout=10_000)
        page.screenshot(path=str(tmp_path / "details.png"))
        packs = {
            n["properties"].get("cnr_id")
            for n in page.evaluate("() => window.app.graph.serialize()")["nodes"]
            if n["type"].startswith("InterleaveThinker")
        }
        assert packs == {"interleave-thinker"}
        page.context.close()
    finally:
        bare.stop()
