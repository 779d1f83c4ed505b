"""Qwen3-VL trained on a CPU: the same model and the same numbers but for rounding, in half the time.

Three things that transformers does for GPUs cost a CPU more than all matrix products together: a convolution whose
kernel is as large as its stride, one attention call for each picture of a batch, and PyTorch's fused attention, whose
backward is slow there (`benchmarks/training_speed.py` measures it).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

IN_IMAGES, IN_TEXT = "flash_alike", "plain_products"
"""Names in transformers' registry. "flash" in one makes the vision tower hand over all pictures in one call."""


def quicken(model: Any) -> None:
    """Change how `model`, a Qwen3VLForConditionalGeneration, computes; its weights and their names stay."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(IN_IMAGES, attend_by_image)
    AttentionInterface.register(IN_TEXT, attend_in_text)
    AttentionMaskInterface.register(IN_TEXT, eager_mask)
    vision = model.model.visual
    vision.config._attn_implementation = IN_IMAGES
    model.model.language_model.config._attn_implementation = IN_TEXT
    patches = vision.patch_embed.proj
    if isinstance(patches, torch.nn.Conv3d) and patches.kernel_size == patches.stride:
        vision.patch_embed.proj.forward = MethodType(project_patches, patches)


def project_patches(convolution: torch.nn.Conv3d, patches: Tensor) -> Tensor:
    """The output of a convolution over patches as large as its kernel, as one product of matrices.

    patches: (n, channels, *kernel). Returns (n, out channels, 1, 1, 1).
    """
    projected = functional.linear(patches.flatten(1), convolution.weight.flatten(1), convolution.bias)
    return projected[..., None, None, None]


def attend_by_image(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each picture, for transformers' AttentionInterface.

    query, key, value: (1, heads, patches of all pictures, width). cu_seq_lens_q: where each picture begins, and the
    end; None for a single picture. Pictures of one size are computed together. Returns (1, patches, heads, width).
    """
    lengths = [query.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q.diff().tolist()
    if len(set(lengths)) == 1:
        return _of_one_size(query, key, value, len(lengths), scaling, dropout), None
    parts = zip(*(torch.split(t, lengths, dim=2) for t in (query, key, value)), strict=True)
    return torch.cat([_of_one_size(q, k, v, 1, scaling, dropout) for q, k, v in parts], dim=1), None


def _of_one_size(query: Tensor, key: Tensor, value: Tensor, count: int, scaling: float, dropout: float) -> Tensor:
    heads, patches, width = query.shape[1:]
    # (count, heads, patches of a picture, width)
    q, k, v = (t.reshape(heads, count, patches // count, width).transpose(0, 1) for t in (query, key, value))
    weights = torch.softmax(q @ k.transpose(-1, -2) * scaling, dim=-1, dtype=torch.float32).to(v.dtype)
    if dropout:
        weights = functional.dropout(weights, dropout)
    return (weights @ v).transpose(1, 2).reshape(1, patches, heads, width)


def attend_in_text(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of the language model, for transformers' AttentionInterface; few passes over the weights.

    query: (batch, heads, tokens, width). key, value: (batch, groups, all tokens, width); the heads of a group share
    them. attention_mask: (batch or 1, 1, tokens, all tokens), 0 where one may look and the least number elsewhere.
    Returns (batch, tokens, heads, width).
    """
    batch, heads, tokens, width = query.shape
    shared = batch * key.shape[1]
    keys, values = (t.reshape(shared, -1, width) for t in (key, value))
    scores = torch.bmm((query * scaling).reshape(shared, -1, width), keys.transpose(1, 2))
    scores = scores.view(batch, heads, tokens, -1)
    if attention_mask is not None:
        scores += attention_mask
    weights = torch.softmax(scores, dim=-1).to(values.dtype)
    if dropout:
        weights = functional.dropout(weights, dropout)
    found = torch.bmm(weights.view(shared, -1, keys.shape[1]), values)
    return found.view(batch, heads, tokens, width).transpose(1, 2), None
