"""The difference of two checkpoints of one model as an adapter: low-rank pairs of linear layers and embeddings, and
constants of layers that have a bias.

A change of other weights would be a patch of the base, and each switch of adapters would load the model again. So the
layers behind a norm take up its change where that is exact, and the rest is dropped and counted. It goes layer by
layer; neither checkpoint is ever in memory.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...agents.adapter_file import Pair, write_adapter
from .adapters import Dtype, check_new_file
from .checkpoint import HEAD, Checkpoint, in_blocks
from .low_rank import LowRank, decompose, distance, norm
from .models import TrainError

if TYPE_CHECKING:
    import torch

MAX_RANK = 256
"""Of a layer, where only an error is asked for."""
HELD = 1 << 28
"""Values of a difference that is kept in memory, in float32; a larger one, such as an 8B's head, is read each time."""

LARGEST = 1e12
"""Norm of a difference; beyond it the decomposition may leave the numbers of float32."""

KINDS = {
    "word embeddings": "Only linear layers were asked for (--linear-only).",
    "tied head": "Head and word embeddings are one weight, and only linear layers were asked for (--linear-only).",
    "norms of queries and keys": "They lie behind a layer and undo any scale put into it.",
    "norm scales": "The layer behind cannot take this scale up exactly: the head is tied, the base's scale is 0, or "
    "the norm has a bias and only pairs of linear layers were asked for (--linear-only).",
    "norm biases": "The layer behind takes no constant: only pairs of linear layers were asked for (--linear-only), or "
    "the base's scale is 0.",
    "biases": "They lie in no linear layer, or only pairs of linear layers were asked for (--linear-only).",
    "position embeddings": "Only linear layers were asked for (--linear-only).",
    "patch embedding": "Only linear layers were asked for (--linear-only).",
    "others": "They belong to no layer that a pair can stand beside.",
}
"""What cannot be carried, and why."""


@dataclass(frozen=True)
class Layer:
    """size: of the difference, its Frobenius norm. lost: of what the written pair leaves of it."""

    layer: str
    shape: tuple[int, int]
    rank: int
    size: float
    lost: float

    @property
    def error(self) -> float:
        """Relative; 0 is exact, 1 is nothing."""
        return self.lost / self.size


@dataclass(frozen=True)
class Dropped:
    """Weights that differ and stay the base's. change: norm of the difference, relative to the base's; None if zero."""

    kind: str
    tensors: int
    parameters: int
    change: float | None


@dataclass(frozen=True)
class Extraction:
    """folded: norms whose change is in the pairs and constants of the layers behind them. constants: layers that have
    one. bytes: of all pairs and constants.
    """

    base: str
    tuned: str
    layers: tuple[Layer, ...]
    constants: tuple[str, ...]
    folded: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    bytes: int

    @property
    def error(self) -> float:
        """Of all pairs together, relative, in the Frobenius norm."""
        if not self.layers:
            return 0.0
        return math.hypot(*(f.lost for f in self.layers)) / math.hypot(*(f.size for f in self.layers))

    def to_dict(self) -> dict[str, Any]:
        layers = [asdict(found) | {"error": found.error} for found in self.layers]
        return asdict(self) | {"error": self.error, "layers": layers}


def extract(
    base: Checkpoint,
    tuned: Checkpoint,
    out: Path,
    *,
    rank: int = 0,
    error: float = 0.0,
    max_rank: int = MAX_RANK,
    dtype: Dtype = "bfloat16",
    linear_only: bool = False,
    on_layer: Callable[[Layer], None] = lambda _: None,
) -> Extraction:
    """Write the adapter that makes `base` write as `tuned` does.

    rank: at most so many columns a layer. error: instead of it the least rank, up to `max_rank`, whose relative error
    is not above; 0 < error < 1. Errors are those of the pairs as they are written. linear_only: no other pairs and no
    constants, for programs that put pairs beside linear layers alone.

    Raises:
        TrainError: the two are not one model, or the same; a wrong rank or error; `out` is there.
    """
    import torch

    check_choice(rank, error, max_rank)
    check_new_file(out, "loras")
    check_same_model(base, tuned)
    inputs, folded = _inputs(base, tuned, linear_only)
    pairs: dict[str, Pair] = {}
    constants: dict[str, torch.Tensor] = {}
    layers: list[Layer] = []
    for name in base.paired(linear_only):
        behind = inputs.get(name)
        constant = None if linear_only else _constant(base, tuned, name, behind)
        if constant is not None:
            constants[name] = constant
        difference = Difference(base, tuned, name, None if behind is None else behind.scale)
        size = norm(difference)
        if not size:
            continue
        if not size < LARGEST:
            raise TrainError(
                f"{name} holds numbers that are not finite in {base.name} or {tuned.name}, or far too large. Use other "
                "files."
            )
        found = decompose(difference, rank or max_rank)
        kept = len(found.values) if rank else _least_rank(difference, found, error * size, getattr(torch, dtype))
        left, right = found.halves(kept, getattr(torch, dtype))
        layers.append(Layer(name, difference.of, kept, size, distance(difference, left, right)))
        pairs[name] = Pair(*difference.turned(left, right))
        on_layer(layers[-1])
    carried = {f"{name}.weight" for name in base.paired(linear_only)} | {f"{name}.bias" for name in constants}
    carried |= {f"{name}.{part}" for name in folded for part in ("weight", "bias")}
    dropped = tuple(_dropped(base, tuned, carried))
    if not pairs and not constants:
        if dropped:
            raise TrainError(
                f"No layer of {tuned.name} that a pair can stand beside differs from {base.name}: there is nothing to "
                "extract."
            )
        raise TrainError(f"{base.name} and {tuned.name} hold the same weights: there is nothing to extract.")
    size = sum(pair.bytes for pair in pairs.values()) + sum(constant.nbytes for constant in constants.values())
    made = Extraction(base.name, tuned.name, tuple(layers), tuple(constants), tuple(folded), dropped, size)
    notes = {"error": f"{made.error:.4f}", "max_rank": str(max((f.rank for f in layers), default=0))}
    notes |= _made_of(tuned, asked(rank, error, max_rank, dtype, linear_only))
    notes["dropped"] = "; ".join(f"{d.parameters} {d.kind}" for d in dropped)
    write_adapter(out, pairs, constants, base=base.name, sample=base.sample(), notes=notes)
    return made


def check_choice(rank: int, error: float, max_rank: int) -> None:
    """Raises:
    TrainError: no rank and no error, both, or one that is out of bounds.
    """
    if bool(rank) == bool(error):
        raise TrainError("Give either --rank or --error.")
    for option, value in (("rank", rank), ("max-rank", max_rank)):
        if value < (option == "max-rank"):
            raise TrainError(f"--{option} is {value}; it must be 1 or more.")
    if not (error == 0 or 0 < error < 1):
        raise TrainError(f"--error is {error}; it must lie between 0 (exact) and 1 (nothing), such as 0.1.")


def asked(rank: int, error: float, max_rank: int, dtype: Dtype, linear_only: bool = False) -> str:
    """What decides the pairs, beside the two models."""
    layers = "linear layers" if linear_only else "all layers"
    return f"{f'rank {rank}' if rank else f'error {float(error)}, max-rank {max_rank}'}, {dtype}, {layers}"


_NOTES = {
    "base_fingerprint": "base's fingerprint",
    "tuned": "fine-tune",
    "tuned_fingerprint": "fine-tune's fingerprint",
    "asked": "choice of rank, number format and layers",
}
"""What a file says of its making, in words."""


def _made_of(tuned: Checkpoint, chosen: str) -> dict[str, str]:
    return {"tuned": tuned.name, "tuned_fingerprint": tuned.sample().fingerprint, "asked": chosen}


def check_made(base: Checkpoint, tuned: Checkpoint, out: Path, chosen: str) -> None:
    """chosen: as `asked` says it.

    Raises:
        TrainError: the file is not what `extract` makes of these two models so.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(out, "pt") as opened:
            found = dict(opened.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise TrainError(
            f"{out} cannot be read: {' '.join(str(error).split())[:200]}. Delete it, or give another --out."
        ) from error
    wanted = {"base_fingerprint": base.sample().fingerprint, **_made_of(tuned, chosen)}
    for note, value in wanted.items():
        if found.get(note) != value:
            raise TrainError(
                f"{out} is not the result of this command: its {_NOTES[note]} is "
                f"{found.get(note, 'not known')[:100]!r}, and {value!r} is wanted. Delete it, or give another --out."
            )


def check_same_model(base: Checkpoint, tuned: Checkpoint) -> None:
    """Raises:
    TrainError: a tensor is in one of them only, or has two shapes.
    """
    named = [(f"BASE ({base.name})", base), (f"TUNED ({tuned.name})", tuned)]
    for (one, whole), (other, lacking) in (named, named[::-1]):
        missing = [key for key in whole.tensors if key not in lacking.tensors]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise TrainError(f"{other} has no {missing[0]}{more}, which {one} has. Give two whole checkpoints.")
    for key, stored in base.tensors.items():
        shape = tuned.tensors[key].shape
        if shape != stored.shape:
            sizes = [" x ".join(map(str, sides)) for sides in (stored.shape, shape)]
            raise TrainError(
                f"{key} is {sizes[0]} in {named[0][0]} and {sizes[1]} in {named[1][0]}. Give the fine-tuned model."
            )


def bytes_at(base: Checkpoint, rank: int, itemsize: int, linear_only: bool = False) -> int:
    """Of all pairs at a rank."""
    return sum(min(rank, *s) * sum(s) * itemsize for s in map(base.sides, base.paired(linear_only)))


@dataclass(frozen=True)
class Difference:
    """tuned - base of one layer, on its long side (`low_rank.Blocks`); the tuned weight with its input scaled.

    scale: (in), by which the columns of the tuned weight are multiplied.
    """

    base: Checkpoint
    tuned: Checkpoint
    layer: str
    scale: torch.Tensor | None = None

    @cached_property
    def of(self) -> tuple[int, int]:
        """(out, in) of the layer."""
        out, width = self.base.sides(self.layer)
        return out, width

    @property
    def shape(self) -> tuple[int, int]:
        return max(self.of), min(self.of)

    @property
    def _wide(self) -> bool:
        return self.of[0] < self.of[1]

    def turned(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(out, rank) and (rank, in) of what was found on the long side."""
        return (right.T.contiguous(), left.T.contiguous()) if self._wide else (left.contiguous(), right.contiguous())

    def __iter__(self) -> Iterator[tuple[slice, torch.Tensor]]:
        for place in in_blocks(self.shape):
            yield place, self._block(place) if self._held is None else self._held[place]

    @cached_property
    def _held(self) -> torch.Tensor | None:
        import torch

        if math.prod(self.of) > HELD:
            return None
        whole = torch.empty(self.shape)
        for place in in_blocks(self.shape):
            whole[place] = self._block(place)
        return whole

    def _block(self, place: slice) -> torch.Tensor:
        key, every = f"{self.layer}.weight", slice(None)
        rows, columns = (every, place) if self._wide else (place, every)
        block = self.tuned.part(key, rows, columns).flatten(1)
        if self.scale is not None:
            block *= self.scale[columns]
        block -= self.base.part(key, rows, columns).flatten(1)
        return block.T if self._wide else block


def _least_rank(difference: Difference, found: LowRank, bound: float, dtype: torch.dtype) -> int:
    """The least rank at which not more than `bound` is lost, else all that was found."""
    most = len(found.values)

    def holds(rank: int) -> bool:
        return distance(difference, *found.halves(rank, dtype)) <= bound

    return min(most, 1 + bisect_left(range(1, most + 1), True, key=holds))


@dataclass(frozen=True)
class _Input:
    """What happened to a layer's input, as far as its norm made it: with the base's x it is scale * x + shift, (in)."""

    scale: torch.Tensor
    shift: torch.Tensor

    def to(self, width: int) -> _Input:
        """For a layer that reads several outputs of the norm, one after the other."""
        times = width // len(self.scale)
        return _Input(self.scale.repeat(times), self.shift.repeat(times))


def _inputs(base: Checkpoint, tuned: Checkpoint, linear_only: bool) -> tuple[dict[str, _Input], list[str]]:
    """By layer, what happened to its input through the norm before it; the norms whose change that is.

    With the base's norm g n + b and the tuned g' n + b', the base's output x is g' / g x + (b' - g' / g b) there. So
    W' diag(g' / g) x + W' (b' - g' / g b) is W' on the tuned norm's output.
    """
    inputs: dict[str, _Input] = {}
    folded: list[str] = []
    for key in sorted(base.tensors):
        name = key.removesuffix(".weight")
        consumers = _consumers(name) if key.endswith(".weight") else ()
        changed = _change(base, tuned, name) if consumers else None
        if changed is None:
            continue
        shapes = {
            layer: base.tensors[f"{layer}.weight"].shape for layer in consumers if f"{layer}.weight" in base.tensors
        }
        if len(shapes) < len(consumers) or any(len(s) != 2 or s[1] % len(changed.scale) for s in shapes.values()):
            continue
        takes_constants = not linear_only and all(f"{layer}.bias" in base.tensors for layer in consumers)
        if bool(changed.shift.any()) and not takes_constants:
            continue
        inputs |= {layer: changed.to(width) for layer, (_, width) in shapes.items()}
        folded.append(name)
    return inputs, folded


def _constant(base: Checkpoint, tuned: Checkpoint, layer: str, behind: _Input | None) -> torch.Tensor | None:
    """What the tuned layer adds to all that it gives beyond what the base adds, (out); None for nothing, or no bias."""
    key = f"{layer}.bias"
    if key not in base.tensors:
        return None
    constant = tuned.part(key) - base.part(key)
    if behind is not None and bool(behind.shift.any()):
        weight = f"{layer}.weight"
        for rows in in_blocks(base.tensors[weight].shape):
            constant[rows] += tuned.part(weight, rows) @ behind.shift
    if not bool(constant.isfinite().all()):
        raise TrainError(f"{key} holds numbers that are not finite in {base.name} or {tuned.name}. Use other files.")
    return constant if bool(constant.any()) else None


def _consumers(norm_name: str) -> tuple[str, ...]:
    """All layers that read the output of a norm of a Qwen3-VL; none if others read it too."""
    block, _, kind = norm_name.rpartition(".")
    if norm_name == "model.norm":
        return (HEAD,)
    behind: Mapping[str, tuple[str, ...]] = {
        "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
        "norm1": ("attn.qkv",),
        "norm2": ("mlp.linear_fc1",),
        "norm": ("linear_fc1",),
    }
    return tuple(f"{block}.{name}" for name in behind.get(kind, ()))


def _change(base: Checkpoint, tuned: Checkpoint, name: str) -> _Input | None:
    """What a norm's change does to its output; None where nothing changed, or the base's scale holds a zero."""
    import torch

    parts = [part for part in ("weight", "bias") if f"{name}.{part}" in base.tensors]
    before, after = ([model.part(f"{name}.{part}") for part in parts] for model in (base, tuned))
    if all(map(torch.equal, before, after)):
        return None
    ratio = after[0] / before[0]
    if not bool(torch.isfinite(ratio).all()):
        return None
    shift = after[1] - ratio * before[1] if len(parts) == 2 else torch.zeros_like(ratio)
    return _Input(ratio, shift)


def _dropped(base: Checkpoint, tuned: Checkpoint, carried: set[str]) -> Iterator[Dropped]:
    """By kind, in the order of KINDS."""
    tied = f"{HEAD}.weight" not in base.tensors
    found: dict[str, list[tuple[int, float, float]]] = {}
    for key, stored in base.tensors.items():
        if key in carried:
            continue
        change = size = 0.0
        for place in in_blocks(stored.shape):
            before = base.part(key, place)
            change += float((tuned.part(key, place) - before).double().square().sum())
            size += float(before.double().square().sum())
        if change:
            found.setdefault(_kind(key, tied), []).append((math.prod(stored.shape), change, size))
    for kind in KINDS:
        if kind in found:
            counts, changes, sizes = zip(*found[kind], strict=True)
            relative = math.sqrt(sum(changes) / sum(sizes)) if sum(sizes) else None
            yield Dropped(kind, len(counts), sum(counts), relative)


def _kind(key: str, tied: bool) -> str:
    parts = key.split(".")
    if "embed_tokens" in parts:
        return "tied head" if tied else "word embeddings"
    if "q_norm" in parts or "k_norm" in parts:
        return "norms of queries and keys"
    if "pos_embed" in parts:
        return "position embeddings"
    if "patch_embed" in parts:
        return "patch embedding"
    of_norm = "norm" in parts[-2]
    if parts[-1] == "bias":
        return "norm biases" if of_norm else "biases"
    return "norm scales" if of_norm else "others"
