"""Benchmarks on a ComfyUI server: the user's own plain graph as the generator, and a workflow with the loop in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_test_graphs import REPO, Graph, loop, node
from PIL import Image

from interleave_thinker.cli import main
from interleave_thinker.comfyui.client import ComfyClient, WorkflowError
from interleave_thinker.comfyui.find_inputs import find_inputs
from interleave_thinker.comfyui.wrap import AgentChoice, wrap
from interleave_thinker.errors import GeneratorError
from interleave_thinker.generators.base import GenerationRequest
from interleave_thinker.generators.comfyui_generator import ComfyGenerator
from interleave_thinker.resolve import load_pipeline
from interleave_thinker.tinyworld.scene import Scene, render

RED = render(Scene("circle", "red", "big", "center", "white"))


def plain(edit: bool = False) -> Graph:
    """What a user draws: stock nodes only, nothing of ours."""
    graph = {
        "1": node("UNETLoader", unet_name="tiny_kontext.safetensors", weight_dtype="default"),
        "2": node("CLIPLoader", clip_name="tiny_clip_l.pt", type="stable_diffusion", device="default"),
        "3": node("VAELoader", vae_name="tiny_taef1.safetensors"),
        "6": node("CLIPTextEncode", clip=["2", 0], text="a small blue star at the top on a red background"),
        "7": node("ConditioningZeroOut", conditioning=["6", 0]),
        "8": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "9": node(
            "KSampler",
            model=["1", 0],
            seed=1,
            steps=8,
            cfg=2.5,
            sampler_name="euler",
            scheduler="simple",
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["8", 0],
            denoise=1.0,
        ),
        "10": node("VAEDecode", samples=["9", 0], vae=["3", 0]),
        "11": node("SaveImage", images=["10", 0], filename_prefix="plain"),
    }
    if edit:
        graph |= {
            "20": node("LoadImage", image="example.png"),
            "21": node("VAEEncode", pixels=["20", 0], vae=["3", 0]),
            "22": node("ReferenceLatent", conditioning=["6", 0], latent=["21", 0]),
        }
        graph["9"]["inputs"]["positive"] = ["22", 0]
    return graph


def generator(comfy: Any, *, draw: bool = True, edit: bool = True) -> ComfyGenerator:
    graphs = [(g, find_inputs(g)) for g in (plain(), plain(edit=True))]
    return ComfyGenerator(ComfyClient(comfy.url), graphs[0] if draw else None, graphs[1] if edit else None)


def test_the_places_of_a_plain_graph_are_found() -> None:
    found = find_inputs(plain(edit=True))
    assert (found.prompt, found.seed, found.image, found.output) == (
        ("6", "text"),
        ("9", "seed"),
        ("20", "image"),
        "11",
    )
    assert find_inputs(plain()).image is None


def test_a_place_that_is_not_clear_is_asked_for() -> None:
    other = plain()["10"] | {"class_type": "VAEDecodeTiled"}
    two = plain() | {"13": other, "12": node("SaveImage", images=["13", 0], filename_prefix="again")}
    with pytest.raises(WorkflowError, match="more than one picture output: 11, 12"):
        find_inputs(two)
    assert find_inputs(two, output="12").output == "12"
    with pytest.raises(WorkflowError, match=r"no input 6\.words"):
        find_inputs(plain(), prompt="6.words")


def test_the_negative_prompt_is_not_taken_for_the_positive() -> None:
    graph = plain() | {"5": node("CLIPTextEncode", clip=["2", 0], text="blurry")}
    graph["9"]["inputs"]["negative"] = ["5", 0]
    assert find_inputs(graph).prompt == ("6", "text")


@pytest.mark.parametrize("before", [None, RED], ids=["draw", "edit"])
def test_a_users_graph_is_a_generator(comfy: Any, before: Image.Image | None) -> None:
    """The same weights outside of ComfyUI make the same picture of the same request."""
    prompt = "change the circle to green" if before else "a big red circle at the center on a white background"
    request = GenerationRequest(prompt, (before,) if before else (), 7, None if before else (64, 64))
    ours = generator(comfy).generate(request)
    weights = REPO / "interleave_thinker" / "tinyworld" / "weights" / "generator"
    theirs = load_pipeline(weights, device="cpu").generate(request)
    apart = np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)).mean()
    assert apart <= 2.0


def test_a_graph_that_cannot_do_a_step_says_so(comfy: Any) -> None:
    with pytest.raises(GeneratorError, match="edit workflow"):
        generator(comfy, edit=False).generate(GenerationRequest("change it", (RED,)))
    with pytest.raises(GeneratorError, match="text-to-image workflow"):
        generator(comfy, draw=False).generate(GenerationRequest("a red circle"))
    broken = plain()
    broken["1"]["inputs"]["unet_name"] = "none.safetensors"
    with pytest.raises(GeneratorError, match=r"none\.safetensors"):
        ComfyGenerator(ComfyClient(comfy.url), (broken, find_inputs(broken))).generate(GenerationRequest("a"))


def test_the_loop_runs_around_a_users_graph(comfy: Any, tmp_path: Path) -> None:
    for name, graph in (("draw", plain()), ("edit", plain(edit=True))):
        (tmp_path / f"{name}.json").write_text(json.dumps(graph))
    run = tmp_path / "run"
    words = ["bench", "tiny", "generate", "--requests", "2", "--out", str(run), "--server", comfy.url, "--t-max", "2"]
    places = ["--generator", "comfyui", "--workflow", str(tmp_path / "draw.json")]
    assert main([*words, *places, "--edit-workflow", str(tmp_path / "edit.json")]) == 0
    answers = json.loads((run / "outputs/outputs.json").read_text())
    assert len(answers) == 2 and all(len(a["image_answer"]) >= 3 for a in answers)


def test_a_workflow_with_the_loop_in_it_is_a_system(comfy: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    story = REPO / "workflows" / "api" / "tiny_story.json"
    words = ["bench", "tiny", "generate", "--requests", "2", "--out", str(run), "--server", comfy.url, "--t-max", "2"]
    assert main([*words, "--system", "workflow", "--workflow", str(story)]) == 0
    assert main(["bench", "tiny", "judge", "--requests", "2", "--out", str(run)]) == 0
    results = json.loads((run / "scores/results.json").read_text())["items"]
    assert all(r["text_answer"] and len(r["image_outputs"]) >= 3 for r in results)
    took = [json.loads(line) for line in (run / "generated.jsonl").read_text().splitlines()]
    assert all(t["generator_calls"] >= 3 for t in took)


def test_a_workflow_that_saves_no_document_says_so(comfy: Any, tmp_path: Path) -> None:
    graph = loop("1. a", seed=991)
    del graph["31"]
    graph["32"] = node("PreviewImage", images=["10", 0])
    path = tmp_path / "w.json"
    path.write_text(json.dumps(graph))
    words = ["bench", "tiny", "generate", "--requests", "1", "--out", str(tmp_path / "run"), "--server", comfy.url]
    assert main([*words, "--system", "workflow", "--workflow", str(path)]) == 1
    assert "Save Document" in (tmp_path / "run" / "generated.jsonl").read_text()


def test_a_wrapped_stock_workflow_loops_and_improves(comfy: Any, tmp_path: Path) -> None:
    """A graph that knows nothing of loops, wrapped: the generator does not know "dye" or "azure", the critic does."""
    graph = plain(edit=True)
    graph["6"]["inputs"]["text"] = "Take this and dye the disc azure, then morph the ball into a pentagram."
    RED.save(comfy.base / "input" / "example.png")
    agents = AgentChoice("folder", "tiny-planner"), AgentChoice("folder", "tiny-critic")
    wrapped = wrap(graph, find_inputs(graph), planner=agents[0], critic=agents[1], t_max=5)
    ran = comfy.run(wrapped)
    attempts = ran.document["trajectory"]["attempts"]
    assert {a["step"] for a in attempts} == {1, 2}
    rejected = [a for a in attempts if not a["judgment"]["accepted"]]
    assert rejected and all(a["attempt"] == 1 or a["prompt"] != attempts[0]["prompt"] for a in attempts)
