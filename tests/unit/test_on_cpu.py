"""What makes training on a CPU quicker changes nothing but the time: outputs, gradients, names and files."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from PIL import Image  # noqa: E402
from torch.nn import functional  # noqa: E402

from interleave_thinker.research.train.on_cpu import attend_by_image, quicken  # noqa: E402

BASE = Path(__file__).parents[2] / "interleave_thinker" / "tinyworld" / "weights" / "base"


def load():
    return transformers.Qwen3VLForConditionalGeneration.from_pretrained(BASE, dtype=torch.float32)


@pytest.fixture(scope="module")
def batch():
    """Two turns of different lengths, so that there is padding; three pictures, one of them of another shape."""
    processor = transformers.AutoProcessor.from_pretrained(BASE)
    pictures = [
        Image.new("RGB", size, color) for size, color in (((64, 64), "red"), ((128, 32), "blue"), ((64, 64), "green"))
    ]
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    texts = [f"{picture}{picture}want a red circle", f"{picture}want a large blue star\ngot a star at the top"]
    found = processor(text=texts, images=pictures, return_tensors="pt", padding=True)
    assert found["attention_mask"].min() == 0 and len({tuple(g) for g in found["image_grid_thw"].tolist()}) == 2
    return {**found, "labels": found["input_ids"].masked_fill(found["attention_mask"] == 0, -100)}


def outcome(model, batch):
    model.zero_grad()
    out = model(**batch)
    out.loss.backward()
    return out, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_the_same_numbers_and_gradients(batch):
    plain, quick = load(), load()
    quicken(quick)
    (a, before), (b, after) = outcome(plain, batch), outcome(quick, batch)
    real = batch["attention_mask"].bool()
    assert torch.allclose(a.logits[real], b.logits[real], atol=1e-3)
    assert before.keys() == after.keys() and any("patch_embed" in name for name in after)
    for name, gradient in before.items():
        assert torch.allclose(gradient, after[name], atol=1e-3 * float(gradient.abs().max()) + 1e-6), name


def test_what_is_saved_is_as_before(tmp_path):
    plain, quick = load(), load()
    quicken(quick)
    for name, model in (("plain", plain), ("quick", quick)):
        model.save_pretrained(tmp_path / name)
    assert (tmp_path / "plain" / "model.safetensors").read_bytes() == (
        tmp_path / "quick" / "model.safetensors"
    ).read_bytes()
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("plain", "quick")]
    assert configs[0] == configs[1]


def test_a_lora_on_the_patches_learns(batch):
    peft = pytest.importorskip("peft")
    model = load()
    quicken(model)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=r".*patch_embed\.proj"))
    _, gradients = outcome(adapted, batch)
    assert any("lora_B" in name and gradient.abs().sum() > 0 for name, gradient in gradients.items())


@pytest.mark.parametrize("lengths", [[6, 6, 6], [4, 8, 6], [18]])
def test_no_picture_sees_another(lengths):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, sum(lengths), 4)
    ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    found, _ = attend_by_image(None, query, key, value, None, scaling=0.5, cu_seq_lens_q=ends)
    alone = [
        functional.scaled_dot_product_attention(*(t[:, :, a:b] for t in (query, key, value)), scale=0.5)
        for a, b in pairwise(ends)
    ]
    assert torch.allclose(found, torch.cat(alone, 2).transpose(1, 2), atol=1e-5)
    if len(lengths) == 1:
        assert torch.equal(found, attend_by_image(None, query, key, value, None, scaling=0.5)[0])
