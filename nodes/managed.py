"""A transformers model under ComfyUI's memory manager: moved in before a reply, out when others need room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import comfy.model_management as memory
import torch
from comfy.model_patcher import ModelPatcher

from ..interleave_thinker.agents.transformers_agent import TransformersAgent, load_agent

_ROOM = 1024**3
"""Bytes asked for beside the weights: activations and the cache of a few thousand tokens of an 8B."""


class _Holder(torch.nn.Module):
    """ModelPatcher sets `device` on what it holds; a transformers model does not allow that."""

    def __init__(self, model: torch.nn.Module, device: torch.device):
        super().__init__()
        self.model = model
        self.device = device


def load_managed_agent(folder: Path, adapter: Path | None, dtype: str, check: Callable[[], None]) -> TransformersAgent:
    """Load to the offload device; each reply moves the model to the GPU through ComfyUI's manager."""
    offload = memory.text_encoder_offload_device()
    target = memory.text_encoder_device()
    agent = load_agent(folder, adapter=adapter, dtype=_dtype_for(dtype, target), device=str(offload))
    base = agent.base
    patcher = base.patcher if base is not None else None
    if patcher is None or agent.adapter is not None:
        weights = {p.data_ptr(): p.numel() * p.element_size() for p in agent.model.parameters()}
        if patcher is None:
            patcher = ModelPatcher(_Holder(agent.model, offload), target, offload, size=sum(weights.values()))
        else:
            patcher.size = sum(weights.values())  # of the same weights with one adapter more
    if base is not None:
        base.patcher = patcher

    def on_device() -> torch.device:
        memory.load_models_gpu([patcher], memory_required=_ROOM)
        return next(agent.model.parameters()).device

    agent.on_device = on_device
    agent.check = check
    agent.patcher = patcher  # type: ignore[attr-defined]
    return agent


def _dtype_for(dtype: str, target: torch.device) -> str:
    """ "auto" on a GPU keeps half precision though the weights wait on the CPU."""
    if dtype != "auto" or memory.is_device_cpu(target):
        return dtype
    return "bfloat16" if memory.should_use_bf16(target) else "float16"
