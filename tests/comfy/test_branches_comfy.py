"""Runs and branches on a real server: no run writes over another's document, and nothing is made twice."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from comfy_test_graphs import loop, node, ours, plan_text
from PIL import Image

from interleave_thinker.comfyui.client import WorkflowError
from interleave_thinker.storage.run_folder import read_state


def parent(ran: Any) -> str:
    return str((read_state(ran.folder) or {})["parent"])


def files(folder: Any) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_other_settings_open_a_branch_and_the_first_document_keeps_its_pictures(comfy: Any) -> None:
    graph = loop(plan_text(2), accept="b >= 2", seed=8301, run_name="branching")
    first = comfy.run(graph)
    before = files(first.folder)
    graph["30"]["inputs"]["t_max"] = 5
    second = comfy.run(graph)
    assert (second.folder.name, parent(second), second.made) == ("branching~2", "branching", [])
    graph["1"]["inputs"]["text"] = plan_text(3)
    third = comfy.run(graph)
    assert (third.folder.name, parent(third)) == ("branching~3", "branching~2")
    assert third.made == [(3, 1), (3, 2)], "the first two steps are as they were"
    assert files(first.folder) == before
    graph["30"]["inputs"] |= {"t_max": 3, "gate": "stop_after_step"}
    graph["1"]["inputs"]["text"] = plan_text(2)
    assert comfy.run(graph).folder == first.folder, "a gate is no other run"


def test_a_branch_finds_its_ancestors_pictures_also_without_a_store(new_comfy: Any) -> None:
    server = new_comfy()
    graph = loop(plan_text(3), accept="b >= 2", seed=8302)
    first = server.run(graph)
    assert len(first.made) == 6
    shutil.rmtree(server.base / "user" / "interleave_thinker" / "store")
    server.stop()
    server.start()
    graph["30"]["inputs"]["t_max"] = 5
    again = server.run(graph)
    assert again.made == [] and parent(again) == first.folder.name
    assert len(list((again.folder / "attempts").iterdir())) == 6, "a branch's folder is whole"


def test_a_picture_that_somebody_edited_is_made_again(new_comfy: Any) -> None:
    server = new_comfy()
    graph = loop(plan_text(2), seed=8303)
    first = server.run(graph)
    place = first.document["trajectory"]["attempts"][0]
    stored = server.base / "user" / "interleave_thinker" / "store" / "images" / f"{place['image_key']}.png"
    kept = first.folder / place["file"]
    for path in (stored, kept):
        path.unlink()
        Image.new("RGB", (32, 32), "red").save(path)
    server.stop()
    server.start()
    again = server.run(graph)
    assert again.made == [(1, 1)] and again.folder == first.folder
    assert (
        again.document["trajectory"]["attempts"][1]["image_key"]
        == first.document["trajectory"]["attempts"][1]["image_key"]
    )
    with Image.open(kept) as image:
        assert image.getpixel((0, 0)) != (255, 0, 0)


def second_loop(graph: dict[str, Any], accept: str, run_name: str = "", opens: str = "2") -> dict[str, Any]:
    """A second critic and Loop Close on the same picture."""
    close = {**graph["30"]["inputs"], "loop": [opens, 0], "judgment": ["61", 0], "run_name": run_name}
    values = {"values.a": [opens, 6], "values.b": [opens, 7]}
    return {
        **graph,
        "60": node("ComfyMathExpression", expression=accept, **values),
        "61": ours("Judgment", accepted=["60", 2], refined_prompt="", reasoning="by another rule"),
        "62": {"class_type": graph["30"]["class_type"], "inputs": close},
        "63": ours("SaveDocument", document=["62", 0]),
    }


def documents(ran: Any) -> dict[str, dict[str, Any]]:
    return {n: o["interleave_document"][0] for n, o in ran.outputs.items() if "interleave_document" in o}


def test_two_critics_on_one_plan_and_body_write_two_documents(comfy: Any) -> None:
    """Two Loop Closes on one Loop Open: each runs the body for itself and judges by its own critic."""
    graph = second_loop(loop(plan_text(2), accept="1", seed=8304), "b >= 3")
    found = documents(comfy.run(graph))
    assert set(found) == {"31", "63"} and len({d["run"] for d in found.values()}) == 2
    tries = {n: [a["attempt"] for a in d["document"]["trajectory"]["attempts"]] for n, d in found.items()}
    assert tries == {"31": [1, 1], "63": [1, 2, 3, 1, 2, 3]}
    again = documents(comfy.run(graph))
    assert {n: d["run"] for n, d in again.items()} == {n: d["run"] for n, d in found.items()}
    graph["30"]["inputs"]["t_max"] = graph["62"]["inputs"]["t_max"] = 4
    branches = documents(comfy.run(graph))
    for name, document in branches.items():
        state = json.loads((comfy.output / "interleave" / document["run"] / "run.json").read_text())
        assert state["parent"] == found[name]["run"], "each branches from the run of its own critic"


def test_two_loops_with_one_name_are_refused(comfy: Any) -> None:
    graph = second_loop(loop(plan_text(1), seed=8305, run_name="Twins"), "1", run_name="twins")
    with pytest.raises(WorkflowError, match=r"run_name '[Tt]wins' stands in two Loop Close nodes \(30 and 62\)"):
        comfy.run(graph)


def test_an_accepted_attempt_is_told_so_at_once_and_keeps_the_critics_reasons(comfy: Any) -> None:
    graph = loop(plan_text(2), accept="0", seed=8306, run_name="overruled")
    first = comfy.run(graph)
    graph["30"]["inputs"]["accept_attempts"] = "1:1"
    ran = comfy.run(graph)
    assert ran.folder == first.folder
    told = [(f["attempt"], f["overridden"]) for f in ran.of("attempt") if f["step"] == 1]
    assert told == [(1, True)]
    chosen = ran.document["trajectory"]["attempts"][0]
    assert chosen["overridden"] and chosen["judgment"]["reasoning"] == "by rule" and not chosen["judgment"]["accepted"]
    state = read_state(ran.folder)
    assert state is not None and state["trajectory"]["attempts"][0]["judgment"]["reasoning"] == "by rule"


def test_a_plan_with_remains_of_a_reply_is_refused_before_anything_runs(comfy: Any) -> None:
    graph = loop('Here:\n```json\n[{"prompt": "a cat"}, {"promp', seed=8307)
    with pytest.raises(WorkflowError, match="not written to its end"):
        comfy.run(graph)
