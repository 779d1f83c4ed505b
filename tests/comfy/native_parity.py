"""Run inside ComfyUI's folder by test_agents.py: our native agent against transformers, token for token.

A tiny random Qwen3-VL with the real vocabulary is written as a Hugging Face checkpoint and loaded both
ways. Prints one JSON object with the greedy texts of each and the messages of the refused models.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

REPO, WORK = Path(sys.argv[1]), Path(sys.argv[2])
sys.argv = sys.argv[:1] + ["--cpu", "--fp32-text-enc"]
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.sd  # noqa: E402
import comfy.text_encoders.qwen3vl as native  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import (  # noqa: E402
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)


def load_pack():
    spec = importlib.util.spec_from_file_location(
        "interleave_pack", REPO / "__init__.py", submodule_search_locations=[str(REPO)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["interleave_pack"] = module
    import server  # noqa: F401  (the pack's nodes talk to it)

    spec.loader.exec_module(module)
    from interleave_pack.nodes import native_agent

    return native_agent


TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 128,
}
VISION = {"hidden_size": 64, "intermediate_size": 96, "depth": 3, "deepstack_visual_indexes": [0, 1]}


def make_checkpoint(folder: Path) -> Qwen3VLForConditionalGeneration:
    torch.manual_seed(3)
    config = Qwen3VLConfig(
        text_config={
            **TEXT,
            "vocab_size": 151936,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5_000_000.0,
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
            "eos_token_id": 151645,
        },
        vision_config={
            **VISION,
            "num_heads": 4,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 2304,
        },
        tie_word_embeddings=False,
    )
    model = Qwen3VLForConditionalGeneration(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, 0.08 if "embed" not in name else 0.5)
    model.save_pretrained(folder, max_shard_size="30MB")
    return model


def native_clip(folder: Path, kind: comfy.sd.CLIPType) -> comfy.sd.CLIP:
    state = {}
    for shard in sorted(folder.glob("*.safetensors")):
        state.update(comfy.utils.load_torch_file(str(shard)))
    options = (
        {"qwen3vl_8b_model_config": {k: v for k, v in TEXT.items() if k != "head_dim"}}
        if kind != comfy.sd.CLIPType.FLUX2
        else {}
    )
    return comfy.sd.load_text_encoder_state_dicts([state], clip_type=kind, model_options=options)


def main() -> None:
    agents = load_pack()
    from interleave_pack.interleave_thinker.agents.base import Message, Sampling
    from interleave_pack.interleave_thinker.agents.transformers_agent import TransformersAgent
    from interleave_pack.interleave_thinker.errors import AgentError

    native.QWEN3VL_VISION["qwen3vl_8b"] = VISION
    native.QWEN3VL_VISION_COMMON = {**native.QWEN3VL_VISION_COMMON, "num_heads": 4}
    model = make_checkpoint(WORK)
    tokenizer = Qwen2Tokenizer.from_pretrained(Path.cwd() / "comfy" / "text_encoders" / "qwen25_tokenizer")
    shape = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    half = [0.5, 0.5, 0.5]
    area = {"shortest_edge": 32 * 32, "longest_edge": 4096 * 4096}
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
        "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}"
        "{% endfor %}<|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\n' }}"
    )
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(size=area, image_mean=half, image_std=half, **shape),
        tokenizer,
        Qwen3VLVideoProcessor(size=area, image_mean=half, image_std=half, **shape),
        chat_template=template,
    )
    reference = TransformersAgent(model, processor, "hf")
    clip = native_clip(WORK, comfy.sd.CLIPType.QWEN_IMAGE)
    agent = agents.NativeAgent.from_clip(clip, lambda: None)
    torch.manual_seed(0)
    first = Image.effect_noise((96, 64), 90).convert("RGB")
    second = Image.effect_noise((64, 160), 60).convert("RGB")
    cases = {
        "text": ("Plan a story about a paper boat.",),
        "one image": (first, "Describe it."),
        "two images of different sizes": ("Before: ", first, " after: ", second, " Judge (a:1.3) the change."),
    }
    found: dict[str, object] = {"shards": len(list(WORK.glob("*.safetensors")))}
    sampling = Sampling(max_tokens=24)
    for name, parts in cases.items():
        messages = [Message("user", parts)]
        found[name] = [a.complete(messages, sampling).text for a in (agent, reference)]
    sampled = Sampling(max_tokens=24, temperature=0.8, seed=4)
    found["seeded"] = [agent.complete([Message("user", ("x",))], sampled).text for _ in range(2)]
    calls = []

    def interrupt() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    agent.check = interrupt
    try:
        agent.complete([Message("user", ("x",))], sampling)
    except KeyboardInterrupt:
        found["interrupted after checks"] = len(calls)
    try:
        agents.NativeAgent.from_clip(_Blind(), lambda: None)
    except AgentError as error:
        found["blind"] = str(error)
    print("RESULT " + json.dumps(found))


class _Blind:
    """A CLIP as Load CLIP gives it for type flux2: a language model without its vision tower."""

    class cond_stage_model:
        clip = "qwen3_8b"
        clip_name = "qwen3_8b"

        class qwen3_8b:
            transformer = object()


main()
