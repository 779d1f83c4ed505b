"""Run inside ComfyUI's folder by test_shared_clip.py: what counts as a load of a model, by ComfyUI's own manager."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

REPO = Path(sys.argv[1])
sys.argv = sys.argv[:1]
from native_parity import load_agents  # noqa: E402  (sets ComfyUI's arguments)

load_agents(REPO)

import comfy.model_management as memory  # noqa: E402
import torch  # noqa: E402
from comfy.model_patcher import ModelPatcher  # noqa: E402
from interleave_pack.nodes.comfy_internals.loads import LoadWatch  # noqa: E402

CPU = torch.device("cpu")
logging.getLogger().setLevel(logging.INFO)


class Draws(torch.nn.Linear):
    pass


class Encodes(torch.nn.Linear):
    pass


def patcher(kind: type[torch.nn.Linear]) -> ModelPatcher:
    model = kind(4, 4)
    model.device = CPU
    return ModelPatcher(model, CPU, CPU)


def patched(of: ModelPatcher) -> ModelPatcher:
    clone = of.clone()
    clone.add_patches({"weight": (torch.ones(4, 4),)}, 0.5)
    return clone


watch = LoadWatch()
draws, encodes, other = patcher(Draws), patcher(Encodes), patcher(Draws)
found: dict[str, object] = {}


def loaded(name: str, *models: ModelPatcher) -> None:
    for model in models:
        memory.load_models_gpu([model])
    found[name] = watch.taken()


loaded("nothing")
loaded("two", draws, encodes)
loaded("again, in memory", draws)
clone = patched(draws)
loaded("other patches on the same weights", clone)
loaded("other weights of the same class", other)
memory.unload_all_models()
loaded("both after they left", encodes, other)
memory.unload_all_models()
memory.load_models_gpu([draws])
memory.unload_all_models()
loaded("one that left again")
logging.getLogger().setLevel(logging.WARNING)
loaded("where the log is silent", draws)
print("RESULT " + json.dumps(found))
