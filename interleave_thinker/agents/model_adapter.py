"""An adapter file beside the weights of a transformers model; the weights themselves are never touched."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from .adapter_file import WORDS, AdapterFile, hf_name, looked_up, product

if TYPE_CHECKING:
    import torch

HEAD = "lm_head"


class ModelAdapter:
    """Pairs as buffers of the layers that they are added to: they move with the model and leave it with this object.

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
        self.layers: list[tuple[Any, float]] = []
        self.up, self.down = f"{name}_up", f"{name}_down"
        weakref.finalize(self, _take_away, self.layers, (self.up, self.down))
        self.words, self.head = known.get(hf_name(WORDS)), known.get(HEAD)
        usual = next((p.dtype for p in model.parameters() if _is_plain(p)), None)
        for place, pair in file.pairs.items():
            layer = known[hf_name(place)]
            dtype = layer.weight.dtype if _is_plain(layer.weight) else usual
            self.layers.append((layer, pair.scale))
            for part, tensor in ((self.up, pair.up), (self.down, pair.down)):
                moved = tensor.to(device=layer.weight.device, dtype=dtype)
                layer.register_buffer(part, moved, persistent=False)

    @contextmanager
    def on(self) -> Iterator[None]:
        """While this lasts the pairs are added to what their layers give; that of the words to a tied head's too."""
        with ExitStack() as hooks:
            for layer, scale in self.layers:
                of_words = layer is self.words
                adding = self._adding(looked_up if of_words else product, layer, scale)
                hooks.callback(layer.register_forward_hook(adding).remove)
                if of_words and self.head is not None and self.head.weight is layer.weight:
                    head = self.head.register_forward_hook(self._adding(product, layer, scale))
                    hooks.callback(head.remove)
            yield

    def _adding(self, more: Any, holder: Any, scale: float) -> Any:
        """holder: the layer whose buffers the pair is."""
        up, down = self.up, self.down

        def add(_: torch.nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> torch.Tensor:
            added: torch.Tensor = more(given[0], getattr(holder, up), getattr(holder, down), scale)
            return made + added

        return add


def _layers(model: torch.nn.Module) -> dict[str, Any]:
    """Linear layers and word embeddings, by the names that they had before peft put an adapter around some."""
    import torch

    named = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): layer
        for name, layer in model.named_modules()
        if isinstance(layer, (torch.nn.Linear, torch.nn.Embedding))
    }
    return {n: m for n, m in named.items() if isinstance(m, torch.nn.Linear) or n == hf_name(WORDS)}


def _shape(layer: Any) -> tuple[int, int] | None:
    """(out, in), also where the weights are packed."""
    if layer is None:
        return None
    if hasattr(layer, "num_embeddings"):
        return layer.num_embeddings, layer.embedding_dim
    return layer.out_features, layer.in_features


def _first_row(layer: Any) -> torch.Tensor | None:
    return layer.weight.detach()[0] if layer is not None and _is_plain(layer.weight) else None


def _is_plain(weight: torch.Tensor) -> bool:
    """Whether its numbers are the weights themselves, not packed into few bits."""
    return weight.is_floating_point() and weight.dtype.itemsize > 1


def _take_away(layers: list[tuple[Any, float]], names: tuple[str, ...]) -> None:
    for layer, _ in layers:
        for name in names:
            layer._buffers.pop(name, None)
            layer._non_persistent_buffers_set.discard(name)
