"""The types that weights have while they learn: a float32 master, 4 bits below an adapter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from training_rows import BASE, CRITIC, grpo_options, losses, sft_options, write_rows

from interleave_thinker.agents.base import Message, Sampling
from interleave_thinker.agents.transformers_agent import load_agent
from interleave_thinker.errors import ConfigError
from interleave_thinker.research.train import grpo, models
from interleave_thinker.research.train.grpo import train_critic
from interleave_thinker.research.train.models import ModelOptions, TrainError
from interleave_thinker.research.train.sft import fine_tune
from interleave_thinker.tinyworld.oracle import CheckerScorer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"))


class TestMasterWeights:
    """In bfloat16 a weight has three digits: at 2e-6 a step of Adam rounds to nothing for nearly all of them."""

    def moved(self, model, rate=2e-6, steps=3):
        """The share of the trained weights that some steps of Adam change."""
        trained = [p for p in model.parameters() if p.requires_grad]
        before = [p.detach().clone() for p in trained]
        optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
        for _ in range(steps):
            for p in trained:
                p.grad = torch.ones_like(p)
            optimizer.step()
        changed = sum(int((p.detach() != b).sum()) for p, b in zip(trained, before, strict=True))
        return changed / sum(p.numel() for p in trained)

    def test_whole_weights_on_a_gpu_move_at_the_papers_rate(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        model, _ = models.load_model(ModelOptions(CRITIC))
        assert self.moved(model) > 0.95
        assert self.moved(model.to(torch.bfloat16)) < 0.3, "else this test would prove nothing"

    @pytest.mark.parametrize(
        ("more", "keeps_master", "gpu", "kind"),
        [
            ({}, False, True, "float32"),
            ({}, True, True, "bfloat16"),
            ({"lora_rank": 4}, False, True, "bfloat16"),
            ({"precision": "fp32", "lora_rank": 4}, True, True, "float32"),
            ({"lora_rank": 4}, False, False, "float32"),
        ],
    )
    def test_the_type_of_the_weights(self, more, keeps_master, gpu, kind, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        assert models.weights_type(ModelOptions(CRITIC, **more), gpu=gpu, keeps_master=keeps_master) == kind

    def test_what_is_saved_is_bfloat16_and_the_checkpoint_keeps_float32(self, data, tmp_path):
        small = replace(sft_options(data, tmp_path, steps=1, save_every=1), base=ModelOptions(CRITIC, precision="bf16"))
        folder = fine_tune(small, lambda line: None)
        kinds = [
            {str(t.dtype) for t in load_file(f / "model.safetensors").values()}
            for f in (folder, tmp_path / "checkpoints" / "checkpoint-1")
        ]
        assert kinds == [{"torch.bfloat16"}, {"torch.float32"}]


class TestFourBits:
    """QLoRA, for one GPU of 24 GB: real bitsandbytes on the tiny critic."""

    def test_sft_and_grpo_learn_an_adapter_that_the_whole_model_takes(self, data, tmp_path):
        base = ModelOptions(BASE, lora_rank=4, quantize="4bit", gradient_checkpointing=True)
        folder = fine_tune(
            replace(sft_options(data, tmp_path / "s", steps=9), base=base, learning_rate=5e-3), lambda line: None
        )
        found = losses(tmp_path / "s")
        assert sum(found[-3:]) < 0.95 * sum(found[:3])
        whole = load_agent(BASE, adapter=folder, device="cpu")
        assert whole.complete([Message("user", ("want a red ball",))], Sampling(8)).text
        rl = replace(grpo_options(data, tmp_path / "g", steps=1), base=base)
        made = train_critic(rl, CheckerScorer, lambda line: None)
        assert {p.name for p in made.glob("*.safetensors")} == {"adapter_model.safetensors"}

    def test_the_adapter_learns_in_float32(self, data, tmp_path, monkeypatch):
        """TRL makes it bfloat16, in which 1e-5 moves nearly nothing of its first half."""
        from interleave_thinker.research.train import sft

        base, seen = ModelOptions(BASE, lora_rank=4, quantize="4bit"), []
        for module in (grpo, sft):
            monkeypatch.setattr(module, "run", lambda trainer, *_: seen.append(trainer))
            monkeypatch.setattr(module, "save_result", lambda *_: tmp_path)
        monkeypatch.setattr(grpo, "_keep_tally", lambda *_: None)
        fine_tune(replace(sft_options(data, tmp_path / "s"), base=base), lambda line: None)
        train_critic(replace(grpo_options(data, tmp_path / "g"), base=base), CheckerScorer, lambda line: None)
        for trainer in seen:
            assert {p.dtype for p in trainer.model.parameters() if p.requires_grad} == {torch.float32}
        assert len(seen) == 2

    def test_the_language_part_is_in_4_bits_and_the_rest_is_not(self):
        from bitsandbytes.nn import Linear4bit

        model, _ = models.load_model(ModelOptions(BASE, lora_rank=4, quantize="4bit"))
        packed = [name for name, layer in model.named_modules() if isinstance(layer, Linear4bit)]
        assert packed and all(".language_model." in name for name in packed)
        assert len(packed) == 7 * model.config.text_config.num_hidden_layers

    def test_without_an_adapter_nothing_could_learn(self):
        with pytest.raises(ConfigError, match="--lora-rank"):
            ModelOptions(CRITIC, quantize="4bit")

    def test_an_adapter_as_the_base_is_refused(self):
        """Its pairs cannot be added to packed weights; the tiny critic is one."""
        with pytest.raises(TrainError, match="takes the folder of a whole model"):
            models.load_model(ModelOptions(CRITIC, lora_rank=4, quantize="4bit"))
