"""Generate or Edit (Diffusers): a loop body for people who have a diffusers folder and no ComfyUI checkpoint."""

from __future__ import annotations

import functools
from typing import Any

import comfy.model_management as memory
import torch
from comfy_api.latest import io

from ..interleave_thinker.files import files_state
from ..interleave_thinker.generators.base import GenerationRequest
from ..interleave_thinker.generators.diffusers_generator import DiffusersGenerator
from ..interleave_thinker.resolve import load_pipeline
from .events import check_interrupt
from .folders import pipeline_folder, pipeline_folders
from .images import to_images, to_tensor
from .types import dtype_input, schema, seed_input


@functools.lru_cache(maxsize=1)
def _loaded(name: str, dtype: str, state: str) -> DiffusersGenerator:
    """state: of the folder's files, so that what was written anew is read anew."""
    return load_pipeline(pipeline_folder(name), dtype=dtype, device="cpu")


class GenerateOrEdit(io.ComfyNode):
    """With an image it edits, without one it draws: both kinds of step in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "GenerateOrEdit",
            display_name="Interleave Generate or Edit (Diffusers)",
            description="Draw from text, or edit the reference, with a diffusers pipeline from models/diffusers.",
            search_aliases=["diffusers", "Flux2Klein", "QwenImageEdit", "text to image", "edit", "InterleaveThinker"],
            inputs=[
                io.Combo.Input(
                    "pipeline",
                    options=pipeline_folders(),
                    tooltip="A folder with model_index.json in models/diffusers.",
                ),
                io.String.Input("prompt", multiline=True, tooltip="Loop Open's prompt."),
                seed_input("Loop Open's seed."),
                io.Int.Input("steps", default=4, min=1, max=200, tooltip="Denoising steps."),
                io.Float.Input(
                    "guidance", default=1.0, min=0.0, max=30.0, step=0.1, tooltip="guidance_scale of the pipeline."
                ),
                io.Int.Input("width", default=1024, min=16, max=4096, step=16, tooltip="For pictures from text."),
                io.Int.Input("height", default=1024, min=16, max=4096, step=16, tooltip="For pictures from text."),
                dtype_input("auto: bfloat16 on a GPU, float32 on a CPU."),
                io.Image.Input(
                    "reference", optional=True, tooltip="Loop Open's reference: the picture to edit, at its own size."
                ),
            ],
            outputs=[io.Image.Output("IMAGE", "image", tooltip="The picture.")],
        )

    @classmethod
    def fingerprint_inputs(cls, pipeline: Any = None, **_: Any) -> str:
        return files_state(pipeline_folder(pipeline)) if pipeline else ""

    @classmethod
    def execute(
        cls,
        pipeline: str,
        prompt: str,
        seed: int,
        steps: int,
        guidance: float,
        width: int,
        height: int,
        dtype: str = "auto",
        reference: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        device = memory.get_torch_device()
        wanted = dtype
        if dtype == "auto":
            wanted = "float32" if memory.is_device_cpu(device) else "bfloat16"
        generator = _loaded(pipeline, wanted, files_state(pipeline_folder(pipeline)))
        generator.check = check_interrupt
        generator.options = _options(generator.pipeline, steps, guidance)
        references = to_images(reference, "reference")[:1]
        width, height = references[0].size if references else (width, height)
        size = (max(16, width // 16 * 16), max(16, height // 16 * 16))
        with _OnDevice(generator.pipeline, device):
            image = generator.generate(GenerationRequest(prompt, tuple(references), seed, size))
        return io.NodeOutput(to_tensor(image))


def _options(pipeline: Any, steps: int, guidance: float) -> dict[str, Any]:
    """Qwen-Image guides with a negative prompt and its own option; the others with guidance_scale."""
    if type(pipeline).__name__.startswith("QwenImage"):
        return {"num_inference_steps": steps, "true_cfg_scale": guidance, "negative_prompt": " "}
    return {"num_inference_steps": steps, "guidance_scale": guidance}


class _OnDevice:
    """Make room through ComfyUI's manager, use the pipeline there, and give the room back."""

    def __init__(self, pipeline: Any, device: torch.device):
        self.pipeline, self.device = pipeline, device

    def __enter__(self) -> None:
        if memory.is_device_cpu(self.device):
            return
        models = [m for m in self.pipeline.components.values() if isinstance(m, torch.nn.Module)]
        size = sum(p.numel() * p.element_size() for m in models for p in m.parameters())
        memory.free_memory(size * 1.2, self.device)
        self.pipeline.to(self.device)

    def __exit__(self, *_: object) -> None:
        if not memory.is_device_cpu(self.device):
            self.pipeline.to("cpu")
            memory.soft_empty_cache()
