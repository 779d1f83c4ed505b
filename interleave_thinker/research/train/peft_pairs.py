"""A LoRA folder of peft as the one file that ComfyUI reads: the same pairs and biases under ComfyUI's names."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...agents.adapter_file import MOST, WORDS, AdapterFile, layer_of, whole_pair, write_adapter
from .adapters import Dtype, check_new_file
from .checkpoint import HEAD, Checkpoint
from .models import TrainError

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OTHER_FORMS = (
    "use_dora", "use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config", "kasa_config",
    "monteclora_config", "layer_replication", "trainable_token_indices",
)  # fmt: skip
"""Settings of peft under which an adapter is more than pairs beside linear layers."""
PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin a LoRA that leave the base's weights as they are."""


def export_lora(base: Checkpoint, adapter: Path, out: Path, dtype: Dtype = "bfloat16") -> list[str]:
    """Write the pairs of a peft folder, with the scale that peft gives them, and its biases. Returns warnings: a base
    of another name, and what was left out.

    Raises:
        TrainError: the folder holds no LoRA, or one that is more than pairs; `out` is there.
        AgentError: a layer is not in `base`, or of another size.
    """
    check_new_file(out, "loras")
    config = _config(adapter)
    import torch

    kind = getattr(torch, dtype)
    halves: dict[str, dict[str, torch.Tensor]] = {}
    others: dict[str, torch.Tensor] = {}
    for key, tensor in _tensors(adapter).items():
        name, _, part = key.removeprefix("base_model.model.").partition(".lora_")
        if part in ("A.weight", "B.weight"):
            halves.setdefault(name, {})[part[0]] = tensor
        elif part in ("embedding_A", "embedding_B"):  # of looked-up rows: (rank, vocabulary) and (width, rank)
            halves.setdefault(name, {})["B" if part[-1] == "A" else "A"] = tensor.transpose(0, -1)
        else:
            others[key] = tensor
    if not halves or any(len(found) < 2 for found in halves.values()):
        raise TrainError(f"{adapter.name} holds no whole pairs. Save the adapter again with peft.")
    pairs = {
        layer_of(name): replace(
            whole_pair(
                adapter.name, name, {"lora_up.weight": found["B"].to(kind), "lora_down.weight": found["A"].to(kind)}
            ),
            scale=_scale(config, name, len(found["A"])),
        )
        for name, found in sorted(halves.items())
    }
    if WORDS in pairs and f"{HEAD}.weight" not in base.tensors:
        raise TrainError(
            f"{adapter.name} holds a pair of the word embeddings that counts where words are read, and {base.name} has "
            "them as its head too. Train the adapter again without embed_tokens in target_modules."
        )
    known = set(base.paired())
    AdapterFile(adapter.name, pairs).check_layers(
        lambda layer: base.tensors[f"{layer}.weight"].shape if layer in known else None
    )
    changed = {key: tensor for key, tensor in others.items() if not _is_of(base, key, tensor)}
    whole = next((key for key in changed if not key.endswith(".bias")), None)
    if whole is not None:
        raise TrainError(f"{adapter.name} holds {whole} whole (modules_to_save), no pair. {_MERGE}")
    constants, left = {}, 0
    for key, bias in changed.items():
        place = _place(key)
        layer = place.removesuffix(".bias")
        if layer in base.linear and place in base.tensors and base.tensors[place].shape == tuple(bias.shape):
            constants[layer] = bias.float() - base.part(place)
        else:
            left += bias.numel()
    write_adapter(out, pairs, constants, base=base.name, sample=base.sample(), notes={"tuned": adapter.name})
    warnings = _other_base(config, base.name)
    if left:
        warnings.append(
            f"{left} numbers of biases are left out: they belong to no linear layer that has one in {base.name}."
        )
    return warnings


def _other_base(config: dict[str, Any], base: str) -> list[str]:
    """A warning if the adapter was trained on a model of another name; a peft folder has no fingerprint."""
    named = str(config.get("base_model_name_or_path") or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
    if named in ("", base):
        return []
    return [
        f"The adapter was trained on {named}, and BASE is {base}. Only their shapes were compared: are they one model?"
    ]


def _is_of(base: Checkpoint, key: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor that is saved whole is the base's own: peft saves a head that has a pair, too."""
    import torch

    place = _place(key)
    return place in base.tensors and torch.equal(base.part(place), tensor.float())


def _place(key: str) -> str:
    """Of a tensor that peft saved whole, in ComfyUI's model."""
    layer, _, kind = key.removeprefix("base_model.model.").replace(".base_layer.", ".").rpartition(".")
    return f"{layer_of(layer)}.{kind}"


_MERGE = "Merge it first (`adapters merge`), then take the difference (`adapters extract`)."


def _config(adapter: Path) -> dict[str, Any]:
    try:
        config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    except OSError:
        raise TrainError(f"{adapter.name} has no {CONFIG}; it is not a LoRA adapter folder.") from None
    except (ValueError, RecursionError) as error:
        raise TrainError(f"{CONFIG} of {adapter.name} is not valid JSON: {error}.") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise TrainError(f"{adapter.name} is an adapter of kind {kind!r}; only LORA is low-rank pairs. {_MERGE}")
    other = next((name for name in OTHER_FORMS if config.get(name)), None)
    if other is not None:
        raise TrainError(f"{adapter.name} is trained with {other}, which is more than low-rank pairs. {_MERGE}")
    start = config.get("init_lora_weights")
    if start not in PLAIN_STARTS:
        raise TrainError(
            f"{adapter.name} began with {start!r}, which changes the base's weights. Save it from peft as a plain LoRA "
            "(save_pretrained with path_initial_model_for_weight_conversion)."
        )
    return config


def _scale(config: dict[str, Any], name: str, rank: int) -> float:
    """alpha / rank, or alpha / sqrt(rank) of a rank-stabilised LoRA; alpha may be set for each layer."""
    patterns = config.get("alpha_pattern") or {}
    try:
        found = [a for key, a in patterns.items() if re.fullmatch(rf"(.*\.)?({key})", name)]
    except (AttributeError, re.error) as error:
        raise TrainError(
            f"alpha_pattern in {CONFIG} cannot be read: {error}. Save the adapter again with peft."
        ) from None
    alpha = found[0] if found else config.get("lora_alpha")
    if not isinstance(alpha, (int, float)) or not abs(alpha) < MOST:
        raise TrainError(
            f"lora_alpha is {alpha!r:.40} in {CONFIG}; it must be a number. Save the adapter again with peft."
        )
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _tensors(adapter: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = adapter / WEIGHTS
    if not file.is_file():
        raise TrainError(f"{adapter.name} has no {WEIGHTS}; save the adapter again with peft.")
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise TrainError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}.") from error
