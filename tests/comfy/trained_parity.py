"""Run inside ComfyUI's folder by test_training_comfy.py: a trained model in stock Load CLIP and in transformers.

Arguments: repository, folder for transformers, the one file for ComfyUI. Prints the greedy texts of both.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

REPO, FOLDER, FILE = (Path(a) for a in sys.argv[1:4])
sys.argv = sys.argv[:1]
from native_parity import comfy, load_agents, native  # noqa: E402  (sets ComfyUI's arguments)
from PIL import Image  # noqa: E402
from qwen_checkpoint import TEXT, VISION  # noqa: E402


def main() -> None:
    agents = load_agents(REPO)
    from interleave_pack.interleave_thinker.agents.base import Message, Sampling
    from interleave_pack.interleave_thinker.agents.transformers_agent import load_agent

    native.QWEN3VL_VISION["qwen3vl_8b"] = VISION
    native.QWEN3VL_VISION_COMMON = {**native.QWEN3VL_VISION_COMMON, "num_heads": 4}
    small = {"qwen3vl_8b_model_config": {k: v for k, v in TEXT.items() if k != "head_dim"}}
    clip = comfy.sd.load_clip([str(FILE)], clip_type=comfy.sd.CLIPType.QWEN_IMAGE, model_options=small)
    both = [agents.NativeAgent.from_clip(clip, lambda: None), load_agent(FOLDER, dtype="float32", device="cpu")]
    first, second = Image.new("RGB", (64, 64), "red"), Image.linear_gradient("L").convert("RGB").resize((96, 64))
    asked = [Message("user", (first, second, "want a blue ball\ngot a blue ball"))]
    print("RESULT " + json.dumps([agent.complete(asked, Sampling(max_tokens=24)).text for agent in both]))


main()
