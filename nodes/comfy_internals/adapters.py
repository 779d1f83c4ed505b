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

from ...interleave_thinker.agents.adapter_file import AdapterFile, Bits, Pair, product
from ...interleave_thinker.errors import AgentError
from .clips import Held, held_by
from .missing import say_missing

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_EIGHT = (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8)
_PLAIN = (torch.Tensor, torch.nn.Parameter)


@dataclass(frozen=True)
class ClipAdapter:
    """An adapter that fits a CLIP."""

    file: AdapterFile

    @classmethod
    def for_clip(cls, file: AdapterFile, clip: Any) -> ClipAdapter:
        """Raises:
        AgentError: the model inside the CLIP is not told, has other layers, or is another base.
        """
        held = held_by(clip)
        if held is None:
            raise AgentError(f"Adapter {file.name} cannot be put beside this CLIP: its layers are not to be found.")
        file.check_layers(lambda layer: _shape(_layer(held, layer)))
        weights = _Weights(held, clip)
        file.check_base(weights.first_row, min(map(weights.bits, file.pairs)))
        return cls(file)

    def bytes_on(self, dtype: torch.dtype) -> int:
        """What it takes beside the weights for a reply in `dtype`; the vision tower computes in float32."""
        return sum(
            (pair.up.numel() + pair.down.numel()) * (4 if layer.startswith("visual.") else dtype.itemsize)
            for layer, pair in self.file.pairs.items()
        )

    @contextmanager
    def beside(self, held: Held) -> Iterator[None]:
        """While this lasts the layers add their pairs. Copies of them on the device go at its end."""
        with ExitStack() as hooks:
            for layer, pair in self.file.pairs.items():
                added = _Added(pair)
                hooks.callback(held.transformer.get_submodule(layer).register_forward_hook(added).remove)
                hooks.callback(added.forget)
            yield


class _Added:
    """A forward hook: y + scale * up @ (down @ x), in the number format and on the device of x."""

    def __init__(self, pair: Pair):
        self.pair = pair
        self.up: torch.Tensor | None = None
        self.down: torch.Tensor | None = None

    def __call__(self, layer: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = inputs[0]
        if self.up is None or self.down is None or self.up.device != x.device or self.up.dtype != x.dtype:
            self.up = self.pair.up.to(x.device, x.dtype)
            self.down = self.pair.down.to(x.device, x.dtype)
        return output + product(x, self.up, self.down, self.pair.scale).to(output.dtype)

    def forget(self) -> None:
        self.up = self.down = None


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
    """(out, in) of a linear layer, in whatever format its weights are."""
    if not hasattr(layer, "in_features") or not hasattr(layer, "out_features"):
        return None
    return layer.out_features, layer.in_features
