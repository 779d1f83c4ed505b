"""Commands of data construction, training and benchmarks. The registry's archive leaves them out."""

from __future__ import annotations

from typing import Any

from . import ablate, adapters, bench, data, tinyworld, train


def add_commands(commands: Any, tiny: Any) -> None:
    """tiny: the sub-commands of `tinyworld`, which takes some of these."""
    tinyworld.add_commands(tiny)
    for group in (data, train, adapters, ablate, bench):
        group.add_commands(commands)
