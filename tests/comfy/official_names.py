"""Run inside ComfyUI's folder by test_hidden_internals.py: the names outside `comfy_internals` that nodes take from it.

They are read from the nodes' own source, so a new one is looked for without a change here. Each must be there, for they
have no fallback.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPO = Path(sys.argv[1])
sys.argv = sys.argv[:1] + ["--cpu"]
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import execution  # noqa: E402, F401  (the server needs it)
from comfy_execution.graph import DynamicPrompt  # noqa: E402
from server import PromptServer  # noqa: E402

HOME = ("comfy", "comfy_api", "comfy_execution", "execution", "folder_paths", "nodes", "server")


def names_in(source: str) -> Iterator[tuple[str, str]]:
    """(module, name) of what a file imports from ComfyUI, and of what it takes from that: `io.Schema`."""
    tree, known = ast.parse(source), {}
    for entry in ast.walk(tree):
        if isinstance(entry, ast.Import):
            for name in entry.names:
                if name.name.split(".")[0] in HOME:
                    known[name.asname or name.name] = name.name
        elif isinstance(entry, ast.ImportFrom) and not entry.level and (entry.module or "").split(".")[0] in HOME:
            for name in entry.names:
                yield str(entry.module), name.name
                known[name.asname or name.name] = f"{entry.module}.{name.name}"
    for entry in ast.walk(tree):
        if isinstance(entry, ast.Attribute) and ast.unparse(entry.value) in known:
            yield known[ast.unparse(entry.value)], entry.attr


def found(path: str) -> Any:
    """A module, or something in one."""
    try:
        return importlib.import_module(path)
    except ImportError:
        above, _, name = path.rpartition(".")
        return getattr(found(above), name)


asked: dict[str, set[str]] = {}
texts = {p: p.read_text(encoding="utf-8") for p in sorted((REPO / "nodes").glob("*.py"))}
for text in texts.values():
    for module, name in names_in(text):
        asked.setdefault(module, set()).add(name)
everything = "\n".join(texts.values())
asked["DynamicPrompt"] = set(re.findall(r"dynprompt\.(\w+)\(", everything))
asked["PromptServer.instance"] = set(re.findall(r"(?:PromptServer\.instance|\bserver)\.([a-z_]+)", everything))
homes = {"DynamicPrompt": DynamicPrompt({}), "PromptServer.instance": PromptServer(asyncio.new_event_loop())}
missing = sorted(
    f"{module}.{name}"
    for module, names in asked.items()
    for name in names
    if not hasattr(homes[module] if module in homes else found(module), name)
)
print("RESULT " + json.dumps({"asked": {k: sorted(v) for k, v in asked.items()}, "missing": missing}))
