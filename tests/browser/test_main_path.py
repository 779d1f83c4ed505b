"""The whole way of a new user, in each editor that we support: gallery, plan, run, look, steer, read."""

from __future__ import annotations

import random

from editor_page import finished, look_at, open_sidebar, queue, ready, set_value, wait_until

PLANNER, OPEN, SAMPLER, CLOSE = 3, 4, 26, 31
"""Node ids of the tiny story."""


def outline(page) -> list[str]:
    return page.locator(".itk-planview .itk-outline li").all_inner_texts()


def vue_nodes(page) -> bool:
    return bool(page.evaluate("() => window.app.extensionManager.setting.get('Comfy.VueNodes.Enabled')"))


def idle(comfy) -> bool:
    return comfy.get("/prompt")["exec_info"]["queue_remaining"] == 0


def from_the_gallery(page) -> None:
    """Browse Templates, our pack, the tiny story."""
    page.evaluate("() => { window.app.extensionManager.command.execute('Comfy.BrowseTemplates') }")
    page.get_by_text("interleave-thinker", exact=False).first.click(timeout=20_000)
    page.get_by_text("A first story, without a GPU", exact=True).first.click(timeout=20_000)
    page.wait_for_function("id => window.app.graph.getNodeById(id)?.type === 'InterleaveThinkerPlanner'", arg=PLANNER)
    page.wait_for_timeout(1000)


def test_from_the_gallery_to_the_document(editor, tmp_path) -> None:
    page, comfy = editor
    from_the_gallery(page)
    look_at(page, PLANNER)
    page.locator(".itk-planview button", has_text="Plan only").click()
    wait_until(page, lambda: len(outline(page)) == 4)
    wait_until(page, lambda: idle(comfy))  # the history knows of this run only when it has ended
    assert not any("interleave_document" in o for h in finished(comfy)[-1:] for o in h["outputs"].values())

    page.locator(".itk-planview button", has_text="Edit plan").click()
    dialog = page.locator("dialog.itk-plan")
    for _ in range(2):
        dialog.get_by_label("Delete this step", exact=False).last.click()
    page.screenshot(path=str(tmp_path / "plan.png"))
    dialog.get_by_text("Use this plan").click()
    wait_until(page, lambda: len(outline(page)) == 2)

    set_value(page, OPEN, "seed", random.Random(str(tmp_path)).randrange(10**9))  # nothing is recalled from other tests
    set_value(page, SAMPLER, "steps", 30)  # long enough to be met in mid-run
    set_value(page, CLOSE, "gate", "stop_after_step")
    open_sidebar(page)
    side = page.locator(".itk-side")
    queue(page)
    # An earlier run, which is finished, may be shown until then; this one may be over before anything is drawn.
    begun = side.get_by_text("step 1 of 2", exact=False).or_(side.get_by_text("Continue", exact=True))
    begun.first.wait_for(timeout=120_000)
    side.locator(".itk-thumb img").first.wait_for(timeout=120_000)
    page.screenshot(path=str(tmp_path / "running.png"))

    held: list[str] = []

    def hold(route) -> None:
        held.append(route.request.url)
        wait_until(page, lambda: idle(comfy))
        route.continue_()

    if slow := vue_nodes(page):  # it is told of the run's end before it has its workflow back
        page.route("**/api/object_info", hold)
    page.reload()  # in mid-run
    page.locator(".side-bar-button", has_text="Interleave").first.wait_for(timeout=180_000)
    assert bool(held) is slow
    ready(page)
    open_sidebar(page)
    side.get_by_text("Continue", exact=True).wait_for(timeout=120_000)
    assert side.locator(".itk-thumb").count() >= 1
    side.get_by_text("Continue", exact=True).click()
    side.get_by_text("finished", exact=True).wait_for(timeout=120_000)
    side.get_by_text("Document", exact=True).click()
    assert side.locator(".itk-page > .itk-large").count() == 2
    assert side.locator(".itk-page > .itk-said").count() == 2
    look_at(page, CLOSE)
    page.screenshot(path=str(tmp_path / "document.png"))
    assert page.problems == []
