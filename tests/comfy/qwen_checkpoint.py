"""A Qwen3-VL with the real 8B's names, vocabulary and tokenizer, but so small that it trains on a CPU."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 128,
}
VISION = {"hidden_size": 64, "intermediate_size": 96, "depth": 3, "deepstack_visual_indexes": [0, 1]}


def make_checkpoint(folder: Path, shard: str, tied: bool = False) -> Qwen3VLForConditionalGeneration:
    """Random weights, written in shards. tied: the words are the language head, as in the 4B."""
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
        tie_word_embeddings=tied,
    )
    model = Qwen3VLForConditionalGeneration(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, 0.5 if "embed" in name else 0.3 if tied else 0.08)
    model.save_pretrained(folder, max_shard_size=shard)
    return model


def make_processor(comfyui: Path) -> Qwen3VLProcessor:
    """With the tokenizer that comes with ComfyUI; pictures keep their size."""
    tokenizer = Qwen2Tokenizer.from_pretrained(comfyui / "comfy" / "text_encoders" / "qwen25_tokenizer")
    shape = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    half = [0.5, 0.5, 0.5]
    area = {"shortest_edge": 32 * 32, "longest_edge": 4096 * 4096}
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
        "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}"
        "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return Qwen3VLProcessor(
        Qwen2VLImageProcessor(size=area, image_mean=half, image_std=half, **shape),
        tokenizer,
        Qwen3VLVideoProcessor(size=area, image_mean=half, image_std=half, **shape),
        chat_template=template,
    )
