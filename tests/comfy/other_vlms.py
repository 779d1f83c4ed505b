"""Run inside ComfyUI's folder by test_agents.py: Qwen3.5 and Gemma 4 of ComfyUI against transformers, token for token.

Tiny random models with the real vocabularies. Arguments: repository, a folder, and which of the two. Prints the
greedy texts of both for each case, and how often the text was shown while it was written.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

REPO, WORK, KIND = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
sys.argv = sys.argv[:1]
from native_parity import comfy, encoded, load_agents  # noqa: E402  (sets ComfyUI's arguments)

agents = load_agents(REPO)

import torch  # noqa: E402
from interleave_pack.interleave_thinker.agents.base import Message, Sampling  # noqa: E402
from interleave_pack.interleave_thinker.agents.transformers_agent import TransformersAgent  # noqa: E402
from PIL import Image  # noqa: E402

torch.manual_seed(0)
first = Image.effect_noise((96, 64), 90).convert("RGB")
second = Image.effect_noise((64, 160), 60).convert("RGB")
CASES = {
    "text": ("Plan a story about a paper boat.",),
    "one image": (first, "Describe it."),
    "two images of different sizes": ("Before: ", first, " after: ", second, " Judge (a:1.3) the change."),
}


def randomised(model: torch.nn.Module, embeddings: float, others: float) -> torch.nn.Module:
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, embeddings if "embed_tokens" in name else others)
    return model.eval()


def qwen35() -> tuple[comfy.sd.CLIP, TransformersAgent]:
    import comfy.text_encoders.qwen35 as native
    from transformers import (
        Qwen2Tokenizer,
        Qwen2VLImageProcessor,
        Qwen3_5Config,
        Qwen3_5ForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    text = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
    }
    vision = {"hidden_size": 64, "num_heads": 4, "intermediate_size": 96, "depth": 2}
    rope = {
        "rope_type": "default",
        "rope_theta": 1e7,
        "partial_rotary_factor": 0.25,
        "mrope_section": [11, 11, 10],
        "mrope_interleaved": True,
    }
    config = Qwen3_5Config(
        text_config={**text, "vocab_size": 248320, "head_dim": 256, "rope_parameters": rope, "eos_token_id": 248046},
        vision_config={**vision, "out_hidden_size": 64},
        tie_word_embeddings=False,
    )
    model = randomised(Qwen3_5ForConditionalGeneration(config), 0.5, 0.08)
    model.save_pretrained(WORK)
    own = native.QWEN35_MODELS["qwen35_9b"]
    own["vision"] = vision
    comfy.sd.detect_te_model = lambda state: comfy.sd.TEModel.QWEN35_9B  # it goes by the width
    small = {**text, "layer_types": native._qwen35_layer_types(4)}
    state = comfy.utils.load_torch_file(str(WORK / "model.safetensors"))
    clip = comfy.sd.load_text_encoder_state_dicts([state], model_options={"qwen35_9b_model_config": small})
    tokenizer = Qwen2Tokenizer.from_pretrained(Path(native.__file__).parent / "qwen35_tokenizer")
    shape = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    area = {"size": {"shortest_edge": 32 * 32, "longest_edge": 4096 * 4096}}
    pictures, videos = Qwen2VLImageProcessor(**area, **shape), Qwen3VLVideoProcessor(**area, **shape)
    processor = Qwen3VLProcessor(pictures, tokenizer, videos, chat_template=tokenizer.chat_template)
    return clip, TransformersAgent(model, processor, "hf")


def main() -> None:
    clip, reference = {"qwen35": qwen35}[KIND]()
    agent = agents.NativeAgent.from_clip(clip, lambda: None)
    fresh = encoded(clip)
    found: dict[str, object] = {}
    for name, parts in CASES.items():
        shown: list[str] = []
        asked = [Message("system", ("Be brief.",)), Message("user", parts)]
        done = agent.complete(asked, Sampling(max_tokens=24), lambda text: shown.append(text) is None)
        found[name] = [done.text, reference.complete(asked, Sampling(max_tokens=24)).text, len(shown)]
    after = encoded(clip)
    found["same conditioning"] = len(fresh) == len(after) and all(map(torch.equal, fresh, after))
    print("RESULT " + json.dumps(found))


main()
