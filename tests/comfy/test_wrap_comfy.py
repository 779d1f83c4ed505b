"""`interleave-thinker wrap` on a plain stock workflow: the loop that it puts around it really improves the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comfy_test_graphs import PAGES, REPO, node, shipped

from interleave_thinker.cli import main
from interleave_thinker.comfyui.client import ComfyClient
from interleave_thinker.comfyui.find_inputs import WorkflowInputs
from interleave_thinker.comfyui.workflow import load_workflow
from interleave_thinker.comfyui.wrap import AgentChoice, unwrap, wrap

WANTED = "a medium crimson disc at the center on a white background"


def plain_graph() -> dict[str, Any]:
    """Text to image on the tiny generator, as somebody else would have made it."""
    return {
        "1": node("UNETLoader", unet_name="tiny_kontext.safetensors", weight_dtype="default"),
        "2": node("CLIPLoader", clip_name="tiny_clip_l.pt", type="stable_diffusion", device="default"),
        "3": node("VAELoader", vae_name="tiny_taef1.safetensors"),
        "4": node("CLIPTextEncode", clip=["2", 0], text=WANTED),
        "5": node("ConditioningZeroOut", conditioning=["4", 0]),
        "6": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "7": node(
            "KSampler",
            model=["1", 0],
            positive=["4", 0],
            negative=["5", 0],
            latent_image=["6", 0],
            seed=11,
            steps=8,
            cfg=2.5,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        "8": node("VAEDecode", samples=["7", 0], vae=["3", 0]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="plain"),
    }


def test_a_wrapped_plain_workflow_loops_and_improves(comfy: Any, tmp_path: Path) -> None:
    """The first try fails at the rich words; the critic rewrites them; the picture is accepted. Then off again."""
    plain, looped, back = tmp_path / "plain.json", tmp_path / "looped.json", tmp_path / "back.json"
    plain.write_text(json.dumps(plain_graph()))
    agents = ["--agent", "folder:tiny-planner", "--critic", "folder:tiny-critic"]
    assert main(["wrap", str(plain), "-o", str(looped), "--t-max", "5", *agents]) == 0
    wrapped = load_workflow(looped)
    wrapped["interleave_planner"]["inputs"]["edited_plan"] = f"1. {WANTED}"  # the tiny planner knows stories only
    ran = comfy.run(wrapped)
    attempts = ran.document["trajectory"]["attempts"]
    assert attempts[0]["judgment"]["accepted"] is False
    assert attempts[1]["prompt"] == attempts[0]["judgment"]["refined_prompt"] != WANTED
    assert ran.document["items"][-1]["accepted"] is True
    assert main(["unwrap", str(looped), "-o", str(back)]) == 0
    assert load_workflow(back) == plain_graph()


@pytest.mark.parametrize("seed", [-1, "%seed%", "42", 2**64])
def test_the_server_takes_a_wrapped_workflow_whose_seed_is_none(comfy: Any, seed: Any) -> None:
    """Such a seed stands where a node of another pack, or a script, makes a number of it."""
    graph = plain_graph()
    graph["7"]["inputs"]["seed"] = seed
    found = WorkflowInputs(("4", "text"), ("7", "seed"), None, "9")
    folders = [AgentChoice("folder", f"tiny-{role}") for role in ("planner", "critic")]
    wrapped = wrap(graph, found, planner=folders[0], critic=folders[1], t_max=1)
    wrapped["interleave_planner"]["inputs"]["edited_plan"] = f"1. {WANTED}"
    ran = comfy.run(wrapped)
    assert ran.document["trajectory"]["attempts"][0]["seed"] == (42 if seed == "42" else 0)
    assert unwrap(wrapped) == graph


@pytest.mark.parametrize(
    "name",
    [
        "\u57ce\u5e02\u591c\u666f\u53c2\u8003\u56fe\u7247" * 4 + ".webp",
        "\u56fe\u7247 1.png",
        'a "b" 100%.png',
        "x" * 251 + ".png",
    ],
)
def test_a_picture_is_uploaded_under_its_own_name(comfy: Any, tmp_path: Path, name: str) -> None:
    """Twice the same is one file; another picture gets another name, also where no letter more fits."""
    client, picture = ComfyClient(comfy.url), tmp_path / name
    for data in (b"one", b"one", b"two"):
        picture.write_bytes(data)
        uploaded = client.upload(picture)
        assert (comfy.base / "input" / uploaded).read_bytes() == data
        assert (uploaded == name) == (data == b"one")


@pytest.mark.parametrize("name", ["tiny_story", "flux2_klein_story", "critic_on_any_graph"])
def test_the_editors_format_becomes_what_the_editor_exports(comfy: Any, name: str) -> None:
    """With the comfy-cli that is installed. The editor's files have previews beside what the API's have."""
    pytest.importorskip("comfy_cli.workflow_to_api", reason="needs comfy-cli")
    converted = load_workflow(REPO / "workflows" / PAGES[name].file, client=ComfyClient(comfy.url))
    for node_id, wanted in shipped(name).items():
        assert {**converted[node_id], "_meta": 0} == {**wanted, "_meta": 0}
