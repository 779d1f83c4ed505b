"""ComfyUI's IMAGE tensors <-> PIL pictures. What goes on from an attempt is always 8 bits a channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image


def to_pictures(image: torch.Tensor | None, what: str = "image") -> list[Image.Image]:
    """(batch, height, width, 1, 3 or 4) floats in [0, 1] -> RGB pictures; alpha is dropped.

    Raises:
        ValueError: not such a tensor, or it holds NaN or infinite values; names `what`.
    """
    if image is None:
        return []
    if not isinstance(image, torch.Tensor) or image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        shape = tuple(image.shape) if isinstance(image, torch.Tensor) else type(image).__name__
        raise ValueError(f"{what} is {shape}; a picture has the shape (batch, height, width, channels).")
    if not bool(torch.isfinite(image.sum(dtype=torch.float32))):  # one pass: NaN and infinity survive a sum
        raise ValueError(
            f"{what} holds NaN or infinite values. The sampler or the VAE failed; try another VAE, precision or seed."
        )
    if image.shape[-1] == 1:
        image = image.expand(*image.shape[:-1], 3)
    return [Image.fromarray(_bytes(picture), "RGB") for picture in image[..., :3].detach()]


def _bytes(picture: torch.Tensor) -> np.ndarray:
    """By NumPy: torch would share this little work among all cores, and wait for those that are busy."""
    scaled = picture.float().cpu().numpy() * np.float32(255.0)
    return np.rint(scaled, out=scaled).clip(0, 255, out=scaled).astype(np.uint8)


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """RGB picture -> float32 (1, height, width, 3) in [0, 1]."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(pixels)[None]


def grown_pictures(images: Mapping[str, Any] | None) -> list[Image.Image]:
    """The pictures of a growing row of sockets, in the order of the sockets; batches are split."""
    pictures: list[Image.Image] = []
    for name in sorted(images or {}, key=lambda n: int(n.rsplit("_", 1)[-1])):
        pictures += to_pictures((images or {})[name], name)
    return pictures
