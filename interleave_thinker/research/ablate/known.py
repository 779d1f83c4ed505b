"""Figures of seeds that were trained elsewhere, or on another day, for one table with those of today."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ConfigError

KEPT = ("shares", "critic_balanced_accuracy", "attempts_per_step")
Found = dict[str, dict[int, Any]]
"""Figures by row and seed."""


def kept(found: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Found:
    """The figures of each row and seed that a report needs; figures.json has them as `measured`."""
    return {row: {seed: {k: f[k] for k in KEPT} for seed, f in seeds.items()} for row, seeds in found.items()}


def join(found: Found, files: Sequence[Path], settings: Mapping[str, Any]) -> Found:
    """`found` and the rows of the same names in `files` (figures.json of other runs).

    settings: of the experiment; those of every file must be the same.

    Raises:
        ConfigError: a file cannot be read, has other settings, or has a row and seed that is there already.
    """
    joined = {row: dict(seeds) for row, seeds in found.items()}
    for path in files:
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            measured, theirs = saved["measured"], saved["settings"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no figures.json of `ablate`: {error!r:.120}") from None
        other = [k for k in sorted({*settings, *theirs}) if settings.get(k) != theirs.get(k)]
        if other:
            of = ", ".join(f"{k} {theirs.get(k)} instead of {settings.get(k)}" for k in other)
            raise ConfigError(f"{path} was measured with other settings: {of}.")
        for row in joined:
            for seed, figures in measured.get(row, {}).items():
                if int(seed) in joined[row]:
                    raise ConfigError(f"Seed {seed} of {row!r} is in {path} and also elsewhere; count it once.")
                joined[row][int(seed)] = figures
    return joined
