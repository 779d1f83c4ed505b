"""An agent from ComfyUI's own Qwen3-VL: the model that stock Load CLIP gives.

`clip.generate` has no streaming, no early end and no way to interrupt between tokens, so the loop over the tokens is
here (`comfy_internals.models.TokenDecoder` has a step of it), under ComfyUI's memory manager.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..interleave_thinker.agents.base import Completion, Message, OnText, Sampling, TextStream, shrink
from ..interleave_thinker.errors import AgentError
from .comfy_internals.graphs import release_graphs
from .comfy_internals.models import TokenDecoder, clip_files, clip_kind, clip_sees, clip_size, started_decoder
from .images import to_tensor

_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_CHAT_MARK = re.compile(r"<\|(?=[a-z_]+\|>)")
_EMBEDDING = re.compile(r"embedding:", re.I)


@dataclass
class NativeAgent:
    """`clip` is ComfyUI's CLIP object."""

    clip: Any
    name: str
    check: Callable[[], None]
    prompts: str | None = None

    @classmethod
    def from_clip(cls, clip: Any, check: Callable[[], None]) -> NativeAgent:
        """Take a CLIP if it is a Qwen3-VL with its vision part.

        Raises:
            AgentError: it is another model, or Load CLIP's type dropped the vision part.
        """
        kind = clip_kind(clip)
        if not clip_sees(clip):
            raise AgentError(
                f"This CLIP ({kind}) cannot see pictures. Load a Qwen3-VL file with Load CLIP and choose the type "
                "'qwen_image' (or 'stable_diffusion'): the types flux, flux2 and others load the same file "
                "without its vision part."
            )
        return cls(clip, f"clip:{kind}:{clip_size(clip)}:{clip_files(clip)}", check)

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        text, images = _prompt(messages, sampling)
        tokens = self.clip.tokenize(text, images=images)
        with torch.inference_mode():
            decoder = started_decoder(self.clip, tokens, sampling.max_tokens)
            if decoder is None:
                return self._whole_reply(tokens, sampling, TextStream(on_text))
            return self._decode(decoder, sampling, TextStream(on_text))

    def _decode(self, decoder: TokenDecoder, sampling: Sampling, stream: TextStream) -> Completion:
        """Greedy or sampled, one token at a time."""
        random = torch.Generator(device=decoder.device).manual_seed(sampling.seed % 2**63)
        ids: list[int] = []
        shown = ""
        for _ in range(sampling.max_tokens):
            self.check()
            token = _pick(decoder.logits(), sampling, random)
            if token in decoder.stop_tokens:
                return stream.completion(cut_off=False)
            ids.append(token)
            text = self._text(ids)
            if not text.endswith("\ufffd"):
                piece, shown = text[len(shown) :], text
                if not stream.push(piece):
                    return stream.completion(cut_off=False)
            decoder.read(token)
        return stream.completion(cut_off=True)

    def _whole_reply(self, tokens: Any, sampling: Sampling, stream: TextStream) -> Completion:
        """By ComfyUI's own loop, as Generate Text does it.

        Raises:
            AgentError: this ComfyUI has none.
        """
        if not hasattr(self.clip, "generate"):
            raise AgentError(
                "This ComfyUI lets no node write text with a CLIP (there is no clip.generate). Use Load Agent or Agent "
                "from Server instead, or update InterleaveThinker."
            )
        self.check()
        try:
            ids = self.clip.generate(
                tokens,
                do_sample=sampling.temperature > 0,
                max_length=sampling.max_tokens,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                seed=sampling.seed % 2**63,
            )
        finally:
            release_graphs()
        stream.push(self.clip.decode(ids), tokens=len(ids))
        return stream.completion(cut_off=len(ids) >= sampling.max_tokens)

    def _text(self, ids: list[int]) -> str:
        decoded: str = self.clip.decode(ids, skip_special_tokens=False)
        return decoded


def _pick(logits: torch.Tensor, sampling: Sampling, random: torch.Generator) -> int:
    """The next token: the likeliest, or drawn from the top_k and top_p of a tempered distribution."""
    if sampling.temperature <= 0:
        return int(logits.argmax(-1)[0])
    values, ids = torch.topk(logits[0].float() / sampling.temperature, min(sampling.top_k, logits.shape[-1]))
    chances = torch.softmax(values, -1)
    keep = chances.cumsum(-1) - chances < sampling.top_p
    drawn = torch.multinomial(torch.where(keep, chances, 0.0), 1, generator=random)
    return int(ids[drawn])


def _prompt(messages: Sequence[Message], sampling: Sampling) -> tuple[str, list[torch.Tensor]]:
    """Qwen's chat form, written out, so that ComfyUI's tokenizer adds no template of its own."""
    turns, images = [], []
    for message in messages:
        content = ""
        for part in message.parts:
            if isinstance(part, str):
                content += _without_marks(part)
            else:
                content += _IMAGE
                images.append(to_tensor(shrink(part, sampling.max_pixels)))
        turns.append(f"<|im_start|>{message.role}\n{content}<|im_end|>\n")
    return "".join(turns) + "<|im_start|>assistant\n", images


def _without_marks(text: str) -> str:
    """Text that stays text: no chat marks of its own, no "embedding:name" that ComfyUI would look up."""
    return _EMBEDDING.sub(lambda m: m.group()[:-1] + " :", _CHAT_MARK.sub("< |", text))
