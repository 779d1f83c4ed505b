"""ComfyUI's language models: what a CLIP holds, and its replies token by token over the same weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch

from ...interleave_thinker.agents.drafts import DRAFT
from ..replaced import replaced
from .captured_pass import FixedPass, captured_pass
from .graphs import release_graphs
from .layer_loop import LayerLoop
from .missing import say_missing
from .seen_pictures import KEY, SeenPictures

Lack = Literal["eyes", "head", "layers"]
MARK = re.compile(r"<[^\s<>]{1,60}>|\[/?[A-Z][A-Z_]{1,40}\]")


@dataclass(frozen=True)
class Held:
    """A language model inside a CLIP, whatever wraps it there: ComfyUI's encoder, the model in it, its tokenizer."""

    name: str
    encoder: Any
    transformer: Any
    tokenizer: Any

    @property
    def lack(self) -> Lack | None:
        """What it lacks to see pictures and write text; None for one that can."""
        if not hasattr(self.transformer, "preprocess_embed"):
            return "eyes"
        model = getattr(self.transformer, "model", None)
        if getattr(model, "norm", True) is None:
            return "layers"
        stops = hasattr(getattr(model, "config", None), "stop_tokens")
        if not hasattr(self.transformer, "generate") or not (stops or hasattr(model, "lm_head")):
            return "head"
        return None

    @property
    def config(self) -> Any:
        return getattr(getattr(self.transformer, "model", None), "config", None)

    @property
    def kind(self) -> str:
        return str(getattr(self.transformer, "model_type", ""))

    def token(self, mark: str) -> int | None:
        """The id of a chat mark, or None if the vocabulary lacks it."""
        known = getattr(self.tokenizer, "inv_vocab", {})
        return next((number for number, text in known.items() if text == mark), None)

    def read(self, text: str) -> list[Any]:
        """The tokens of a text as it stands: no template, no weights."""
        row: list[Any] = self.tokenizer.tokenize_with_weights(text, disable_weights=True)[0]
        return row

    def ids(self, text: str) -> list[int]:
        """Of a text alone, without what the tokenizer puts around it."""
        around = {getattr(self.tokenizer, f"{name}_token", None) for name in ("start", "end", "pad")}
        return [entry[0] for entry in self.read(text) if entry[0] not in around]

    def picture(self, pad: str, picture: torch.Tensor, key: str = "") -> dict[str, Any]:
        """What stands for a picture among the tokens: what the tokenizer makes of it, where it takes any. key: of the
        picture's content.
        """
        row = self.tokenizer.tokenize_with_weights(pad, disable_weights=True, image=picture)[0]
        made: dict[str, Any] | None = next((row[i][0] for i in picture_slots(row)), None)
        return {**(made or {"type": "image", "data": picture, "original_type": "image"}), KEY: key}


def held_by(clip: Any) -> Held | None:
    """The model inside a CLIP that can see and write, else the first; None where that cannot be told."""
    inner, tokenizers = getattr(clip, "cond_stage_model", None), getattr(clip, "tokenizer", None)
    names = [n for n in (getattr(inner, "clip", None),) if isinstance(n, str)]
    names += [n for n in getattr(inner, "_modules", {}) if n not in names]
    found = []
    for name in names:
        encoder: Any = getattr(inner, name, None)
        if hasattr(encoder, "transformer"):
            found.append(Held(name, encoder, encoder.transformer, getattr(tokenizers, name, None)))
    return next((held for held in found if held.lack is None), found[0] if found else None)


def chat_marks(clip: Any) -> set[str]:
    """Words of a CLIP's vocabularies that look like marks of its chat form: `<end_of_turn>`, `[INST]`."""
    words: list[Any] = []
    for tokenizer in vars(getattr(clip, "tokenizer", object)).values():
        words += getattr(tokenizer, "inv_vocab", {}).values()
        words += getattr(getattr(tokenizer, "tokenizer", None), "special_tokens", None) or ()
    return {word for word in words if isinstance(word, str) and MARK.fullmatch(word)}


def clip_lack(clip: Any) -> Lack | None:
    """What a CLIP lacks to be an agent; None also where that cannot be told."""
    held = held_by(clip)
    return held.lack if held is not None else None


def clip_kind(clip: Any) -> str:
    """What the model inside a CLIP calls itself, such as "qwen3vl_8b"."""
    inner = getattr(clip, "cond_stage_model", None)
    return str(getattr(inner, "clip_name", None) or getattr(inner, "clip", None) or type(inner).__name__)


def clip_size(clip: Any) -> str:
    """Width and number of layers of the model inside a CLIP."""
    held = held_by(clip)
    config = held.config if held is not None else None
    return f"{getattr(config, 'hidden_size', '?')}x{getattr(config, 'num_hidden_layers', '?')}"


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


def picture_slots(row: Sequence[Any]) -> list[int]:
    """Where in a row of tokens pictures stand."""
    return [i for i, entry in enumerate(row) if isinstance(entry[0], dict) and entry[0].get("type") == "image"]


@contextmanager
def replying(clip: Any) -> Iterator[None]:
    """On the CLIP's device, as ComfyUI's own `generate` runs; afterwards what it captured for the reply is let go.

    ComfyUI itself lets go of captured graphs at the end of a node only, and a second reply of that node would meet
    those of the first, which hold addresses of a cache that is gone.
    """
    import comfy.model_management as memory

    device = getattr(getattr(clip, "patcher", None), "load_device", None)
    context = getattr(memory, "cuda_device_context", None)
    try:
        with context(device) if context is not None and device is not None else nullcontext():
            yield
    finally:
        release_graphs()


def load_with_room(clip: Any, tokens: Any, room: int) -> None:
    """Move the model in, with `room` bytes free beside its weights."""
    import comfy.model_management as memory

    if not hasattr(clip, "patcher"):  # nothing that the manager could move
        return
    estimate = getattr(clip.cond_stage_model, "memory_estimation_function", None)
    known = estimate(tokens, device=clip.patcher.load_device) if estimate is not None else 0
    memory.load_models_gpu([clip.patcher], memory_required=max(room, known))


def reply_room(clip: Any, row: Sequence[Any], max_tokens: int) -> int:
    """Bytes that a reply takes beside the weights: the key-value cache, and what is computed while the prompt is read.

    0 where the model does not tell its sizes.
    """
    held = held_by(clip)
    if held is None or not hasattr(held.config, "num_hidden_layers"):
        return 0
    config = held.config
    pictures = [_picture_tokens(row[i][0]) for i in picture_slots(row)]
    prompt = len(row) + sum(pictures)
    dtype = reply_dtype(clip.patcher.load_device)
    width, inner = config.hidden_size, getattr(config, "intermediate_size", 4 * config.hidden_size)
    inner = max(inner) if isinstance(inner, (list, tuple)) else inner
    reading = prompt * (8 * width + 3 * inner) * dtype.itemsize + prompt * prompt * dtype.itemsize
    seeing = max(pictures, default=0) * _SEEING
    return _cache_bytes(held.transformer, config, prompt + max_tokens + DRAFT, dtype) + int(max(reading, seeing))


_SEEING = 4 * 1280 * 16 * 4
"""Bytes for each token of a picture while the eyes look at it: four patches, sixteen float32 rows of their width."""


def _picture_tokens(entry: Any) -> int:
    """At most so many: the densest of the models takes 28 x 28 pixels for one."""
    shape = getattr(entry.get("data"), "shape", None)
    return int(shape[1] * shape[2]) // (28 * 28) + 1 if shape is not None and len(shape) == 4 else 0


def _cache_bytes(transformer: Any, config: Any, length: int, dtype: torch.dtype) -> int:
    """By asking the model for a cache that takes no memory; by its sizes where it makes one only as it goes."""
    try:
        layers = transformer.init_kv_cache(1, length, torch.device("meta"), dtype)
        parts = [part for layer in layers for part in (layer if isinstance(layer, tuple) else vars(layer).values())]
        size = sum(part.nbytes for part in parts if torch.is_tensor(part))
    except (AttributeError, TypeError, RuntimeError, NotImplementedError):
        size = 0
    if size:
        return int(size)
    heads = getattr(config, "num_key_value_heads", 1)
    width = max(getattr(config, "head_dim", 0) or 0, getattr(config, "global_head_dim", 0) or 0)
    return int(config.num_hidden_layers * 2 * heads * width * length * dtype.itemsize)


def reply_dtype(device: torch.device) -> torch.dtype:
    """What ComfyUI's `generate` computes in."""
    import comfy.model_management as memory

    return torch.bfloat16 if memory.should_use_bf16(device) else torch.float32


class TokenDecoder:
    """A model inside a CLIP, token by token, or several at once where `LayerLoop` knows its layers.

    room: bytes that are needed beside weights and reply.

    `clip.generate` has no streaming and no early end, so its loop is taken apart here. Nothing that the wrapper does
    to its conditioning (template, taps, masks, dropped tokens) is on this way. For a pass one method of the model may
    be replaced (`_turning`); it is put back.
    """

    def __init__(self, clip: Any, room: int = 0, pictures: SeenPictures | None = None):
        """pictures: that were seen before.

        Raises:
            AttributeError: a part is not there.
        """
        self.room, self.pictures = room, pictures or SeenPictures()
        held = held_by(clip)
        if held is None:
            raise AttributeError("no language model")
        self.clip, self.encoder, self.transformer = clip, held.encoder, held.transformer
        self.model = self.transformer.model
        for owner, names in (
            (clip.patcher, "load_device"),
            (self.encoder, "process_tokens"),
            (self.transformer, "init_kv_cache logits"),
            (self.model, "forward embed_tokens"),
        ):
            for name in names.split():
                getattr(owner, name)
        self.stop_tokens: set[int] = set(self.model.config.stop_tokens)
        self.extra: dict[str, Any] = {}
        self.loop: LayerLoop | None = None
        self.passes = 0
        self.captured: dict[int, FixedPass | None] = {}

    def start(self, row: Sequence[Any], max_tokens: int) -> None:
        """Move the model in and read the prompt."""
        from comfy.sd1_clip import SDClipModel

        load_with_room(self.clip, {"": [row]}, self.room + reply_room(self.clip, row, max_tokens))
        entries = [entry[0] for entry in row]
        device = self.clip.patcher.load_device
        with self.pictures.remembered(self.transformer, getattr(self.clip.patcher, "patches_uuid", None)):
            embeds, _, _, self.info = SDClipModel.process_tokens(self.encoder, [entries], device)
        self.device: torch.device = embeds.device
        self.dtype = reply_dtype(embeds.device)
        self.positions, self.extra = self._places(embeds)
        self.turns = self._turns()
        self.ids = self._ids(entries, embeds) if _reads_ids(self.model) else None
        self.embeds = embeds.to(self.dtype)
        room = embeds.shape[1] + max_tokens + DRAFT
        self.past = self.transformer.init_kv_cache(embeds.shape[0], room, embeds.device, self.dtype)
        self.next = int(self.positions[:, -1].max()) + 1 if self.positions is not None else embeds.shape[1]
        self.first: torch.Tensor = self._logits()
        self.loop = self._own_loop() if not _reads_ids(self.model) else None

    def _own_loop(self) -> LayerLoop | None:
        """None where the model's layers or cache are of another kind, or once gave other numbers than its forward."""
        if self.model not in _LOOPS_AGREE:
            if not bool(torch.isfinite(self.first).all()):
                return None
            _LOOPS_AGREE[self.model] = self._agrees()
        try:
            return LayerLoop(self.model, self.past, self.next, self.dtype) if _LOOPS_AGREE[self.model] else None
        except (AttributeError, TypeError, ValueError):
            return None

    def _agrees(self) -> bool:
        """Whether loop and forward give the same for a first token; what they leave in the cache is written over."""
        try:
            loop = LayerLoop(self.model, self.past, self.next, self.dtype)
            token = torch.tensor([[min(self.stop_tokens)]], device=self.device)
            x, place = self.model.embed_tokens(token).to(self.dtype), torch.tensor([[self.next]], device=self.device)
            found = loop.read(x)
            wanted = self.model.forward(None, embeds=x, past_key_values=self.past, position_ids=place)[0]
        except torch.OutOfMemoryError:  # says nothing of the layers
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            agree = False
        else:
            off = (found.float() - wanted.float()).norm() / wanted.float().norm()
            agree = bool(off < (0.05 if self.dtype.itemsize < 4 else 1e-3))
        if not agree:
            say_missing("layers of a CLIP that take several tokens at once")
        return agree

    def _places(self, embeds: torch.Tensor) -> tuple[Any, dict[str, Any]]:
        """Positions of the prompt's tokens, a picture's by rows and columns, and what else goes to the layers."""
        if hasattr(self.transformer, "build_image_inputs"):
            positions, visual, deepstack = self.transformer.build_image_inputs(embeds, self.info)
            extra = {"deepstack_embeds": deepstack, "visual_pos_masks": visual} if deepstack is not None else {}
            return positions, extra
        if getattr(self.model.config, "mrope_section", None):
            from comfy.text_encoders.qwen_vl import qwen2vl_mrope_position_ids

            return qwen2vl_mrope_position_ids(self.info, embeds.shape[1], embeds.device), {}
        return None, {}

    def _turns(self) -> tuple[torch.Tensor, ...] | None:
        """Rotary factors of a prompt with pictures, where ComfyUI's own do not weave rows and columns as trained."""
        sections = getattr(self.model.config, "mrope_section", None)
        if not sections or self.positions is None or hasattr(self.transformer, "build_image_inputs"):
            return None
        axes = [self.model.compute_freqs_cis(axis[None], self.device) for axis in self.positions]
        return tuple(_woven(parts, sections) for parts in zip(*axes, strict=True))

    def _ids(self, entries: Sequence[Any], embeds: torch.Tensor) -> torch.Tensor:
        """Ids of the prompt's tokens, 0 for those of pictures."""
        sizes = {info["index"]: info["size"] for info in self.info}
        ids: list[int] = []
        for entry in entries:
            if len(ids) in sizes:
                ids += [0] * sizes[len(ids)]
            elif isinstance(entry, int):
                ids.append(entry)
        return torch.tensor([ids], device=embeds.device)

    def _logits(self) -> torch.Tensor:
        with _turning(self.model, self.turns):
            out, _, self.past = self.model.forward(
                None,
                embeds=self.embeds,
                attention_mask=None,
                past_key_values=self.past,
                input_ids=self.ids,
                position_ids=self.positions,
                embeds_info=self.info,
                **self.extra,
            )
        logits: torch.Tensor = self.transformer.logits(out)[:, -1]
        return logits

    @property
    def takes_several(self) -> bool:
        return self.loop is not None

    def read(self, tokens: Sequence[int]) -> torch.Tensor:
        """As `decoding.Decoder.read`."""
        chosen = torch.tensor([list(tokens)], device=self.device)
        embeds = self.model.embed_tokens(chosen).to(self.dtype)
        if self.loop is not None:
            hidden = self._pass(self.loop, embeds)(embeds)
            logits: torch.Tensor = self.transformer.logits(hidden.transpose(0, 1))[:, -1]
            return logits
        places = torch.arange(self.next, self.next + len(tokens), device=self.device)[None]
        self.next += len(tokens)
        self.embeds, self.extra, self.info, self.turns = embeds, {}, None, None
        self.ids = chosen if self.ids is not None else None
        self.positions = places if self.positions is not None else None
        return self._logits()

    def _pass(self, loop: LayerLoop, embeds: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """A graph of its own for one token and for several, once the reply has gone on for a while."""
        self.passes += 1
        if self.passes > BEFORE_CAPTURE:
            for count in (1, 1 + DRAFT):
                if embeds.shape[1] <= count:
                    if count not in self.captured:
                        self.captured[count] = captured_pass(loop, count, embeds)
                    known = self.captured[count]
                    if known is not None and known.fits(embeds.shape[1]):
                        return known.read
        return loop.read

    def forget(self, count: int) -> None:
        """As `decoding.Decoder.forget`."""
        if self.loop is not None:
            self.loop.forget(count)

    def close(self) -> None:
        """Give back the cache, also where an error keeps this object alive."""
        self.past = self.embeds = self.info = self.positions = self.ids = self.turns = self.loop = None
        self.first = torch.empty(0)
        self.captured.clear()
        self.extra.clear()


BEFORE_CAPTURE = 8
"""Passes of a reply before the next ones are captured; a short reply is over by then."""
_LOOPS_AGREE: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""By model, whether `LayerLoop` gives what its own forward gives."""


def _woven(parts: Sequence[torch.Tensor], sections: Sequence[int]) -> torch.Tensor:
    """One of three axes' factors for each frequency: time, row, column, time, row, ... to the end of their sections."""
    woven, half = parts[0].clone(), sum(sections)
    for axis in (1, 2):
        for begin in range(0, woven.shape[-1], half):
            columns = slice(begin + axis, begin + sections[axis] * 3, 3)
            woven[..., columns] = parts[axis][..., columns]
    return woven


@contextmanager
def _turning(model: Any, turns: Any) -> Iterator[None]:
    """While this lasts the model turns by these factors; its own are back afterwards."""
    if turns is None:
        yield
        return
    with replaced(model, "compute_freqs_cis", lambda *_, **__: turns):
        yield


def _reads_ids(model: Any) -> bool:
    """Whether the layers look tokens up themselves, beside the embeddings (Gemma 4)."""
    return bool(getattr(model, "hidden_size_per_layer_input", 0))


def started_decoder(
    clip: Any, row: Sequence[Any], max_tokens: int, room: int = 0, pictures: SeenPictures | None = None
) -> TokenDecoder | None:
    """A decoder that has read the prompt; None where a part of the CLIP is missing, takes or returns other things.

    room, pictures: of `TokenDecoder`.
    """
    try:
        decoder = TokenDecoder(clip, room, pictures)
        decoder.start(row, max_tokens)
    except (AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError):
        say_missing("CLIP that can be decoded token by token")
        return None
    return decoder
