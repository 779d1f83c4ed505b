"""A transformers model that has read a prompt, over its own key-value cache: one token or several at a time."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


KINDS = ("qwen3_vl", "qwen2_5_vl", "qwen2_vl")
"""Kinds of models whose forward works out the places of new tokens from the cache, pictures before them or not."""


def can_decode(model: Any) -> bool:
    """Whether a model is of a kind that is known here, and its cache can be cut."""
    from transformers import DynamicCache

    config = getattr(model, "config", None)
    kind, words = str(getattr(config, "model_type", "")), getattr(config, "text_config", config)
    return kind in KINDS and hasattr(DynamicCache, "crop") and not getattr(words, "use_sliding_window", False)


class CachedDecoder:
    """`decoding.Decoder`. inputs: of the processor, on the model's device."""

    takes_several = True

    def __init__(self, model: Any, inputs: Mapping[str, Any], stop_tokens: Collection[int]):
        self.model, self.stop_tokens = model, stop_tokens
        taken = inspect.signature(model.forward).parameters
        self.cache_name = "cache" if "cache" in taken else "past_key_values"  # its name before transformers 5.20
        turning = next((part for part in model.modules() if "rope_deltas" in vars(part)), None)
        if turning is not None:
            turning.rope_deltas = None  # of the prompt before
        made = model(**inputs, use_cache=True, logits_to_keep=1)
        self.cache = made.past_key_values
        shift = getattr(turning, "rope_deltas", None)
        self.shift = 0 if shift is None else int(shift.flatten()[0])  # a picture has more tokens than positions
        self.first: torch.Tensor = made.logits[:, -1]
        self.dtype: torch.dtype = made.logits.dtype

    def read(self, tokens: Sequence[int]) -> torch.Tensor:
        import torch

        ids = torch.tensor([list(tokens)], device=self.first.device)
        begin = self.cache.get_seq_length() + self.shift
        places = torch.arange(begin, begin + len(tokens), device=ids.device).expand(3, 1, -1)
        made = self.model(input_ids=ids, position_ids=places, use_cache=True, **{self.cache_name: self.cache})
        logits: torch.Tensor = made.logits[0]
        return logits

    def forget(self, count: int) -> None:
        if count:
            self.cache.crop(-count)
