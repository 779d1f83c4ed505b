"""The mean of several trainings' weights ("model soups", Wortsman et al. 2022).

It works for models of which one was trained from the other, or all from the same one.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ...errors import ConfigError

NAME = "model.safetensors"


def average(models: Sequence[Path], out: Path) -> None:
    """Write the mean of the folders' weights (computed in float32) to `out`, and all other files of the first folder.

    The trainer's settings are left out: they are a pickle, and no agent needs them.

    Raises:
        ConfigError: a folder lacks weights, or they are not of the same names and shapes.
    """
    if len(models) < 2:
        raise ConfigError("Give two models or more to take the mean of.")
    missing = next((m for m in models if not (m / NAME).is_file()), None)
    if missing is not None:
        raise ConfigError(f"{missing} holds no {NAME}.")
    weights = [load_file(m / NAME) for m in models]
    first = weights[0]
    for model, other in zip(models, weights, strict=True):
        if {k: v.shape for k, v in other.items()} != {k: v.shape for k, v in first.items()}:
            raise ConfigError(f"{model} is another model than {models[0]}: names or shapes of its weights differ.")
    mean = {k: torch.stack([w[k].float() for w in weights]).mean(0).to(v.dtype) for k, v in first.items()}
    shutil.copytree(models[0], out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("training_args.bin"))
    save_file(mean, out / NAME, metadata={"format": "pt"})
