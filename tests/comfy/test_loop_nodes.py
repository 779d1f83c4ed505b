"""The loop in a real ComfyUI server: what runs, in which order, and what comes out."""

from __future__ import annotations

import json

import pytest
from comfy_test_graphs import loop, node, numbers, ours, plan_text
from PIL import Image

from interleave_thinker.comfyui.client import WorkflowError


def steps_of(document):
    return [(r["step"], r["chosen"], r["accepted"]) for r in document["trajectory"]["results"]]


def test_a_plan_is_carried_out_with_retries_and_saved(comfy):
    """Step 1 is accepted at its second attempt, step 2 at its first, step 3 never."""
    ran = comfy.run(loop(plan_text(3), accept="(a == 1 and b >= 2) or a == 2", run_name="three steps"))
    assert ran.made == [(1, 1), (1, 2), (2, 1), (3, 1), (3, 2), (3, 3)]
    assert steps_of(ran.document) == [(1, 2, True), (2, 1, True), (3, 3, False)]
    names = {p.name for p in ran.folder.iterdir()}
    assert {"document.md", "document.html", "trajectory.jsonl", "run.json", "image_01.png"} <= names
    assert len(list((ran.folder / "attempts").glob("*.png"))) == 6
    assert len((ran.folder / "trajectory.jsonl").read_text().splitlines()) == 6


def test_the_last_attempt_is_not_judged_in_vain(comfy):
    """Under on_exhausted=last nothing depends on the verdict of attempt T_max, so the judge must not run."""
    ran = comfy.run(loop(plan_text(1), accept="0 == 1", seed=21, t_max=2))
    judged = [f for f in ran.of("judgment")]
    assert [(f["step"], f["attempt"]) for f in judged] == [(1, 1)]
    assert ran.started.count("21") == 1


def test_original_body_nodes_never_run_by_themselves(comfy):
    """Three attempts are three runs of the sampler's stand-in, not four."""
    ran = comfy.run(loop(plan_text(1), accept="b == 3", seed=22))
    assert ran.started.count("12") == 3
    assert ran.made == [(1, 1), (1, 2), (1, 3)]


def test_the_same_prompt_again_makes_nothing(comfy):
    graph = loop(plan_text(3), accept="b >= 2", seed=23, run_name="again")
    first = comfy.run(graph)
    graph["31"]["inputs"]["document"] = ["30", 0]
    graph["99"] = ours("UnpackDocument", document=["30", 0])
    again = comfy.run(graph)
    assert len(first.made) == 6
    assert again.made == []


def test_an_edited_late_step_recalls_the_earlier_ones(comfy):
    comfy.run(loop(numbers(0.1, 0.2, 0.3), accept="b >= 2", seed=24, prompts_matter=True))
    again = comfy.run(loop(numbers(0.1, 0.2, 0.4), accept="b >= 2", seed=24, prompts_matter=True))
    assert again.made == [(3, 1), (3, 2)]


def test_retries_and_steps_start_from_the_right_reference(comfy):
    """Every attempt of a step has the reference of the step: the last chosen picture, not a failed attempt."""
    ran = comfy.run(loop(plan_text(2), accept="b >= 2", seed=25))
    attempts = ran.document["trajectory"]["attempts"]
    assert [a["reference_key"] for a in attempts[:2]] == [None, None]
    assert {a["reference_key"] for a in attempts[2:]} == {attempts[1]["image_key"]}
    assert len({a["seed"] for a in attempts}) == 4


def test_a_text_only_step_never_reaches_the_body(comfy):
    plan = {"execution_plan": [{"prompt": None, "auxiliary_text": "just words"}, {"prompt": "a picture"}]}
    ran = comfy.run(loop(json.dumps(plan), seed=26))
    assert ran.made == [(2, 1)]
    kinds = [(i["kind"], i["step"]) for i in ran.document["items"]]
    assert kinds == [("text", 1), ("image", 2)]


def test_previews_and_saves_in_the_body_run_for_every_attempt(comfy):
    graph = loop(plan_text(2), accept="b >= 2", seed=27, preview=True)
    graph["14"] = node("SaveImage", images=["12", 0], filename_prefix="inside")
    ran = comfy.run(graph)
    assert len(list(comfy.output.glob("inside*.png"))) == 4
    assert ran.started.count("13") >= 4


def test_two_loops_in_one_graph_do_not_meet(comfy):
    first = loop(plan_text(2), accept="b >= 2", seed=28, run_name="left")
    second = loop(plan_text(3), accept="1", seed=29, run_name="right")
    renamed = json.loads(json.dumps(second))
    graph = dict(first)
    for node_id, entry in renamed.items():
        entry["inputs"] = {k: [f"x{v[0]}", v[1]] if isinstance(v, list) else v for k, v in entry["inputs"].items()}
        graph[f"x{node_id}"] = entry
    ran = comfy.run(graph)
    documents = {e["run"]: e["document"] for o in ran.outputs.values() for e in o.get("interleave_document", [])}
    assert len(documents["left"]["trajectory"]["attempts"]) == 4
    assert len(documents["right"]["trajectory"]["attempts"]) == 3


def test_subgraph_ids_work(comfy):
    """The editor flattens subgraphs to ids like 50:11."""
    graph = json.loads(json.dumps(loop(plan_text(2), accept="b >= 2", seed=30)))
    inner = {"11": "50:11", "12": "50:12", "21": "50:60:21"}
    moved = {}
    for node_id, entry in graph.items():
        entry["inputs"] = {
            k: [inner.get(v[0], v[0]), v[1]] if isinstance(v, list) else v for k, v in entry["inputs"].items()
        }
        moved[inner.get(node_id, node_id)] = entry
    assert comfy.run(moved).made == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_batches_and_mixed_sizes(comfy):
    """Of a batch the first picture goes on; a user's picture of another size is edited at its own size."""
    graph = loop(plan_text(2), accept="1", seed=31)
    graph["40"] = node("EmptyImage", width=48, height=80, batch_size=1, color=0xFF0000)
    graph["41"] = node("EmptyImage", width=16, height=24, batch_size=2, color=0x00FF00)
    graph["2"]["inputs"] |= {"images.image_0": ["41", 0], "images.image_1": ["40", 0]}
    graph["15"] = node("RepeatImageBatch", image=["12", 0], amount=3)
    graph["30"]["inputs"]["image"] = ["15", 0]
    ran = comfy.run(graph)
    with Image.open(ran.folder / "image_02.png") as image:
        assert image.size == (48, 80)


def test_bypassed_and_muted_nodes_are_simply_not_there(comfy):
    """What the editor sends for a bypassed node: its neighbours connected; for a muted one: no link."""
    graph = loop(plan_text(1), accept="1", seed=32)
    del graph["21"], graph["20"]
    del graph["30"]["inputs"]["judgment"]
    ran = comfy.run(graph)
    assert ran.made == [(1, 1)]
    assert steps_of(ran.document) == [(1, 1, True)]


def test_a_picture_that_is_not_from_the_loop_is_refused(comfy):
    graph = loop(plan_text(1), seed=33)
    graph["30"]["inputs"]["image"] = ["10", 0]
    with pytest.raises(WorkflowError, match="does not depend on Loop Open"):
        comfy.run(graph)


def test_a_first_step_without_a_picture_names_the_node_that_needs_one(comfy):
    graph = loop(plan_text(1), seed=34)
    graph["12"]["inputs"]["image"] = ["2", 2]
    with pytest.raises(WorkflowError, match=r"node 12 \(ImageAddNoise\) needs one"):
        comfy.run(graph)


def test_an_error_in_the_body_names_node_step_and_attempt(comfy):
    """The second step's prompt is no valid expression; the message says where that was."""
    graph = loop("1. 0.1\n2. 0.1 +", accept="1", seed=35, prompts_matter=True)
    with pytest.raises(WorkflowError, match=r"Step 2, attempt 1, node 16 \(ComfyMathExpression\)"):
        comfy.run(graph)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../x", "is a path"),
        ("/etc/x", "is a path"),
        ("C:\\x", "is a path"),
        ("x" * 300, "300 characters"),
        ("...", "no letter or digit"),
    ],
)
def test_run_names_that_are_no_names_are_refused_before_anything_runs(comfy, name, message):
    with pytest.raises(WorkflowError, match=message):
        comfy.run(loop(plan_text(1), seed=36, run_name=name))


def test_an_emoji_in_a_run_name_becomes_an_underscore(comfy):
    ran = comfy.run(loop(plan_text(1), seed=37, run_name="a\U0001f600b"))
    assert ran.folder.name == "a_b"


def test_policies_and_gate(comfy):
    """stop ends the run at the exhausted step; a gate ends it after a step and the next queue goes on."""
    stopped = comfy.run(loop(plan_text(3), accept="a == 1", seed=38, on_exhausted="stop", t_max=2))
    assert stopped.document["status"] == "stopped"
    assert stopped.made == [(1, 1), (2, 1), (2, 2)]
    graph = loop(plan_text(3), accept="1", seed=39, gate="stop_after_step", run_name="gated")
    rounds = [comfy.run(graph) for _ in range(4)]
    assert [r.made for r in rounds] == [[(1, 1)], [(2, 1)], [(3, 1)], []]
    assert [r.document["status"] for r in rounds] == ["stopped", "stopped", "done", "done"]


def test_a_persons_verdict_overrides_the_judge(comfy):
    graph = loop(plan_text(1), accept="0 == 1", seed=40, accept_attempts="1:1")
    ran = comfy.run(graph)
    assert steps_of(ran.document) == [(1, 1, True)]
    assert ran.document["trajectory"]["attempts"][0]["overridden"] is True


def test_markup_in_a_plan_stays_text(comfy):
    evil = "<script>alert(1)</script> ![x](file:///etc/passwd) [y](javascript:alert(1))"
    plan = {"execution_plan": [{"prompt": "a", "auxiliary_text": evil}]}
    ran = comfy.run(loop(json.dumps(plan), seed=41))
    page = (ran.folder / "document.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    markdown = (ran.folder / "document.md").read_text()
    assert "](javascript" not in markdown
    assert "](file" not in markdown


def test_a_saved_picture_holds_workflow_and_attempts(comfy):
    ran = comfy.run(loop(plan_text(1), accept="b >= 2", seed=42))
    with Image.open(ran.folder / "image_01.png") as image:
        assert json.loads(image.text["prompt"])["30"]["class_type"] == "InterleaveThinkerLoopClose"
        assert len(json.loads(image.text["interleave"])["attempts"]) == 2
