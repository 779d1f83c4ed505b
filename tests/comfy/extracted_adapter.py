"""Run inside ComfyUI's folder by test_adapters_comfy.py: an adapter file beside and in the weights of a CLIP.

Arguments: repository, folder of the base, folder of the tuned model, adapter files. Prints the greedy text of base and
tuned; for each adapter the texts with it beside the weights (bypass) and through stock Load LoRA, how many of the
model's weights it reached, and what the log said.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

REPO, BASE, TUNED, *FILES = (Path(a) for a in sys.argv[1:])
sys.argv = sys.argv[:1]
from native_parity import comfy, load_agents, native, native_clip  # noqa: E402  (sets ComfyUI's arguments)

agents = load_agents(REPO)
import folder_paths  # noqa: E402
from PIL import Image  # noqa: E402
from qwen_checkpoint import VISION  # noqa: E402
from safetensors import safe_open  # noqa: E402

import nodes  # noqa: E402


def main() -> None:
    from interleave_pack.interleave_thinker.agents.base import Message, Sampling

    native.QWEN3VL_VISION["qwen3vl_8b"] = VISION
    native.QWEN3VL_VISION_COMMON = {**native.QWEN3VL_VISION_COMMON, "num_heads": 4}
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    asked = [Message("user", (Image.linear_gradient("L").convert("RGB").resize((96, 64)), "want a blue ball"))]

    def text(clip: comfy.sd.CLIP) -> str:
        comfy.model_management.load_models_gpu([clip.patcher])
        agent = agents.NativeAgent.from_clip(clip, lambda: None)
        return agent.complete(asked, Sampling(max_tokens=24)).text

    def text_or_error(clip: comfy.sd.CLIP) -> str:
        try:
            return text(clip)
        except RuntimeError as error:
            return f"RuntimeError: {error}"

    base = native_clip(BASE, comfy.sd.CLIPType.QWEN_IMAGE)
    found: dict[str, object] = {
        "base": text(base),
        "tuned": text(native_clip(TUNED, comfy.sd.CLIPType.QWEN_IMAGE)),
        "adapters": [],
    }
    for file in FILES:
        with safe_open(file, "pt") as opened:
            layers = sum(key.endswith(".lora_up.weight") for key in opened.keys())
        said.clear()
        lora = comfy.utils.load_torch_file(str(file), safe_load=True)
        _, beside = comfy.sd.load_bypass_lora_for_models(None, base, lora, 0, 1.0)
        folder_paths.add_model_folder_path("loras", str(file.parent))
        _, merged = nodes.LoraLoader().load_lora(None, base, file.name, 0, 1.0)
        found["adapters"].append(
            {
                "layers": layers,
                "reached": len(merged.patcher.patches),
                "hooks": len(beside.patcher.injections["bypass_lora"]) > 0,
                "changes weights beside": len(beside.patcher.patches),
                "beside": text_or_error(beside),
                "stock": text(merged),
                "base after": text(base),
                "log": [line for line in said if "lora" in line.lower() or "loaded" in line.lower()],
            }
        )
    print("RESULT " + json.dumps(found))


main()
