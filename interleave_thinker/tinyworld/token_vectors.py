"""The tiny generator's text encoder.

It has no layers: each token is a fixed random vector plus a position vector, normalised. ComfyUI's CLIP-L loader reads
the same numbers (its twelve layers then hold zeros), so both runtimes condition on the same tensor.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

TOKENS = 24
"""Tokens a chunk of text takes, start and end included."""
WIDTH = 768
VOCABULARY = 49408


class TokenVectors(torch.nn.Module):
    """Token id -> fixed vector. Row i of the table is `flat[i : i + WIDTH]`, so 0.1 MB hold 38M numbers."""

    flat: Tensor
    position: Tensor

    def __init__(self, flat: Tensor, position: Tensor):
        super().__init__()
        self.register_buffer("flat", flat)
        self.register_buffer("position", position)

    @staticmethod
    def random(seed: int = 2) -> TokenVectors:
        generator = torch.Generator().manual_seed(seed)
        flat = torch.randn(VOCABULARY + WIDTH, generator=generator).half()
        position = (torch.randn(TOKENS, WIDTH, generator=generator) * 0.5).half()
        return TokenVectors(flat, position)

    @staticmethod
    def load(folder: Path) -> TokenVectors:
        tensors = load_file(folder / "model.safetensors")
        return TokenVectors(tensors["flat"], tensors["position"])

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"flat": self.flat, "position": self.position}, folder / "model.safetensors")

    @property
    def device(self) -> torch.device:
        return self.flat.device

    @property
    def dtype(self) -> torch.dtype:
        """Of what `forward` gives; on disk the numbers are float16."""
        return torch.float32

    def table(self) -> Tensor:
        """float16 (VOCABULARY, WIDTH), a view that overlaps itself."""
        return torch.as_strided(self.flat, (VOCABULARY, WIDTH), (1, 1))

    def forward(self, ids: Tensor) -> Tensor:
        """ids (batch, TOKENS) -> float32 (batch, TOKENS, WIDTH)."""
        hidden = self.table()[ids].float() + self.position.float()
        return F.layer_norm(hidden, (WIDTH,))
