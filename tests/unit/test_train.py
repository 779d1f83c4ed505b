"""SFT, GRPO and adapters on the real tiny critic: what is learned, what is masked, and what a kill costs."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from grpo_advantages import advantages
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from interleave_thinker.agents.adapter_file import NOT_LINEAR, WORDS, hf_name, read_adapter, write_adapter
from interleave_thinker.agents.adapter_folder import load_weights
from interleave_thinker.agents.base import Message, Sampling
from interleave_thinker.agents.transformers_agent import load_agent
from interleave_thinker.cli import main
from interleave_thinker.errors import AgentError, ConfigError
from interleave_thinker.research.train import grpo, models
from interleave_thinker.research.train.adapters import export_comfy, merge
from interleave_thinker.research.train.grpo import CriticReward, GrpoOptions, check_own_text, train_critic
from interleave_thinker.research.train.models import ModelOptions, TrainError, check_package
from interleave_thinker.research.train.rows import sft_rows, states
from interleave_thinker.research.train.sft import SftOptions, fine_tune
from interleave_thinker.resolve import GeneratorChoice
from interleave_thinker.roles.prompt_files import fill, is_filled, load_prompt
from interleave_thinker.tinyworld.lessons import PROMPTS, critic_lesson, rendered_case
from interleave_thinker.tinyworld.oracle import CheckerScorer

CRITIC = Path(__file__).parents[2] / "interleave_thinker" / "tinyworld" / "weights" / "critic"
BASE = CRITIC.parent / "base"
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve judged attempts on rendered pictures, as `data export` writes them."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "images").mkdir()
    rng, sft, rl = random.Random(7), [], []
    for n in range(12):
        case = rendered_case(rng)
        names = []
        for kind, image in (("before", case.before_image), ("after", case.after_image)):
            if image is not None:
                image.save(folder / "images" / f"{n}-{kind}.png")
            names.append(f"images/{n}-{kind}.png" if image is not None else "data/interleave/white.png")
        lesson = critic_lesson(case, PROMPTS)
        (folder / "data" / "interleave").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), "white").save(folder / "data" / "interleave" / "white.png")
        content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": lesson.parts[2]}]
        reply = [{"type": "text", "text": lesson.reply}]
        sft.append({"prompt": [{"role": "user", "content": content}],
                    "completion": [{"role": "assistant", "content": reply}], "images": names})  # fmt: skip
        score = CheckerScorer().score(case.before_image, case.after_image, case.prompt)
        rl.append({"id": str(n), "origin_prompt": case.prompt, "rewritten_prompt": case.used,
                   "origin_image_path": names[0], "edited_image_path": names[1],
                   "evaluation": {"semantics": score.semantics, "quality": score.quality, "success": case.right}})  # fmt: skip
    (folder / "critic_sft.jsonl").write_text("\n".join(map(json.dumps, sft)) + "\n")
    (folder / "critic_rl.jsonl").write_text("\n".join(map(json.dumps, rl)) + "\n")
    return folder


def options(data, out, **more):
    base = ModelOptions(CRITIC, lora_rank=more.pop("lora_rank", 0))
    return SftOptions(base, data / "critic_sft.jsonl", out, batch=4, learning_rate=5e-4, log_every=1, **more)


def losses(out):
    return logged(out, "loss")


def logged(out, name):
    """What the trainer noted of each step."""
    return [float(e[name]) for e in json.loads((out / "history.json").read_text()) if "loss" in e]


class TestSft:
    @pytest.fixture(scope="class")
    def trained(self, data, tmp_path_factory):
        out = tmp_path_factory.mktemp("full")
        fine_tune(options(data, out, steps=8, save_every=4), lambda line: None)
        return out

    def test_it_learns_and_the_result_is_an_agent(self, trained):
        found = losses(trained)
        assert len(found) == 8 and found[-1] < found[0]
        agent = load_agent(trained / "model", device="cpu")
        assert agent.prompts == str(trained / "model" / "prompts"), "the texts that it was trained with go along"

    def test_its_epochs_are_passes_over_the_rows(self, data, trained):
        rows, _ = sft_rows(data / "critic_sft.jsonl")
        assert logged(trained, "epoch") == pytest.approx([4 * step / len(rows) for step in range(1, 9)])
        assert 4 * 8 != len(rows)

    def test_the_vision_tower_is_frozen_unless_asked(self, trained):
        from transformers import Qwen3VLForConditionalGeneration

        before = load_weights(Qwen3VLForConditionalGeneration, CRITIC, "float32").state_dict()
        after = load_file(trained / "model" / "model.safetensors")
        seen = [k for k in before if "visual" in k]
        assert seen and all((before[k].float() == after[k].float()).all() for k in seen)
        assert any((before[k].float() != after[k].float()).any() for k in before if "language_model" in k)

    def test_a_training_that_is_there_is_not_written_over(self, data, trained):
        with pytest.raises(TrainError, match="--resume"):
            fine_tune(options(data, trained, steps=8), lambda line: None)

    def test_the_loss_is_on_the_reply_only(self, data):
        """What was asked is masked: the labels that are left spell the reply and nothing else."""
        from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

        _, processor = models.load_model(ModelOptions(CRITIC))
        collate = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
        from interleave_thinker.research.train.rows import dataset

        row = dataset(sft_rows(data / "critic_sft.jsonl")[0])[0]
        reply = row["completion"][0]["content"][0]["text"]
        labels = collate([row])["labels"][0]
        assert processor.tokenizer.decode(labels[labels != -100]).strip() == f"{reply}<|im_end|>"

    def test_a_lora_adapter_learns_on_frozen_weights_and_merges_to_the_same_replies(self, data, tmp_path):
        fine_tune(options(data, tmp_path / "l", steps=6, lora_rank=8), lambda line: None)
        adapter = tmp_path / "l" / "model"
        assert (adapter / "adapter_model.safetensors").is_file() and not (adapter / "model.safetensors").exists()
        merge(CRITIC, adapter, tmp_path / "merged", "float32")
        row = sft_rows(data / "critic_sft.jsonl")[0][0]
        pictures = [Image.open(p).convert("RGB") for p in row["images"]]
        asked = [Message("user", (*pictures, row["prompt"][0]["content"][2]["text"]))]
        one, two, bare = (
            load_agent(folder, adapter=extra, device="cpu")
            for folder, extra in ((CRITIC, adapter), (tmp_path / "merged", None), (CRITIC, None))
        )
        replies = [a.complete(asked, Sampling(80)).text for a in (one, two)]
        assert replies[0] == replies[1] != ""
        assert one.base is bare.base, "the same weights in memory"
        before = bare.complete(asked, Sampling(80)).text
        one.complete(asked, Sampling(80))
        assert bare.complete(asked, Sampling(80)).text == before, "an agent without adapter is not touched by another's"
        with pytest.raises(TrainError, match="not empty"):
            merge(CRITIC, adapter, tmp_path / "merged")

    def test_a_lora_begins_as_the_adapter_file_that_it_starts_from(self, data, tmp_path):
        """With a learning rate of zero it ends as it began; all layers of the file are in it, the vision tower's too."""
        from peft import get_peft_model

        shipped = read_adapter(CRITIC / "adapter.safetensors")
        assert WORDS in shipped.pairs and shipped.sample is not None
        linear = {layer: pair for layer, pair in shipped.pairs.items() if layer not in NOT_LINEAR}
        start = tmp_path / "linear.safetensors"
        write_adapter(start, linear, base=shipped.base, sample=shipped.sample)
        begun = replace(options(data, tmp_path / "l", steps=1, lora_rank=64), learning_rate=0.0)
        begun = replace(begun, base=replace(begun.base, model=BASE, start_adapter=start))
        fine_tune(begun, lambda line: None)
        made = load_file(tmp_path / "l" / "model" / "adapter_model.safetensors")
        pairs = read_adapter(start).pairs
        assert len(made) == 2 * len(pairs) > 100
        for place, pair in pairs.items():
            name = f"base_model.model.{hf_name(place)}.lora_"
            found = 2.0 * made[f"{name}B.weight"] @ made[f"{name}A.weight"]  # alpha is twice the rank
            assert torch.allclose(found, pair.scale * pair.up.float() @ pair.down.float(), atol=1e-5), place
        too_small = replace(begun.base, lora_rank=8)
        model, _ = models.load_model(too_small)
        with pytest.raises(TrainError, match="give --lora-rank 64"):
            models.start_from_file(get_peft_model(model, models.lora(too_small)), start)
        with pytest.raises(AgentError, match="another model"):
            fine_tune(replace(begun, base=replace(begun.base, model=CRITIC), out=tmp_path / "c"), lambda line: None)
        with pytest.raises(ConfigError, match="give lora_rank"):
            replace(begun.base, lora_rank=0)

    def test_an_adapter_that_does_not_fit_leaves_the_shared_base_as_it_was(self, data, tmp_path):
        """peft changes a model before it finds out; agents of the same base must not notice."""
        from safetensors.torch import save_file

        fine_tune(options(data, tmp_path / "l", steps=1, lora_rank=4), lambda line: None)
        adapter = tmp_path / "l" / "model" / "adapter_model.safetensors"
        wrong = load_file(adapter)
        last = sorted(wrong)[-1]
        wrong[last] = wrong[last].new_ones(wrong[last].shape[0] + 8, wrong[last].shape[1])
        save_file(wrong, adapter)
        asked = [Message("user", (Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64)), "want a\ngot b"))]
        bare = load_agent(CRITIC, device="cpu")
        before = bare.complete(asked, Sampling(40)).text
        with pytest.raises(AgentError, match="does not fit"):
            load_agent(CRITIC, adapter=adapter.parent, device="cpu")
        assert bare.base.adapted is None and bare.complete(asked, Sampling(40)).text == before

    def test_merging_one_adapter_does_not_touch_an_agent_with_another(self, data, tmp_path):
        for name, seed in (("a", 1), ("b", 2)):
            more = replace(options(data, tmp_path / name, steps=4, lora_rank=4, seed=seed), learning_rate=6e-2)
            fine_tune(more, lambda line: None)
        asked = [Message("user", (Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64)), "want a\ngot b"))]
        first = load_agent(CRITIC, adapter=tmp_path / "a" / "model", dtype="float32", device="cpu")
        before = first.complete(asked, Sampling(40)).text
        merge(CRITIC, tmp_path / "b" / "model", tmp_path / "merged", "float32")
        assert first.complete(asked, Sampling(40)).text == before
        second = load_agent(CRITIC, adapter=tmp_path / "b" / "model", dtype="float32", device="cpu")
        merged = load_agent(tmp_path / "merged", dtype="float32", device="cpu")
        assert merged.complete(asked, Sampling(40)).text == second.complete(asked, Sampling(40)).text != before

    def test_two_roles_are_two_adapters_on_one_base(self, data, tmp_path):
        """Each speaks as if it were alone, in any order."""
        found = {}
        for name, seed in (("planner", 1), ("critic", 2)):
            fine_tune(
                replace(options(data, tmp_path / name, steps=5, lora_rank=4, seed=seed), learning_rate=6e-2),
                lambda line: None,
            )
            found[name] = tmp_path / name / "model"
        asked = [Message("user", (Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64)), "want a\ngot b"))]
        alone = {
            n: load_agent(CRITIC, adapter=f, device="cpu").complete(asked, Sampling(40)).text for n, f in found.items()
        }
        both = {n: load_agent(CRITIC, adapter=f, device="cpu") for n, f in found.items()}
        assert both["planner"].base is both["critic"].base
        assert alone["planner"] != alone["critic"]
        for name in ("critic", "planner", "critic"):
            assert both[name].complete(asked, Sampling(40)).text == alone[name]


SCRIPT = """
import sys
from pathlib import Path
from interleave_thinker.cli import main
sys.exit(main(sys.argv[1:]))
"""


def command(data, out, *more):
    return ["sft", "critic", "--data", str(data), "--model", str(CRITIC), "--out", str(out), "--batch", "4",
            "--learning-rate", "5e-4", "--log-every", "1", *more]  # fmt: skip


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def test_a_training_that_is_killed_goes_on_with_the_same_losses(data, tmp_path):
    """SIGKILL after the checkpoint of step 3: with --resume the curve is that of an undisturbed run."""
    more = ("--steps", "8", "--save-every", "3")
    assert main(command(data, tmp_path / "whole", *more)) == 0
    killed = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *command(data, tmp_path / "cut", *more)], env=environment()
    )
    checkpoint = tmp_path / "cut" / "checkpoints" / "checkpoint-3" / "trainer_state.json"
    ends = time.monotonic() + 240
    while not checkpoint.exists() and time.monotonic() < ends and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert checkpoint.exists()
    shutil.rmtree(tmp_path / "cut" / "model", ignore_errors=True)
    assert main(command(data, tmp_path / "cut", *more, "--resume")) == 0
    whole, resumed = losses(tmp_path / "whole"), losses(tmp_path / "cut")
    assert len(whole) == len(resumed) == 8
    assert resumed == pytest.approx(whole, rel=2e-3)


def test_a_checkpoint_that_was_cut_off_is_passed_over(tmp_path):
    """The trainer writes its state last: a full disk or a kill leaves a newer folder without it."""
    for number, whole in ((3, True), (10, True), (12, False)):
        (tmp_path / f"checkpoint-{number}").mkdir()
        (tmp_path / f"checkpoint-{number}" / "model.safetensors").write_bytes(b"")
        if whole:
            (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text("{}")
    assert models.last_whole(tmp_path) == str(tmp_path / "checkpoint-10")
    assert models.last_whole(tmp_path / "none") is None


def test_two_processes_learn_what_one_does(data, tmp_path):
    """The same rows in a step, once 4 on one process and once 2 on each of two. The loss of two processes is the mean
    of their means: here all replies have one length, so that it is the mean over all tokens as well."""
    rows = [json.loads(line) for line in (data / "critic_sft.jsonl").read_text().splitlines()]
    alike = tmp_path / "data"
    shutil.copytree(data, alike)
    same = [json.dumps(row | {"completion": rows[0]["completion"]}) for row in rows]
    (alike / "critic_sft.jsonl").write_text("\n".join(same) + "\n")
    data = alike
    more = ("--steps", "4", "--learning-rate", "1e-4")
    assert main(command(data, tmp_path / "one", *more)) == 0
    two = [*command(data, tmp_path / "two", *more), "--batch", "2"]
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
    done = subprocess.run([*launch, str(script), *two], env=environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Wrote ") == 1, "one line for both"
    assert logged(tmp_path / "two", "num_tokens") == logged(tmp_path / "one", "num_tokens"), "other rows"
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-2)


class TestRows:
    """Hours of training start only on rows that can be used."""

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("{", "line 1 is not valid JSON"),
            ("[" * 100_000, "line 1 is not valid JSON"),
            ("{}", "prompt, completion and images"),
            ('{"prompt": 1, "completion": 2, "images": []}', "lists of"),
            (
                '{"prompt": [{"role": "user", "content": [{"type": "image"}]}], "completion": [], "images": []}',
                "1 image",
            ),
            ('{"prompt": [], "completion": [], "images": []}', "empty"),
            ('{"prompt": [], "completion": [], "images": [], "more": 1}', "prompt, completion and images"),
        ],
    )
    def test_a_wrong_row_is_named_by_its_line(self, tmp_path, line, told):
        (tmp_path / "rows.jsonl").write_text(line)
        with pytest.raises(TrainError, match=told):
            sft_rows(tmp_path / "rows.jsonl")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"origin_prompt": None}, "origin_prompt"),
            ({"evaluation": {"semantics": 11, "quality": 1, "success": True}}, "semantics is 11"),
            ({"evaluation": {"semantics": 1, "quality": 1, "success": "yes"}}, "success"),
            ({"evaluation": None}, "evaluation"),
        ],
    )
    def test_a_wrong_state_is_named(self, data, tmp_path, change, told):
        row = json.loads((data / "critic_rl.jsonl").read_text().splitlines()[0])
        (tmp_path / "s.jsonl").write_text(json.dumps({**row, **change}))
        with pytest.raises(TrainError, match=told):
            states(tmp_path / "s.jsonl", None)

    def test_missing_and_corrupt_pictures_are_left_out_and_counted(self, data, tmp_path):
        shutil.copytree(data, tmp_path / "d")
        (tmp_path / "d" / "images" / "0-after.png").unlink()
        whole = (tmp_path / "d" / "images" / "1-after.png").read_bytes()
        (tmp_path / "d" / "images" / "1-after.png").write_bytes(whole[: len(whole) // 2])
        for read, name in ((sft_rows, "critic_sft.jsonl"), (lambda p: states(p, None), "critic_rl.jsonl")):
            rows, dropped = read(tmp_path / "d" / name)
            assert len(rows) == 10 and dropped == {"a picture is missing": 1, "a picture cannot be read": 1}

    def test_an_empty_file_and_a_missing_one_are_errors(self, tmp_path):
        (tmp_path / "e.jsonl").write_text("\n")
        with pytest.raises(TrainError, match="it is empty"):
            sft_rows(tmp_path / "e.jsonl")
        with pytest.raises(TrainError, match="Cannot read"):
            states(tmp_path / "none.jsonl", None)

    def test_a_full_disk_is_one_line(self, data, tmp_path, monkeypatch):
        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("transformers.Trainer.save_model", full)
        with pytest.raises(TrainError, match="No space left"):
            fine_tune(options(data, tmp_path, steps=2, save_every=1), lambda line: None)


class TestGrpo:
    def options(self, data, out, **more):
        values = {"group": 4, "batch": 8, "accumulate": 1, "steps": 2, "learning_rate": 1e-4, "max_tokens": 120} | more
        base = ModelOptions(CRITIC, lora_rank=values.pop("lora_rank", 0))
        return GrpoOptions(
            base, data / "critic_rl.jsonl", out, generator=GeneratorChoice("tiny"), temperature=1.3, **values
        )

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
        folder = train_critic(self.options(data, tmp_path / "g", kl=0.01), CheckerScorer, lambda line: None)
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
        train_critic(self.options(data, tmp_path / "a"), CheckerScorer, lambda line: None)
        again = self.options(data, tmp_path / "b", reward_cache=tmp_path / "a" / "rewards")
        train_critic(again, CheckerScorer, lambda line: None)
        first, second = (json.loads((tmp_path / name / "rollouts.json").read_text()) for name in ("a", "b"))
        assert first["made"] > 0 and first["cached"] == 0
        assert (second["made"], second["cached"]) == (0, first["made"])
        assert losses(tmp_path / "a") == pytest.approx(losses(tmp_path / "b"))

    def test_a_group_needs_two_and_a_batch_whole_groups(self, data, tmp_path):
        with pytest.raises(ConfigError, match="at least 2"):
            replace(self.options(data, tmp_path), group=1)
        with pytest.raises(TrainError, match=r"must be a multiple of group \(4\)"):
            train_critic(replace(self.options(data, tmp_path), batch=3, accumulate=1, group=4), CheckerScorer)

    def test_a_group_may_lie_in_several_passes(self, data, tmp_path):
        """One response a pass, as long ones of an 8B want it; all of a group are compared all the same."""
        changed = replace(self.options(data, tmp_path / "o"), batch=1, accumulate=4, group=4, steps=1)
        train_critic(changed, CheckerScorer)
        (step,) = [entry for entry in json.loads((tmp_path / "o" / "history.json").read_text()) if "reward" in entry]
        assert step["frac_reward_zero_std"] in (0, 1), "the share of groups without a difference, of one group"

    @pytest.mark.parametrize("change", [
        {"vllm_memory": 1.5}, {"vllm_context": 4096, "max_tokens": 4096}, {"vllm_tensor_parallel": 0},
        {"vllm_server": "http://127.0.0.1:8000", "vllm": "colocate"},
    ])  # fmt: skip
    def test_values_that_vllm_cannot_use_are_refused(self, data, tmp_path, change):
        with pytest.raises(ConfigError, match="vllm-"):
            replace(self.options(data, tmp_path), **change)

    def test_the_installed_trl_takes_what_is_said_of_vllm(self, data, tmp_path):
        from trl import GRPOConfig

        for mode in ("", "colocate", "server"):
            asked = replace(self.options(data, tmp_path), vllm=mode).vllm_arguments()
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
        asked = self.options(data, tmp_path, vllm="server", vllm_server="http://127.0.0.1:1")
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
            train_critic(self.options(data, tmp_path), CheckerScorer, lambda line: None)

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
            train_critic(replace(self.options(data, tmp_path), **change), CheckerScorer)
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
        small = replace(options(data, tmp_path, steps=1, save_every=1), base=ModelOptions(CRITIC, precision="bf16"))
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
            replace(options(data, tmp_path / "s", steps=9), base=base, learning_rate=5e-3), lambda line: None
        )
        found = losses(tmp_path / "s")
        assert sum(found[-3:]) < 0.95 * sum(found[:3])
        whole = load_agent(BASE, adapter=folder, device="cpu")
        assert whole.complete([Message("user", ("want a red ball",))], Sampling(8)).text
        rl = replace(TestGrpo().options(data, tmp_path / "g", steps=1), base=base)
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
        fine_tune(replace(options(data, tmp_path / "s"), base=base), lambda line: None)
        train_critic(replace(TestGrpo().options(data, tmp_path / "g"), base=base), CheckerScorer, lambda line: None)
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


class TestRecipes:
    """Every option of the YAML files is one of the commands', and the installed libraries take its value."""

    FILES = sorted({*RECIPES.glob("sft_*.yaml"), *RECIPES.glob("grpo_*.yaml")})

    def words(self, file, data, out):
        role = (
            ["grpo", "--generator", "tiny", "--judge", "checker"] if file.stem.startswith("grpo") else ["sft", "critic"]
        )
        return [*role, "--model", str(BASE), "--data", str(data), "--out", str(out), "--config", str(file)]

    @pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
    def test_the_command_takes_it(self, data, tmp_path, capsys, file):
        assert main([*self.words(file, data, tmp_path / "o"), "--dry-run"]) == 0, capsys.readouterr().err
        assert "12 " in capsys.readouterr().out

    @pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
    def test_trl_and_peft_take_it(self, data, tmp_path, monkeypatch, file):
        from interleave_thinker.research.train import sft

        taken = []
        monkeypatch.setattr(grpo, "train_critic", lambda options, *_: taken.append(options) or tmp_path)
        monkeypatch.setattr(sft, "fine_tune", lambda options, *_: taken.append(options) or tmp_path)
        assert main(self.words(file, data, tmp_path / "o")) == 0
        (options,) = taken
        module = grpo if isinstance(options, GrpoOptions) else sft
        arguments = module.trainer_arguments(options)
        assert arguments.learning_rate == options.learning_rate and options.out in Path(arguments.output_dir).parents
        assert (models.lora(options.base) is not None) == bool(options.base.lora_rank)

    @pytest.mark.parametrize("file", sorted(RECIPES.glob("accelerate_*.yaml")), ids=lambda f: f.stem)
    def test_accelerate_takes_it(self, file):
        from accelerate.commands.config.config_args import load_config_from_file

        config = load_config_from_file(str(file))
        assert config.num_processes == 8 and config.deepspeed_config["zero_stage"] == 3


class TestPromptTexts:
    """A critic that learned one text and is asked with another begins at a loss of 3.6, without a word."""

    SLOTS = ("text_input", "original_instruction", "rewritten_prompt", "max_steps")

    @settings(deadline=None)
    @given(values=st.dictionaries(st.sampled_from(SLOTS), st.text(max_size=40)))
    def test_what_is_filled_is_known_as_its_template(self, values):
        texts = {name: load_prompt(name) for name in ("critic", "compare", "planner_text", "planner_images")}
        for name, template in texts.items():
            filled = fill(template, **{slot: values.get(slot, "x") for slot in self.SLOTS})
            assert is_filled(template, filled.rstrip())
            assert not any(is_filled(other, filled) for n, other in texts.items() if n != name and "planner" not in n)

    def test_rows_of_another_text_are_refused_before_a_model_is_loaded(self, data, tmp_path, monkeypatch):
        monkeypatch.setattr("interleave_thinker.research.train.sft.load_model", None)
        other = tmp_path / "prompts"
        other.mkdir()
        (other / "critic.md").write_text("Wanted: {original_instruction}. Drawn: {rewritten_prompt}. Is it right?")
        with pytest.raises(TrainError, match=r"Row 1 asks with another text .*--prompts FOLDER"):
            fine_tune(options(data, tmp_path / "out", prompts=other))
        assert not (tmp_path / "out").exists()

    def test_a_critic_is_not_trained_on_with_another_text(self, data, tmp_path):
        other = tmp_path / "prompts"
        other.mkdir()
        (other / "critic.md").write_text("Wanted: {original_instruction}. Drawn: {rewritten_prompt}. Is it right?")
        with pytest.raises(TrainError, match="Leave --prompts out"):
            check_own_text(CRITIC / "prompts", other)
        check_own_text(CRITIC / "prompts", CRITIC / "prompts")
        check_own_text(CRITIC / "prompts", None)
        check_own_text(tmp_path / "none", other)


def test_export_joins_shards_into_one_file(tmp_path):
    from safetensors import safe_open
    from transformers import Qwen3VLForConditionalGeneration

    model = Qwen3VLForConditionalGeneration.from_pretrained(CRITIC.parent / "base")
    model.save_pretrained(tmp_path / "m", max_shard_size="2MB")
    assert len(list((tmp_path / "m").glob("*.safetensors"))) > 2
    told = export_comfy(tmp_path / "m", tmp_path / "one.safetensors")
    assert "192 wide" in told, "stock Load CLIP does not know this size, and that is said"
    with safe_open(tmp_path / "one.safetensors", "pt") as file:
        names = set(file.keys())
    assert names == set(model.state_dict()) - {"lm_head.weight"}
    for bad, reason in ((tmp_path / "one.safetensors", "already"), (tmp_path / "x.bin", r"\.safetensors")):
        with pytest.raises(TrainError, match=reason):
            export_comfy(tmp_path / "m", bad)
    next(iter((tmp_path / "m").glob("*.safetensors"))).unlink()
    with pytest.raises(AgentError, match="lacks 1 of"):
        export_comfy(tmp_path / "m", tmp_path / "two.safetensors")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("sft critic --data {d} --model {d}/none --out {d}/o", "no model folder"),
        ("sft critic --data {d}/none --model {c} --out {d}/o", "Cannot read"),
        ("grpo --data {d} --model {c} --out {d}/o --generator tiny --judge checker --group 3", "multiple of group"),
        ("grpo --data {d} --model {c} --out {d}/o --generator tiny --judge checker --workers 0", "workers is 0"),
        ("grpo --data {d} --model {c} --out {d}/o --generator tiny --judge checker --server a --server b", "--ray"),
        ("adapters merge {c} {d} --out {d}/m", "adapter_config.json"),
    ],
)
def test_what_is_wrong_is_one_line(data, tmp_path, capsys, line, told):
    assert main(line.format(d=data, c=CRITIC).split()) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("Error: ") and told in error


@pytest.mark.parametrize("name", ["sft critic", "grpo"])
def test_a_dry_run_says_what_it_takes_and_writes_nothing(data, tmp_path, capsys, name):
    more = " --generator tiny --judge checker" if name == "grpo" else ""
    assert main(f"{name} --data {data} --model {CRITIC} --out {tmp_path}/o --dry-run{more}".split()) == 0
    out = capsys.readouterr().out
    assert "12 " in out and "steps" in out and "GB" in out and not (tmp_path / "o").exists()
