"""An adapter file beside the weights of a transformers model; the weights themselves are never touched."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from .adapter_file import NOT_LINEAR, WORDS, AdapterFile, added_by, beside, hf_name, product, sides

if TYPE_CHECKING:
    import torch

HEAD = "lm_head"


class ModelAdapter:
    """Pairs and constants as buffers of the layers that they are added to: they move with the model and leave it with
    this object.

    On only within `on`; while it is off the model computes what it does without it, bit for bit.
    """

    def __init__(self, file: AdapterFile, model: torch.nn.Module, name: str):
        """name: of the buffers; no other adapter of this model has it.

        Raises:
            AgentError: the adapter was made for another model. The model is as it was.
        """
        known = _layers(model)
        file.check_layers(lambda layer: _shape(known.get(hf_name(layer))))
        file.check_words(known.get(hf_name(WORDS)))
        file.check_base(lambda layer: _first_row(known.get(hf_name(layer))))
        self.paired: list[tuple[Any, str, float]] = []
        self.moved: list[Any] = []
        self.up, self.down, self.constant = f"{name}_up", f"{name}_down", f"{name}_constant"
        weakref.finalize(self, _take_away, self.paired, self.moved, (self.up, self.down, self.constant))
        self.head = known.get(HEAD)
        usual = next((p.dtype for p in model.parameters() if _is_plain(p)), None)
        for place, pair in file.pairs.items():
            layer = known[hf_name(place)]
            self.paired.append((layer, place, pair.scale))
            _keep(layer, {self.up: pair.up, self.down: pair.down}, usual)
        for place, added in file.constants.items():
            layer = known[hf_name(place)]
            self.moved.append(layer)
            _keep(layer, {self.constant: added}, usual)

    @contextmanager
    def on(self) -> Iterator[None]:
        """While this lasts pairs and constants are added to what their layers give; the pair of the words to a tied
        head's too.
        """
        with ExitStack() as hooks:
            for layer in self.moved:
                hooks.callback(layer.register_forward_hook(self._add_constant).remove)
            for layer, place, scale in self.paired:
                adding = self._adding(added_by(place), layer, scale)
                hooks.callback(layer.register_forward_hook(adding).remove)
                if place == WORDS and self.head is not None and self.head.weight is layer.weight:
                    head = self.head.register_forward_hook(self._adding(product, layer, scale))
                    hooks.callback(head.remove)
            yield

    def _add_constant(self, layer: Any, _: tuple[torch.Tensor, ...], made: torch.Tensor) -> torch.Tensor:
        return made + beside(getattr(layer, self.constant), made)

    def _adding(self, more: Any, holder: Any, scale: float) -> Any:
        """holder: the layer whose buffers the pair is."""
        up, down = self.up, self.down

        def add(_: torch.nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> torch.Tensor:
            added: torch.Tensor = more(given[0], getattr(holder, up), getattr(holder, down), scale)
            return made + added

        return add


def _layers(model: torch.nn.Module) -> dict[str, Any]:
    """Layers that can have a pair, by the names that they had before peft put an adapter around some."""
    import torch

    named = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): layer
        for name, layer in model.named_modules()
        if hasattr(layer, "weight")
    }
    others = set(map(hf_name, NOT_LINEAR))
    return {n: m for n, m in named.items() if isinstance(m, torch.nn.Linear) or n in others}


def _shape(layer: Any) -> tuple[int, int] | None:
    """(out, in), also where the weights are packed."""
    if layer is None:
        return None
    return (layer.out_features, layer.in_features) if hasattr(layer, "in_features") else sides(layer.weight)


def _first_row(layer: Any) -> torch.Tensor | None:
    return layer.weight.detach()[0] if layer is not None and _is_plain(layer.weight) else None


def _is_plain(weight: torch.Tensor) -> bool:
    """Whether its numbers are the weights themselves, not packed into few bits."""
    return weight.is_floating_point() and weight.dtype.itemsize > 1


def _keep(layer: Any, tensors: dict[str, torch.Tensor], usual: torch.dtype | None) -> None:
    """As buffers, where the layer's weight is and in its number format, or the usual one where that is packed."""
    dtype = layer.weight.dtype if _is_plain(layer.weight) else usual
    for name, tensor in tensors.items():
        layer.register_buffer(name, tensor.to(device=layer.weight.device, dtype=dtype), persistent=False)


def _take_away(paired: list[tuple[Any, str, float]], moved: list[Any], names: tuple[str, ...]) -> None:
    for layer in [*(layer for layer, _, _ in paired), *moved]:
        for name in names:
            layer._buffers.pop(name, None)
            layer._non_persistent_buffers_set.discard(name)
