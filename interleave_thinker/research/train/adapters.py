"""The results of training in the forms that ComfyUI takes.

merge         base + LoRA adapter -> a Hugging Face folder for Load Agent
export-comfy  a folder (or base + adapter) -> one .safetensors for stock Load CLIP (Qwen3-VL 4B and 8B)
              with --lora the adapter alone -> one .safetensors for Agent from CLIP (`peft_pairs.py`)
extract       base and fine-tune -> the same kind of file (`extract.py`)
An adapter folder needs none of them: Load Agent takes base and adapter as they are, and two agents share one base.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from ...agents.adapter_file import SUFFIXES, write_tensors
from ...agents.adapter_folder import base_of, load_weights
from ...agents.transformers_agent import SharedBase, check_folder
from .checkpoint import has_tied_head, shards, text_config
from .models import TrainError

Dtype = Literal["bfloat16", "float16", "float32"]
SHARD = "5GB"
PROBE = "model.visual.deepstack_merger_list.0.norm.weight"
"""By this key ComfyUI knows a Qwen3-VL (comfy/sd.py, detect_te_model)."""
WIDTHS = {2560: "4B", 4096: "8B"}
"""Hidden sizes of the language models that stock Load CLIP knows by it."""


def merge(base: Path, adapter: Path, out: Path, dtype: Dtype = "bfloat16") -> None:
    """Write base + adapter as one folder, with the adapter's prompts if it brings any, else the base's.

    Raises:
        AgentError: one of them cannot be loaded, or they do not fit.
        TrainError: `out` is not empty.
    """
    _need_empty(out)
    import torch
    from transformers import AutoProcessor

    merged = _merged(base, adapter)
    merged.to(getattr(torch, dtype)).save_pretrained(out, max_shard_size=SHARD)
    AutoProcessor.from_pretrained(base, local_files_only=True).save_pretrained(out)
    prompts = next((p for p in (adapter / "prompts", base / "prompts") if p.is_dir()), None)
    if prompts is not None:
        shutil.copytree(prompts, out / "prompts", dirs_exist_ok=True)


def export_comfy(folder: Path, out: Path, dtype: Dtype = "bfloat16", adapter: Path | None = None) -> str:
    """Write one file with the names that stock Load CLIP reads. Returns a warning, or "".

    All shards are joined; an output layer that only repeats the embedding is left out, as ComfyUI ties it.

    Raises:
        AgentError: the folder cannot be loaded or lacks shards.
        TrainError: `out` exists, or does not end in .safetensors.
    """
    check_new_file(out, "text_encoders")
    import torch

    config = check_folder(folder)
    state = _state(folder, adapter)
    if PROBE not in state:
        raise TrainError(f"{folder.name} has no {PROBE}; ComfyUI would not know it for a Qwen3-VL.")
    if has_tied_head(config):
        state.pop("lm_head.weight", None)
    ready = {name: tensor.to(getattr(torch, dtype)).contiguous().clone() for name, tensor in state.items()}
    write_tensors(out, ready, {"format": "pt"})
    width = text_config(config).get("hidden_size")
    if width in WIDTHS:
        return ""
    return (
        f"The language model is {width} wide; stock Load CLIP knows {' and '.join(WIDTHS.values())} "
        f"({', '.join(map(str, WIDTHS))}). Use Load Agent with the folder for this one."
    )


def _state(folder: Path, adapter: Path | None) -> dict[str, Any]:
    """All tensors by Hugging Face's names."""
    if adapter is not None or base_of(folder) != folder:
        return dict(_merged(folder, adapter).state_dict())
    from safetensors.torch import load_file

    state: dict[str, Any] = {}
    for shard in shards(folder):
        state.update(load_file(shard))
    return state


def _merged(base: Path, adapter: Path | None) -> Any:
    """A model of its own with the adapter in its weights; agents that share the same base are not touched."""
    if adapter is not None and adapter.suffix in SUFFIXES:
        raise TrainError(f"{adapter.name} is an adapter file; what is merged is a LoRA folder of peft's.")
    check_folder(base)
    from transformers import Qwen3VLForConditionalGeneration

    model = load_weights(Qwen3VLForConditionalGeneration, base, "float32")
    if adapter is None:
        return model
    shared = SharedBase(model, None)
    shared.add(adapter)
    return shared.adapted.merge_and_unload()


def check_new_file(out: Path, kind: str) -> None:
    """kind: the folder of ComfyUI's models where the file belongs.

    Raises:
        TrainError: `out` exists, or does not end in .safetensors, or its folder cannot be made or written to.
    """
    if out.suffix != ".safetensors":
        raise TrainError(f"{out} must end in .safetensors; put it into ComfyUI/models/{kind}.")
    if out.exists():
        raise TrainError(f"{out} is there already. Give another name.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise TrainError(f"Cannot write {out}: {error.strerror or error}. Give another folder.") from None


def _need_empty(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        raise TrainError(f"{out} is not empty. Give a new folder.")
