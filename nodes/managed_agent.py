"""Load Agent's model under ComfyUI's memory manager: moved in before a reply, out when others need room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import comfy.model_management as memory
import torch

from ..interleave_thinker.agents.base import Agent, Completion, Message, OnText, Sampling
from ..interleave_thinker.agents.transformers_agent import TransformersAgent, load_agent
from .comfy_internals.models import managed_model

_ROOM = 1024**3
"""Bytes asked for beside the weights: activations and the cache of a few thousand tokens of an 8B."""


def load_managed_agent(folder: Path, adapter: Path | None, dtype: str, check: Callable[[], None]) -> Agent:
    """Load to the offload device; each reply moves the model to the GPU through ComfyUI's manager."""
    offload = memory.text_encoder_offload_device()
    target = memory.text_encoder_device()
    agent = load_agent(folder, adapter=adapter, dtype=_dtype_for(dtype, target), device=str(offload))
    agent.check = check
    base = agent.base
    patcher = base.patcher if base is not None else None
    size = _bytes(agent.model)
    if patcher is None or agent.adapter is not None:  # an adapter more makes the same weights larger
        patcher = managed_model(agent.model, size, target, offload, patcher)
    if patcher is None:
        return UnmanagedAgent(agent, size, target, offload)
    if base is not None:
        base.patcher = patcher

    def on_device() -> torch.device:
        managed_model(agent.model, _bytes(agent.model), target, offload, patcher)  # an adapter may have left since
        memory.load_models_gpu([patcher], memory_required=_ROOM)
        device: torch.device = next(agent.model.parameters()).device
        return device

    agent.on_device = on_device
    agent.patcher = patcher  # type: ignore[attr-defined]
    return agent


class UnmanagedAgent:
    """Where ComfyUI's manager does not take the model: moved to the GPU for each reply and back after it."""

    def __init__(self, agent: TransformersAgent, size: int, target: torch.device, offload: torch.device):
        self.agent, self.size, self.target, self.offload = agent, size, target, offload

    @property
    def name(self) -> str:
        return self.agent.name

    @property
    def prompts(self) -> str | None:
        return self.agent.prompts

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        if self.target == self.offload:
            return self.agent.complete(messages, sampling, on_text)
        memory.free_memory(self.size + _ROOM, self.target)
        try:
            self.agent.model.to(self.target)
            return self.agent.complete(messages, sampling, on_text)
        finally:
            self.agent.model.to(self.offload)
            memory.soft_empty_cache()


def _bytes(model: torch.nn.Module) -> int:
    """Of the weights, and of adapters beside them."""
    tensors = {t.data_ptr(): t.nbytes for t in (*model.parameters(), *model.buffers())}
    return sum(tensors.values())


def _dtype_for(dtype: str, target: torch.device) -> str:
    """ "auto" on a GPU keeps half precision though the weights wait on the CPU."""
    if dtype != "auto" or memory.is_device_cpu(target):
        return dtype
    return "bfloat16" if memory.should_use_bf16(target) else "float16"
