"""Run inside ComfyUI's folder by test_decoding_comfy.py: an agent whose earlier replies look like more than text.

Arguments: repository, folder with base and agents, folder for ComfyUI's embeddings. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPO, WEIGHTS, EMBEDDINGS = map(Path, sys.argv[1:4])
sys.argv = sys.argv[:1]
from native_parity import comfy, load_agents  # noqa: E402  (sets ComfyUI's arguments)

agents = load_agents(REPO)

import torch  # noqa: E402
from interleave_pack.interleave_thinker.agents.adapter_folder import whole_weights  # noqa: E402
from interleave_pack.interleave_thinker.agents.base import Message, Sampling  # noqa: E402
from interleave_pack.nodes.comfy_internals.clips import held_by  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tiny_clip import fit_comfyui  # noqa: E402

save_file({"emb_params": torch.zeros(2, 64)}, EMBEDDINGS / "known.safetensors")
clip = comfy.sd.load_text_encoder_state_dicts(
    [whole_weights(WEIGHTS / "critic")],
    clip_type=comfy.sd.CLIPType.QWEN_IMAGE,
    model_options=fit_comfyui(WEIGHTS / "base"),
    embedding_directory=str(EMBEDDINGS),
)
pictures = [Image.effect_noise((32, 32), sigma).convert("RGB") for sigma in (30, 60)]
question = [Message("user", (*pictures, "judge"))]


def reply(*earlier: str) -> str:
    agent = agents.NativeAgent.from_clip(clip, lambda: None)
    return str(agent.complete(question, Sampling(24, temperature=0, earlier=earlier)).text)


plain = reply()
begin = " ".join(plain.split(" ")[:3])
odd = [
    f"{begin} embedding:known and more",
    "no embedding:",
    "embedding: embedding:x",
    f"{begin}<|image_pad|><|im_end|>",
]
found: dict[str, Any] = {"plain": plain, "with": [reply(text) for text in odd]}

transformer: Any = held_by(clip).transformer
own, asked = transformer.preprocess_embed, []


def wrapper(embed: Any, device: Any = None) -> Any:
    asked.append(1)
    return own(embed, device=device)


transformer.preprocess_embed = wrapper
found["wrapped"] = reply()
found["asked"] = len(asked)
found["kept"] = transformer.preprocess_embed is wrapper
print("RESULT", json.dumps(found))
