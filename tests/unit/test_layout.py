"""The arithmetic of `--dry-run`: what a training takes of each GPU, for the recipes on the machines that they are for."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from interleave_thinker.cli import main
from interleave_thinker.research.train.layout import BYTES_IN_4_BITS, Asked, Shape, layout
from interleave_thinker.research.train.models import TrainError

RECIPES = Path(__file__).parents[2] / "recipes"
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "8b": (
        {"hidden_size": 4096, "intermediate_size": 12288},
        {"hidden_size": 1152, "intermediate_size": 4304, "depth": 27, "deepstack_visual_indexes": [8, 16, 24]},
        False,
    ),
    "4b": (
        {"hidden_size": 2560, "intermediate_size": 9728},
        {"hidden_size": 1024, "intermediate_size": 4096, "depth": 24, "deepstack_visual_indexes": [5, 11, 17]},
        True,
    ),
}


def config(size: str) -> Qwen3VLConfig:
    text, eyes, tied = SIZES[size]
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "num_hidden_layers": 36}
    return Qwen3VLConfig(
        text_config={**text, **heads, "vocab_size": 151936},
        vision_config={**eyes, "out_hidden_size": text["hidden_size"], "num_heads": 16, "patch_size": 16},
        tie_word_embeddings=tied,
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder of Qwen3-VL-8B without its weights."""
    config("8b").save_pretrained(tmp_path / "8b")
    return tmp_path / "8b"


@pytest.mark.parametrize("size", SIZES)
def test_the_parameters_are_those_of_the_model(size: str, tmp_path: Path) -> None:
    config(size).save_pretrained(tmp_path)
    with torch.device("meta"):
        whole = Qwen3VLForConditionalGeneration(config(size))
    count = sum(weight.numel() for weight in whole.parameters())
    assert Shape.of(tmp_path).parameters == pytest.approx(count, rel=0.005)


def test_the_cache_of_a_token_of_an_8b_is_147_kb(model: Path) -> None:
    assert 2 * Shape.of(model).key_values == 147_456


def said(capsys: Any, model: Path, data: Path, *words: str) -> str:
    common = ["grpo", "--generator", "tiny", "--judge", "checker", "--data", str(data), "--model", str(model)]
    assert main([*common, "--out", str(data / "o"), "--dry-run", *words]) == 0
    return str(capsys.readouterr().out)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    marks = {"semantics": 5, "quality": 5, "success": True}
    row = {"origin_image_path": "a.png", "edited_image_path": "a.png", "origin_prompt": "x", "rewritten_prompt": "y"}
    (tmp_path / "critic_rl.jsonl").write_text(json.dumps({**row, "evaluation": marks}) + "\n")
    return tmp_path


def test_the_recipe_for_eight_gpus_fits_them(model: Path, data: Path, capsys: Any) -> None:
    text = said(capsys, model, data, "--config", str(RECIPES / "grpo_8b.yaml"), "--train-gpus", "8", "--gpu-gb", "80")
    assert "8 GPUs of 80 GB, on each:" in text and "Will not fit" not in text and "Fits" in text
    assert "| vLLM | 24.0 | 0.3 of 80 GB |" in text and re.search(r"optimizer \| 13\.\d \| 8\.8 B x 12 bytes / 8", text)


def test_what_will_not_fit_is_said_with_what_helps(model: Path, data: Path, capsys: Any) -> None:
    """Without names of machines: for 8 x 80 GB and 1 x 24 GB."""
    recipe = ["--config", str(RECIPES / "grpo_8b.yaml")]
    both = said(capsys, model, data, *recipe)
    assert "8 GPUs of 80 GB" in both and "1 GPU of 24 GB" in both
    alone = both.split("1 GPU of 24 GB")[1]
    assert "Will not fit" in alone and "--lora-rank 64" in alone
    eight = ["--train-gpus", "8", "--gpu-gb", "80"]
    assert "asks for a cache of the model's whole context" in said(
        capsys, model, data, *recipe, *eight, "--vllm-context", "0"
    )
    assert "one reply takes" in said(
        capsys, model, data, *recipe, *eight, "--vllm-memory", "0.24", "--vllm-context", "32768"
    )
    assert "longer than --vllm-context" in said(capsys, model, data, *recipe, *eight, "--vllm-context", "5000")
    assert "(--batch)" in said(capsys, model, data, *recipe, *eight, "--batch", "16")


def test_an_adapter_takes_no_gradients_of_the_weights(model: Path) -> None:
    shape, asked = Shape.of(model), Asked(1, 1024, 2**20, lora_rank=64, checkpointing=True)
    small, whole = layout(shape, asked, 1, 24), layout(shape, replace(asked, lora_rank=0), 1, 24)
    assert {name for name, *_ in small.parts} == {"weights", "adapter", "activations", "logits", "CUDA and libraries"}
    assert small.total < whole.total / 2


def test_a_folder_without_a_config_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"no config\.json of a Qwen3-VL"):
        Shape.of(tmp_path)


def test_a_small_gpu_is_shown_what_would_fit(model: Path, data: Path, capsys: Any) -> None:
    """The recipe's whole weights never fit 24 GB; the layout that does stands below."""
    alone = said(capsys, model, data, "--config", str(RECIPES / "grpo_8b.yaml")).split("1 GPU of 24 GB")
    assert "Will not fit" in alone[1] and "grpo_24gb.yaml" in alone[1]
    assert "Fits." in alone[2] and "weights in 4 bits | 3.6" in alone[2]


def test_the_recipe_for_24_gb_fits_with_comfyui_beside_it(model: Path, data: Path, capsys: Any) -> None:
    machine = ["--train-gpus", "1", "--gpu-gb", "24"]
    recipe = ["--config", str(RECIPES / "grpo_24gb.yaml"), *machine]
    assert "Fits." in said(capsys, model, data, *recipe, "--beside-gb", "6")
    assert "Will not fit" in said(capsys, model, data, *recipe, "--beside-gb", "12")


def test_weights_in_4_bits_take_what_bitsandbytes_takes(tmp_path: Path) -> None:
    """Against a real layer of bitsandbytes, with its scales quantized as well."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    layer = Linear4bit(4096, 4096, bias=False, quant_type="nf4", compress_statistics=True)
    layer.weight = Params4bit(torch.randn(4096, 4096), requires_grad=False, quant_type="nf4", compress_statistics=True)
    layer = layer.to("cpu")
    state = layer.weight.quant_state
    tensors = [layer.weight, state.absmax, state.code, state.state2.absmax, state.state2.code]
    size = sum(t.numel() * t.element_size() for t in tensors)
    assert size / 4096**2 == pytest.approx(BYTES_IN_4_BITS, rel=0.01)


def test_hours_follow_the_machines(model: Path, data: Path, capsys: Any) -> None:
    """13,000 states of 8 responses: 104,000 pictures of 2.3 s are 66 hours on one server, and 8 on eight."""
    words = ["--config", str(RECIPES / "grpo_8b.yaml"), "--steps", "812", "--train-gpus", "8", "--gpu-gb", "80"]
    one = said(capsys, model, data, *words)
    assert "812 steps on 8 devices, at most 103936 generator and 207872 judge calls" in one
    assert hours(one, "pictures") == pytest.approx(103_936 * 2.3 / 3600, abs=0.06)
    servers = [w for port in range(8) for w in ("--server", f"http://127.0.0.1:{8188 + port}")]
    eight = said(capsys, model, data, *words, *servers, "--ray", "--picture-seconds", "4.6", "--judge-price", "0.01")
    assert hours(eight, "pictures") == pytest.approx(hours(one, "pictures") / 4, abs=0.06)
    assert "207872 calls (two a picture), $2,079 at $0.01 each" in eight
    assert hours(eight, "learning") == pytest.approx(hours(one, "learning"))


def test_a_count_is_for_a_dry_run_alone(model: Path, data: Path, capsys: Any) -> None:
    """A training would else learn from all rows, as if nothing had been said."""
    assert "7 states" in said(capsys, model, data, "--count", "7")
    line = f"grpo --generator tiny --judge checker --data {data} --model {model} --out {data}/o --count 7"
    assert main(line.split()) == 1 and "--dry-run only" in capsys.readouterr().err and not (data / "o").exists()
    assert main([*line.split(), "--dry-run", "--count", "0"]) == 1


def hours(text: str, part: str) -> float:
    found = re.search(rf"\| {part} \| ([\d.]+) \|", text)
    assert found is not None
    return float(found[1])
