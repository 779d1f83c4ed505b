"""Run inside ComfyUI's folder by test_startup.py: what importing the pack adds to a started ComfyUI."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

REPO = Path(sys.argv[1])
sys.argv = sys.argv[:1] + ["--cpu"]
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import execution  # noqa: E402, F401
import server  # noqa: E402, F401

import nodes  # noqa: E402, F401

HEAVY = ("transformers", "diffusers", "openai", "trl", "peft", "accelerate", "datasets", "ray", "json_repair")

before = set(sys.modules)
begun = time.perf_counter()
spec = importlib.util.spec_from_file_location(
    "interleave_pack", REPO / "__init__.py", submodule_search_locations=[str(REPO)]
)
pack = importlib.util.module_from_spec(spec)
sys.modules["interleave_pack"] = pack
spec.loader.exec_module(pack)
seconds = time.perf_counter() - begun
new = {name.split(".")[0] for name in set(sys.modules) - before}
print("RESULT " + json.dumps({"seconds": seconds, "heavy": sorted(new & set(HEAVY)), "new": sorted(new)}))
