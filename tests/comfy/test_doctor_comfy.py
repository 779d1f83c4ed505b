"""The doctor on a real ComfyUI: what a user's workflow is told, and that nothing of the user's is touched."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfy_test_graphs import Graph, loop, node, ours, tiny_story

from interleave_thinker.cli import main
from interleave_thinker.comfyui.client import ComfyClient, OutOfTime
from interleave_thinker.contract import CHECK_RESULT
from interleave_thinker.doctor.facts import COMFYUI_ENDED


def doctor(comfy: Any, workflow: Graph, folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and what --json wrote."""
    path, figures = folder / "workflow.json", folder / "figures.json"
    path.write_text(json.dumps(workflow))
    code = main(["doctor", str(path), "--server", comfy.url, "--json", str(figures), *words])
    return code, json.loads(figures.read_text())


def files(comfy: Any) -> set[Path]:
    return {path for path in comfy.output.rglob("*") if path.is_file()}


def plain() -> Graph:
    """A text-to-image graph of stock nodes."""
    graph = tiny_story()
    plain = {i: graph[i] for i in ("10", "11", "12", "20", "24", "25", "26", "27")}
    plain["20"]["inputs"]["text"] = "a big red star at the center on a white background"
    plain["24"]["inputs"]["conditioning"] = ["20", 0]
    plain["26"]["inputs"] |= {"positive": ["20", 0], "seed": 3}
    plain["40"] = node("SaveImage", images=["27", 0], filename_prefix="mine")
    return plain


def test_the_demo_is_measured_and_nothing_is_saved(comfy: Any, tmp_path: Path, capsys: Any) -> None:
    before = files(comfy)
    code, told = doctor(comfy, tiny_story(), tmp_path)
    assert code == 0 and files(comfy) == before
    by_role = {agent["roles"][0]: agent for agent in told["agents"]}
    assert by_role["critic"]["verdict"] == "sees" and by_role["planner"]["answers"][0]["right"]
    assert all(agent["tokens_a_second"] > 0 and agent["peak"]["bytes"] > 0 for agent in told["agents"])
    assert [(p["width"], p["height"]) for p in told["pictures"]] == [(64, 64)] * 2
    assert all(p["seconds"] > 0.05 for p in told["pictures"]), "none was recalled"
    assert told["loop"]["critic"] > 0 and told["loop"]["picture"] > 0.05
    assert (told["problems"], told["notes"], told["not_done"], told["advice"]) == ([], [], [], [])
    said = capsys.readouterr().out
    assert "it sees the pictures" in said and f"ComfyUI {told['versions']['ComfyUI']}" in said


def test_a_second_check_measures_anew(comfy: Any, tmp_path: Path) -> None:
    """ComfyUI recalls what it made for the same prompt, in no time."""
    both = [doctor(comfy, tiny_story(), tmp_path)[1] for _ in range(2)]
    assert all(picture["seconds"] > 0.05 for told in both for picture in told["pictures"])
    seconds = [[answer["seconds"] for agent in told["agents"] for answer in agent["answers"]] for told in both]
    assert len(seconds[0]) == len(seconds[1]) == 7 and seconds[0] != seconds[1]


def test_a_workflow_without_a_loop_is_measured_with_the_agent_that_is_named(comfy: Any, tmp_path: Path) -> None:
    before = files(comfy)
    code, told = doctor(comfy, plain(), tmp_path, "--agent", "folder:tiny-critic")
    assert code == 0 and files(comfy) == before and len(told["pictures"]) == 2
    assert told["agents"][0]["verdict"] == "sees" and told["agents"][0]["roles"] == ["planner", "critic"]
    _, told = doctor(comfy, plain(), tmp_path)
    assert not told["agents"] and [a["rule"] for a in told["advice"]] == ["no_agent"]


def test_a_loop_without_agents_is_measured_all_the_same(comfy: Any, tmp_path: Path) -> None:
    _, told = doctor(comfy, loop("1. one", seed=7301), tmp_path)
    assert len(told["pictures"]) == 2 and not told["has_agent"]


def test_a_missing_model_is_named_and_the_agent_is_asked_all_the_same(comfy: Any, tmp_path: Path) -> None:
    graph = tiny_story()
    graph["10"]["inputs"]["unet_name"] = "not_here.safetensors"
    code, told = doctor(comfy, graph, tmp_path)
    assert code == 1 and len(told["agents"]) == 2 and not told["pictures"]
    assert [p for p in told["problems"] if "unet_name is 'not_here.safetensors', which this ComfyUI does not have" in p]
    assert "unet_name is 'not_here.safetensors'" in {a["rule"]: a["text"] for a in told["advice"]}["lacking"]


def test_a_missing_node_is_named_and_the_agent_is_asked_all_the_same(comfy: Any, tmp_path: Path) -> None:
    graph = tiny_story()
    graph["26"]["class_type"] = "SomebodysSampler"
    _, told = doctor(comfy, graph, tmp_path)
    assert len(told["agents"]) == 2 and not told["pictures"]
    assert told["notes"] == ["No picture was made: this ComfyUI lacks SomebodysSampler."]


def test_an_agent_that_cannot_see_is_told_with_its_reason(comfy: Any, tmp_path: Path) -> None:
    graph = tiny_story()
    common = {"max_tokens": 512, "temperature": 0.0, "max_megapixels": 1.0, "prompts": ""}
    graph["2"] = ours("AgentFromCLIP", clip=["11", 0], **common)
    code, told = doctor(comfy, graph, tmp_path)
    assert code == 1 and [agent["roles"] for agent in told["agents"]] == [["planner"]] and told["pictures"]
    assert len(told["problems"]) == 1 and "This CLIP" in told["problems"][0]


def test_a_reply_that_is_cut_off_is_told(comfy: Any, tmp_path: Path) -> None:
    graph = tiny_story()
    graph["2"]["inputs"]["max_tokens"] = 16
    _, told = doctor(comfy, graph, tmp_path)
    assert "cut_off" in [a["rule"] for a in told["advice"]]


def test_what_takes_too_long_is_stopped_and_named(comfy: Any, tmp_path: Path) -> None:
    graph = tiny_story()
    graph["26"]["inputs"]["steps"] = 5000
    _, told = doctor(comfy, graph, tmp_path, "--seconds", "12")
    assert [s["label"] for s in told["not_done"] if s["seconds"]] == ["Making picture 1"] and len(told["not_done"]) == 4
    assert not told["pictures"] and len(told["agents"]) == 2 and told["advice"][0]["rule"] == "out_of_time"
    comfy.run(loop("1. one", seed=7302))  # the server is free again


def test_a_prompt_that_is_out_of_time_leaves_the_queue(comfy: Any) -> None:
    graph = plain()
    graph["26"]["inputs"] |= {"steps": 5000, "seed": 4}
    with pytest.raises(OutOfTime, match="more than 1 s"):
        ComfyClient(comfy.url).run_part(graph, ["40"], seconds=1.0)
    comfy.run(loop("1. one", seed=7303))
    assert not any(path.name.startswith("mine") for path in files(comfy))


def drawing(comfy: Any) -> str:
    """Waits until a picture is made; its prompt's id."""
    while True:
        for entry in comfy.get("/queue")["queue_running"]:
            if any("picture" in target for target in entry[4]):
                return str(entry[1])
        time.sleep(0.1)


def endless() -> Graph:
    graph = tiny_story()
    graph["26"]["inputs"]["steps"] = 10_000
    return graph


def while_it_draws(comfy: Any, act: Callable[[str], None]) -> threading.Thread:
    thread = threading.Thread(target=lambda: act(drawing(comfy)), daemon=True)
    thread.start()
    return thread


def test_a_server_that_ends_in_a_stage_is_a_result_with_advice(new_comfy: Any, tmp_path: Path, capsys: Any) -> None:
    """Out of memory, the system ends the process: for this the doctor is asked."""
    comfy = new_comfy()
    killer = while_it_draws(comfy, lambda _: comfy.kill())
    code, told = doctor(comfy, endless(), tmp_path)
    killer.join(30)
    assert code == 1 and len(told["agents"]) == 2, "what was measured before is kept"
    assert told["problems"] == [f"Making picture 1: {COMFYUI_ENDED}"] and told["versions"]["ComfyUI"]
    assert [advice["rule"] for advice in told["advice"]] == ["server_ended"]
    said = capsys.readouterr().out
    assert "out of memory" in said and "it sees the pictures" in said and "Nothing" not in said


def test_a_person_who_interrupts_it_in_comfyui_is_not_told_that_the_time_was_over(comfy: Any, tmp_path: Path) -> None:
    while_it_draws(comfy, lambda prompt_id: comfy.post("/interrupt", {"prompt_id": prompt_id}))
    code, told = doctor(comfy, endless(), tmp_path)
    assert code == 0 and {stage["why"] for stage in told["not_done"]} == {"person"} and len(told["agents"]) == 2
    assert told["not_done"][0]["seconds"] > 0 and told["advice"] == []
    comfy.run(loop("1. one", seed=7306))  # nothing more is queued


def test_what_saves_the_picture_on_its_way_saves_nothing(comfy: Any, tmp_path: Path) -> None:
    """ComfyUI's own nodes that show or save a picture give it too, and the rest of a workflow may take it from there."""
    info = comfy.get("/object_info")
    takes = {"images", "image", "filename_prefix"}
    passes = [
        kind
        for kind, about in info.items()
        if about["output_node"] and "IMAGE" in about["output"] and set(about["input"].get("required", ())) <= takes
    ]
    if "SaveImage" not in passes:
        pytest.skip("This ComfyUI's Save Image gives nothing.")
    before = files(comfy)
    for kind in passes:
        graph = plain()
        graph["41"] = node(kind, images=["27", 0], image=["27", 0], filename_prefix="mine")
        slot = info[kind]["output"].index("IMAGE")
        graph["42"] = node(
            "ImageScale", image=["41", slot], upscale_method="area", width=64, height=64, crop="disabled"
        )
        graph["40"]["inputs"]["images"] = ["42", 0]
        _, told = doctor(comfy, graph, tmp_path)
        assert len(told["pictures"]) == 2 and not told["notes"], (kind, told["problems"], told["notes"])
        sent = comfy.post("/interleave_thinker/doctor", {"workflow": graph, "seed": 1})
        assert sent["stages"] and not [stage for stage in sent["stages"] if "41" in stage["prompt"]], (
            "nor the sidebar's"
        )
    assert files(comfy) == before


def test_a_busy_server_is_not_measured(comfy: Any, tmp_path: Path, capsys: Any) -> None:
    graph = plain()
    graph["26"]["inputs"] |= {"steps": 5000, "seed": 5}
    busy = comfy.post("/prompt", {"prompt": graph})
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(tiny_story()))
    assert main(["doctor", str(path), "--server", comfy.url]) == 1
    assert "1 prompts in its queue" in capsys.readouterr().err
    comfy.post("/queue", {"delete": [busy["prompt_id"]]})
    comfy.post("/interrupt", {"prompt_id": busy["prompt_id"]})
    comfy.run(loop("1. one", seed=7304))


def test_without_a_workflow_the_servers_versions_are_told(comfy: Any, capsys: Any) -> None:
    assert main(["doctor", "--server", comfy.url]) == 0
    said = capsys.readouterr().out
    assert "ComfyUI 0." in said and "name a workflow" in said


def test_check_agent_alone_gives_its_report_as_text_and_is_asked_each_time(comfy: Any) -> None:
    agent = tiny_story()["2"]
    graph = {"1": agent, "2": ours("CheckAgent", agent=["1", 0], role="critic", side=64, seconds=60.0)}
    graph["3"] = node("PreviewAny", source=["2", 0])
    for _ in range(2):
        ran = comfy.run(copy.deepcopy(graph))
        assert ran.outputs["2"][CHECK_RESULT][0]["verdict"] == "sees"
        [text] = ran.outputs["3"]["text"]
        assert text.startswith("What to change") and "6 of 6 right: it sees the pictures" in text and "2" in ran.started


# What the sidebar asks


def test_the_sidebar_is_told_what_the_command_line_would_queue_and_say(comfy: Any) -> None:
    sent = comfy.post("/interleave_thinker/doctor", {"workflow": tiny_story(), "seed": 7305})
    assert [stage["kind"] for stage in sent["stages"]][:3] == ["agent", "agent", "picture"] and sent["seconds"] == 180
    check = sent["stages"][1]
    ran = comfy.run({i: n for i, n in check["prompt"].items() if i in ("1", "2") or "check_agent" in i})
    results = [{**check, "prompt": None, "seconds": 2.0, "found": ran.outputs[check["result_node"]][CHECK_RESULT][0]}]
    results.append({"kind": "picture", "label": "<b>Making</b>", "refusal": {"error": {"message": "no"}}})
    asked = {"stages": {"notes": ["a note"]}, "results": results, "stats": comfy.get("/system_stats")}
    sections = comfy.post("/interleave_thinker/doctor_report", asked)["sections"]
    told = {section["title"]: section["lines"] for section in sections}
    assert "Judgments: 6 of 6 right: it sees the pictures" in told["Critic: tiny-critic"]
    assert any("<b>Making</b>" in line for line in told["Not measured, or to be known"])
    assert sections[-1]["title"] == "What to change"
