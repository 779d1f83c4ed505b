"""Run a Qwen3-VL's layers over several new tokens at once, after a prompt that ComfyUI's own forward has read.

ComfyUI's forward takes one token at a time behind a prompt. This loop calls the loaded modules, so adapters, quantised
and offloaded weights count as they do there. It works in the cache that the forward has made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from .straight_calls import Call, hooked, straight_call

Put = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

PLAIN = ("TransformerBlock", "Attention", "MLP")
"""The kinds of layers and of their parts that are known here."""


@dataclass(frozen=True)
class _Layer:
    """How to call the modules of a layer; keys, values: (1, heads, room, width)."""

    before: Call
    query: Call
    key: Call
    value: Call
    heads_norm: Call
    out: Call
    behind: Call
    gate: Call
    up: Call
    down: Call
    activation: Call
    keys: torch.Tensor
    values: torch.Tensor

    @property
    def straight(self) -> bool:
        """Whether nothing but PyTorch's own products and norms is called."""
        calls = (self.before, self.query, self.key, self.value, self.out, self.behind, self.gate, self.up, self.down)
        return all(isinstance(call, partial) for call in calls)

    @classmethod
    def of(cls, layer: Any, kept: tuple[torch.Tensor, torch.Tensor, int], dtype: torch.dtype) -> _Layer:
        keys, values = kept[:2]
        attention, mlp = layer.self_attn, layer.mlp

        def call(module: Any) -> Call:
            return straight_call(module, keys.device, dtype)

        return cls(
            call(layer.input_layernorm),
            call(attention.q_proj),
            call(attention.k_proj),
            call(attention.v_proj),
            _heads_norm(call(attention.q_norm), call(attention.k_norm), attention.num_heads, attention.num_kv_heads),
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
        self.first = self.length
        self.capturable = all(layer.straight for layer in self.layers) and isinstance(self.norm, partial)
        places = torch.arange(begin, begin + self.room - self.length, device=self.device)[None]
        self.turns = _turns(model.compute_freqs_cis(places, self.device))

    def read(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden states (1, n, hidden) of n tokens behind what was read; embeddings in the same shape.

        Raises:
            ValueError: the cache has no room for them.
        """
        count, begin = x.shape[1], self.length
        end = begin + count
        if end > self.room:
            raise ValueError(f"{end} tokens do not fit into a cache of {self.room}")
        cos, sin = (part[..., begin - self.first : end - self.first, :] for part in self.turns)
        mask = None if count == 1 else torch.ones(count, end, dtype=torch.bool, device=x.device).tril_(begin)

        def put(kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
            kept[:, :, begin:end] = new
            return kept[:, :, :end]

        self.length = end
        return self.through(x, cos, sin, mask, put)

    def through(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor | None, put: Put
    ) -> torch.Tensor:
        """All layers. mask: (tokens, kept), who sees whom. put: keeps the keys or values of x, and returns all."""
        heads, key_heads, half, count = self.heads, self.key_heads, self.width // 2, x.shape[1]
        group = heads // key_heads
        if mask is not None:
            mask = mask.repeat(group, 1)
        shape, rows = (1, count, -1, self.width), (1, key_heads, group * count, self.width)
        for layer in self.layers:
            seen = layer.before(x)
            both = torch.cat((layer.query(seen).view(shape), layer.key(seen).view(shape)), 2)
            both = layer.heads_norm(both).transpose(1, 2)
            both = torch.addcmul(both * cos, both.roll(half, -1), sin).to(x.dtype)
            keys = put(layer.keys, both[:, heads:])
            values = put(layer.values, layer.value(seen).view(shape).transpose(1, 2))
            # The queries of a group are rows of its one key: nothing is repeated, and any kernel takes the mask.
            told = scaled_dot_product_attention(both[:, :heads].reshape(rows), keys, values, attn_mask=mask)
            x = x + layer.out(told.view(1, heads, count, -1).transpose(1, 2).reshape(1, count, -1))
            seen = layer.behind(x)
            x = x + layer.down(layer.activation(layer.gate(seen)) * layer.up(seen))
        return self.norm(x)

    def forget(self, count: int) -> None:
        """The last tokens that were read were wrong."""
        self.length -= count


def _heads_norm(query_norm: Any, key_norm: Any, heads: int, key_heads: int) -> Call:
    """Of queries and keys in one tensor, (1, tokens, heads + key_heads, width): two norms, or one that is the same.

    Raises:
        TypeError: only one of both is normed.
    """
    if query_norm is None and key_norm is None:
        return lambda both: both
    if query_norm is None or key_norm is None:
        raise TypeError("layers of another kind")
    straight = [norm.keywords for norm in (query_norm, key_norm) if isinstance(norm, partial)]
    if len(straight) == 2 and straight[0]["eps"] == straight[1]["eps"]:
        weights = [part["weight"].expand(count, -1) for part, count in zip(straight, (heads, key_heads), strict=True)]
        weight, width, eps = torch.cat(weights), straight[0]["normalized_shape"], straight[0]["eps"]
        return lambda both: rms_norm(both, width, eps=eps) * weight
    return lambda both: torch.cat((query_norm(both[:, :, :heads]), key_norm(both[:, :, heads:])), 2)


def _turns(factors: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin over the whole width, the second with its first half negated (rotary position embedding, arXiv
    2104.09864).
    """
    cos, sin, negated = factors[:3]
    return cos, torch.cat((negated, sin), -1)
