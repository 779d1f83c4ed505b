"""The tiny world's agents in ComfyUI's own Qwen3-VL, as stock Load CLIP would hold them if it knew their sizes.

To be imported inside ComfyUI's folder, after its arguments are set.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.text_encoders.llama as llama
import comfy.text_encoders.qwen3vl as native
import comfy.text_encoders.qwen_vl as pictures
import torch
from transformers import PreTrainedTokenizerFast

PATCH = 8


def fit_comfyui(folder: Path) -> dict[str, Any]:
    """Make ComfyUI's Qwen3-VL the tiny one, for this process. Returns the options of Load CLIP."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text, vision = config["text_config"], config["vision_config"]
    kept = ("hidden_size", "intermediate_size", "depth", "deepstack_visual_indexes")
    native.QWEN3VL_VISION["qwen3vl_8b"] = {name: vision[name] for name in kept}
    common = ("num_heads", "patch_size", "temporal_patch_size", "in_channels", "spatial_merge_size")
    native.QWEN3VL_VISION_COMMON = {name: vision[name] for name in (*common, "num_position_embeddings")}
    llama.Qwen3VL_8BConfig.rope_dims = text["rope_parameters"]["mrope_section"]
    llama.Qwen3VL_8BConfig.head_dim = text["head_dim"]
    llama.Qwen3VL_8BConfig.stop_tokens = [text["eos_token_id"], text["pad_token_id"]]
    words = functools.partial(PreTrainedTokenizerFast.from_pretrained, str(folder))
    native.Qwen2Tokenizer.from_pretrained = staticmethod(lambda *_, **__: words())
    side = vision["num_position_embeddings"] ** 0.5 * PATCH
    own = pictures.process_qwen2vl_images
    pictures.process_qwen2vl_images = lambda data, **more: own(
        data, **{**more, "patch_size": PATCH, "min_pixels": int(side * side), "max_pixels": int(side * side)}
    )
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    options = {name: text[name] for name in (*names, "num_key_value_heads")}
    theta = text["rope_parameters"]["rope_theta"]
    return {"qwen3vl_8b_model_config": {**options, "rope_theta": theta, "lm_head": False}}


def tiny_clip(state: dict[str, torch.Tensor], options: dict[str, Any]) -> comfy.sd.CLIP:
    """state: by Hugging Face's names."""
    return comfy.sd.load_text_encoder_state_dicts(
        [dict(state)], clip_type=comfy.sd.CLIPType.QWEN_IMAGE, model_options=options
    )
