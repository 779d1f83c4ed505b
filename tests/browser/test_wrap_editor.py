"""Wrap puts the loop around a graph that knows nothing of it, and takes it off again."""

from __future__ import annotations

from typing import Any

import pytest
from comfy_test_graphs import node
from editor_page import command, finished, open_editor, prompt, queue, set_value, show_api, wait_until
from PIL import Image
from test_wrap_comfy import plain_graph

OURS = "InterleaveThinker"


def edit_graph() -> dict[str, Any]:
    graph = plain_graph()
    graph["10"] = node("LoadImage", image="start.png")
    graph["11"] = node("VAEEncode", pixels=["10", 0], vae=["3", 0])
    graph["12"] = node("ReferenceLatent", conditioning=["4", 0], latent=["11", 0])
    graph["4"]["inputs"]["text"] = "paint the disc azure"
    graph["7"]["inputs"]["positive"] = ["12", 0]
    return graph


def said(page: Any) -> str:
    page.locator(".p-toast-message").last.wait_for(timeout=20_000)
    return str(page.locator(".p-toast-message").last.inner_text())


def wrap(page: Any) -> None:
    command(page, f"{OURS}.Wrap")
    wait_until(page, lambda: any(n["class_type"].startswith(OURS) for n in prompt(page).values()), 20)


def kinds(graph: dict[str, Any]) -> list[str]:
    return sorted(n["class_type"] for n in graph.values())


def state(page: Any) -> Any:
    """The graph as it would be saved, less the view and places that follow from drawing it."""
    return page.evaluate(
        "() => { const g = (window.app.rootGraph ?? window.app.graph).serialize(); delete g.extra; delete g.revision;"
        " return JSON.parse(JSON.stringify(g)) }"
    )


@pytest.fixture
def start_picture(comfy):
    (comfy.base / "input").mkdir(exist_ok=True)
    Image.new("RGB", (64, 64), "white").save(comfy.base / "input" / "start.png")


def test_a_plain_graph_loops_and_improves(old_or_new_editor) -> None:
    """The first try fails at the generator's words; the critic's rewriting mends it. Nothing else changed."""
    page, comfy = old_or_new_editor
    show_api(page, plain_graph(), "plain")
    page.evaluate("() => window.app.extensionManager.setting.set('InterleaveThinker.TMax', 5)")
    before, saved = prompt(page), state(page)
    wrap(page)
    wrapped = prompt(page)
    opened = next(i for i, n in wrapped.items() if n["class_type"] == f"{OURS}LoopOpen")
    assert next(n for n in wrapped.values() if n["class_type"] == f"{OURS}LoopClose")["inputs"]["t_max"] == 5
    assert wrapped["4"]["inputs"]["text"] == [opened, 1] and wrapped["7"]["inputs"]["seed"] == [opened, 5]
    for node_id, was in before.items():
        same = {k for k, v in was["inputs"].items() if v == wrapped[node_id]["inputs"][k]}
        assert set(was["inputs"]) - same == {"4": {"text"}, "7": {"seed"}}.get(node_id, set())

    command(page, "Comfy.Undo")
    wait_until(page, lambda: kinds(prompt(page)) == kinds(before), 10)
    page.wait_for_timeout(1000)
    now = state(page)
    assert now["links"] == saved["links"]
    for was, is_now in zip(saved["nodes"], now["nodes"], strict=True):  # Nodes 2.0 measures nodes anew
        assert {"widgets_values": []} | was | {"size": 0} == {"widgets_values": []} | is_now | {"size": 0}
    command(page, "Comfy.Redo")
    wait_until(page, lambda: kinds(prompt(page)) == kinds(wrapped), 10)

    planner = next(int(i) for i, n in wrapped.items() if n["class_type"] == f"{OURS}Planner")
    set_value(
        page, planner, "edited_plan", f"1. {before['4']['inputs']['text']}"
    )  # the tiny planner knows stories only
    done = len(finished(comfy))
    queue(page)
    wait_until(page, lambda: len(finished(comfy)) > done)
    entry = next(e for o in finished(comfy)[-1]["outputs"].values() for e in o.get("interleave_document", []))
    attempts = entry["document"]["trajectory"]["attempts"]
    assert attempts[0]["judgment"]["accepted"] is False
    assert attempts[1]["prompt"] == attempts[0]["judgment"]["refined_prompt"] != attempts[0]["prompt"]
    assert entry["document"]["items"][-1]["accepted"] is True

    command(page, f"{OURS}.Unwrap")
    wait_until(page, lambda: kinds(prompt(page)) == kinds(before), 10)
    assert prompt(page) == before
    assert page.problems == []


def test_an_edit_graph_starts_from_the_users_picture(page, comfy, start_picture) -> None:
    open_editor(page, comfy)
    show_api(page, edit_graph(), "edit")
    before = prompt(page)
    wrap(page)
    wrapped = prompt(page)
    opened = next(i for i, n in wrapped.items() if n["class_type"] == f"{OURS}LoopOpen")
    assert wrapped["11"]["inputs"]["pixels"] == [opened, 2]
    assert wrapped[opened]["inputs"]["images.image_0"] == ["10", 0]
    assert "last accepted one" in said(page)
    command(page, f"{OURS}.Wrap")
    page.get_by_text("has a loop already").first.wait_for(timeout=10_000)
    assert prompt(page) == wrapped, "wrapping twice is refused and changes nothing"
    command(page, f"{OURS}.Unwrap")
    wait_until(page, lambda: prompt(page) == before, 10)


def test_of_two_pictures_the_person_chooses_by_keyboard(page, comfy) -> None:
    open_editor(page, comfy)
    second = {
        "13": node("CLIPTextEncode", clip=["2", 0], text='<img src=x onerror="window.hit=1"> a cat'),
        "17": node("KSampler", **plain_graph()["7"]["inputs"] | {"positive": ["13", 0], "seed": 12}),
        "18": node("VAEDecode", samples=["17", 0], vae=["3", 0]),
        "19": node("SaveImage", images=["18", 0], filename_prefix="cat"),
    }
    show_api(page, plain_graph() | second, "two")
    page.keyboard.press("Control+Shift+L")
    dialog = page.locator("dialog.itk-ask")
    dialog.wait_for(timeout=10_000)
    assert dialog.get_by_role("radio").count() == 2
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    wait_until(page, lambda: any(n["class_type"] == f"{OURS}LoopClose" for n in prompt(page).values()), 10)
    wrapped = prompt(page)
    close = next(n for n in wrapped.values() if n["class_type"] == f"{OURS}LoopClose")
    assert close["inputs"]["image"] == ["18", 0]
    assert wrapped["4"]["inputs"]["text"].startswith("a medium"), "the other picture's prompt is left alone"
    assert page.evaluate("() => window.hit") is None
    command(page, "Comfy.Undo")
    wait_until(page, lambda: not any(n["class_type"].startswith(OURS) for n in prompt(page).values()), 10)
    # A selection answers the same question beforehand.
    page.evaluate(
        "() => { window.app.canvas.deselectAll?.();"
        " window.app.canvas.selectItems(window.app.graph.nodes.filter(n => ['4', '7', '8', '9'].includes(String(n.id)))) }"
    )
    wrap(page)
    close = next(n for n in prompt(page).values() if n["class_type"] == f"{OURS}LoopClose")
    assert close["inputs"]["image"] == ["8", 0]
    assert page.problems == []


def into_subgraph(page: Any, ids: list[int]) -> Any:
    """Turn nodes into a subgraph, as the selection toolbox does; the new node's id."""
    return page.evaluate(
        "ids => { const nodes = window.app.graph.nodes.filter(n => ids.includes(Number(n.id)));"
        " return window.app.graph.convertToSubgraph(new Set(nodes)).node.id }",
        ids,
    )


def test_a_subgraph_node_and_the_inside_of_a_subgraph(old_or_new_editor) -> None:
    """From outside, through the subgraph's own inputs (made where missing); inside, like any graph."""
    page, comfy = old_or_new_editor
    show_api(page, plain_graph(), "nested")
    holder = into_subgraph(page, [4, 5, 6, 7, 8])
    page.wait_for_timeout(500)
    before, saved = prompt(page), state(page)
    wrap(page)
    wrapped = prompt(page)
    opened = next(i for i, n in wrapped.items() if n["class_type"] == f"{OURS}LoopOpen")
    assert ":" not in opened
    assert wrapped[f"{holder}:4"]["inputs"]["text"] == [opened, 1]
    assert wrapped[f"{holder}:7"]["inputs"]["seed"] == [opened, 5]
    command(page, f"{OURS}.Unwrap")
    wait_until(page, lambda: prompt(page) == before, 10)
    inputs = [[i["name"] for i in g["inputs"]] for g in state(page)["definitions"]["subgraphs"]]
    assert inputs == [[i["name"] for i in g["inputs"]] for g in saved["definitions"]["subgraphs"]]

    page.evaluate("id => window.app.canvas.openSubgraph(window.app.graph.getNodeById(id).subgraph)", holder)
    page.wait_for_timeout(500)
    wrap(page)
    wrapped = prompt(page)
    opened = next(i for i, n in wrapped.items() if n["class_type"] == f"{OURS}LoopOpen")
    assert opened.startswith(f"{holder}:")
    assert wrapped[f"{holder}:4"]["inputs"]["text"] == [opened, 1]
    done = len(finished(comfy))
    queue(page)
    wait_until(page, lambda: len(finished(comfy)) > done)
    assert any(o.get("interleave_document") for o in finished(comfy)[-1]["outputs"].values())
    assert page.problems == []
