"""Run inside ComfyUI's folder by test_agents.py: Qwen3.5 and Gemma 4 of ComfyUI against transformers, token for token.

Tiny random models with the real vocabularies. Arguments: repository, a folder, and which of the two. Prints the
greedy texts of both for each case, how often the text was shown while it was written, and with which of some types of
Load CLIP the model lacks something.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

REPO, WORK, KIND = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
sys.argv = sys.argv[:1]
from native_parity import comfy, encoded, load_agents  # noqa: E402  (sets ComfyUI's arguments)

agents = load_agents(REPO)

import torch  # noqa: E402
from interleave_pack.interleave_thinker.agents.base import Completion, Message, Sampling  # noqa: E402
from interleave_pack.interleave_thinker.agents.transformers_agent import TransformersAgent  # noqa: E402
from interleave_pack.interleave_thinker.roles.critic import JUDGMENT_FORM  # noqa: E402
from PIL import Image  # noqa: E402
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers  # noqa: E402

torch.manual_seed(0)
SIZES = {"qwen35": ((96, 64), (64, 160)), "gemma4": ((960, 624), (768, 768))}
"""That the model takes without scaling: the two libraries round differently there."""
first, second = (Image.effect_noise(size, 90).convert("RGB") for size in SIZES[KIND])
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


TYPES = ("FLUX2", "LTXV", "QWEN_IMAGE")
"""Those that cut, or take for something else, a model of another family."""
Load = Callable[[comfy.sd.CLIPType], comfy.sd.CLIP]


def loading(state: dict[str, torch.Tensor], **options: object) -> Load:
    """As Load CLIP does it, by the type that is chosen there."""

    def load(kind: comfy.sd.CLIPType) -> comfy.sd.CLIP:
        return comfy.sd.load_text_encoder_state_dicts([dict(state)], clip_type=kind, model_options=dict(options))

    return load


def qwen35() -> tuple[Load, TransformersAgent]:
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
    tokenizer = Qwen2Tokenizer.from_pretrained(Path(native.__file__).parent / "qwen35_tokenizer")
    shape = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    area = {"size": {"shortest_edge": 32 * 32, "longest_edge": 4096 * 4096}}
    pictures, videos = Qwen2VLImageProcessor(**area, **shape), Qwen3VLVideoProcessor(**area, **shape)
    processor = Qwen3VLProcessor(pictures, tokenizer, videos, chat_template=tokenizer.chat_template)
    return loading(state, qwen35_9b_model_config=small), TransformersAgent(model, processor, "hf")


def gemma4_tokenizer() -> Tokenizer:
    """A token for each character, and the marks of Gemma 4 where its own tokenizer has them."""
    marks = {0: "<pad>", 1: "<eos>", 2: "<bos>", 3: "<unk>", 100: "<|channel>", 101: "<channel|>", 105: "<|turn>"}
    marks |= {106: "<turn|>", 255999: "<|image>", 258880: "<|image|>", 258882: "<image|>"}
    pieces = [marks.get(i) or (chr(i - 300) if 300 <= i < 428 else f"w{i}.") for i in range(262144)]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(marks.values()))
    return tokenizer


class Gemma4Reference:
    """Gemma 4 of transformers, asked in the form of its model card."""

    def __init__(self, model: torch.nn.Module, tokenizer: Tokenizer):
        from transformers import Gemma4ImageProcessor

        self.model, self.tokenizer, self.pictures = model, tokenizer, Gemma4ImageProcessor()

    def complete(self, messages: list[Message], sampling: Sampling) -> Completion:
        text, seen = "<bos>", [i for m in messages for i in m.images]
        inputs = dict(self.pictures(seen, return_tensors="pt")) if seen else {}
        counts = iter(inputs.pop("num_soft_tokens_per_image", ()))
        for message in messages:
            parts = (
                p if isinstance(p, str) else "\n\n<|image>" + "<|image|>" * int(next(counts)) + "<image|>\n\n"
                for p in message.parts
            )
            text += f"<|turn>{message.role}\n{''.join(parts)}<turn|>\n"
        text += "<|turn>model\n<|channel>thought\n<channel|>"
        ids = torch.tensor([self.tokenizer.encode(text, add_special_tokens=False).ids])
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=ids,
                mm_token_type_ids=(ids == 258880).long(),
                **inputs,
                do_sample=False,
                eos_token_id=[1, 50, 106],
                max_new_tokens=sampling.max_tokens,
            )
        return Completion(self.tokenizer.decode(made[0, ids.shape[1] :].tolist(), skip_special_tokens=False), "length")


def gemma4() -> tuple[Load, Gemma4Reference]:
    import comfy.text_encoders.gemma4 as native
    from transformers import Gemma4Config, Gemma4ForConditionalGeneration

    text = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 12,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "hidden_size_per_layer_input": 16,
        "num_kv_shared_layers": 6,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "head_dim": 16,
    }
    config = Gemma4Config(
        text_config={**text, "head_dim": 256, "global_head_dim": 512, "final_logit_softcapping": 30.0},
        vision_config={**vision, "num_key_value_heads": 2, "use_clipped_linears": True},
        audio_config=None,
    )
    model = randomised(Gemma4ForConditionalGeneration(config), 0.05, 0.3)
    names = {"model.language_model.": "model.", "model.vision_tower.": "vision_model."}
    names["model.embed_vision."] = "multi_modal_projector."
    state = {name: value.clone() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    state = comfy.utils.state_dict_prefix_replace(state, names)
    tokenizer = gemma4_tokenizer()
    state["tokenizer_json"] = torch.frombuffer(bytearray(tokenizer.to_str().encode()), dtype=torch.uint8)
    native.Gemma4Config.vision_config = {**native.GEMMA4_VISION_CONFIG, **vision}
    native.Gemma4Config.audio_config = None
    native.Gemma4_E4B = native._make_variant(native.Gemma4Config)
    comfy.sd.detect_te_model = lambda state: comfy.sd.TEModel.GEMMA_4_E4B  # it goes by the number of layers
    return loading(state, gemma4_model_config=text), Gemma4Reference(model, tokenizer)


def main() -> None:
    load, reference = {"qwen35": qwen35, "gemma4": gemma4}[KIND]()
    lacking = [name for name in TYPES if agents.clip_lack(load(comfy.sd.CLIPType[name])) is not None]
    clip = load(comfy.sd.CLIPType.STABLE_DIFFUSION)
    agent = agents.NativeAgent.from_clip(clip, lambda: None)
    encodes = KIND != "gemma4"  # which ComfyUI only lets write
    fresh = encoded(clip) if encodes else []
    found: dict[str, object] = {}
    shown: list[str] = []
    for name, parts in CASES.items():
        shown.clear()
        asked = [Message("system", ("Be brief.",)), Message("user", parts)]
        done = agent.complete(asked, Sampling(max_tokens=24), lambda text: shown.append(text) is None)
        found[name] = [done.text, reference.complete(asked, Sampling(max_tokens=24)).text, len(shown)]
    sampling = Sampling(max_tokens=90, form=replace(JUDGMENT_FORM, thought=False))
    formed = [agent.complete(asked, replace(sampling, keep_form=keep)).text for keep in (True, False)]
    after = encoded(clip) if encodes else []
    found["form"] = formed
    found["thoughtful"] = agent.complete(asked, replace(sampling, form=JUDGMENT_FORM)).text
    found["types with a lack"] = lacking
    found["same conditioning"] = len(fresh) == len(after) and all(map(torch.equal, fresh, after))
    print("RESULT " + json.dumps(found))


main()
