"""What `lint-imports` and ruff cannot see of imports: how the package behaves when it is imported."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "interleave_thinker").rglob("*.py")
    if path.stem not in ("__init__", "__main__")
)
HEAVY = {
    "accelerate", "datasets", "diffusers", "openai", "peft", "ray", "torch", "torchvision", "transformers", "trl",
}  # fmt: skip
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "execution", "folder_paths", "server"}
ABOUT_HEAVY = (
    "research.tinyworld.",
    "research.train.on_cpu",
    "tinyworld.convert",
    "tinyworld.pipeline",
    "tinyworld.token_vectors",
)
"""Modules that are about these libraries; others import them in a function."""


def imported_by(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_about_heavy(module: str) -> bool:
    return module.removeprefix("interleave_thinker.").startswith(ABOUT_HEAVY)


def test_own_modules_are_imported_relatively() -> None:
    """ComfyUI loads the pack by path under another name; an absolute import would load it twice or not at all."""
    code = f"""
import importlib, json, sys, types
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "interleave_thinker":
            raise ImportError("imported absolutely: " + name)
sys.meta_path.insert(0, Refuse())
pack = types.ModuleType("pack")
pack.__path__ = [{str(ROOT)!r}]
sys.modules["pack"] = pack
for name in {MODULES!r}:
    importlib.import_module("pack." + name)
print(json.dumps(sorted(n for n in sys.modules if n.startswith("pack.interleave_thinker."))))
"""
    assert {f"pack.{name}" for name in MODULES} <= set(imported_by(code))


@pytest.mark.parametrize("module", ["interleave_thinker", "interleave_thinker.cli", "all others"])
def test_nothing_heavy_is_imported_early(module: str) -> None:
    """ComfyUI starts and the command line answers without waiting for a library that only some calls need."""
    names = [n for n in MODULES if not is_about_heavy(n)] if module == "all others" else [module]
    code = f"""
import importlib, json, sys
for name in {names!r}:
    importlib.import_module(name)
print(json.dumps(sorted({HEAVY | COMFYUI!r} & set(sys.modules))))
"""
    assert imported_by(code) == []


def test_there_is_something_to_scan() -> None:
    assert len(MODULES) > 100 and sum(map(is_about_heavy, MODULES)) > 5


@pytest.mark.parametrize("path", sorted((ROOT / "nodes").rglob("*.py")), ids=lambda p: p.name)
def test_nodes_import_nothing_that_the_registrys_archive_leaves_out(path: Path) -> None:
    """`lint-imports` cannot see it: the nodes' imports lead out of their package."""
    names = [n.module or "" for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.ImportFrom)]
    assert not [n for n in names if re.match(r"interleave_thinker\.(research|cli)\b", n)]
