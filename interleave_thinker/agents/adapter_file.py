"""An adapter in one file, as ComfyUI reads a LoRA: low-rank pairs of linear layers and embeddings, constants of layers
that have a bias, and a sample of the base's weights.

Keys are `text_encoders.transformer.LAYER.lora_up.weight`, `.lora_down.weight`, `.alpha` and `.diff_b`; LAYER is the
layer's place in ComfyUI's Qwen3-VL. By the sample another base is told apart, in any number format.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import AgentError
from ..files import HALF_WRITTEN
from ..printable import printable

if TYPE_CHECKING:
    import torch

PREFIX = "text_encoders.transformer."
FORMAT = "1"
SAMPLED_LAYERS = 16
SAMPLED_VALUES = 64
"""The first values of the first row of each sampled layer."""
Bits = Literal[16, 8, 4]
"""Of the base's weights where the adapter is put: 16 or more, 8 (fp8, int8), or less."""
TOLERANCES: Mapping[Bits, float] = {16: 0.003, 8: 0.08, 4: 0.15}
"""Relative distance to the sample that rounding alone can make. A fine-tune that is nearer to the base than that is not
told from it."""
MOST = 3.4e38
"""What bfloat16 holds."""
QUOTED = 100
"""Characters of a name that a message quotes from a file."""
SUFFIXES = (".safetensors", ".sft")
WORDS = "model.embed_tokens"
"""The word embeddings; where the head is tied to them they are its weight too."""
POSITIONS = "visual.pos_embed"
"""The embeddings of places in a picture."""
PATCHES = "visual.patch_embed.proj"
"""The convolution that reads a picture's patches, each as large as its kernel: the product of a row with a matrix."""
NOT_LINEAR = (WORDS, POSITIONS, PATCHES)
"""The layers other than linear ones that can have a pair."""

_PLACES = (
    (re.compile(r"^(?:base_model\.model\.)?(?:model\.)?language_model\.(?:model\.)?"), "model."),
    (re.compile(r"^model\.visual\."), "visual."),
    (re.compile(r"^lm_head$"), "model.lm_head"),
)
_KEY = re.compile(
    r"text_encoders\.(?:\w+\.)?transformer\.(?P<layer>[\w.]+)\.(?P<part>lora_up\.weight|lora_down\.weight|alpha|diff_b)"
)
_SAMPLED = re.compile(r"\.(?:k|v|o)_proj$")


@dataclass(frozen=True)
class Pair:
    """What is added to one weight: scale * up @ down. up: (out, rank); down: (rank, in).

    out and in of embeddings are their number and the width of one; in of PATCHES is the number of values in a patch.
    """

    up: torch.Tensor
    down: torch.Tensor
    scale: float = 1.0

    @property
    def bytes(self) -> int:
        return int(self.up.nbytes + self.down.nbytes)


def product(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, scale: float) -> torch.Tensor:
    """scale * up @ (down @ x), for x of shape (..., in); all three of one number format."""
    from torch.nn.functional import linear

    more = linear(linear(x, down), up)
    return more if scale == 1.0 else more * scale


def looked_up(ids: torch.Tensor, up: torch.Tensor, down: torch.Tensor, scale: float) -> torch.Tensor:
    """scale * up[ids] @ down, of shape (..., width), for ids of shape (...)."""
    from torch.nn.functional import embedding

    more = embedding(ids, up) @ down
    return more if scale == 1.0 else more * scale


def of_patches(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, scale: float) -> torch.Tensor:
    """`product` for patches x of shape (n, channels, ...), as their convolution gives it: (n, out, 1, ...)."""
    more = product(x.flatten(1), up, down, scale)
    return more.reshape(*more.shape, *[1] * (x.ndim - 2))


def added_by(layer: str) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]:
    """The function of a layer's input, up, down and scale whose result is added to the layer's output."""
    return {WORDS: looked_up, POSITIONS: looked_up, PATCHES: of_patches}.get(layer, product)


def beside(constant: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """A layer's constant, (out), in the shape in which it is added to the layer's output: (..., out), or, of PATCHES
    alone, (n, out, 1, 1, 1).
    """
    return constant.reshape(-1, 1, 1, 1) if output.ndim == 5 else constant


def sides(weight: torch.Tensor) -> tuple[int, int]:
    """(out, in) of a layer's weight."""
    return weight.shape[0], math.prod(weight.shape[1:])


@dataclass(frozen=True)
class BaseSample:
    """Some weights of the base that an adapter was made for, by layer, to tell it from others."""

    values: Mapping[str, tuple[float, ...]]

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits, for people; `distance` decides. float16 may have others than bfloat16."""
        return hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()[:12]

    @staticmethod
    def of(layers: Iterable[str], first_row: Callable[[str], torch.Tensor]) -> BaseSample:
        """layers: all linear layers of the base. first_row: the first row of a layer's weight."""
        narrow = sorted(layer for layer in layers if _SAMPLED.search(layer)) or sorted(layers)
        step = max(1, math.ceil(len(narrow) / SAMPLED_LAYERS))
        return BaseSample({layer: _rounded(first_row(layer)) for layer in narrow[::step]})

    def distance(self, first_row: Callable[[str], torch.Tensor | None]) -> float | None:
        """Of other weights, as a share of these. None: no layer can be read; infinite: other widths."""
        off = total = 0.0
        for layer, wanted in self.values.items():
            row = first_row(layer)
            if row is None:
                continue
            found = _rounded(row)
            if len(found) != len(wanted):
                return math.inf
            off += sum((a - b) ** 2 for a, b in zip(found, wanted, strict=True))
            total += sum(b * b for b in wanted)
        return math.sqrt(off / total) if total else None


@dataclass(frozen=True)
class AdapterFile:
    """pairs: by layer. constants: by layer, what is added to all that it gives, of shape (out). base: name of the model
    that it was made for. sample: of that model, if the file has one.
    """

    name: str
    pairs: Mapping[str, Pair]
    base: str = ""
    sample: BaseSample | None = None
    constants: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """All layers that something is added to, each once."""
        return sorted({*self.pairs, *self.constants})

    @property
    def bytes(self) -> int:
        return sum(pair.bytes for pair in self.pairs.values()) + sum(c.nbytes for c in self.constants.values())

    def check_base(self, first_row: Callable[[str], torch.Tensor | None], bits: Bits = 16) -> None:
        """first_row: the first row of a layer's weight, None where it cannot be read.

        Raises:
            AgentError: the weights are those of another base.
        """
        distance = self.sample.distance(first_row) if self.sample is not None else None
        if self.sample is None or distance is None:
            return
        if not distance <= TOLERANCES[bits]:
            raise AgentError(
                f"Adapter {self.name} was made for another model: {self.base or 'its base'} "
                f"(fingerprint {self.sample.fingerprint}). Load that model, or choose an adapter of this one."
            )

    def check_layers(self, shape_of: Callable[[str], tuple[int, ...] | None]) -> None:
        """shape_of: (out, in) of a linear layer or of one of NOT_LINEAR, None if the model has no such layer.

        Raises:
            AgentError: a layer is not there or of another size.
        """
        for layer in self.layers:
            shape, pair = shape_of(layer), self.pairs.get(layer)
            if shape is None:
                raise AgentError(f"Adapter {self.name} does not fit this model, which has no layer {layer[:QUOTED]}.")
            fits = (pair.up.shape[0], pair.down.shape[1]) if pair is not None else None
            if fits is not None and tuple(shape) != fits:
                raise AgentError(
                    f"Adapter {self.name} does not fit this model: {layer[:QUOTED]} is {_size(shape)}, the adapter's "
                    f"{_size(fits)}."
                )
            given = self.constants.get(layer)
            if given is not None and len(given) != shape[0]:
                raise AgentError(
                    f"Adapter {self.name} does not fit this model: {layer[:QUOTED]} gives {shape[0]} numbers, and the "
                    f"adapter adds {len(given)}."
                )

    def check_words(self, words: object) -> None:
        """words: the model's module of word embeddings.

        Raises:
            AgentError: there is a pair of them, and the model scales what it looks up, which no pair does.
        """
        if WORDS in self.pairs and "scaled" in type(words).__name__.lower():
            raise AgentError(
                f"Adapter {self.name} holds a pair of the word embeddings, which this model scales. Make the adapter "
                "again without it: `interleave-thinker adapters extract --linear-only`."
            )


def layer_of(name: str) -> str:
    """A layer's place in ComfyUI's model, from its name in a Hugging Face or a ComfyUI checkpoint (no `.weight`)."""
    for pattern, place in _PLACES:
        if pattern.match(name):
            return pattern.sub(place, name, count=1)
    return name


def hf_name(layer: str) -> str:
    """The layer's name in transformers' Qwen3-VL."""
    if layer == "model.lm_head":
        return "lm_head"
    return f"model.{layer}" if layer.startswith("visual.") else re.sub(r"^model\.", "model.language_model.", layer)


def read_adapter(file: Path) -> AdapterFile:
    """Read and check a file. What it holds is copied: the file may be written over or deleted afterwards.

    Raises:
        AgentError: it cannot be read, or holds something other than whole pairs.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            metadata = dict(opened.metadata() or {})
            keys = list(opened.keys())
            strange = next((key for key in keys if not _KEY.fullmatch(key)), None)
            if not keys or strange is not None:
                raise AgentError(_not_ours(file.name, strange))
            parts: dict[str, dict[str, torch.Tensor]] = {}
            for key in keys:
                found = _KEY.fullmatch(key)
                assert found is not None
                of_layer = parts.setdefault(found["layer"], {})
                if found["part"] in of_layer:
                    raise AgentError(
                        f"Adapter {file.name} holds {found['layer'][:QUOTED]} twice, for two models. Give one of them."
                    )
                of_layer[found["part"]] = opened.get_tensor(key).clone()
    except (OSError, SafetensorError) as error:
        raise AgentError(f"Adapter {file.name} cannot be read: {' '.join(str(error).split())[:200]}") from error
    constants = {
        layer: _constant(file.name, layer, found.pop("diff_b"))
        for layer, found in sorted(parts.items())
        if "diff_b" in found
    }
    pairs = {layer: whole_pair(file.name, layer, found) for layer, found in sorted(parts.items()) if found}
    base = printable(metadata.get("base", ""), longest=QUOTED)
    return AdapterFile(file.name, pairs, base, _sample(file.name, metadata), constants)


def write_adapter(
    file: Path,
    pairs: Mapping[str, Pair],
    constants: Mapping[str, torch.Tensor] | None = None,
    *,
    base: str,
    sample: BaseSample,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a whole file or none. notes: more metadata, such as rank and error.

    Raises:
        AgentError: the file cannot be written.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for layer, pair in pairs.items():
        tensors[f"{PREFIX}{layer}.lora_up.weight"] = pair.up.contiguous()
        tensors[f"{PREFIX}{layer}.lora_down.weight"] = pair.down.contiguous()
        tensors[f"{PREFIX}{layer}.alpha"] = torch.tensor(float(pair.scale * pair.down.shape[0]))
    tensors |= {f"{PREFIX}{layer}.diff_b": added.contiguous() for layer, added in (constants or {}).items()}
    metadata = {
        **{note: printable(text) for note, text in (notes or {}).items()},
        "interleave_adapter": FORMAT,
        "base": printable(base),
        "base_fingerprint": sample.fingerprint,
        "base_sample": json.dumps(sample.values),
    }
    write_tensors(file, tensors, metadata)


def write_tensors(file: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a whole .safetensors file or none, readable for whom a new file is (umask).

    Raises:
        AgentError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    part = file.with_name(f"{HALF_WRITTEN}{uuid.uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as empty:
            mode = stat.S_IMODE(os.fstat(empty.fileno()).st_mode)
        save_file(tensors, part, metadata=metadata)  # for its owner alone
        part.chmod(mode)
        part.replace(file)
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise AgentError(f"Cannot write {file}: {reason}. Free some space, or choose another folder.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def whole_pair(name: str, layer: str, parts: Mapping[str, torch.Tensor]) -> Pair:
    """name: of the adapter. parts: `lora_up.weight`, `lora_down.weight` and, where there is one, `alpha`.

    Raises:
        AgentError: they are no pair.
    """
    import torch

    up, down = parts.get("lora_up.weight"), parts.get("lora_down.weight")
    if up is None or down is None:
        raise AgentError(
            f"Adapter {name} is not whole: {layer[:QUOTED]} has one half of its pair. Make the file again."
        )
    if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0] or not down.shape[0]:
        raise AgentError(
            f"Adapter {name} is damaged: the pair of {layer[:QUOTED]} is {_size(up.shape)} and {_size(down.shape)}."
        )
    scale = _alpha(name, layer, parts["alpha"]) / down.shape[0] if "alpha" in parts else 1.0
    for tensor in (up, down, torch.tensor(scale)):
        _check_numbers(name, layer, tensor)
    return Pair(up, down, scale)


def _constant(name: str, layer: str, added: torch.Tensor) -> torch.Tensor:
    if layer in (WORDS, POSITIONS) or added.ndim != 1:
        raise AgentError(
            f"Adapter {name} is damaged: what it adds to {layer[:QUOTED]} is {_size(added.shape)} and no row of "
            "numbers beside a layer that has a bias. Make the file again."
        )
    _check_numbers(name, layer, added)
    return added


def _check_numbers(name: str, layer: str, tensor: torch.Tensor) -> None:
    import torch

    if not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
        raise AgentError(f"Adapter {name} holds {tensor.dtype}; make it as bfloat16, float16 or float32.")
    if not bool(torch.isfinite(tensor).all()):
        raise AgentError(
            f"Adapter {name} is damaged: {layer[:QUOTED]} holds numbers that are not finite. Make the file again."
        )


def _alpha(name: str, layer: str, alpha: torch.Tensor) -> float:
    if alpha.numel() != 1 or alpha.is_complex() or (alpha.is_floating_point() and alpha.dtype.itemsize < 2):
        raise AgentError(
            f"Adapter {name} is damaged: alpha of {layer[:QUOTED]} is no single number ({alpha.dtype}, "
            f"{alpha.numel()} values). Make the file again."
        )
    return float(alpha)


def _sample(name: str, metadata: Mapping[str, str]) -> BaseSample | None:
    if "base_sample" not in metadata:
        return None
    try:
        values = {layer: tuple(map(_sampled, row)) for layer, row in json.loads(metadata["base_sample"]).items()}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise AgentError(
            f"Adapter {name} is damaged: what it says of its base cannot be read. Make it again."
        ) from None
    return BaseSample(values)


def _sampled(value: Any) -> float:
    number = float(value)
    if not abs(number) <= MOST:
        raise ValueError(f"{number} is no weight")
    return number


def _rounded(row: torch.Tensor) -> tuple[float, ...]:
    """As bfloat16 has it."""
    import torch

    return tuple(row.reshape(-1)[:SAMPLED_VALUES].float().to(torch.bfloat16).float().tolist())


def _not_ours(name: str, key: str | None) -> str:
    if key is None:
        return f"{name} is empty; it is no adapter."
    return (
        f"{name} is no adapter of an agent: it holds {key[:80]!r}. An agent takes low-rank pairs of a language model: "
        "make the file with `interleave-thinker adapters extract` or `adapters export-comfy --lora`."
    )


def _size(shape: Iterable[Any]) -> str:
    return " x ".join(str(side) for side in shape)
