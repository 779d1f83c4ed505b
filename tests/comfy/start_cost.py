"""Run inside ComfyUI's folder by test_startup.py: what importing the pack adds to a started ComfyUI."""

from __future__ import annotations

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
from pack_inside import load_pack  # noqa: E402

import nodes  # noqa: E402, F401

HEAVY = ("transformers", "diffusers", "openai", "trl", "peft", "accelerate", "datasets", "ray", "json_repair")

before = set(sys.modules)
begun = time.perf_counter()
load_pack(REPO)
seconds = time.perf_counter() - begun
new = {name.split(".")[0] for name in set(sys.modules) - before}
print("RESULT " + json.dumps({"seconds": seconds, "heavy": sorted(new & set(HEAVY)), "new": sorted(new)}))
