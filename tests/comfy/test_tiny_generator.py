"""One set of weights, two runtimes: stock ComfyUI nodes and diffusers make the same picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from comfy_server import REPO
from comfy_test_graphs import node
from PIL import Image

from interleave_thinker.tinyworld.pipeline import TinyKontextPipeline
from interleave_thinker.tinyworld.scene import Scene, render

WEIGHTS = REPO / "interleave_thinker" / "tinyworld" / "weights" / "generator"

CASES = [
    ("a big red circle at the center on a white background", None, 5),
    ("one tiny azure pentagram placed at the west over an ebony scenery", None, 77),
    ("change the circle to green", Scene("circle", "red", "big", "left", "white"), 9),
    ("morph the box into a disc", Scene("square", "yellow", "medium", "center", "purple"), 2**40),
    ("an unusually long prompt " * 5 + "with a big red circle at the center on a white background", None, 3),
]


@pytest.fixture(scope="module")
def pipeline():
    made = TinyKontextPipeline.from_pretrained(WEIGHTS)
    made.set_progress_bar_config(disable=True)
    return made


def in_comfyui(comfy, prompt: str, before: Image.Image | None, seed: int) -> Image.Image:
    graph = {
        "10": node("UNETLoader", unet_name="tiny_kontext.safetensors", weight_dtype="default"),
        "11": node("CLIPLoader", clip_name="tiny_clip_l.pt", type="stable_diffusion", device="default"),
        "12": node("VAELoader", vae_name="tiny_taef1.safetensors"),
        "20": node("CLIPTextEncode", clip=["11", 0], text=prompt),
        "24": node("ConditioningZeroOut", conditioning=["20", 0]),
        "25": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "26": node(
            "KSampler",
            model=["10", 0],
            seed=seed,
            steps=8,
            cfg=2.5,
            sampler_name="euler",
            scheduler="simple",
            positive=["20", 0],
            negative=["24", 0],
            latent_image=["25", 0],
            denoise=1.0,
        ),
        "27": node("VAEDecode", samples=["26", 0], vae=["12", 0]),
        "28": node("SaveImage", images=["27", 0], filename_prefix="parity"),
    }
    if before is not None:
        (comfy.base / "input").mkdir(exist_ok=True)
        before.save(comfy.base / "input" / "parity.png")
        graph["21"] = node("LoadImage", image="parity.png")
        graph["22"] = node("VAEEncode", pixels=["21", 0], vae=["12", 0])
        graph["23"] = node("ReferenceLatent", conditioning=["20", 0], latent=["22", 0])
        graph["26"]["inputs"]["positive"] = ["23", 0]
        graph["24"]["inputs"]["conditioning"] = ["23", 0]
    ran = comfy.run(graph)
    saved = ran.outputs["28"]["images"][0]
    with Image.open(comfy.output / saved["subfolder"] / saved["filename"]) as image:
        return image.convert("RGB")


@pytest.mark.parametrize(("prompt", "scene", "seed"), CASES)
def test_both_runtimes_agree_within_two_of_255(comfy, pipeline, prompt, scene, seed):
    before = render(scene) if scene else None
    there = np.asarray(in_comfyui(comfy, prompt, before, seed), dtype=np.float32)
    here = pipeline(prompt, before, generator=torch.Generator().manual_seed(seed)).images[0]
    assert np.abs(there - np.asarray(here, dtype=np.float32)).mean() <= 2.0
    assert there.std() > 1.0, "a picture, not a flat colour"
