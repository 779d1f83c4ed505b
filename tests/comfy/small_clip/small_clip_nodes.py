"""Custom nodes for a test server: load the small Qwen3-VL, and say what lives and what was encoded."""

from __future__ import annotations

import gc
import hashlib
import sys
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.text_encoders.qwen3vl as qwen3vl
import torch
from aiohttp import web
from server import PromptServer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from qwen_checkpoint import TEXT, VISION

qwen3vl.QWEN3VL_VISION["qwen3vl_8b"] = VISION
qwen3vl.QWEN3VL_VISION_COMMON = {**qwen3vl.QWEN3VL_VISION_COMMON, "num_heads": 4}
SHAPES = {"qwen3vl_8b_model_config": {name: value for name, value in TEXT.items() if name != "head_dim"}}

encoded: dict[str, list[str]] = {}


@PromptServer.instance.routes.get("/small_clip")
async def facts(request: web.Request) -> web.Response:
    """bytes: of all parameters that live in this process, each storage once. encoded: hashes by prompt."""
    gc.collect()
    live = {
        p.untyped_storage().data_ptr(): p.untyped_storage().nbytes()
        for p in gc.get_objects()
        if isinstance(p, torch.nn.Parameter)
    }
    return web.json_response({"bytes": sum(live.values()), "encoded": encoded})


class LoadSmallClip:
    """As stock Load CLIP does it, which knows the published sizes only. known: whether the pack knows its chat form."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"file": ("STRING", {}), "known": ("BOOLEAN", {"default": True})}}

    RETURN_TYPES = ("CLIP",)
    FUNCTION = "load"

    def load(self, file: str, known: bool) -> tuple[Any]:
        clip = comfy.sd.load_clip([file], clip_type=comfy.sd.CLIPType.QWEN_IMAGE, model_options=SHAPES)
        if not known:
            words = clip.tokenizer.qwen3vl_8b.inv_vocab
            clip.tokenizer.qwen3vl_8b.inv_vocab = {n: w for n, w in words.items() if w != "<|im_start|>"}
        return (clip,)


class NoteConditioning:
    """Passes what was encoded, and keeps its hash. forget: all models leave memory after it."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "conditioning": ("CONDITIONING",),
                "prompt": ("STRING", {"forceInput": True}),
                "forget": ("BOOLEAN",),
            }
        }

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "note"

    def note(self, conditioning: Any, prompt: str, forget: bool) -> tuple[Any]:
        parts = [t for entry in conditioning for t in (entry[0], *entry[1].values()) if torch.is_tensor(t)]
        digest = hashlib.sha256(b"".join(t.cpu().contiguous().numpy().tobytes() for t in parts)).hexdigest()
        encoded.setdefault(prompt, []).append(digest)
        if forget:
            comfy.model_management.unload_all_models()
        return (conditioning,)


NODE_CLASS_MAPPINGS = {"LoadSmallClip": LoadSmallClip, "NoteConditioning": NoteConditioning}
