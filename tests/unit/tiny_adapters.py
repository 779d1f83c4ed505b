"""Adapter files for the tiny base: of random pairs, and of the difference to the tiny critic."""

from __future__ import annotations

from pathlib import Path

import torch

from interleave_thinker.agents.adapter_file import (
    NOT_LINEAR,
    WORDS,
    BaseSample,
    Pair,
    hf_name,
    layer_of,
    sides,
    write_adapter,
)
from interleave_thinker.agents.transformers_agent import load_agent

WEIGHTS = Path(__file__).parents[2] / "interleave_thinker" / "tinyworld" / "weights"
WHOLE_CRITIC = Path(__file__).parents[1] / "whole_critic"
"""The critic that `weights/critic` is the adapter of: trained from `weights/base` with every weight learning."""


def linear_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of the linear layers of an agent, by ComfyUI's places, as float32."""
    agent = load_agent(folder, device="cpu", dtype="float32")
    return {
        layer_of(name): layer.weight.detach()
        for name, layer in agent.model.named_modules()
        if isinstance(layer, torch.nn.Linear) and name != "lm_head"
    }


def other_weights() -> dict[str, torch.Tensor]:
    """Of the tiny base's layers that are not linear and can have a pair, by ComfyUI's places, as float32."""
    agent = load_agent(WEIGHTS / "base", device="cpu", dtype="float32")
    return {layer: agent.model.get_submodule(hf_name(layer)).weight.detach() for layer in NOT_LINEAR}


def random_adapter(
    file: Path, seed: int, *, rank: int = 4, scale: float = 0.5, size: float = 0.15, words: bool = True
) -> dict[str, Pair]:
    """Pairs on all linear layers, on the embeddings of places and patches and, with `words`, of words; constants of the
    vision tower's layers, which have biases. They are large enough to change what is written.
    """
    draw = torch.Generator().manual_seed(seed)
    layers = linear_weights(WEIGHTS / "base")
    paired = layers | {layer: weight for layer, weight in other_weights().items() if words or layer != WORDS}
    pairs = {
        layer: Pair(
            torch.randn(sides(weight)[0], rank, generator=draw) * size,
            torch.randn(rank, sides(weight)[1], generator=draw) * size,
            scale,
        )
        for layer, weight in paired.items()
    }
    constants = {
        layer: torch.randn(weight.shape[0], generator=draw) * size
        for layer, weight in layers.items()
        if layer.startswith("visual.")
    }
    write_adapter(file, pairs, constants, base="base", sample=sample_of(layers))
    return pairs


def critic_adapter(file: Path, rank: int) -> None:
    """The best pairs of this rank for what the tiny critic's linear layers have more than the base's."""
    base, critic = linear_weights(WEIGHTS / "base"), linear_weights(WHOLE_CRITIC)
    pairs = {}
    for layer, weight in base.items():
        left, values, right = torch.linalg.svd(critic[layer] - weight, full_matrices=False)
        kept = min(rank, len(values))
        pairs[layer] = Pair(left[:, :kept] * values[:kept], right[:kept].contiguous())
    write_adapter(file, pairs, base="base", sample=sample_of(base))


def sample_of(layers: dict[str, torch.Tensor]) -> BaseSample:
    return BaseSample.of(layers, lambda layer: layers[layer][0])
