"""An adapter beside the weights of a CLIP's language model: on for one reply, off whenever the CLIP encodes.

ComfyUI's own bypass form (comfy/weight_adapter/bypass.py) adds the same products to the same layers, for a copy of the
model's patcher. Here no patcher is copied and no patch is set, so nothing is loaded anew when planner, critic and
encoder take turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ...interleave_thinker.agents.adapter_file import WORDS, AdapterFile, Bits, Pair, added_by, beside, product, sides
from ...interleave_thinker.errors import AgentError
from ..replaced import replaced
from .clips import Held, held_by
from .missing import say_missing

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_EIGHT = (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8)
_PLAIN = (torch.Tensor, torch.nn.Parameter)
HEAD = "model.lm_head"


@dataclass(frozen=True)
class ClipAdapter:
    """An adapter that fits a CLIP."""

    file: AdapterFile

    @classmethod
    def for_clip(cls, file: AdapterFile, clip: Any) -> ClipAdapter:
        """Raises:
        AgentError: the model inside the CLIP is not told, has other layers, or is another base; or it scales its
            word embeddings, and the file holds a pair of them.
        """
        held = held_by(clip)
        if held is None:
            raise AgentError(f"Adapter {file.name} cannot be put beside this CLIP: its layers are not to be found.")
        file.check_layers(lambda layer: _shape(_layer(held, layer)))
        file.check_words(_layer(held, WORDS))
        if WORDS in file.pairs and _layer(held, HEAD) is None and not hasattr(held.transformer, "logits"):
            raise AgentError(f"Adapter {file.name} cannot be put beside this CLIP: its head is not to be found.")
        weights = _Weights(held, clip)
        file.check_base(weights.first_row, min(map(weights.bits, file.layers)))
        return cls(file)

    def bytes_on(self, dtype: torch.dtype) -> int:
        """What it takes beside the weights for a reply in `dtype`."""
        numbers = [(layer, pair.up.numel() + pair.down.numel()) for layer, pair in self.file.pairs.items()]
        numbers += [(layer, added.numel()) for layer, added in self.file.constants.items()]
        return sum(count * _number_format(layer, dtype).itemsize for layer, count in numbers)

    @contextmanager
    def beside(self, held: Held, dtype: torch.dtype) -> Iterator[None]:
        """While this lasts the layers add their pairs and constants, and the model's `logits` the pair of the words
        where its head is tied to them. Copies of them on the device go at its end. dtype: of the reply.
        """
        with ExitStack() as hooks:
            for layer, constant in self.file.constants.items():
                moved = _Moved(constant)
                hooks.callback(held.transformer.get_submodule(layer).register_forward_hook(moved).remove)
                hooks.callback(moved.forget)
            for layer, pair in self.file.pairs.items():
                added = _Added(layer, pair, _number_format(layer, dtype))
                hooks.callback(held.transformer.get_submodule(layer).register_forward_hook(added).remove)
                hooks.callback(added.forget)
                if layer == WORDS and _layer(held, HEAD) is None:
                    hooks.enter_context(added.in_logits(held.transformer))
            yield


def _number_format(layer: str, reply: torch.dtype) -> torch.dtype:
    """In which a layer computes for a reply: the vision tower in float32. ComfyUI looks words up in float32, too, but
    one copy of their pair serves a tied head as well.
    """
    return torch.float32 if layer.startswith("visual.") else reply


class _Added:
    """A forward hook: what the layer gives and what its pair adds to that, in the number format and on the device of
    the layer's input. dtype: where the input is no row of numbers but places in a table.
    """

    def __init__(self, layer: str, pair: Pair, dtype: torch.dtype):
        self.pair, self.dtype, self.more = pair, dtype, added_by(layer)
        self.up: torch.Tensor | None = None
        self.down: torch.Tensor | None = None

    def __call__(self, layer: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = inputs[0]
        halves = self.halves(x.device, x.dtype if x.is_floating_point() else self.dtype)
        return output + self.more(x, *halves, self.pair.scale).to(output.dtype)

    def halves(self, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        if self.up is None or self.down is None or self.up.device != device or self.up.dtype != dtype:
            self.up, self.down = self.pair.up.to(device, dtype), self.pair.down.to(device, dtype)
        return self.up, self.down

    def forget(self) -> None:
        self.up = self.down = None

    @contextmanager
    def in_logits(self, transformer: Any) -> Iterator[None]:
        """For the word embeddings: a head that is tied to them is no layer but a product in the model's `logits`, which
        is another one while this lasts.
        """
        own = transformer.logits

        def logits(x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = own(x)
            last = x[:, -made.shape[1] :].to(self.dtype)
            return made + product(last, *self.halves(x.device, self.dtype), self.pair.scale).to(made.dtype)

        with replaced(transformer, "logits", logits):
            yield


class _Moved:
    """A forward hook: y + constant, in the number format and on the device of y."""

    def __init__(self, constant: torch.Tensor):
        self.constant = constant
        self.there: torch.Tensor | None = None

    def __call__(self, layer: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        if self.there is None or self.there.device != output.device or self.there.dtype != output.dtype:
            self.there = self.constant.to(output.device, output.dtype)
        return output + beside(self.there, output)

    def forget(self) -> None:
        self.there = None


class _Weights:
    """The weights of a CLIP's layers as they were loaded, also where a user's LoRA is patched into them now."""

    def __init__(self, held: Held, clip: Any):
        self.held = held
        self.kept = getattr(getattr(clip, "patcher", None), "backup", None) or {}

    def _weight(self, layer: str) -> Any:
        kept = self.kept.get(f"{self.held.name}.transformer.{layer}.weight")
        return getattr(_layer(self.held, layer), "weight", None) if kept is None else getattr(kept, "weight", kept)

    def bits(self, layer: str) -> Bits:
        weight = self._weight(layer)
        if type(weight) in _PLAIN and weight.dtype in _FLOATS:
            return 16
        stored = getattr(weight, "storage_dtype", getattr(weight, "dtype", None))
        return 8 if stored in _EIGHT else 4

    def first_row(self, layer: str) -> torch.Tensor | None:
        """None where it is in a format that ComfyUI itself does not know (GGUF), or cannot be read now."""
        weight = self._weight(layer)
        if weight is None:
            return None
        try:
            plain = weight.dequantize() if hasattr(weight, "layout_cls") else weight
            if type(plain) not in _PLAIN or not plain.is_floating_point():
                return None
            row: torch.Tensor = plain[0].detach().float().cpu()
            return row
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            say_missing("weights of a CLIP that can be read")
            return None


def _layer(held: Held, layer: str) -> Any:
    try:
        return held.transformer.get_submodule(layer)
    except AttributeError:
        return None


def _shape(layer: Any) -> tuple[int, int] | None:
    """(out, in) of a layer that can have a pair, in whatever format its weights are."""
    if hasattr(layer, "in_features") and hasattr(layer, "out_features"):
        return layer.out_features, layer.in_features
    if hasattr(layer, "num_embeddings") and hasattr(layer, "embedding_dim"):
        return layer.num_embeddings, layer.embedding_dim
    if hasattr(layer, "kernel_size") and hasattr(layer, "weight"):
        return sides(layer.weight)
    return None
