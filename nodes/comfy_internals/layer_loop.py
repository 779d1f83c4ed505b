"""A Qwen3-VL's layers over several new tokens at once, behind a prompt that ComfyUI's own forward has read.

ComfyUI's forward takes one token at a time behind a prompt. This loop calls the loaded modules, so adapters, quantised
and offloaded weights count as they do there. It works in the cache that the forward has made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from .straight_calls import Call, hooked, straight_call

PLAIN = ("TransformerBlock", "Attention", "MLP")
"""The kinds of layers and of their parts that are known here."""


@dataclass(frozen=True)
class _Layer:
    """How to call the modules of a layer; keys, values: (1, heads, room, width)."""

    before: Call
    query: Call
    key: Call
    value: Call
    query_norm: Call | None
    key_norm: Call | None
    out: Call
    behind: Call
    gate: Call
    up: Call
    down: Call
    activation: Call
    keys: torch.Tensor
    values: torch.Tensor

    @classmethod
    def of(cls, layer: Any, kept: tuple[torch.Tensor, torch.Tensor, int], dtype: torch.dtype) -> _Layer:
        keys, values = kept[:2]
        attention, mlp = layer.self_attn, layer.mlp

        def call(module: Any) -> Call:
            return straight_call(module, keys.device, dtype)

        def call_or_none(module: Any) -> Call | None:
            return None if module is None else call(module)

        return cls(
            call(layer.input_layernorm),
            call(attention.q_proj),
            call(attention.k_proj),
            call(attention.v_proj),
            call_or_none(attention.q_norm),
            call_or_none(attention.k_norm),
            call(attention.o_proj),
            call(layer.post_attention_layernorm),
            call(mlp.gate_proj),
            call(mlp.up_proj),
            call(mlp.down_proj),
            mlp.activation,
            keys,
            values,
        )


class LayerLoop:
    """`model` is ComfyUI's language model, `past` what its forward returned for the prompt."""

    def __init__(self, model: Any, past: Any, begin: int, dtype: torch.dtype):
        """begin: the place of the first new token. dtype: of the hidden states.

        Raises:
            AttributeError, TypeError, ValueError: model or cache are of another kind than is known here.
        """
        kinds = {
            (type(layer).__name__, type(layer.self_attn).__name__, type(layer.mlp).__name__) for layer in model.layers
        }
        if kinds != {PLAIN}:
            raise TypeError("layers of another kind")
        if any(hooked(part) for layer in model.layers for part in (layer, layer.self_attn, layer.mlp)) or hooked(model):
            raise TypeError("layers that are not only called")
        lengths = {kept[2] for kept in past}
        if len(lengths) != 1 or len(past) != len(model.layers) or any(kept[0].ndim != 4 for kept in past):
            raise ValueError("a cache of another kind")
        self.length: int = lengths.pop()
        self.layers = [_Layer.of(*pair, dtype) for pair in zip(model.layers, past, strict=True)]
        attention = model.layers[0].self_attn
        self.heads, self.key_heads, self.width = attention.num_heads, attention.num_kv_heads, attention.head_dim
        self.room: int = self.layers[0].keys.shape[2]
        self.device = self.layers[0].keys.device
        self.norm = straight_call(model.norm, self.device, dtype)
        self._read = self.length
        places = torch.arange(begin, begin + self.room - self.length, device=self.device)[None]
        self._turns = _turns(model.compute_freqs_cis(places, self.device))

    def read(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden states (1, n, hidden) of n tokens behind what was read; embeddings in the same shape.

        Raises:
            ValueError: the cache has no room for them.
        """
        count, begin = x.shape[1], self.length
        end = begin + count
        if end > self.room:
            raise ValueError(f"{end} tokens do not fit into a cache of {self.room}")
        cos, sin = (part[..., begin - self._read : end - self._read, :] for part in self._turns)
        mask = None if count == 1 else torch.ones(count, end, dtype=torch.bool, device=x.device).tril_(begin)
        grouped, heads, half = self.heads != self.key_heads, self.heads, self.width // 2
        shape = (1, count, -1, self.width)
        for layer in self.layers:
            seen = layer.before(x)
            query, key = layer.query(seen).view(shape), layer.key(seen).view(shape)
            if layer.query_norm is not None:
                query = layer.query_norm(query)
            if layer.key_norm is not None:
                key = layer.key_norm(key)
            both = torch.cat((query, key), 2).transpose(1, 2)
            both = torch.addcmul(both * cos, both.roll(half, -1), sin).to(x.dtype)
            layer.keys[:, :, begin:end] = both[:, heads:]
            layer.values[:, :, begin:end] = layer.value(seen).view(shape).transpose(1, 2)
            told = scaled_dot_product_attention(
                both[:, :heads], layer.keys[:, :, :end], layer.values[:, :, :end], attn_mask=mask, enable_gqa=grouped
            )
            x = x + layer.out(told.transpose(1, 2).reshape(1, count, -1))
            seen = layer.behind(x)
            x = x + layer.down(layer.activation(layer.gate(seen)) * layer.up(seen))
        self.length = end
        return self.norm(x)

    def forget(self, count: int) -> None:
        """The last tokens that were read were wrong."""
        self.length -= count


def _turns(factors: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin over the whole width, the second with its first half negated (rotary position embedding, arXiv
    2104.09864).
    """
    cos, sin, negated = factors[:3]
    return cos, torch.cat((negated, sin), -1)
