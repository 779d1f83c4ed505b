"""Wrap puts the loop around a graph that knows nothing of it, and takes it off again."""

from __future__ import annotations

from typing import Any

import pytest
from comfy_test_graphs import node
from editor_page import command, finished, open_editor, prompt, queue, set_value, show, show_api, wait_until
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


MESSAGE = ".p-toast-message, ol.pointer-events-none > li"
"""In 1.47 and in 1.58."""


def said(page: Any) -> str:
    page.locator(MESSAGE).last.wait_for(timeout=20_000)
    return str(page.locator(MESSAGE).last.inner_text())


def quiet(page: Any) -> None:
    """Close the messages of what was done before."""
    close = ".p-toast-close-button, ol.pointer-events-none > li button"
    page.evaluate(f"() => document.querySelectorAll('{close}').forEach(b => b.click())")
    wait_until(page, lambda: not page.locator(MESSAGE).count(), 10)


def wrap(page: Any) -> None:
    command(page, f"{OURS}.Wrap")
    wait_until(page, lambda: any(is_ours(n) for n in prompt(page).values()), 20)


def is_ours(queued: dict[str, Any]) -> bool:
    return (queued["class_type"] or "").startswith(OURS)  # a missing node has no type


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


def test_a_plain_graph_loops_and_improves(own_editor) -> None:
    """The first try fails at the generator's words; the critic's rewriting mends it. Nothing else changed."""
    page, comfy = own_editor
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


def test_the_message_says_which_clip_is_the_agent_and_what_speaks_against_it(editor) -> None:
    page, _ = editor
    graph = plain_graph()
    loader = next(n for n in graph.values() if n["class_type"] == "CLIPLoader")
    for file, notes in (("qwen3vl_8b_fp8_scaled.safetensors", False), ("qwen3vl_8b_joyimage_edit.safetensors", True)):
        loader["inputs"]["clip_name"] = file
        show_api(page, graph, "tuned")
        quiet(page)
        wrap(page)
        message = said(page)
        assert "The agent is your workflow's own CLIP" in message
        assert ("may plan worse" in message) is notes


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


def test_a_subgraph_node_and_the_inside_of_a_subgraph(own_editor) -> None:
    """From outside, through the subgraph's own inputs (made where missing); inside, like any graph."""
    page, comfy = own_editor
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


def test_a_picture_saved_in_a_subgraph_and_a_reroute_in_the_loops_link(own_editor) -> None:
    """The prompt is typed outside, so only outside can be wrapped: the subgraph gets an output, and loses it again."""
    page, _ = own_editor
    show_api(page, plain_graph(), "saved inside")
    holder = into_subgraph(page, [7, 8, 9])
    page.wait_for_timeout(500)
    before, saved = prompt(page), state(page)
    wrap(page)
    close = next(n for n in prompt(page).values() if n["class_type"] == f"{OURS}LoopClose")
    assert close["inputs"]["image"] == [f"{holder}:8", 0]
    command(page, "Comfy.Undo")
    wait_until(page, lambda: prompt(page) == before, 10)
    wrap(page)
    page.evaluate(
        "() => { const graph = window.app.graph, reroute = window.LiteGraph.createNode('Reroute'); graph.add(reroute);"
        f" graph.nodes.find(n => n.type === '{OURS}LoopOpen').connect(1, reroute, 0);"
        " const text = graph.getNodeById(4); reroute.connect(0, text, text.inputs.findIndex(i => i.name === 'text')) }"
    )
    quiet(page)
    command(page, f"{OURS}.Unwrap")
    assert "The loop is off" in said(page)
    assert prompt(page) == before
    outputs = [g["outputs"] for g in state(page)["definitions"]["subgraphs"]]
    assert outputs == [g["outputs"] for g in saved["definitions"]["subgraphs"]]
    assert page.problems == []


def missing(node_id: int, kind: str, **parts: Any) -> dict[str, Any]:
    """A node of a type that nobody has, in the editor's format."""
    places = {"pos": [900, 400 + 10 * node_id], "size": [200, 100], "flags": {}, "order": 0, "mode": 0}
    return (
        {"id": node_id, "type": kind, "inputs": [], "outputs": [], "properties": {}, "widgets_values": []}
        | places
        | parts
    )


def saved_with(page: Any, node_of_it: dict[str, Any], into: tuple[int, int] | None = None) -> dict[str, Any]:
    """The open graph with one more node, whose first input reads the decoder; `into`: its output goes there."""
    graph = page.evaluate("() => JSON.parse(JSON.stringify((window.app.rootGraph ?? window.app.graph).serialize()))")
    graph["nodes"].append(node_of_it)
    if node_of_it["inputs"]:
        node_of_it["inputs"][0]["link"] = 900
        graph["links"].append([900, 8, 0, node_of_it["id"], 0, "IMAGE"])
    if into is not None:
        target, slot = into
        node_of_it["outputs"][0]["links"] = [901]
        taken = next(n for n in graph["nodes"] if n["id"] == target)["inputs"][slot]
        graph["links"] = [link for link in graph["links"] if link[0] != taken["link"]]
        taken["link"] = 901
        graph["links"].append([901, node_of_it["id"], 0, target, slot, "IMAGE"])
    graph["last_link_id"], graph["last_node_id"] = 902, 99
    return dict(graph)


def refusal(page: Any) -> str:
    """What Wrap says where it refuses; the prompt and the graph stay as they are."""
    before, saved = prompt(page), state(page)
    quiet(page)
    command(page, f"{OURS}.Wrap")
    text = said(page)
    assert prompt(page) == before and state(page) == saved
    assert "undefined" not in text
    return text


PICTURE = {"name": "image", "type": "IMAGE", "link": None}


def test_missing_nodes_on_the_way_are_named_and_others_ignored(own_editor) -> None:
    page, _ = own_editor
    show_api(page, {"8": node("EmptyImage", width=64, height=64, batch_size=1, color=0)}, "saver")
    show(page, saved_with(page, missing(2, "A node nobody installed", inputs=[dict(PICTURE)])))
    assert "A node nobody installed (node 2)" in refusal(page)

    show_api(page, plain_graph(), "missing")
    kept = state(page)
    between = missing(20, "Magic Upscale", title="Make it big", inputs=[dict(PICTURE)])
    between["outputs"] = [{"name": "IMAGE", "type": "IMAGE", "links": []}]
    show(page, saved_with(page, between, into=(9, 0)))
    text = refusal(page)
    assert "Make it big (Magic Upscale, node 20)" in text and "Install Missing Custom Nodes" in text
    holder = into_subgraph(page, [8, 20])
    page.wait_for_timeout(500)
    assert f"(Magic Upscale, node {holder}:20)" in refusal(page)

    show(page, kept)
    show(page, saved_with(page, missing(21, "Save Elsewhere", inputs=[dict(PICTURE)])))
    before = prompt(page)
    wrap(page)
    command(page, f"{OURS}.Unwrap")
    wait_until(page, lambda: prompt(page) == before, 10)
    assert page.problems == []


def test_a_file_that_declares_a_lower_last_link_than_it_uses(own_editor) -> None:
    page, _ = own_editor
    show_api(page, plain_graph(), "numbers")
    graph = state(page)
    first = min(link[0] for link in graph["links"])
    show(page, graph | {"last_link_id": first - 1, "last_node_id": 1})
    before = prompt(page)
    for _ in range(2):
        wrap(page)
        wrapped = prompt(page)
        for node_id, was in before.items():
            same = {k for k, v in was["inputs"].items() if v == wrapped[node_id]["inputs"].get(k)}
            assert set(was["inputs"]) - same == {"4": {"text"}, "7": {"seed"}}.get(node_id, set())
        command(page, "Comfy.Undo")
        wait_until(page, lambda: prompt(page) == before, 10)
    wrap(page)
    command(page, f"{OURS}.Unwrap")
    wait_until(page, lambda: prompt(page) == before, 10)
    assert page.problems == []


def dressed(page: Any) -> dict[str, Any]:
    """Frames, notes and titles of the open graph."""
    return dict(
        page.evaluate(
            "() => { const { groups, nodes } = window.app.canvas.graph; return { groups: groups.map(g => g.title),"
            " notes: nodes.filter(n => n.type === 'MarkdownNote').length, titles: nodes.map(n => n.title).sort() } }"
        )
    )


def test_the_planner_is_in_view_and_a_note_says_what_to_do(editor) -> None:
    """Frames, note and the mark on the old prompt box go with undo and with unwrap; inside a subgraph as well."""
    page, _ = editor
    show_api(page, plain_graph(), "view")
    page.evaluate("() => { const { ds } = window.app.canvas; ds.scale = 0.3; ds.offset = [4000, 4000] }")
    page.evaluate(
        "() => window.app.extensionManager.setting.set('InterleaveThinker.Agent', 'clip:qwen3vl_8b_fp8_scaled.safetensors')"
    )
    for inside in (False, True):
        if inside:
            holder = into_subgraph(page, [4, 5, 6, 7, 8])
            page.evaluate("id => window.app.canvas.openSubgraph(window.app.graph.getNodeById(id).subgraph)", holder)
            page.wait_for_timeout(500)
        before, queued = dressed(page), prompt(page)
        quiet(page)
        wrap(page)
        assert "Write in the Planner" in said(page)
        page.wait_for_timeout(1000)
        now = dressed(page)
        assert now["groups"] == ["Interleave: plan", "Interleave: judge and document"] and now["notes"] == 1
        assert any(title.startswith("Interleave Loop → CLIP Text Encode") for title in now["titles"])
        place = page.evaluate(
            "() => { const { graph, ds, canvas } = window.app.canvas;"
            " const n = graph.nodes.find(n => n.type === 'InterleaveThinkerPlanner');"
            " const [x, y] = [0, 1].map(at => (n.pos[at] + ds.offset[at]) * ds.scale);"
            " return [x, y, x + n.size[0] * ds.scale, y + n.size[1] * ds.scale, ds.scale] }"
        )
        assert 0 < place[0] < place[2] < 1600 and 0 < place[1] < place[3] < 950 and place[4] > 0.5, place
        models = page.evaluate(
            "() => window.app.canvas.graph.nodes.filter(n => n.type === 'CLIPLoader').map(n => n.properties.models).filter(Boolean)"
        )
        assert [[m["name"], m["directory"]] for found in models for m in found] == [
            ["qwen3vl_8b_fp8_scaled.safetensors", "text_encoders"]
        ]
        command(page, f"{OURS}.Unwrap")
        wait_until(page, lambda queued=queued: prompt(page) == queued, 10)
        assert dressed(page) == before
        wrap(page)
        command(page, "Comfy.Undo")
        wait_until(page, lambda queued=queued: prompt(page) == queued, 10)
        page.wait_for_timeout(500)
        assert dressed(page) == before
    page.evaluate("() => window.app.extensionManager.setting.set('InterleaveThinker.Agent', '')")
    assert page.problems == []


def test_what_wrapping_damages_is_taken_back(own_editor) -> None:
    """A node of another pack that changes a value of its own whenever the graph around it changes."""
    page, _ = own_editor
    show_api(page, plain_graph(), "damage")
    page.evaluate(
        "() => { const steps = window.app.graph.getNodeById(7).widgets.find(w => w.name === 'steps');"
        " window.app.graph.getNodeById(4).onConnectionsChange = () => { steps.value += 1 } }"
    )
    before, saved = prompt(page), state(page)
    tabs = "() => window.app.extensionManager.workflow.openWorkflows.length"
    opened = page.evaluate(tabs)
    command(page, f"{OURS}.Wrap")
    text = said(page)
    assert "steps of" in text and "nothing was changed" in text and "report" in text
    assert prompt(page) == before
    assert state(page)["links"] == saved["links"] and len(state(page)["nodes"]) == len(saved["nodes"])
    assert page.evaluate(tabs) == opened
    wrap(page)  # the node that was loaded has no such habit
    assert page.problems == []
