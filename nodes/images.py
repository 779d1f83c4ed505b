"""ComfyUI's IMAGE tensors <-> PIL images. What goes on from an attempt is always 8 bits a channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image


def one_image(tensor: torch.Tensor | None, what: str) -> Image.Image:
    """The first image of a batch, as `to_images`.

    Raises:
        ValueError: there is none; names `what`.
    """
    is_batch = isinstance(tensor, torch.Tensor) and tensor.ndim == 4
    images = to_images(tensor[:1] if tensor is not None and is_batch else tensor, what)
    if not images:
        raise ValueError(f"{what} is missing: the node that makes it gave nothing. Look at how that node is set.")
    return images[0]


def to_images(tensor: torch.Tensor | None, what: str = "image") -> list[Image.Image]:
    """(batch, height, width, 1, 3 or 4) floats in [0, 1] -> RGB images; alpha is dropped.

    Raises:
        ValueError: not such a tensor, or it holds NaN or infinite values; names `what`.
    """
    if tensor is None:
        return []
    if not isinstance(tensor, torch.Tensor) or tensor.ndim != 4 or tensor.shape[-1] not in (1, 3, 4):
        came = (
            f"of shape {tuple(tensor.shape)}"
            if isinstance(tensor, torch.Tensor)
            else f"of type {type(tensor).__name__}"
        )
        raise ValueError(f"{what} is {came}; a picture has the shape (batch, height, width, 1, 3 or 4 channels).")
    if 0 in tensor.shape[1:]:
        raise ValueError(
            f"{what} is {tuple(tensor.shape)}: it has no pixels. Look at how the node that makes it is set."
        )
    if not bool(torch.isfinite(tensor.sum(dtype=torch.float32))):  # one pass: NaN and infinity survive a sum
        raise ValueError(
            f"{what} holds NaN or infinite values. The sampler or the VAE failed; try another VAE, precision or seed."
        )
    if tensor.shape[-1] == 1:
        tensor = tensor.expand(*tensor.shape[:-1], 3)
    return [Image.fromarray(_to_bytes(image), "RGB") for image in tensor[..., :3].detach()]


def _to_bytes(image: torch.Tensor) -> np.ndarray:
    """By NumPy: torch would share this little work among all cores, and wait for those that are busy."""
    scaled: np.ndarray = image.float().cpu().numpy() * np.float32(255.0)
    rounded: np.ndarray = np.rint(scaled, out=scaled).clip(0, 255, out=scaled).astype(np.uint8)
    return rounded


def to_tensor(image: Image.Image) -> torch.Tensor:
    """RGB image -> float32 (1, height, width, 3) in [0, 1]."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(pixels)[None]


def images_of_sockets(sockets: Mapping[str, Any] | None) -> list[Image.Image]:
    """The images of a growing row of sockets, in the order of the sockets; batches are split."""
    images: list[Image.Image] = []
    for name in sorted(sockets or {}, key=lambda n: int(n.rsplit("_", 1)[-1])):
        images += to_images((sockets or {})[name], name)
    return images
