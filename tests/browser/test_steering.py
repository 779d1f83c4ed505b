"""A run is steered from its live view: each button ends in an ordinary queued prompt."""

from __future__ import annotations

import json

from comfy_test_graphs import loop
from editor_page import finished, open_editor, open_sidebar, prompt, queue, show_api, value, wait_until

PLAN, CLOSE = 1, 30


def newest(comfy):
    return max((comfy.output / "interleave").glob("*/run.json"), key=lambda p: p.stat().st_mtime).parent


def attempts(folder):
    return [json.loads(line) for line in (folder / "trajectory.jsonl").read_text().splitlines()]


def press(page, label) -> None:
    """A view that is drawn anew four times a second does not hold still as long as Playwright's click wants."""
    page.wait_for_function(
        "label => { const found = [...document.querySelectorAll('.itk-side button')].find(b => b.textContent === label);"
        " found?.click(); return Boolean(found) }",
        arg=label,
        timeout=60_000,
    )


def test_retry_with_ones_own_prompt_then_end(page, comfy, tmp_path) -> None:
    open_editor(page, comfy)
    show_api(page, loop("1. one\n2. two\n3. three", accept="b > 1", seed=7801, gate="stop_after_step"), "steered")
    open_sidebar(page)
    side = page.locator(".itk-side")
    queue(page)
    side.get_by_text("Continue", exact=True).wait_for(timeout=60_000)

    side.locator(".itk-thumb").first.click()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.closest('.itk-side') !== null"), "the focus outlives the redraw"
    own = side.get_by_label("Your own prompt for step 1")
    own.fill("mine <b>own</b>")
    done = len(finished(comfy))
    side.get_by_text("Retry with this prompt").click()
    wait_until(page, lambda: len(finished(comfy)) > done)
    steps = json.loads(value(page, PLAN, "text"))["execution_plan"]
    assert [s["prompt"] for s in steps] == ["mine <b>own</b>", "two", "three"]
    assert attempts(newest(comfy))[0]["prompt"] == "mine <b>own</b>"

    side.get_by_text("Finish here").click()
    side.get_by_text("finished", exact=True).wait_for(timeout=60_000)
    assert [s["prompt"] for s in json.loads(value(page, PLAN, "text"))["execution_plan"]] == ["mine <b>own</b>"]
    assert page.problems == []


def test_two_attempts_side_by_side_and_the_workflow_of_a_run(page, comfy, tmp_path) -> None:
    open_editor(page, comfy)
    show_api(page, loop("1. one\n2. two", accept="b > 1", seed=7802), "compared")
    open_sidebar(page)
    side = page.locator(".itk-side")
    queue(page)
    side.get_by_text("finished", exact=True).wait_for(timeout=60_000)
    side.locator(".itk-thumb").first.click()
    side.get_by_text("Compare with another").click()
    assert side.get_by_text("Choose the attempt").is_visible()
    side.locator(".itk-thumb").nth(1).click()
    assert side.locator(".itk-pair figure").count() == 2
    page.screenshot(path=str(tmp_path / "compared.png"))
    side.get_by_text("Close comparison").click()
    assert side.locator(".itk-pair").count() == 0

    mine = prompt(page)
    page.evaluate("() => window.app.loadGraphData()")  # the default workflow: another one
    page.wait_for_timeout(800)
    assert prompt(page) != mine
    side.get_by_text("Open its workflow").click()
    wait_until(page, lambda: prompt(page) == mine, 20)
    assert page.problems == []


def test_stop_here_keeps_what_is_finished(page, comfy) -> None:
    graph = loop("\n".join(f"{i}. picture {i}" for i in range(1, 60)), accept="b > 1", seed=7803)
    graph["14"] = {"class_type": "TestHoldPicture", "inputs": {"image": ["12", 0], "step": ["2", 6]}}
    graph["30"]["inputs"]["image"] = ["14", 0]
    hold = comfy.output / "hold_from_step"
    hold.parent.mkdir(exist_ok=True)
    hold.write_text("3")
    open_editor(page, comfy)
    show_api(page, graph, "long")
    open_sidebar(page)
    side = page.locator(".itk-side")
    queue(page)
    side.locator(".itk-thumb img").nth(3).wait_for(timeout=60_000)
    press(page, "Stop here")
    side.get_by_text("interrupted", exact=False).first.wait_for(timeout=60_000)
    assert len(attempts(newest(comfy))) == 4, "two attempts at each of two steps"

    hold.write_text("5")
    side.get_by_text("Continue", exact=True).click()
    side.locator(".itk-thumb img").nth(7).wait_for(timeout=60_000)
    press(page, "Stop here")
    side.get_by_text("interrupted", exact=False).first.wait_for(timeout=60_000)
    assert len(attempts(newest(comfy))) == 8, "none made twice"
    hold.unlink()
    assert page.problems == []


def test_the_document_is_printed_with_its_pictures(page, comfy) -> None:
    open_editor(page, comfy)
    show_api(page, loop("1. one\n2. two", seed=7804), "printed")
    open_sidebar(page)
    side = page.locator(".itk-side")
    queue(page)
    side.get_by_text("finished", exact=True).wait_for(timeout=60_000)
    side.get_by_text("Document", exact=True).click()
    page.evaluate(
        "() => { const watch = new MutationObserver(() => { for (const f of document.querySelectorAll('iframe'))"
        " f.addEventListener('load', () => { f.contentWindow.print = () => { window.printed ="
        " f.contentDocument.images.length } }) });"
        " watch.observe(document.body, { childList: true }) }"
    )
    side.get_by_role("button", name="Print or PDF").click()
    page.wait_for_function("() => window.printed === 2", timeout=20_000)
    assert page.problems == []


def test_a_saved_run_is_looked_at_and_left_again(page, comfy) -> None:
    open_editor(page, comfy)
    show_api(page, loop("1. an older run", seed=7805), "older")
    open_sidebar(page)
    side = page.locator(".itk-side")
    queue(page)
    side.get_by_text("finished", exact=True).wait_for(timeout=60_000)
    older = newest(comfy).name
    show_api(page, loop("1. a newer run\n2. of two steps", seed=7806), "newer")
    queue(page)
    wait_until(page, lambda: side.locator(".itk-step").count() == 2)
    side.get_by_text("finished", exact=True).wait_for(timeout=60_000)

    saved = side.get_by_label("Saved runs")
    saved.focus()
    saved.locator(f"option[value='{older}']").wait_for(state="attached")
    saved.select_option(older)
    wait_until(page, lambda: side.locator(".itk-step").count() == 1)
    saved.blur()
    saved.focus()  # the list is read again
    page.wait_for_timeout(1000)
    assert saved.input_value() == older, "or going back would be no change"
    saved.select_option("")
    wait_until(page, lambda: side.locator(".itk-step").count() == 2)
    assert page.problems == []


def test_what_was_tried_before_a_retry_stays_in_view_and_why_a_run_stopped_survives_a_reload(
    page, comfy, tmp_path
) -> None:
    open_editor(page, comfy)
    show_api(
        page, loop("1. 0.2\n2. 0.4", accept="0", seed=7807, gate="stop_after_step", prompts_matter=True), "retried"
    )
    open_sidebar(page)
    side = page.locator(".itk-side")
    queue(page)
    side.get_by_text("Continue", exact=True).wait_for(timeout=60_000)
    side.locator(".itk-thumb").first.click()
    side.get_by_label("Your own prompt for step 1").fill("0.6")
    side.get_by_text("Retry with this prompt").click()
    earlier = side.locator(".itk-earlier .itk-thumb")
    earlier.first.wait_for(timeout=60_000)
    side.get_by_text("Continue", exact=True).wait_for(timeout=60_000)
    branch = newest(comfy)
    assert json.loads((branch / "run.json").read_text())["parent"] and earlier.count() == 3
    earlier.first.click()
    assert side.locator(".itk-details .itk-prompt").inner_text().strip() == "0.2"
    page.screenshot(path=str(tmp_path / "earlier.png"))
    page.evaluate(
        "async () => { await window.app.extensionManager.workflow.activeWorkflow.changeTracker?.checkState() }"
    )

    reason = side.locator(".itk-reason").inner_text()
    assert "Stopped after step 1" in reason
    saved = side.get_by_label("Saved runs")
    page.reload()
    open_editor(page, comfy)
    open_sidebar(page)
    saved = page.locator(".itk-side").get_by_label("Saved runs")
    saved.focus()
    saved.locator(f"option[value='{branch.name}']").wait_for(state="attached")
    saved.select_option(branch.name)
    side.locator(".itk-earlier .itk-thumb").first.wait_for(timeout=60_000)
    assert side.locator(".itk-reason").inner_text() == reason
    assert page.problems == []


def test_an_accepted_attempt_is_yours_at_once_and_keeps_the_critics_reasons(page, comfy, tmp_path) -> None:
    open_editor(page, comfy)
    show_api(page, loop("1. one\n2. two", accept="0", seed=7808, gate="stop_after_step"), "accepted")
    open_sidebar(page)
    side = page.locator(".itk-side")
    queue(page)
    side.get_by_text("Continue", exact=True).wait_for(timeout=60_000)
    done = len(finished(comfy))
    side.locator(".itk-thumb").nth(1).click()
    side.get_by_text("Accept this attempt and continue").click()
    side.locator(".itk-thumb.itk-picked").first.wait_for(timeout=5_000)
    wait_until(page, lambda: len(finished(comfy)) > done)
    page.wait_for_timeout(800)
    details = side.locator(".itk-details").inner_text()
    assert "accepted by you" in details and "by rule" in details
    page.screenshot(path=str(tmp_path / "accepted.png"))
    assert [a["overridden"] for a in attempts(newest(comfy)) if a["step"] == 1][-1]
    assert page.problems == []
