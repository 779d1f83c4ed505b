"""From the click on Run to the first picture a person sees what goes on, and where it fails what to do."""

from __future__ import annotations

import random
from typing import Any

import pytest
from comfy_test_graphs import loop, ours, tiny_story
from editor_page import finished, load, open_editor, open_sidebar, queue, ready, set_value, show_api, wait_until

PLANNER, OPEN = 3, 4


def outline(page: Any) -> list[str]:
    return list(page.locator(".itk-planview .itk-outline li").all_inner_texts())


def seen(page: Any) -> list[str]:
    """What stood at the top of the sidebar's view since `watch`, with the words below it."""
    return list(page.evaluate("() => window.seen"))


def watch(page: Any) -> None:
    page.evaluate(
        "() => { window.seen = []; const side = document.querySelector('.itk-side .itk'); new MutationObserver(() => {"
        " const [bar, state, words] = ['[role=progressbar]', '.itk-state', '.itk-speech'].map(s => side.querySelector(s));"
        " window.seen.push([state?.textContent, words && 'words', bar?.getAttribute('aria-valuetext')]"
        ".filter(Boolean).join(' | ')) }).observe(side, { childList: true }) }"
    )


def new_seeds(page: Any) -> None:
    for node in (PLANNER, OPEN):
        set_value(page, node, "seed", random.randrange(10**9))  # nothing is recalled


def run_to_its_end(page: Any, comfy: Any) -> None:
    done = len(finished(comfy))
    queue(page)
    wait_until(page, lambda: len(finished(comfy)) > done)


def test_the_planner_is_heard_while_it_plans(own_editor) -> None:
    page, comfy = own_editor
    graph = tiny_story()
    graph["98"] = {"class_type": "TestSlowAgent", "inputs": {"agent": graph[str(PLANNER)]["inputs"]["agent"]}}
    graph[str(PLANNER)]["inputs"]["agent"] = ["98", 0]
    show_api(page, graph, "slowly planned")
    new_seeds(page)
    open_sidebar(page)
    saved = page.get_by_label("Saved runs").locator("option")
    page.wait_for_timeout(500)
    listed = saved.count()
    watch(page)
    run_to_its_end(page, comfy)
    page.locator(".itk-side").get_by_text("finished", exact=True).wait_for(timeout=120_000)
    states = seen(page)
    planning = [at for at, state in enumerate(states) if state.startswith("Planning…") and state.endswith("words")]
    drawing = [at for at, state in enumerate(states) if state.startswith("step 1 of ") and state.endswith("%")]
    assert planning and drawing and planning[-1] < drawing[0], states
    assert any("left" in state for state in states), "the time left is known before the end"
    assert not any(state.startswith("no run yet") for state in states[1:]), states
    wait_until(page, lambda: saved.count() > listed, 60)
    wait_until(page, lambda: " · finished · " in saved.nth(1).inner_text(), 60)
    assert page.problems == []


def test_a_plan_stays_after_a_reload_and_after_a_run_that_took_it_from_the_cache(own_editor) -> None:
    page, comfy = own_editor
    load(page, "tiny_story")
    new_seeds(page)
    run_to_its_end(page, comfy)
    wait_until(page, lambda: outline(page), 60)
    planned = outline(page)
    page.evaluate("async () => await window.app.extensionManager.workflow.activeWorkflow.changeTracker?.checkState()")
    page.reload()
    ready(page)
    wait_until(page, lambda: outline(page) == planned, 60)
    set_value(page, OPEN, "seed", random.randrange(10**9))
    run_to_its_end(page, comfy)  # the plan is in ComfyUI's cache
    assert outline(page) == planned
    assert page.problems == []


def test_an_error_before_the_loop_is_told_on_top_until_the_next_run(own_editor) -> None:
    page, comfy = own_editor
    graph = loop("1. one", seed=7961)
    graph["1"] = ours("Planner", agent=["3", 0], request="A story.", max_steps=3, seed=random.randrange(10**9))
    graph["1"]["inputs"] |= {"if_unreadable": "error", "edited_plan": ""}
    sampling = {"max_tokens": 64, "temperature": 0.0, "max_megapixels": 1.0, "prompts": "", "keep_form": True}
    graph["3"] = ours("AgentFromServer", endpoint="nowhere", **sampling)
    show_api(page, graph, "failing")
    open_sidebar(page)
    side = page.locator(".itk-side")
    queue(page)
    alert = side.get_by_role("alert")
    alert.wait_for(timeout=120_000)
    told = alert.inner_text()
    assert told.startswith("Interleave Agent from Server: There is no endpoints file. Create ")
    assert "press Run" in told and "base_url" in told, "the example that the first line speaks of is there"
    set_value(page, 1, "edited_plan", "1. one")
    run_to_its_end(page, comfy)
    side.get_by_text("finished", exact=True).wait_for(timeout=120_000)
    assert alert.count() == 0


def test_an_error_in_the_loop_stands_on_top_with_its_place_and_what_to_press(page, comfy) -> None:
    open_editor(page, comfy)
    show_api(page, loop("1. 0.5\n2. nonsense", seed=7962, prompts_matter=True), "broken")
    open_sidebar(page)
    queue(page)
    alert = page.locator(".itk-side").get_by_role("alert")
    alert.wait_for(timeout=120_000)
    told = alert.inner_text()
    assert told.startswith("Step 2, attempt 1: ") and "node 16" in told and "press Continue" in told


@pytest.mark.slow
def test_a_run_that_waits_for_another_one_says_so(page, comfy) -> None:
    graph = loop("1. one", seed=7963)
    graph["14"] = {"class_type": "TestHoldPicture", "inputs": {"image": ["12", 0], "step": ["2", 6]}}
    graph["30"]["inputs"]["image"] = ["14", 0]
    hold = comfy.output / "hold_from_step"
    hold.parent.mkdir(exist_ok=True)
    hold.write_text("1")
    open_editor(page, comfy)
    show_api(page, graph, "slow")
    open_sidebar(page)
    side = page.locator(".itk-side")
    queue(page)
    side.get_by_text("step 1 of 1", exact=False).first.wait_for(timeout=120_000)
    show_api(page, loop("1. two", seed=7964), "patient")
    page.evaluate(
        "() => { window.app.graph.id = crypto.randomUUID() }"
    )  # an API file has none: all would be one workflow
    done = len(finished(comfy))
    queue(page)
    side.get_by_text("Waiting for ComfyUI to finish other work…").wait_for(timeout=120_000)
    assert side.get_by_role("button", name="Stop here").count() == 0, "it would stop the other one"
    hold.unlink()
    wait_until(page, lambda: len(finished(comfy)) > done + 1)
    side.get_by_text("finished", exact=True).wait_for(timeout=120_000)
    assert page.problems == []


@pytest.mark.slow
def test_a_second_tab_says_that_a_run_is_being_planned(page, comfy) -> None:
    open_editor(page, comfy)
    load(page, "tiny_story")
    new_seeds(page)
    graph = page.evaluate("() => window.app.graph.serialize()")
    other = page.context.browser.new_page(viewport={"width": 1600, "height": 950})
    open_editor(other, comfy)
    other.evaluate("graph => window.app.loadGraphData(graph)", graph)
    open_sidebar(other)
    watch(other)
    run_to_its_end(page, comfy)
    other.locator(".itk-side").get_by_text("finished", exact=True).wait_for(timeout=120_000)
    assert any(state.startswith("Planning…") for state in seen(other)), seen(other)
    other.close()
    assert page.problems == []
