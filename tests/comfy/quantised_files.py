"""A small Qwen3-VL's file in ComfyUI's own quantised formats, and how stock Load CLIP's function reads it."""

from __future__ import annotations

import json
from pathlib import Path

import comfy.sd
import comfy.text_encoders.qwen3vl as native
import comfy.utils
import torch
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
from qwen_checkpoint import TEXT, VISION

native.QWEN3VL_VISION["qwen3vl_8b"] = VISION
native.QWEN3VL_VISION_COMMON = {**native.QWEN3VL_VISION_COMMON, "num_heads": 4}
OPTIONS = {"qwen3vl_8b_model_config": {k: v for k, v in TEXT.items() if k != "head_dim"}}


def quantised(folder: Path, kind: str, words: bool = False) -> Path:
    """A file as ComfyUI's own are: the layers of the language model in another format, with its scales.

    words: the word embeddings too.
    """
    layout = QUANT_ALGOS[kind]["comfy_tensor_layout"]
    state = comfy.utils.load_torch_file(str(folder / "model.safetensors"))
    layers = [n for n in state if "language_model.layers" in n and "proj" in n]
    for name in [*layers, *(n for n in state if words and n.endswith("embed_tokens.weight"))]:
        tensor = QuantizedTensor.from_float(state.pop(name), layout)
        state.update(tensor.state_dict(name))
        told = json.dumps({"format": kind}).encode()
        state[name.removesuffix("weight") + "comfy_quant"] = torch.tensor(list(told), dtype=torch.uint8)
    file = folder / f"{kind}.sft"
    comfy.utils.save_torch_file(state, str(file))
    return file


def loaded(file: Path) -> comfy.sd.CLIP:
    return comfy.sd.load_clip([str(file)], clip_type=comfy.sd.CLIPType.QWEN_IMAGE, model_options=OPTIONS)
