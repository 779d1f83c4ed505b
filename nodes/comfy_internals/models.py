"""Models of others under ComfyUI's memory manager."""

from __future__ import annotations

from typing import Any

import torch

from .missing import say_missing


class InterleaveAgent(torch.nn.Module):
    """Holds a transformers model, which does not let ModelPatcher set its `device`. ComfyUI's log has this name."""

    def __init__(self, model: torch.nn.Module, device: torch.device):
        super().__init__()
        self.model = model
        self.device = device


def managed_model(
    model: torch.nn.Module, size: int, target: torch.device, offload: torch.device, known: Any = None
) -> Any:
    """What ComfyUI's memory manager needs to move a model between devices, or None if that cannot be had.

    size: bytes of the weights. known: the same for these weights from an earlier call; it gets the new size.
    """
    if known is not None:
        known.size = size
        return known
    try:
        from comfy.model_patcher import ModelPatcher

        return ModelPatcher(InterleaveAgent(model, offload), target, offload, size=size)
    except (ImportError, AttributeError, TypeError):
        say_missing("comfy.model_patcher.ModelPatcher")
        return None
