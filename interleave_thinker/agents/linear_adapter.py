"""An adapter file beside the linear layers of a transformers model; the weights themselves are never touched."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from .adapter_file import AdapterFile, hf_name

if TYPE_CHECKING:
    import torch


class LinearAdapter:
    """Pairs as buffers of the layers that they are added to: they move with the model and leave it with this object.

    On only within `on`; while it is off the model computes what it does without it, bit for bit.
    """

    def __init__(self, file: AdapterFile, model: torch.nn.Module, name: str):
        """name: of the buffers; no other adapter of this model has it.

        Raises:
            AgentError: the adapter was made for another model. The model is as it was.
        """
        linears = _linears(model)
        file.check_layers(lambda layer: _shape(linears.get(hf_name(layer))))
        file.check_base(lambda layer: _first_row(linears.get(hf_name(layer))), quantised=False)
        self.layers: list[tuple[torch.nn.Linear, float]] = []
        self.up, self.down = f"{name}_up", f"{name}_down"
        weakref.finalize(self, _take_away, self.layers, (self.up, self.down))
        usual = next((p.dtype for p in model.parameters() if _is_plain(p)), None)
        for layer, pair in file.pairs.items():
            linear = linears[hf_name(layer)]
            dtype = linear.weight.dtype if _is_plain(linear.weight) else usual
            self.layers.append((linear, pair.scale))
            for part, tensor in ((self.up, pair.up), (self.down, pair.down)):
                moved = tensor.to(device=linear.weight.device, dtype=dtype)
                linear.register_buffer(part, moved, persistent=False)

    @contextmanager
    def on(self) -> Iterator[None]:
        """While this lasts the pairs are added to what their layers give."""
        with ExitStack() as hooks:
            for linear, scale in self.layers:
                hooks.callback(linear.register_forward_hook(self._adding(scale)).remove)
            yield

    def _adding(self, scale: float) -> Any:
        from torch.nn.functional import linear as times

        up, down = self.up, self.down

        def add(layer: torch.nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> torch.Tensor:
            more = times(times(given[0], getattr(layer, down)), getattr(layer, up))
            return made + (more if scale == 1.0 else more * scale)

        return add


def _linears(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """By the names that they had before peft put an adapter around some."""
    import torch

    return {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): layer
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear)
    }


def _shape(layer: torch.nn.Linear | None) -> tuple[int, int] | None:
    return None if layer is None else (layer.out_features, layer.in_features)


def _first_row(layer: torch.nn.Linear | None) -> torch.Tensor | None:
    return layer.weight.detach()[0] if layer is not None and _is_plain(layer.weight) else None


def _is_plain(weight: torch.Tensor) -> bool:
    """Whether its numbers are the weights themselves, not packed into few bits."""
    return weight.is_floating_point() and weight.dtype.itemsize > 1


def _take_away(layers: list[tuple[torch.nn.Linear, float]], names: tuple[str, ...]) -> None:
    for layer, _ in layers:
        for name in names:
            layer._buffers.pop(name, None)
            layer._non_persistent_buffers_set.discard(name)
