"""Models: others under ComfyUI's memory manager, and ComfyUI's own language models token by token."""

from __future__ import annotations

from typing import Any

import torch

from .missing import say_missing


class _ModelHolder(torch.nn.Module):
    """ModelPatcher sets `device` on what it holds; a transformers model does not allow that."""

    def __init__(self, model: torch.nn.Module, device: torch.device):
        super().__init__()
        self.model = model
        self.device = device


def managed_model(
    model: torch.nn.Module, size: int, target: torch.device, offload: torch.device, known: Any = None
) -> Any:
    """What ComfyUI's memory manager needs to move a model between devices, or None if that cannot be had.

    size: bytes of the weights. known: the same for these weights from an earlier call; it gets the new size.
    """
    if known is not None:
        known.size = size
        return known
    try:
        from comfy.model_patcher import ModelPatcher

        return ModelPatcher(_ModelHolder(model, offload), target, offload, size=size)
    except (ImportError, AttributeError, TypeError):
        say_missing("comfy.model_patcher.ModelPatcher")
        return None


class TokenDecoder:
    """ComfyUI's Qwen3-VL inside a CLIP, one token at a time over the same weights.

    `clip.generate` has no streaming and no early end, so its loop is taken apart here.
    """

    def __init__(self, clip: Any):
        """Raises:
        AttributeError: a part is not there.
        """
        self.clip, self.inner = clip, clip.cond_stage_model
        self.encoder = getattr(self.inner, self.inner.clip)
        self.transformer = self.encoder.transformer
        self.model = self.transformer.model
        for owner, names in (
            (clip, "load_model"),
            (clip.patcher, "load_device"),
            (self.inner, "reset_clip_options set_clip_options"),
            (self.encoder, "process_tokens"),
            (self.transformer, "build_image_inputs init_kv_cache logits"),
            (self.model, "forward embed_tokens"),
        ):
            for name in names.split():
                getattr(owner, name)
        self.stop_tokens = set(self.model.config.stop_tokens)

    def start(self, tokens: Any, max_tokens: int) -> None:
        """Move the model in and read the prompt."""
        import comfy.model_management as memory

        self.inner.reset_clip_options()
        self.clip.load_model(tokens)
        device = self.clip.patcher.load_device
        self.inner.set_clip_options({"layer": None, "execution_device": device})
        rows = next(iter(tokens.values()))
        embeds, _, _, self.info = self.encoder.process_tokens([[t[0] for t in row] for row in rows], device)
        self.device: torch.device = embeds.device
        self.dtype = torch.bfloat16 if memory.should_use_bf16(embeds.device) else torch.float32
        self.positions, visual, deepstack = self.transformer.build_image_inputs(embeds, self.info)
        self.embeds = embeds.to(self.dtype)
        room = embeds.shape[1] + max_tokens
        self.past = self.transformer.init_kv_cache(embeds.shape[0], room, embeds.device, self.dtype)
        self.position = int(self.positions[:, -1].max()) + 1 if self.positions is not None else None
        self.extra = {"deepstack_embeds": deepstack, "visual_pos_masks": visual} if deepstack is not None else {}

    def logits(self) -> torch.Tensor:
        """Of the next token, for what was read so far."""
        out, _, self.past = self.model.forward(
            None,
            embeds=self.embeds,
            attention_mask=None,
            past_key_values=self.past,
            input_ids=None,
            position_ids=self.positions,
            embeds_info=self.info,
            **self.extra,
        )
        logits: torch.Tensor = self.transformer.logits(out)[:, -1]
        return logits

    def read(self, token: int) -> None:
        """Take the token that was chosen."""
        self.embeds = self.model.embed_tokens(torch.tensor([[token]], device=self.device)).to(self.dtype)
        self.extra, self.info = {}, None
        if self.position is not None:
            self.positions = torch.tensor([[self.position]], device=self.device)
            self.position += 1


def started_decoder(clip: Any, tokens: Any, max_tokens: int) -> TokenDecoder | None:
    """A decoder that has read the prompt; None where a part of the CLIP is missing, takes or returns other things."""
    try:
        decoder = TokenDecoder(clip)
        decoder.start(tokens, max_tokens)
    except (AttributeError, TypeError, ValueError):
        say_missing("CLIP that can be decoded token by token")
        return None
    return decoder


def clip_kind(clip: Any) -> str:
    """What the model inside a CLIP calls itself, such as "qwen3vl_8b"."""
    inner = getattr(clip, "cond_stage_model", None)
    return str(getattr(inner, "clip_name", None) or getattr(inner, "clip", None) or type(inner).__name__)


def clip_size(clip: Any) -> str:
    """Width and number of layers of the model inside a CLIP."""
    config = getattr(getattr(_transformer(clip), "model", None), "config", None)
    return f"{getattr(config, 'hidden_size', '?')}x{getattr(config, 'num_hidden_layers', '?')}"


def clip_sees(clip: Any) -> bool:
    """Whether the model inside a CLIP is a Qwen3-VL with its vision part; True where that cannot be told."""
    if not hasattr(clip, "cond_stage_model"):
        return True
    transformer = _transformer(clip)
    named = str(getattr(transformer, "model_type", "")).startswith("qwen3vl")
    return hasattr(transformer, "visual") and (named or hasattr(transformer, "build_image_inputs"))


def clip_files(clip: Any) -> str:
    """Names (no folders) of the files a CLIP was loaded from, as far as ComfyUI tells."""
    if not hasattr(clip.patcher, "cached_patcher_init"):
        say_missing("patcher.cached_patcher_init")
        return ""
    source = clip.patcher.cached_patcher_init
    found = source[1] if isinstance(source, tuple) and len(source) > 1 else ""
    names = []
    for entry in found if isinstance(found, (list, tuple)) else [found]:
        for path in entry if isinstance(entry, (list, tuple)) else [entry]:
            if isinstance(path, str) and "." in path:
                names.append(path.replace("\\", "/").rsplit("/", 1)[-1])
    return "+".join(names)


def _transformer(clip: Any) -> Any:
    inner: Any = getattr(clip, "cond_stage_model", None)
    encoder = getattr(inner, inner.clip, None) if isinstance(getattr(inner, "clip", None), str) else None
    return getattr(encoder, "transformer", None)
