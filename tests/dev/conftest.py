"""dev.py, loaded from a copy in an empty folder: whatever it makes or links lands there. No network."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def dev(tmp_path: Path) -> ModuleType:
    root = tmp_path / "repo"
    root.mkdir()
    for name in ("dev.py", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, root / name)
    spec = importlib.util.spec_from_file_location("dev_under_test", root / "dev.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
