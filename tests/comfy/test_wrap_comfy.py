"""`interleave-thinker wrap` on a plain stock workflow: the loop that it puts around it really improves the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comfy_test_graphs import node

from interleave_thinker.cli import main
from interleave_thinker.comfyui.workflow import load_workflow

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
