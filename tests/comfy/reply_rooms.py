"""Run inside ComfyUI's folder by test_agents.py: the bytes that the native agent asks for beside the weights of models of
their true sizes, which are built without weights. Prints {family size: bytes}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

REPO, TOKENS, PROMPT, SIDE = Path(sys.argv[1]), *map(int, sys.argv[2:5])
sys.argv = sys.argv[:1]
from native_parity import load_agents  # noqa: E402  (sets ComfyUI's arguments)

load_agents(REPO)

import comfy.model_management as memory  # noqa: E402
import comfy.ops  # noqa: E402
import torch  # noqa: E402
from comfy.text_encoders import gemma4, qwen3vl, qwen35  # noqa: E402
from interleave_pack.nodes.comfy_internals import clips  # noqa: E402

memory.should_use_bf16 = lambda *_, **__: True  # as on a graphics card

MODELS = {
    **{
        f"Qwen3-VL {size}": type("Whole", (qwen3vl.Qwen3VL,), {"model_type": f"qwen3vl_{size}"})
        for size in ("4b", "8b")
    },
    **{
        f"Qwen3.5 {size}": type("Whole", (qwen35.Qwen35,), {"model_type": f"qwen35_{size.replace('.', '')}"})
        for size in ("0.8b", "2b", "4b", "9b", "27b")
    },
    "Gemma 4 e2b": gemma4.Gemma4_E2B,
    "Gemma 4 e4b": gemma4.Gemma4_E4B,
    "Gemma 4 12b": gemma4.Gemma4_12B,
    "Gemma 4 31b": gemma4.Gemma4_31B,
}
PICTURE = {"type": "image", "data": torch.empty(1, SIDE, SIDE, 3, device="meta")}
ROW = [(0, 1.0)] * (PROMPT - 2) + [(PICTURE, 1.0)] * 2


def room(model: type[torch.nn.Module]) -> int:
    with torch.device("meta"):
        transformer = model({}, torch.bfloat16, torch.device("meta"), comfy.ops.disable_weight_init)
    inner = SimpleNamespace(clip="only", _modules={}, only=SimpleNamespace(transformer=transformer))
    clip = SimpleNamespace(cond_stage_model=inner, patcher=SimpleNamespace(load_device=torch.device("cpu")))
    assert clips.held_by(clip) is not None
    return clips.reply_room(clip, ROW, TOKENS)


print("RESULT", json.dumps({name: room(model) for name, model in MODELS.items()}))
