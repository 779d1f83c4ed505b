"""An agent from one of ComfyUI's own language models: whatever stock Load CLIP gives that can see and write.

`clip.generate` has no streaming, no early end and no way to interrupt between tokens, so the loop over the tokens is
here (`comfy_internals.clips.TokenDecoder` has a step of it), under ComfyUI's memory manager. It bypasses
the image model's wrapper: the agent speaks the model's own chat form, and the CLIP encodes the same before and after.
A model whose chat form is not known here is asked as ComfyUI's Generate Text does it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..interleave_thinker.agents.adapter_file import AdapterFile
from ..interleave_thinker.agents.base import Completion, Message, OnText, Sampling, TextStream, shrink
from ..interleave_thinker.agents.decoding import decode
from ..interleave_thinker.agents.drafts import MOST_REPLIES, Drafts, KnownTexts
from ..interleave_thinker.agents.kept_pictures import picture_key
from ..interleave_thinker.agents.reply_form import FormSteering, Vocabulary
from ..interleave_thinker.errors import AgentError
from .comfy_internals.adapters import ClipAdapter
from .comfy_internals.clips import (
    MARK,
    Held,
    chat_marks,
    clip_files,
    clip_kind,
    clip_lack,
    clip_size,
    held_by,
    load_with_room,
    picture_slots,
    reply_dtype,
    reply_room,
    replying,
    started_decoder,
)
from .comfy_internals.seen_pictures import SeenPictures
from .images import to_tensor

_CHAT_MARK = re.compile(r"<(?=\|[a-z_]+\|?>|[a-z_]+\|>|(?:bos|eos|pad|unk|mask)>)")
_EMBEDDING = re.compile(r"embedding:", re.I)
_REPLY_TAGS = {"<think>", "</think>", "<answer>", "</answer>"}
"""Of the form that planner and critic are asked for: words of some vocabularies, and no marks of a turn."""

_LACKS = {
    "eyes": "cannot see pictures. Load a Qwen3-VL file with Load CLIP and choose the type 'qwen_image' (or "
    "'stable_diffusion'): the types flux and flux2 load the same file without its vision part.",
    "head": "sees pictures, but ComfyUI loads it without the language head that writes. Give the agent a Qwen3-VL, "
    "Qwen3.5 or Gemma 4 with a Load CLIP of its own, or use Load Agent or Agent from Server.",
    "layers": "is a shortened text encoder: its last layers are not in the file, so it cannot write. Give the agent a "
    "whole Qwen3-VL (4B or 8B), Qwen3.5 or Gemma 4 with a Load CLIP of its own, or use Load Agent or Agent from "
    "Server.",
}


@dataclass(frozen=True)
class ChatForm:
    """How a model is spoken to. `picture` contains `pad`, the one token that a picture stands for.

    thought: a closed one that stands behind `reply`, for a model that is asked not to think.
    """

    turn: str
    reply: str
    picture: str
    pad: str
    assistant: str = "assistant"
    thought: str = ""

    def written(self, messages: Sequence[Message], sampling: Sampling) -> tuple[str, list[tuple[torch.Tensor, str]]]:
        """The text of the prompt, and its pictures with a key of their content."""
        turns: list[str] = []
        pictures: list[tuple[torch.Tensor, str]] = []
        for message in messages:
            content = ""
            for part in message.parts:
                if isinstance(part, str):
                    content += _without_marks(part)
                else:
                    content += self.picture
                    picture = shrink(part, sampling.max_pixels)
                    pictures.append((to_tensor(picture), picture_key(picture.convert("RGB"))))
            role = self.assistant if message.role == "assistant" else message.role
            turns.append(self.turn.format(role=role, content=content))
        return "".join(turns) + self.reply + self.thought, pictures

    def row(self, held: Held, messages: Sequence[Message], sampling: Sampling) -> list[Any]:
        """The prompt's tokens, each picture in its place."""
        text, pictures = self.written(messages, sampling)
        row, pad, left = held.read(text), held.token(self.pad), iter(pictures)
        return [(held.picture(self.pad, *next(left)), *e[1:]) if e[0] == pad else e for e in row]


_QWEN = ChatForm(
    "<|im_start|>{role}\n{content}<|im_end|>\n",
    "<|im_start|>assistant\n",
    "<|vision_start|><|image_pad|><|vision_end|>",
    "<|image_pad|>",
)
_QWEN35 = replace(_QWEN, thought="<think>\n\n</think>\n\n")
_GEMMA4 = ChatForm(
    "<|turn>{role}\n{content}<turn|>\n",
    "<|turn>model\n",
    "\n\n<|image><|image|><image|>\n\n",
    "<|image|>",
    "model",
    "<|channel>thought\n<channel|>",
)
"""The two that think before they write are asked not to, as Generate Text does."""


def _form_of(held: Held | None) -> ChatForm | None:
    """By the marks in its vocabulary; None for a model of another form."""
    if held is None:
        return None
    if held.token("<|im_start|>") is not None and held.token(_QWEN.pad) is not None:
        return _QWEN35 if held.kind.startswith("qwen35") else _QWEN
    known = held.token("<|turn>") is not None and held.token(_GEMMA4.pad) is not None
    return _GEMMA4 if known else None


@dataclass
class NativeAgent:
    """`clip` is ComfyUI's CLIP object. adapter: beside its weights while this agent writes, and only then."""

    clip: Any
    name: str
    check: Callable[[], None]
    prompts: str | None = None
    adapter: ClipAdapter | None = None
    _vocabulary: Vocabulary | None = field(default=None, init=False, repr=False, compare=False)
    _pictures: SeenPictures = field(default_factory=SeenPictures, init=False, repr=False, compare=False)
    _known: KnownTexts | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def from_clip(cls, clip: Any, check: Callable[[], None], adapter: AdapterFile | None = None) -> NativeAgent:
        """Take a CLIP if the model in it sees and writes, whatever type it was loaded with.

        Raises:
            AgentError: it does not; the message says what it lacks and what to load. Or the adapter does not fit.
        """
        if not (hasattr(clip, "cond_stage_model") and hasattr(clip, "tokenizer")):
            raise AgentError(f"This is no CLIP of ComfyUI, but {type(clip).__name__}. Connect the CLIP of a Load CLIP.")
        kind, lack = clip_kind(clip), clip_lack(clip)
        if lack is not None:
            raise AgentError(f"This CLIP ({kind}) {_LACKS[lack]}")
        name = f"clip:{kind}:{clip_size(clip)}:{clip_files(clip)}"
        if adapter is None:
            return cls(clip, name, check)
        return cls(clip, f"{name}+{adapter.name}", check, adapter=ClipAdapter.for_clip(adapter, clip))

    @property
    def shifts_verdicts(self) -> bool:
        """Only where the loop over the tokens is ours."""
        return _form_of(held_by(self.clip)) is not None

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        held = held_by(self.clip)
        form = _form_of(held)
        with torch.inference_mode(), self._adapted(held), replying(self.clip):
            if held is None or form is None:
                return self._whole_reply(lambda: self._plain_tokens(messages, sampling), sampling, TextStream(on_text))
            self.check()
            row = form.row(held, messages, sampling)
            decoder = started_decoder(self.clip, row, sampling.max_tokens, self._room(), self._pictures)
            if decoder is None:
                return self._whole_reply(lambda: {held.name: [row]}, sampling, TextStream(on_text))
            try:
                return decode(
                    decoder,
                    sampling,
                    TextStream(on_text),
                    self._text,
                    name=self.name,
                    steering=self._steering(held, sampling, decoder.stop_tokens, form.thought),
                    drafts=self._drafts(held, messages, sampling),
                    check=self.check,
                )
            finally:
                decoder.close()

    def _adapted(self, held: Held | None) -> AbstractContextManager[None]:
        return nullcontext() if self.adapter is None or held is None else self.adapter.beside(held, self._dtype())

    def _room(self) -> int:
        """Bytes that the adapter takes on the CLIP's device."""
        return 0 if self.adapter is None else self.adapter.bytes_on(self._dtype())

    def _dtype(self) -> torch.dtype:
        return reply_dtype(self.clip.patcher.load_device)

    def _steering(self, held: Held, sampling: Sampling, stops: Set[int], thought: str) -> FormSteering | None:
        if sampling.form is None:
            return None
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(held.ids, self._text)
        return FormSteering(
            sampling.form,
            self._vocabulary,
            forced=sampling.keep_form,
            strictness=sampling.strictness,
            stops=stops,
            opened="" if sampling.form.thought else thought,
        )

    def _drafts(self, held: Held, messages: Sequence[Message], sampling: Sampling) -> Drafts:
        """What the reply may repeat: earlier replies, then the question itself."""
        if self._known is None:
            self._known = KnownTexts(lambda text: held.ids(_without_marks(text)))
        question = "".join(text for message in messages for text in message.texts)
        return Drafts(self._known([*sampling.earlier[:MOST_REPLIES], question]))

    def _whole_reply(self, prompt: Callable[[], Any], sampling: Sampling, stream: TextStream) -> Completion:
        """By ComfyUI's own loop, as Generate Text does it.

        Raises:
            AgentError: this ComfyUI has none, or a verdict was to be shifted, which it does not let us do.
        """
        if sampling.strictness:
            raise AgentError(
                f"strictness is {sampling.strictness:g}, but this ComfyUI gives no token probabilities of this CLIP "
                f"({clip_kind(self.clip)}). Set strictness to 0, or use Load Agent."
            )
        if not hasattr(self.clip, "generate"):
            raise AgentError(
                "This ComfyUI lets no node write text with a CLIP (there is no clip.generate). Use Load Agent or Agent "
                "from Server instead, or update InterleaveThinker."
            )
        self.check()
        tokens = prompt()
        room = self._room() + reply_room(self.clip, _row(tokens), sampling.max_tokens)
        load_with_room(self.clip, tokens, room)
        ids = self.clip.generate(
            tokens,
            do_sample=sampling.temperature > 0,
            max_length=sampling.max_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            seed=sampling.seed % 2**63,
        )
        stream.push(self.clip.decode(ids), tokens=len(ids))
        return stream.completion(cut_off=len(ids) >= sampling.max_tokens)

    def _plain_tokens(self, messages: Sequence[Message], sampling: Sampling) -> Any:
        """By the CLIP's own tokenizer and template, which knows one text and pictures beside it.

        Raises:
            AgentError: the tokenizer takes no picture.
        """
        text, pictures = _plain(messages, sampling, chat_marks(self.clip))
        if not pictures:
            return self._tokenized(text, [])
        entries = [_row(alone)[i] for p in pictures for alone in [self._tokenized(text, [p])] for i in _slots(alone)]
        tokens = self._tokenized(text, [pictures[0]] * len(pictures))
        row, slots = _row(tokens), _slots(tokens)
        if not slots:
            raise AgentError(
                f"This CLIP ({clip_kind(self.clip)}) writes, but its tokenizer takes no picture in this ComfyUI. Give "
                "the agent a Qwen3-VL, Qwen3.5 or Gemma 4 with a Load CLIP of its own, or update ComfyUI."
            )
        if len(slots) == len(entries):
            for slot, entry in zip(slots, entries, strict=True):
                row[slot] = entry
        else:  # one place for all of them
            for slot in slots[:0:-1]:
                del row[slot]
            row[slots[0] : slots[0] + 1] = entries
        return tokens

    def _tokenized(self, text: str, pictures: list[torch.Tensor]) -> Any:
        seen: dict[str, Any] = {"image": torch.cat(pictures), "images": pictures} if pictures else {}
        return self.clip.tokenize(text, skip_template=False, min_length=1, thinking=False, **seen)

    def _text(self, ids: Sequence[int]) -> str:
        decoded: str = self.clip.decode(list(ids), skip_special_tokens=False)
        return decoded


def _row(tokens: Any) -> list[Any]:
    rows: list[Any] = next((rows for rows in tokens.values() if isinstance(rows, list) and rows), [[]])
    row: list[Any] = rows[0]
    return row


def _slots(tokens: Any) -> list[int]:
    return picture_slots(_row(tokens))


def _plain(messages: Sequence[Message], sampling: Sampling, marks: Set[str]) -> tuple[str, list[torch.Tensor]]:
    """All turns as one text, in which pictures are numbered. marks: of the model's chat form; texts lose them."""
    turns, pictures = [], []
    for message in messages:
        content = "Your reply was: " if message.role == "assistant" else ""
        for part in message.parts:
            if isinstance(part, str):
                content += _without_marks(part, marks)
            else:
                pictures.append(to_tensor(shrink(part, sampling.max_pixels)))
                content += f"[picture {len(pictures)}]"
        turns.append(content)
    return "\n\n".join(turns), pictures


def _without_marks(text: str, marks: Set[str] = frozenset()) -> str:
    """Text that stays text: no chat marks of its own, no "embedding:name" that ComfyUI would look up.

    marks: further ones, of a model whose chat form is not known.
    """

    def broken(found: re.Match[str]) -> str:
        mark = found.group()
        return f"{mark[0]} {mark[1:]}" if mark in marks and mark not in _REPLY_TAGS else mark

    text = MARK.sub(broken, text) if marks else text
    return _EMBEDDING.sub(lambda m: m.group()[:-1] + " :", _CHAT_MARK.sub("< ", text))
