"""SFT and adapters on the real tiny critic: what is learned, what is masked, and what a kill costs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from training_rows import BASE, CRITIC, logged, losses, sft_options, write_rows

from interleave_thinker.agents.adapter_file import NOT_LINEAR, WORDS, hf_name, read_adapter, write_adapter
from interleave_thinker.agents.adapter_folder import load_weights
from interleave_thinker.agents.base import Message, Sampling
from interleave_thinker.agents.transformers_agent import load_agent
from interleave_thinker.cli import main
from interleave_thinker.errors import AgentError, ConfigError
from interleave_thinker.research.train import models
from interleave_thinker.research.train.adapters import export_comfy, merge
from interleave_thinker.research.train.grpo import check_own_text
from interleave_thinker.research.train.models import ModelOptions, TrainError
from interleave_thinker.research.train.rows import sft_rows, states
from interleave_thinker.research.train.sft import fine_tune
from interleave_thinker.roles.prompt_files import fill, is_filled, load_prompt


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"))


class TestSft:
    @pytest.fixture(scope="class")
    def trained(self, data, tmp_path_factory):
        out = tmp_path_factory.mktemp("full")
        fine_tune(sft_options(data, out, steps=8, save_every=4), lambda line: None)
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
            fine_tune(sft_options(data, trained, steps=8), lambda line: None)

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
        fine_tune(sft_options(data, tmp_path / "l", steps=6, lora_rank=8), lambda line: None)
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
        begun = replace(sft_options(data, tmp_path / "l", steps=1, lora_rank=64), learning_rate=0.0)
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

        fine_tune(sft_options(data, tmp_path / "l", steps=1, lora_rank=4), lambda line: None)
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
            more = replace(sft_options(data, tmp_path / name, steps=4, lora_rank=4, seed=seed), learning_rate=6e-2)
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
                replace(sft_options(data, tmp_path / name, steps=5, lora_rank=4, seed=seed), learning_rate=6e-2),
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
            fine_tune(sft_options(data, tmp_path, steps=2, save_every=1), lambda line: None)


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
            fine_tune(sft_options(data, tmp_path / "out", prompts=other))
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
