"""Run inside ComfyUI's folder by test_agents.py: the text encoders of image models that hold a whole Qwen3-VL.

A tiny random Qwen3-VL is loaded by each type of Load CLIP that wraps one. Prints for each the greedy texts of the agent
and of transformers, and whether what it encodes is the same before and after; and what is said of CLIPs that cannot.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

REPO, WORK = Path(sys.argv[1]), Path(sys.argv[2])
sys.argv = sys.argv[:1]
from native_parity import comfy, encoded, load_agents, native, native_clip  # noqa: E402  (sets ComfyUI's arguments)

agents = load_agents(REPO)

import torch  # noqa: E402
from interleave_pack.interleave_thinker.agents.base import Message, Sampling  # noqa: E402
from interleave_pack.interleave_thinker.agents.transformers_agent import TransformersAgent  # noqa: E402
from interleave_pack.interleave_thinker.errors import AgentError  # noqa: E402
from PIL import Image  # noqa: E402
from qwen_checkpoint import VISION, make_checkpoint, make_processor  # noqa: E402

WRAPPERS = {
    "qwen3vl_8b": ("QWEN_IMAGE", "BOOGU", "IDEOGRAM4", "JOYIMAGE"),
    "qwen3vl_4b": ("QWEN_IMAGE", "KREA2", "MAGE"),
}
"""Types of Load CLIP by size; a type of a newer ComfyUI loads as `qwen_image` where it is not known."""

BLIND = ("FLUX", "FLUX2")

torch.manual_seed(0)
first = Image.effect_noise((256, 288), 90).convert("RGB")  # large enough that no wrapper scales it up
second = Image.effect_noise((320, 256), 60).convert("RGB")
CASES = {
    "text": ("Plan a story about a paper boat.",),
    "one image": (first, "Describe it."),
    "two images": ("Before: ", first, " after: ", second, " Judge (a:1.3) the change."),
}


def options(clip: comfy.sd.CLIP) -> dict[str, object]:
    """All that the wrapper holds beside its weights."""
    encoder = getattr(clip.cond_stage_model, clip.cond_stage_model.clip)
    return {k: repr(v) for k, v in vars(encoder).items() if not k.startswith("_")}


def refusal(clip: comfy.sd.CLIP) -> str:
    try:
        agents.NativeAgent.from_clip(clip, lambda: None)
    except AgentError as error:
        return str(error)
    return "taken"


def whole_size(clip_class: type, tokenizer: type) -> comfy.sd.CLIP:
    """A CLIP of the size it is published in, without weights."""

    class Target:
        clip, params = clip_class, {}

    Target.tokenizer = tokenizer
    return comfy.sd.CLIP(Target, model_options={"initial_device": torch.device("meta")})


def shown(found: dict[str, object]) -> None:
    native.QWEN3VL_VISION_COMMON = {**native.QWEN3VL_VISION_COMMON, "num_heads": 4}
    processor = make_processor(Path.cwd())
    for size, types in WRAPPERS.items():
        native.QWEN3VL_VISION[size] = VISION
        comfy.sd.detect_te_model = lambda state, size=size: comfy.sd.TEModel[size.upper()]  # it goes by the width
        folder = WORK / size
        reference = TransformersAgent(make_checkpoint(folder, "1GB", tied=size == "qwen3vl_4b"), processor, "hf")
        asked = {name: [Message("system", ("Be brief.",)), Message("user", parts)] for name, parts in CASES.items()}
        wanted = {name: reference.complete(messages, Sampling(max_tokens=24)).text for name, messages in asked.items()}
        for kind in types:
            if not hasattr(comfy.sd.CLIPType, kind):
                continue
            clip = native_clip(folder, getattr(comfy.sd.CLIPType, kind))
            agent = agents.NativeAgent.from_clip(clip, lambda: None)
            fresh = encoded(clip)
            before = options(clip)
            texts = {n: [agent.complete(m, Sampling(max_tokens=24)).text, wanted[n]] for n, m in asked.items()}
            untouched = options(clip) == before
            after = encoded(clip)
            again = agent.complete(asked["one image"], Sampling(max_tokens=24)).text
            found[f"{kind} {size}"] = {
                "name": agent.name,
                "class": type(clip.cond_stage_model).__name__,
                "texts": texts,
                "same conditioning": len(fresh) == len(after) and all(map(torch.equal, fresh, after)),
                "options untouched": untouched,
                "same reply": again == texts["one image"][0],
            }
        for kind in BLIND:
            found[f"{kind} {size}"] = refusal(native_clip(folder, getattr(comfy.sd.CLIPType, kind)))


def refused(found: dict[str, object]) -> None:
    import comfy.text_encoders.minimax as minimax
    import comfy.text_encoders.qwen_image as qwen_image

    found["qwen2.5-vl-7b"] = refusal(whole_size(qwen_image.te(), qwen_image.QwenImageTokenizer))
    found["qwen3-vl-32b"] = refusal(whole_size(minimax.te(), minimax.MiniMaxH3Tokenizer))


found: dict[str, object] = {}
refused(found)
shown(found)
print("RESULT " + json.dumps(found))
