"""GRPO of the critic on the real tiny generator and checker; what it refuses before a model is loaded."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from importlib import metadata

import pytest
import torch
from grpo_advantages import advantages
from training_rows import CRITIC, grpo_options, losses, write_rows

from interleave_thinker.agents.transformers_agent import load_agent
from interleave_thinker.cli import main
from interleave_thinker.errors import ConfigError
from interleave_thinker.research.train import grpo, models
from interleave_thinker.research.train.grpo import CriticReward, train_critic
from interleave_thinker.research.train.models import ModelOptions, TrainError, check_package
from interleave_thinker.tinyworld.oracle import CheckerScorer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"))


class TestGrpo:
    def test_it_runs_on_the_real_generator_and_checker_and_gives_an_agent(self, data, tmp_path, monkeypatch):
        """Rollout, one picture each, score, masked mean: the trainer's advantages are those that `advantages` says."""
        seen, real = [], CriticReward.__call__

        def watched(self, prompts, completions, state, **more):
            values = real(self, prompts, completions, state, **more)
            values[1] = None  # as if its picture had failed
            seen.append(values)
            return values

        monkeypatch.setattr(CriticReward, "__call__", watched)
        trainers = []
        run = models.run
        monkeypatch.setattr(grpo, "run", lambda trainer, *rest: (trainers.append(trainer), run(trainer, *rest)))
        folder = train_critic(grpo_options(data, tmp_path / "g", kl=0.01), CheckerScorer, lambda line: None)
        assert load_agent(folder, device="cpu").prompts
        logged = list(trainers[0]._logs["advantages"])
        by_hand = [a for values in seen for g in (values[:4], values[4:]) for a in advantages(g)]
        # TRL takes means in float32: of equal rewards 6e-8 may be left, over a spread of 0 + 1e-4
        assert [0.0 if math.isnan(a) else a for a in logged[-8:]] == pytest.approx(by_hand[-8:], abs=1e-3)
        history = json.loads((tmp_path / "g" / "history.json").read_text())
        assert all(e["critic/masked"] >= 0 for e in history if "critic/masked" in e)
        assert json.loads((tmp_path / "g" / "rollouts.json").read_text())["failed"] == 0

    def test_a_training_that_begins_again_pays_for_no_picture_twice(self, data, tmp_path):
        """The same seed asks for the same prompts: all of them come from the first one's folder of scores."""
        train_critic(grpo_options(data, tmp_path / "a"), CheckerScorer, lambda line: None)
        again = grpo_options(data, tmp_path / "b", reward_cache=tmp_path / "a" / "rewards")
        train_critic(again, CheckerScorer, lambda line: None)
        first, second = (json.loads((tmp_path / name / "rollouts.json").read_text()) for name in ("a", "b"))
        assert first["made"] > 0 and first["cached"] == 0
        assert (second["made"], second["cached"]) == (0, first["made"])
        assert losses(tmp_path / "a") == pytest.approx(losses(tmp_path / "b"))

    def test_a_group_needs_two_and_a_batch_whole_groups(self, data, tmp_path):
        with pytest.raises(ConfigError, match="at least 2"):
            replace(grpo_options(data, tmp_path), group=1)
        with pytest.raises(TrainError, match=r"must be a multiple of group \(4\)"):
            train_critic(replace(grpo_options(data, tmp_path), batch=3, accumulate=1, group=4), CheckerScorer)

    def test_a_group_may_lie_in_several_passes(self, data, tmp_path):
        """One response a pass, as long ones of an 8B want it; all of a group are compared all the same."""
        changed = replace(grpo_options(data, tmp_path / "o"), batch=1, accumulate=4, group=4, steps=1)
        train_critic(changed, CheckerScorer)
        (step,) = [entry for entry in json.loads((tmp_path / "o" / "history.json").read_text()) if "reward" in entry]
        assert step["frac_reward_zero_std"] in (0, 1), "the share of groups without a difference, of one group"

    @pytest.mark.parametrize("change", [
        {"vllm_memory": 1.5}, {"vllm_context": 4096, "max_tokens": 4096}, {"vllm_tensor_parallel": 0},
        {"vllm_server": "http://127.0.0.1:8000", "vllm": "colocate"},
    ])  # fmt: skip
    def test_values_that_vllm_cannot_use_are_refused(self, data, tmp_path, change):
        with pytest.raises(ConfigError, match="vllm-"):
            replace(grpo_options(data, tmp_path), **change)

    def test_the_installed_trl_takes_what_is_said_of_vllm(self, data, tmp_path):
        from trl import GRPOConfig

        for mode in ("", "colocate", "server"):
            asked = replace(grpo_options(data, tmp_path), vllm=mode).vllm_arguments()
            assert set(asked) <= {field.name for field in fields(GRPOConfig)}

    def test_a_judge_that_is_missing_costs_no_loading(self, data, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(grpo, "load_model", lambda *_: pytest.fail("loaded"))
        endpoints = tmp_path / "endpoints.toml"
        endpoints.write_text('[a]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\n')
        line = [
            "grpo",
            "--model",
            str(CRITIC),
            "--data",
            str(data),
            "--out",
            str(tmp_path / "o"),
            "--generator",
            "tiny",
        ]
        assert main([*line, "--judge", "endpoint:b", "--endpoints", str(endpoints)]) == 1
        assert "has no endpoint 'b'; it has a." in capsys.readouterr().err

    def test_a_vllm_server_that_does_not_answer_is_one_line(self, data, tmp_path, monkeypatch):
        """Whatever TRL and vLLM say; the address is named."""
        import trl

        def refuses(**_):
            raise ConnectionError("The vLLM server can't be reached after 240 seconds.")

        monkeypatch.setattr(grpo, "check_package", lambda *_: None)
        monkeypatch.setattr(trl, "GRPOTrainer", refuses)
        asked = grpo_options(data, tmp_path, vllm="server", vllm_server="http://127.0.0.1:1")
        with pytest.raises(
            TrainError, match=r"The vLLM server http://127\.0\.0\.1:1 cannot be used: .*can't be reached"
        ):
            train_critic(asked, CheckerScorer, lambda line: None)

    def test_a_full_gpu_is_one_line_with_what_helps(self, data, tmp_path, monkeypatch):
        from trl import GRPOTrainer

        def full(*_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 10.00 GiB.\nMore lines.")

        monkeypatch.setattr(GRPOTrainer, "train", full)
        with pytest.raises(TrainError, match=r"Tried to allocate 10.00 GiB. The same command with --dry-run"):
            train_critic(grpo_options(data, tmp_path), CheckerScorer, lambda line: None)

    @pytest.mark.parametrize(("there", "told"), [(None, "it is not installed"), ("0.1.0", "0.1.0 is installed")])
    @pytest.mark.parametrize("package", ["deepspeed", "vllm", "bitsandbytes"])
    def test_a_package_that_is_missing_or_of_a_wrong_version_is_one_line(
        self, data, tmp_path, monkeypatch, package, there, told
    ):
        """Before rows are read and a model is loaded."""
        own = metadata.version

        def version(name):
            if name != package:
                return own(name)
            if there is None:
                raise metadata.PackageNotFoundError(name)
            return there

        monkeypatch.setattr(metadata, "version", version)
        change = {
            "vllm": {"vllm": "colocate"},
            "deepspeed": {"deepspeed": tmp_path / "ds.json"},
            "bitsandbytes": {"base": ModelOptions(CRITIC, lora_rank=4, quantize="4bit")},
        }[package]
        extra = "quantization" if package == "bitsandbytes" else package
        with pytest.raises(TrainError, match=rf"needs {package}.*>=.*{told}.*interleave-thinker\[{extra}\]"):
            train_critic(replace(grpo_options(data, tmp_path), **change), CheckerScorer)
        monkeypatch.setattr(
            metadata,
            "version",
            lambda name: (
                "0.47.0+cu129"
                if name == package and package == "bitsandbytes"
                else "0.27.0+cu129"
                if name == package
                else own(name)
            ),
        )
        check_package(package, "x")
