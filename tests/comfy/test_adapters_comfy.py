"""An adapter file in ComfyUI's own hands: every pair is loaded, beside the weights and in them, and writes as tuned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from inside import run_inside
from transformers import Qwen3VLForConditionalGeneration

from interleave_thinker.cli import main


@pytest.mark.slow
def test_extracted_and_exported_pairs_make_the_base_write_as_the_tuned_model(tmp_path: Path) -> None:
    """8B's names in shards. The tuned model differs by linear layers, vision tower and head among them, and by norm
    scales that these take up; so base and pairs are the tuned model. Another differs by its word embeddings too."""
    from peft import LoraConfig, get_peft_model
    from qwen_checkpoint import make_checkpoint

    base, tuned, words, merged, lora = (tmp_path / name for name in ("base", "tuned", "words", "merged", "lora"))
    model = make_checkpoint(base, "40MB")
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if name.endswith(("_layernorm.weight", "language_model.norm.weight", "norm1.weight", "merger.norm.weight")):
            parameter.data *= 1 + 0.5 * torch.rand_like(parameter)
        elif parameter.ndim == 2 and "embed" not in name:
            parameter.data += 0.05 * torch.randn(len(parameter), 4) @ torch.randn(4, parameter.shape[1])
    model.save_pretrained(tuned, max_shard_size="40MB")
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding += 0.3 * torch.randn(len(embedding), 4) @ torch.randn(4, embedding.shape[1])
    model.save_pretrained(words, max_shard_size="40MB")
    for target, file, more in ((tuned, "difference", "--linear-only"), (words, "words", "")):
        line = f"adapters extract {base} {target} --rank 512 --dtype float32 {more} --out {tmp_path}/{file}.safetensors"
        assert main(line.split()) == 0

    model = Qwen3VLForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    targets = ["q_proj", "v_proj", "down_proj", "qkv", "linear_fc2", "lm_head"]
    with_peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=32, use_rslora=True, target_modules=targets))
    for name, parameter in with_peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, 0, 0.1)
    with_peft.save_pretrained(lora)
    with_peft.merge_and_unload().save_pretrained(merged, max_shard_size="40MB")
    line = f"adapters export-comfy {base} --adapter {lora} --lora --dtype float32 --out {tmp_path}/peft.safetensors"
    assert main(line.split()) == 0

    for name, target in (("difference", tuned), ("words", words), ("peft", merged)):
        found = run_inside("extracted_adapter.py", str(base), str(target), str(tmp_path / f"{name}.safetensors"))
        (adapter,) = found["adapters"]
        assert adapter["log"] == [] and adapter["reached"] == adapter["layers"] > 5, name
        assert adapter["hooks"] and adapter["changes weights beside"] == 0
        assert adapter["stock"] == found["tuned"] != found["base"], name
        if name == "words":  # ComfyUI's bypass form multiplies the ids of the words with the pair
            assert adapter["beside"].startswith("RuntimeError"), "docs/training.md says that it fails: --linear-only"
        else:
            assert adapter["beside"] == found["tuned"], name
        assert adapter["base after"] == found["base"] and len(found["base"]) > 20
