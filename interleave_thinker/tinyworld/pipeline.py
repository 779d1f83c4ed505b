"""The tiny generator outside ComfyUI: a diffusers pipeline of stock classes.

`FluxTransformer2DModel` (256 wide, 2 double and 4 single blocks), `AutoencoderTiny` with 16 latent
channels and `FlowMatchEulerDiscreteScheduler`. A reference picture is appended to the token sequence
with position index 1, as in FLUX.1 Kontext, so one model draws from text and edits.
`convert.py` turns the same weights into the files that ComfyUI's stock loaders read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
)
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image
from torch import Tensor
from transformers import CLIPTokenizer

from .token_vectors import TOKENS, WIDTH, TokenVectors

START, END = 49406, 49407
LATENT_CHANNELS = 16
STEPS = 8
MOST_SIDE = 256
"""Of a picture."""
GUIDANCE = 2.5


@lru_cache(maxsize=4096)
def _ids(tokenizer: CLIPTokenizer, word: str) -> tuple[int, ...]:
    return tuple(tokenizer(word, add_special_tokens=False)["input_ids"])


def tokenize(tokenizer: CLIPTokenizer, text: str) -> Tensor:
    """Chunks of `TOKENS` ids, cut between words where possible, as ComfyUI's CLIP tokenizer does.

    Returns int64 (chunks, TOKENS).
    """
    room = TOKENS - 2
    chunks: list[list[int]] = [[]]
    for word in text.replace("\n", " ").split(" "):
        ids = list(_ids(tokenizer, word)) if word else []
        while ids:
            free = room - len(chunks[-1])
            if len(ids) <= free:
                chunks[-1] += ids
                break
            if len(ids) >= 8:
                chunks[-1] += ids[:free]
                ids = ids[free:]
            chunks.append([])
    rows = [[START, *chunk, END] for chunk in chunks]
    return torch.tensor([row + [END] * (TOKENS - len(row)) for row in rows])


def pack(latents: Tensor) -> Tensor:
    """(batch, channels, height, width) -> (batch, height/2 * width/2, channels * 4)."""
    b, c, h, w = latents.shape
    tokens = latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return tokens.reshape(b, (h // 2) * (w // 2), c * 4)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    b, _, d = tokens.shape
    latents = tokens.view(b, height // 2, width // 2, d // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return latents.reshape(b, d // 4, height, width)


def position_ids(height: int, width: int, index: int) -> Tensor:
    """(height/2 * width/2, 3): which picture, row, column."""
    ids = torch.zeros(height // 2, width // 2, 3)
    ids[..., 0] = index
    ids[..., 1] = torch.arange(height // 2)[:, None]
    ids[..., 2] = torch.arange(width // 2)[None, :]
    return ids.view(-1, 3)


def velocity(
    transformer: FluxTransformer2DModel,
    latents: Tensor,
    time: Tensor,
    text: Tensor,
    reference: Tensor | None = None,
) -> Tensor:
    """d(latents)/d(time) of the flow from picture (0) to noise (1).

    latents, reference: (batch, 16, h, w); time: (batch,) in [0, 1]; text: (batch, tokens, 768).
    """
    height, width = latents.shape[-2:]
    tokens = pack(latents)
    ids = position_ids(height, width, 0)
    if reference is not None:
        tokens = torch.cat([tokens, pack(reference)], 1)
        ids = torch.cat([ids, position_ids(reference.shape[-2], reference.shape[-1], 1)])
    out = transformer(
        hidden_states=tokens,
        encoder_hidden_states=text,
        pooled_projections=torch.zeros(len(text), 8, device=text.device, dtype=text.dtype),
        timestep=time,
        img_ids=ids.to(text.device),
        txt_ids=torch.zeros(text.shape[1], 3, device=text.device),
        return_dict=False,
    )[0]
    count = (height // 2) * (width // 2)
    return unpack(out[:, :count], height, width)


class TinyKontextPipeline(DiffusionPipeline):
    """Text to image, or text and image to image, 64 x 64 unless told otherwise."""

    batches_requests = True
    """A list of prompts and images is as many requests (`DiffusersGenerator.generate_all`)."""

    def __init__(
        self,
        transformer: FluxTransformer2DModel,
        vae: AutoencoderTiny,
        scheduler: FlowMatchEulerDiscreteScheduler,
        tokenizer: CLIPTokenizer,
        text_encoder: TokenVectors,
    ):
        super().__init__()
        self.register_modules(
            transformer=transformer,
            vae=vae,
            scheduler=scheduler,
            tokenizer=tokenizer,
            text_encoder=text_encoder,
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path, **kwargs: Any) -> TinyKontextPipeline:
        """Load a folder written by `save_pretrained`. Weights on disk are float16, in memory float32."""
        folder = Path(folder)
        dtype = kwargs.get("torch_dtype", torch.float32)
        return cls(
            FluxTransformer2DModel.from_pretrained(folder / "transformer", torch_dtype=dtype),
            AutoencoderTiny.from_pretrained(folder / "vae", torch_dtype=dtype),
            FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
            CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            TokenVectors.load(folder / "text_encoder"),
        )

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        folder = Path(folder)
        for name in ("transformer", "vae"):
            part = getattr(self, name).half()
            part.register_to_config(_name_or_path="")  # a folder of the machine it was trained on
            part.save_pretrained(folder / name)
        self.scheduler.save_pretrained(folder / "scheduler")
        self.tokenizer.save_pretrained(folder / "tokenizer")
        self.text_encoder.save(folder / "text_encoder")
        index = {"_class_name": type(self).__name__, "_diffusers_version": "0.35.0"}
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")

    def encode_text(self, prompt: str) -> Tensor:
        """(1, chunks * TOKENS, 768)."""
        hidden: Tensor = self.text_encoder(tokenize(self.tokenizer, prompt))
        return hidden.reshape(1, -1, WIDTH).to(self._execution_device, self.transformer.dtype)

    def encode_image(self, image: Image.Image) -> Tensor:
        """(1, 16, height/8, width/8)."""
        image = image.convert("RGB").crop((0, 0, image.width // 16 * 16, image.height // 16 * 16))
        pixels = torch.from_numpy(np.asarray(image).astype(np.float32) / 127.5 - 1.0)
        pixels = pixels.permute(2, 0, 1)[None].to(self._execution_device, self.vae.dtype)
        latents: Tensor = self.vae.encode(pixels).latents
        return latents

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Sequence[Image.Image | None] | None = None,
        *,
        height: int = 64,
        width: int = 64,
        num_inference_steps: int = STEPS,
        guidance_scale: float = GUIDANCE,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        **_: Any,
    ) -> ImagePipelineOutput:
        """Make one picture for each prompt. With `image`, all prompts edit, one picture each, scaled to the result's
        size. That is `width` x `height`, or what `drawable` makes of it.

        `latents` (batch, 16, height/8, width/8) replaces the noise drawn from `generator`.
        Guidance is classifier-free against an empty (all-zero) text; 1.0 switches it off.
        """
        width, height = drawable(width, height)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        images = [image] if isinstance(image, Image.Image) or image is None else list(image)
        reference = None
        if images[0] is not None:
            size = (width, height)
            fitted = [i if i.size == size else i.resize(size) for i in images if i is not None]
            reference = torch.cat([self.encode_image(i) for i in fitted])
        text = _pad_rows([self.encode_text(p) for p in prompts])
        device, dtype = self._execution_device, self.transformer.dtype
        if latents is None:
            shape = (1, LATENT_CHANNELS, height // 8, width // 8)
            makers = generator if isinstance(generator, Sequence) else [generator] * len(prompts)
            latents = torch.cat([torch.randn(shape, generator=g) for g in makers])
        latents = latents.to(device, torch.float32)
        sigmas = np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps)
        self.scheduler.set_timesteps(sigmas=sigmas, device=device)
        for step, time in enumerate(self.scheduler.timesteps):
            flow = self._guided(latents.to(dtype), time / 1000.0, text, reference, guidance_scale)
            latents = self.scheduler.step(flow, time, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                callback_on_step_end(self, step, time, {})
        decoded = self.vae.decode(latents.to(self.vae.dtype)).sample.float()
        pixels = (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        made = [Image.fromarray((p * 255.0).round().astype(np.uint8), "RGB") for p in pixels]
        return ImagePipelineOutput(images=made)

    def _guided(self, latents: Tensor, time: Tensor, text: Tensor, reference: Tensor | None, scale: float) -> Tensor:
        moment = time.expand(len(latents)).to(latents)
        if scale == 1.0:
            return velocity(self.transformer, latents, moment, text, reference)
        both = velocity(
            self.transformer,
            torch.cat([latents, latents]),
            torch.cat([moment, moment]),
            torch.cat([text, torch.zeros_like(text)]),
            None if reference is None else torch.cat([reference, reference]),
        )
        with_text, without = both.chunk(2)
        return without + scale * (with_text - without)


def drawable(width: int, height: int) -> tuple[int, int]:
    """The size up to MOST_SIDE, a larger one with its longer side at 64, as trained; in steps of 16 pixels.

    The time grows with the fourth power of the side: a picture of 1024x1024 takes twenty minutes on a CPU.
    """
    longest = max(width, height)
    scale = 1.0 if longest <= MOST_SIDE else 64 / longest
    wide, high = (max(16, round(side * scale / 16) * 16) for side in (width, height))
    return wide, high


def _pad_rows(rows: list[Tensor]) -> Tensor:
    longest = max(r.shape[1] for r in rows)
    if any(r.shape[1] != longest for r in rows):
        raise ValueError("Prompts of one batch must take the same number of text chunks.")
    return torch.cat(rows)


def new_transformer() -> FluxTransformer2DModel:
    """Random weights; the pooled text branch, which ComfyUI's file does not have, is exactly zero."""
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=LATENT_CHANNELS * 4,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=128,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=8,
    )
    for parameter in model.time_text_embed.text_embedder.parameters():
        parameter.data.zero_()
        parameter.requires_grad_(False)
    return model
