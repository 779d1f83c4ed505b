"""Adapter files for the tiny base: of random pairs, and of the difference to the tiny critic."""

from __future__ import annotations

from pathlib import Path

import torch

from interleave_thinker.agents.adapter_file import WORDS, BaseSample, Pair, hf_name, layer_of, write_adapter
from interleave_thinker.agents.transformers_agent import load_agent

WEIGHTS = Path(__file__).parents[2] / "interleave_thinker" / "tinyworld" / "weights"


def linear_weights(model: str) -> dict[str, torch.Tensor]:
    """Of the linear layers of an agent of the tiny world, by ComfyUI's places, as float32."""
    agent = load_agent(WEIGHTS / model, device="cpu", dtype="float32")
    return {
        layer_of(name): layer.weight.detach()
        for name, layer in agent.model.named_modules()
        if isinstance(layer, torch.nn.Linear) and name != "lm_head"
    }


def word_weights(model: str) -> torch.Tensor:
    """The word embeddings of an agent of the tiny world, as float32; its head is tied to them."""
    agent = load_agent(WEIGHTS / model, device="cpu", dtype="float32")
    weight: torch.Tensor = agent.model.get_submodule(hf_name(WORDS)).weight.detach()
    return weight


def random_adapter(
    file: Path, seed: int, *, rank: int = 4, scale: float = 0.5, size: float = 0.15, words: bool = True
) -> dict[str, Pair]:
    """Pairs on all linear layers and, with `words`, on the word embeddings, large enough to change what is written."""
    draw = torch.Generator().manual_seed(seed)
    layers = linear_weights("base")
    paired = layers | ({WORDS: word_weights("base")} if words else {})
    pairs = {
        layer: Pair(
            torch.randn(weight.shape[0], rank, generator=draw) * size,
            torch.randn(rank, weight.shape[1], generator=draw) * size,
            scale,
        )
        for layer, weight in paired.items()
    }
    write_adapter(file, pairs, base="base", sample=sample_of(layers))
    return pairs


def critic_adapter(file: Path, rank: int) -> None:
    """The best pairs of this rank for what the tiny critic's linear layers have more than the base's."""
    base, critic = linear_weights("base"), linear_weights("critic")
    pairs = {}
    for layer, weight in base.items():
        left, values, right = torch.linalg.svd(critic[layer] - weight, full_matrices=False)
        kept = min(rank, len(values))
        pairs[layer] = Pair(left[:, :kept] * values[:kept], right[:kept].contiguous())
    write_adapter(file, pairs, base="base", sample=sample_of(base))


def sample_of(layers: dict[str, torch.Tensor]) -> BaseSample:
    return BaseSample.of(layers, lambda layer: layers[layer][0])
