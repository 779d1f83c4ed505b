"""The weights of a Qwen3-VL on disk: a Hugging Face folder, or one file as stock Load CLIP takes it.

Nothing is held: each reading opens the file, takes some rows and closes it, so that pages of a large file do not stay
in this process.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...agents.adapter_file import NOT_LINEAR, SUFFIXES, BaseSample, layer_of
from ...agents.transformers_agent import check_folder
from .models import TrainError

if TYPE_CHECKING:
    import torch

PROBE = "visual.deepstack_merger_list.0.norm.weight"
"""Only a Qwen3-VL has it."""
HEAD = "model.lm_head"
FLOATS = ("BF16", "F16", "F32", "F64")
BLOCK = 1 << 24
"""Values that are read at a time."""


class Stored(NamedTuple):
    """A tensor in a file, under the file's own name for it."""

    file: Path
    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """tensors: by the place in ComfyUI's model, such as `model.layers.0.self_attn.q_proj.weight`, whatever the file
    calls them."""

    name: str
    tensors: Mapping[str, Stored]

    @staticmethod
    def open(place: Path) -> Checkpoint:
        """Read the headers. A head that only repeats the word embeddings is left out.

        Raises:
            AgentError: a folder without a whole Qwen3-VL.
            TrainError: a file that is none, or a number format that holds no plain weights.
        """
        if place.is_dir():
            config = check_folder(place)
            tied = has_tied_head(config)
            files = shards(place)
        else:
            if not place.is_file():
                raise TrainError(
                    f"There is no folder or file {place}. Give a Qwen3-VL folder, or one .safetensors file."
                )
            if place.suffix not in SUFFIXES:
                raise TrainError(
                    f"{place.name} is no safetensors file. Give a Qwen3-VL folder, or one .safetensors file."
                )
            tied, files = False, [place]
        name = place.resolve().name if place.is_dir() else place.stem
        tensors = {key: stored for file in files for key, stored in _stored(name, file)}
        if PROBE not in tensors:
            raise TrainError(f"{name} has no {PROBE}: it is no Qwen3-VL. Give a Qwen3-VL 4B or 8B and its fine-tune.")
        if tied:
            tensors.pop(f"{HEAD}.weight", None)
        return Checkpoint(name, tensors)

    @property
    def linear(self) -> list[str]:
        """The linear layers, in their order."""
        return sorted(
            key.removesuffix(".weight")
            for key, stored in self.tensors.items()
            if key.endswith(".weight") and len(stored.shape) == 2 and "embed" not in key
        )

    def paired(self, linear_only: bool = False) -> list[str]:
        """What an adapter's pairs can be of: the linear layers and, if not those alone, NOT_LINEAR, in their order."""
        found = [layer for layer in NOT_LINEAR if len(self.sides(layer)) == 2 and not linear_only]
        return sorted([*self.linear, *found])

    def sides(self, layer: str) -> tuple[int, ...]:
        """(out, in) of a layer's weight; empty if it has none that is a matrix or a convolution's."""
        stored = self.tensors.get(f"{layer}.weight")
        if stored is None or len(stored.shape) < 2:
            return ()
        return stored.shape[0], math.prod(stored.shape[1:])

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in {stored.file for stored in self.tensors.values()})

    def part(self, key: str, rows: slice = slice(None), columns: slice = slice(None)) -> torch.Tensor:
        """Some rows, and some columns of each as one row of numbers, of a tensor, in float32."""
        from safetensors import safe_open

        stored = self.tensors[key]
        with safe_open(stored.file, "pt") as file:
            found = file.get_slice(stored.name)
            part: torch.Tensor
            if not stored.shape:
                part = file.get_tensor(stored.name)
            else:
                part = found[rows, columns] if len(stored.shape) == 2 else found[rows]
                if len(stored.shape) > 2 and columns != slice(None):
                    part = part.flatten(1)[:, columns]
            return part.float().clone()

    def sample(self) -> BaseSample:
        return BaseSample.of(self.linear, lambda layer: self.part(f"{layer}.weight", slice(0, 1)))


def in_blocks(shape: tuple[int, ...], side: int = 0) -> Iterator[slice]:
    """Slices along one side of a tensor, each of about BLOCK values at most; one for a single number."""
    if not shape:
        yield slice(None)
        return
    step = max(1, BLOCK * shape[side] // max(math.prod(shape), 1))
    for start in range(0, shape[side], step):
        yield slice(start, min(start + step, shape[side]))


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a model's config.json that is of its language model; empty if there is none."""
    part = config.get("text_config")
    return part if isinstance(part, Mapping) else {}


def has_tied_head(config: Mapping[str, Any]) -> bool:
    """Whether head and word embeddings are one weight."""
    return bool(config.get("tie_word_embeddings", text_config(config).get("tie_word_embeddings")))


def shards(folder: Path) -> list[Path]:
    """The files of a folder's weights."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return sorted(folder / Path(str(name)).name for name in names)


def _stored(name: str, file: Path) -> Iterator[tuple[str, Stored]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            for key in opened.keys():
                found = opened.get_slice(key)
                if found.get_dtype() not in FLOATS:
                    raise TrainError(
                        f"{name} is quantised: {key} is {found.get_dtype()}. Give the bfloat16 files of both models; "
                        "the adapter also goes with quantised ones."
                    )
                layer, _, kind = key.rpartition(".")
                yield f"{layer_of(layer)}.{kind}", Stored(file, key, tuple(found.get_shape()))
    except (OSError, SafetensorError) as error:
        raise TrainError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}. Download it again.") from error
