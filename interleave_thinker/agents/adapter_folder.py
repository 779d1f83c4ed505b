"""A model folder that holds an adapter file in place of weights: the weights are those of the base beside it.

`adapter.safetensors` names the base's folder, a neighbour, in its metadata. The pairs are added into the weights when
they are loaded, so what is loaded is a model like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AgentError
from .adapter_file import QUOTED, AdapterFile, hf_name, read_adapter, sides

if TYPE_CHECKING:
    import torch

ADAPTER_NAME, WHOLE_NAME = "adapter.safetensors", "model.safetensors"


def adapter_of(folder: Path) -> AdapterFile | None:
    """What the folder has in place of weights; None for a folder with weights of its own.

    Raises:
        AgentError: the file cannot be read (see `read_adapter`).
    """
    return read_adapter(folder / ADAPTER_NAME) if _has_no_weights(folder) else None


def base_of(folder: Path) -> Path:
    """The folder that the weights come from: `folder` itself, or the base that its adapter names.

    Raises:
        AgentError: the base is not there, or the adapter names none.
    """
    adapter = adapter_of(folder)
    if adapter is None:
        return folder
    if not adapter.base or Path(adapter.base).name != adapter.base:
        raise AgentError(f"{folder.name} holds an adapter that names no base folder ({adapter.base!r:.60}).")
    base = folder.resolve().parent / adapter.base
    if _has_no_weights(base) or not any(base.glob("*.safetensors")):
        raise AgentError(f"{folder.name} is an adapter of {adapter.base!r}; put that model's folder beside it.")
    return base


def weight_files(folder: Path) -> list[Path]:
    """All files that the weights of a folder are made from, sorted; those of its base too."""
    return sorted(file for place in {folder, base_of(folder)} for file in place.glob("*.safetensors"))


def load_weights(kind: Any, folder: Path, dtype: Any) -> Any:
    """A transformers model of class `kind`, with the adapter's pairs in its weights if the folder holds an adapter.

    Raises:
        AgentError: the base is not there, or is not the one that the adapter was made for.
        OSError, ValueError, RuntimeError, KeyError: transformers cannot load it.
    """
    adapter = adapter_of(folder)
    model = kind.from_pretrained(base_of(folder), dtype=dtype, local_files_only=True)
    if adapter is not None:
        add_pairs(adapter, dict(model.named_parameters()))
        model.name_or_path = model.config._name_or_path = str(folder)
    return model


def whole_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder with one weight file, in float32, by transformers' names; an adapter's pairs are in them.

    Raises:
        AgentError: see `load_weights`.
    """
    from safetensors.torch import load_file

    adapter = adapter_of(folder)
    weights = {name: tensor.float() for name, tensor in load_file(base_of(folder) / WHOLE_NAME).items()}
    if adapter is not None:
        add_pairs(adapter, weights)
    return weights


def add_pairs(adapter: AdapterFile, weights: Mapping[str, torch.Tensor]) -> None:
    """Add pairs and constants, in float32, into the base's weights, which have transformers' names.

    Raises:
        AgentError: they are the weights of another base; none was changed.
    """
    import torch

    def weight_of(layer: str) -> torch.Tensor | None:
        return weights.get(f"{hf_name(layer)}.weight")

    def shape_of(layer: str) -> tuple[int, ...] | None:
        weight = weight_of(layer)
        return None if weight is None else sides(weight)

    def first_row(layer: str) -> torch.Tensor | None:
        weight = weight_of(layer)
        return None if weight is None else weight.detach()[0]

    adapter.check_layers(shape_of)
    adapter.check_base(first_row)
    lacking = next((layer for layer in adapter.constants if f"{hf_name(layer)}.bias" not in weights), None)
    if lacking is not None:
        raise AgentError(f"Adapter {adapter.name} adds numbers to {lacking[:QUOTED]}, which has no bias in this model.")
    with torch.no_grad():
        for layer, pair in adapter.pairs.items():
            weight = weights[f"{hf_name(layer)}.weight"]
            more = pair.scale * (pair.up.float() @ pair.down.float())
            weight.copy_(weight.float() + more.reshape(weight.shape).to(weight.device))
        for layer, added in adapter.constants.items():
            bias = weights[f"{hf_name(layer)}.bias"]
            bias.copy_(bias.float() + added.float().to(bias.device))


def _has_no_weights(folder: Path) -> bool:
    return [file.name for file in folder.glob("*.safetensors")] == [ADAPTER_NAME]
