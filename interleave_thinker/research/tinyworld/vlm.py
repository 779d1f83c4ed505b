"""The tiny agents: transformers' own Qwen3-VL class, small enough for a CPU.

About 3.5M parameters, 16 tokens for a 64 x 64 picture, a byte-level tokenizer trained on the world's
own sentences. The folder that is saved holds model, processor and prompts, so any code that loads a
Qwen3-VL folder loads these.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from ...tinyworld.lessons import PROMPTS
from ...tinyworld.scene import SIDE

PATCH, MERGE = 8, 2
VOCABULARY = 640

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
STRUCTURE = (
    "<think>",
    "</think><answer>",
    "</answer>",
    '{"execution_plan": [',
    '{"step_number": ',
    ', "step_name": "',
    '", "instruction": "',
    '", "instruction": null',
    '", "prompt": "',
    ', "prompt": null',
    '", "auxiliary_text": "',
    '", "auxiliary_text": null',
    ', "auxiliary_text": "',
    '{"previous_step_success": true, "refine_prompt": "',
    '{"previous_step_success": false, "refine_prompt": "',
    '{"best": ',
    '"}, ',
    '"}]}',
    '"}',
    "}, ",
    "}]}",
)
"""Text that every plan and judgment repeats; one token each keeps replies short."""

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer(sentences: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text can be read, the world's words are one token each."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(STRUCTURE),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in STRUCTURE])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLProcessor:
    """Every picture becomes SIDE x SIDE pixels or the nearest size of that area: 16 tokens."""
    area = {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE}
    shape = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2}
    half = [0.5, 0.5, 0.5]
    images = Qwen2VLImageProcessor(size=area, image_mean=half, image_std=half, **shape)
    videos = Qwen3VLVideoProcessor(size=area, image_mean=half, image_std=half, **shape)
    return Qwen3VLProcessor(images, tokenizer, videos, chat_template=CHAT_TEMPLATE)


def new_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLForConditionalGeneration:
    """Random weights of the size measured in `docs/tiny-world.md`."""
    ids = {t: tokenizer.convert_tokens_to_ids(t) for t in SPECIAL}
    grid = SIDE // PATCH
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 5,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
            "pad_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
        },
        vision_config={
            "depth": 3,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_heads": 4,
            "in_channels": 3,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": 192,
            "num_position_embeddings": grid * grid,
            "deepstack_visual_indexes": [0, 1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    return model


def save_agent(model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor, folder: Path) -> None:
    """Weights as bfloat16, processor, and the prompts the model was trained on."""
    import torch

    copy = type(model)(model.config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = model.generation_config
    copy.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    save_prompts(folder)


def save_prompts(folder: Path) -> None:
    """The prompts that the tiny agents are trained on, as `folder`/prompts/*.md."""
    prompts = folder / "prompts"
    prompts.mkdir(exist_ok=True)
    for name, text in PROMPTS.items():
        (prompts / f"{name}.md").write_text(text + "\n", encoding="utf-8")
