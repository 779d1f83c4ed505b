"""An agent from ComfyUI's own Qwen3-VL: the model that stock Load CLIP gives, decoded by a loop of ours.

`clip.generate` has no streaming, no early end and no way to interrupt between tokens, so the loop is
here: prefill, then one token at a time over the same weights, under ComfyUI's memory manager.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management as memory
import torch

from ..interleave_thinker.agents.base import Completion, Message, OnText, Sampling, TextStream, shrink
from ..interleave_thinker.errors import AgentError
from .images import to_tensor

_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_FORBIDDEN = re.compile(r"<\|(?=[a-z_]+\|>)")
_EMBEDDING = re.compile(r"embedding:", re.I)


@dataclass
class NativeAgent:
    """`clip` is ComfyUI's CLIP object; `model` the language model inside it."""

    clip: Any
    name: str
    check: Callable[[], None]
    prompts: str | None = None

    @classmethod
    def from_clip(cls, clip: Any, check: Callable[[], None]) -> NativeAgent:
        """Take a CLIP if it is a Qwen3-VL with its eyes.

        Raises:
            AgentError: it is another model, or Load CLIP's type dropped the vision tower.
        """
        inner = getattr(clip, "cond_stage_model", None)
        kind = str(getattr(inner, "clip_name", None) or getattr(inner, "clip", None) or type(inner).__name__)
        transformer = _transformer(inner)
        if not hasattr(transformer, "visual") or not hasattr(transformer, "build_image_inputs"):
            raise AgentError(
                f"This CLIP ({kind}) cannot see pictures. Load a Qwen3-VL file with Load CLIP and choose the type "
                "'qwen_image' (or 'stable_diffusion'): the types flux, flux2 and others load the same file "
                "without its vision part."
            )
        size = getattr(getattr(transformer, "model", None), "config", None)
        hidden = getattr(size, "hidden_size", "?")
        layers = getattr(size, "num_hidden_layers", "?")
        source = getattr(clip.patcher, "cached_patcher_init", None)
        where = source[1] if isinstance(source, tuple) and len(source) > 1 else ""
        return cls(clip, f"clip:{kind}:{hidden}x{layers}:{_file_names(where)}", check)

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        text, images = _prompt(messages, sampling)
        tokens = self.clip.tokenize(text, images=images)
        inner = self.clip.cond_stage_model
        inner.reset_clip_options()
        self.clip.load_model(tokens)
        encoder = _encoder(inner)
        device = self.clip.patcher.load_device
        inner.set_clip_options({"layer": None, "execution_device": device})
        rows = next(iter(tokens.values()))
        with torch.inference_mode():
            embeds, _, _, info = encoder.process_tokens([[t[0] for t in row] for row in rows], device)
            return self._decode(encoder.transformer, embeds, info, sampling, TextStream(on_text))

    def _decode(self, transformer: Any, embeds: Any, info: Any, sampling: Sampling, stream: TextStream) -> Completion:
        """Greedy or sampled decoding with a key-value cache, one token at a time."""
        model = transformer.model
        dtype = torch.bfloat16 if memory.should_use_bf16(embeds.device) else torch.float32
        positions, visual, deepstack = transformer.build_image_inputs(embeds, info)
        embeds = embeds.to(dtype)
        room = embeds.shape[1] + sampling.max_tokens
        past = transformer.init_kv_cache(embeds.shape[0], room, embeds.device, dtype)
        chance = torch.Generator(device=embeds.device).manual_seed(sampling.seed % 2**63)
        position = int(positions[:, -1].max()) + 1 if positions is not None else None
        extra = {"deepstack_embeds": deepstack, "visual_pos_masks": visual} if deepstack is not None else {}
        ids: list[int] = []
        shown = ""
        stop_ids = set(model.config.stop_tokens)
        for _ in range(sampling.max_tokens):
            self.check()
            out, _, past = model.forward(
                None,
                embeds=embeds,
                attention_mask=None,
                past_key_values=past,
                input_ids=None,
                position_ids=positions,
                embeds_info=info,
                **extra,
            )
            token = _pick(transformer.logits(out)[:, -1], sampling, chance)
            if token in stop_ids:
                return stream.completion(cut_off=False)
            ids.append(token)
            text = self._text(ids)
            if not text.endswith("\ufffd"):
                piece, shown = text[len(shown) :], text
                if not stream.push(piece):
                    return stream.completion(cut_off=False)
            embeds = model.embed_tokens(torch.tensor([[token]], device=embeds.device)).to(dtype)
            extra, info = {}, None
            if position is not None:
                positions = torch.tensor([[position]], device=embeds.device)
                position += 1
        return stream.completion(cut_off=True)

    def _text(self, ids: list[int]) -> str:
        decoded: str = self.clip.decode(ids, skip_special_tokens=False)
        return decoded


def _pick(logits: torch.Tensor, sampling: Sampling, chance: torch.Generator) -> int:
    """The next token: the likeliest, or drawn from the top_k and top_p of a tempered distribution."""
    if sampling.temperature <= 0:
        return int(logits.argmax(-1)[0])
    values, ids = torch.topk(logits[0].float() / sampling.temperature, min(sampling.top_k, logits.shape[-1]))
    chances = torch.softmax(values, -1)
    keep = chances.cumsum(-1) - chances < sampling.top_p
    drawn = torch.multinomial(torch.where(keep, chances, 0.0), 1, generator=chance)
    return int(ids[drawn])


def _prompt(messages: Sequence[Message], sampling: Sampling) -> tuple[str, list[torch.Tensor]]:
    """Qwen's chat form, written out, so that ComfyUI's tokenizer adds no template of its own."""
    turns, images = [], []
    for message in messages:
        body = ""
        for part in message.parts:
            if isinstance(part, str):
                body += _plain(part)
            else:
                body += _IMAGE
                images.append(to_tensor(shrink(part, sampling.max_pixels)))
        turns.append(f"<|im_start|>{message.role}\n{body}<|im_end|>\n")
    return "".join(turns) + "<|im_start|>assistant\n", images


def _plain(text: str) -> str:
    """Text that stays text: no chat marks of its own, no "embedding:name" that ComfyUI would look up."""
    return _EMBEDDING.sub(lambda m: m.group()[:-1] + " :", _FORBIDDEN.sub("< |", text))


def _encoder(inner: Any) -> Any:
    return getattr(inner, inner.clip, None) if isinstance(getattr(inner, "clip", None), str) else None


def _transformer(inner: Any) -> Any:
    return getattr(_encoder(inner), "transformer", None)


def _file_names(source: Any) -> str:
    """Names (no folders) of the files a CLIP was loaded from, as far as ComfyUI tells."""
    flat = source if isinstance(source, (list, tuple)) else [source]
    names = []
    for entry in flat:
        for path in entry if isinstance(entry, (list, tuple)) else [entry]:
            if isinstance(path, str) and "." in path:
                names.append(path.replace("\\", "/").rsplit("/", 1)[-1])
    return "+".join(names)
