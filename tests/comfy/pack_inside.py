"""The pack as ComfyUI loads it, for scripts that run in ComfyUI's folder (`inside.py`)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

NAME = "interleave_pack"


def load_pack(repository: Path) -> ModuleType:
    """Import the pack as `interleave_pack`; ComfyUI's arguments must be set before."""
    import server  # noqa: F401  (the pack's nodes talk to it)

    spec = importlib.util.spec_from_file_location(
        NAME, repository / "__init__.py", submodule_search_locations=[str(repository)]
    )
    assert spec and spec.loader
    pack = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = pack
    spec.loader.exec_module(pack)
    return pack
