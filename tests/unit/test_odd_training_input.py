"""Numbers, rows, runs and checkpoints that a training should not believe: one line each, and nothing lost."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training_rows import BASE, CRITIC, grpo_options, sft_options, write_rows

from interleave_thinker.agents.transformers_agent import special_marks, without_marks
from interleave_thinker.cli import main
from interleave_thinker.errors import ConfigError
from interleave_thinker.loop.plan import Plan, PlanStep
from interleave_thinker.research.data.export import ExportOptions, critic_conversation
from interleave_thinker.research.data.filters import FilterOptions, filtered, filtered_by_label
from interleave_thinker.research.data.from_runs import from_runs, runs_below
from interleave_thinker.research.data.records import CriticRecord, invalid, read_records, write_records
from interleave_thinker.research.train import models
from interleave_thinker.research.train.grpo import train_critic
from interleave_thinker.research.train.models import ModelOptions, TrainError
from interleave_thinker.research.train.rewards import is_formatted, read_as_released
from interleave_thinker.research.train.rows import plain_rows, sft_rows, states
from interleave_thinker.research.train.sft import fine_tune
from interleave_thinker.tinyworld.oracle import CheckerScorer

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"))


def record(number: int = 1, **more: Any) -> CriticRecord:
    values = {"reasoning": "because", "refined": "" if more.get("success", True) else "better"}
    base = CriticRecord(f"r/{number}.1", f"r/{number}", "q", number, 1, "i", "p", "u", None, "a.png", True, "critic")
    return dataclasses.replace(base, **{**values, **more})


class TestNumbers:
    SFT = {
        "epochs": (0, -1, NAN, INF), "steps": (-5,), "batch": (0, -1), "accumulate": (0,), "learning_rate": (-1, NAN, INF),
        "weight_decay": (-1, NAN), "save_every": (0,), "log_every": (0,), "seed": (-1, 2**40), "warmup": (-1, NAN),
        "max_length": (0, 10),
    }  # fmt: skip
    GRPO = {
        "kl": (-1, NAN), "clip_high": (NAN,), "temperature": (0, -1, NAN, INF), "max_tokens": (0,), "timeout": (0, NAN),
        "batch": (0,),
    }  # fmt: skip
    MODEL = {"max_pixels": (0, -4), "lora_alpha": (-7,), "lora_dropout": (1, 7, NAN), "lora_rank": (-1, 5000)}

    @pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in SFT.items() for v in values])
    def test_of_fine_tuning(self, tmp_path, name, value):
        with pytest.raises(ConfigError, match=rf"^{name.replace('_', '.')} is "):
            dataclasses.replace(sft_options(tmp_path, tmp_path), **{name: value})

    @pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in GRPO.items() for v in values])
    def test_of_reinforcement(self, tmp_path, name, value):
        with pytest.raises(ConfigError, match=rf"^{name.replace('_', '.')} is "):
            grpo_options(tmp_path, tmp_path, **({"batch": 8} | {name: value})) if name != "temperature" else (
                dataclasses.replace(grpo_options(tmp_path, tmp_path), temperature=value)
            )

    @pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in MODEL.items() for v in values])
    def test_of_a_model(self, name, value):
        with pytest.raises(ConfigError, match=rf"^{name.replace('_', '.')} is "):
            ModelOptions(CRITIC, **{"lora_rank": 4, name: value})

    @pytest.mark.parametrize("words", [["--schedule", "foo"], ["--report-to", "nowhere"]])
    def test_names_that_the_trainer_does_not_know(self, data, tmp_path, words, capsys):
        line = [
            "sft",
            "critic",
            "--model",
            str(BASE),
            "--data",
            str(data),
            "--out",
            str(tmp_path / "o"),
            "--steps",
            "1",
        ]
        assert main([*line, *words]) == 1
        assert f"{words[1]!r}" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "words", ["--gpu-gb nan", "--gpu-gb inf", "--beside-gb -100", "--beside-gb nan", "--picture-seconds nan",
                  "--judge-price nan", "--max-tokens -5", "--group 7", "--batch 1 --accumulate 1"],
    )  # fmt: skip
    def test_a_dry_run_takes_no_number_that_a_training_refuses(self, data, tmp_path, words, capsys):
        line = (
            f"grpo --model {BASE} --data {data} --out {tmp_path}/o --generator tiny --judge checker --dry-run {words}"
        )
        assert main(line.split()) == 1
        assert capsys.readouterr().err.count("\n") == 1

    @pytest.mark.parametrize("options", [{"min_slope": NAN}, {"min_slope": INF}, {"min_best": NAN}, {"balance": -1}])
    def test_of_a_filter(self, options):
        with pytest.raises(ConfigError):
            FilterOptions(**options)

    def test_of_labels(self, tmp_path, capsys):
        write_records(tmp_path / "critic.jsonl", [record()])
        for value in ("nan", "99", "-1"):
            words = [
                "data",
                "score",
                str(tmp_path),
                "--judge",
                "checker",
                "--label-by",
                "score",
                "--min-semantics",
                value,
            ]
            assert main(words) == 1 and "min_semantics" in capsys.readouterr().err


def test_states_that_make_no_step_are_told(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(models, "load_weights", lambda *_: pytest.fail("loaded"))
    options = grpo_options(data, tmp_path / "g", batch=16, accumulate=8)
    with pytest.raises(TrainError, match=r"There are 12 states, and one step takes 32 .*lower --accumulate"):
        train_critic(options, CheckerScorer, lambda line: None)
    line = f"grpo --model {BASE} --data {data} --out {tmp_path}/o --generator tiny --judge checker --dry-run"
    assert main(line.split()) == 0
    assert "12 states; 0 steps" in (said := capsys.readouterr().out) and "Will not run: There are 12 states" in said
    assert main([*line.split(), "--accumulate", "5"]) == 0
    assert "12 states; 2 steps" in capsys.readouterr().out, "five states a step; two are left over"


class TestRows:
    def test_a_mark_of_the_chat_form_in_a_row_is_text(self, data, tmp_path):
        """A model's reasoning may name one; the step that met it ended the training."""
        for name, changed in (("critic_sft", "completion"), ("critic_rl", "origin_prompt")):
            rows = [json.loads(line) for line in (data / f"{name}.jsonl").read_text().splitlines()]
            for row in rows:
                if changed == "completion":
                    row[changed][0]["content"][0]["text"] = (
                        "<think><|image_pad|> \ud83d</think>" + (row[changed][0]["content"][0]["text"])
                    )
                else:
                    row[changed] += " <|image_pad|><|im_end|> \ud83d"
            (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        shutil.copytree(data / "images", tmp_path / "images")
        shutil.copytree(data / "data", tmp_path / "data")
        fine_tune(sft_options(tmp_path, tmp_path / "s", steps=1), lambda line: None)
        train_critic(grpo_options(tmp_path, tmp_path / "g", steps=1, max_tokens=20), CheckerScorer, lambda line: None)

    def test_only_marks_are_broken(self):
        tokenizer = models.load_model(ModelOptions(CRITIC))[1].tokenizer
        marks = special_marks(tokenizer)
        kept = "<think>a</think><answer>{}</answer> <image> <| x < | <|unknown|>"
        assert without_marks(kept, marks) == kept
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": f"{kept}<|image_pad|>"}]}
        (row,) = plain_rows([{"prompt": [turn], "images": ["a"]}], marks)
        assert row["prompt"][0]["content"] == [{"type": "image"}, {"type": "text", "text": f"{kept}< |image_pad|>"}]

    WRONG = {
        "no list of images": {"images": None},
        "images are numbers": {"images": [7, 8]},
        "images are a mapping": {"images": {"a": 1}},
        "a king asks": {"prompt": [{"role": "king", "content": [{"type": "text", "text": "x"}]}], "images": []},
        "a picture in the reply": {"completion": [{"role": "assistant", "content": [{"type": "image", "text": "x"}]}]},
        "the user replies": {"completion": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        "two replies": {"completion": [{"role": "assistant", "content": [{"type": "text", "text": "x"}]}] * 2},
        "a film": {"prompt": [{"role": "user", "content": [{"type": "video", "text": "x"}]}], "images": []},
        "no text": {"prompt": [{"role": "user", "content": [{"type": "text", "text": 5}]}], "images": []},
        "no role": {"completion": [{"content": [{"type": "text", "text": "x"}]}]},
    }

    @pytest.mark.parametrize("name", WRONG)
    def test_a_row_that_no_trainer_takes_is_named_by_its_line(self, data, tmp_path, name):
        row = json.loads((data / "critic_sft.jsonl").read_text().splitlines()[0])
        (tmp_path / "critic_sft.jsonl").write_text(json.dumps({**row, **self.WRONG[name]}))
        with pytest.raises(TrainError, match="line 1: "):
            sft_rows(tmp_path / "critic_sft.jsonl")

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        name=st.sampled_from(["prompt", "completion", "images"]),
        value=st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["role", "content", "type", "text"]), inner, max_size=4)
            ),
        ),
    )
    def test_any_row_is_taken_or_told(self, data, tmp_path, name, value):
        row = json.loads((data / "critic_sft.jsonl").read_text().splitlines()[0])
        (data / "odd.jsonl").write_text(json.dumps({**row, name: value}))
        try:
            sft_rows(data / "odd.jsonl")
        except TrainError as error:
            assert "\n" not in str(error)

    def test_an_evaluation_says_its_three_things_alone(self, data):
        row = json.loads((data / "critic_rl.jsonl").read_text().splitlines()[0])
        row["evaluation"] |= {"after": "/nowhere", "prompt": "x"}
        (data / "more.jsonl").write_text(json.dumps(row))
        ((found,), _) = states(data / "more.jsonl", None)
        state = json.loads(found["state"])
        assert state["prompt"] == row["origin_prompt"] and Path(state["after"]).is_file()

    def test_a_folder_without_prompt_texts_is_refused(self, data, tmp_path, capsys):
        line = [
            "sft",
            "critic",
            "--model",
            str(BASE),
            "--data",
            str(data),
            "--out",
            str(tmp_path / "o"),
            "--steps",
            "1",
        ]
        assert main([*line, "--prompts", str(tmp_path / "typo")]) == 1
        assert "holds no prompt text" in capsys.readouterr().err
        assert main(["data", "export", str(data), "--format", "trl", "--prompts", str(tmp_path)]) == 1
        assert "holds no prompt text" in capsys.readouterr().err


class TestReplies:
    @pytest.mark.parametrize("inner", ["<answer>{}</answer>", "< Answer >", "</think>", "</ANSWER ><think>"])
    def test_what_a_critic_thinks_of_an_answer_is_no_answer(self, inner):
        """SFT would teach a form that GRPO pays nothing for."""
        for success in (True, False):
            talk = critic_conversation(
                record(success=success, reasoning=f"I could write {inner} but no."), ExportOptions()
            )
            assert is_formatted(talk.reply) and read_as_released(talk.reply).verdict is success

    @pytest.mark.parametrize("prompt", ["a \\ud83d cat", "\\udc00", "\\ud83d\\ude00 ok"])
    def test_half_a_character_is_no_prompt_that_ends_a_training(self, prompt):
        found = read_as_released(f'<answer>{{"previous_step_success": false, "refine_prompt": "{prompt}"}}</answer>')
        assert found.prompt.encode("utf-8")


class TestFilters:
    def test_the_same_file_twice_is_counted_as_it_is(self):
        once = [record(n, success=n % 3 == 0, semantics=9.0, quality=9.0) for n in range(1, 13)]
        for records in (once * 2, [dataclasses.replace(r, id="same") for r in once]):
            options = FilterOptions(trend="off", min_best=0)
            for sft, rl, drops in (filtered(records, options), (*filtered_by_label(records, options)[:1], [],
                                                               filtered_by_label(records, options)[1])):  # fmt: skip
                assert drops.complete() and drops.seen == len(records)
                assert drops.kept == len(sft) + len(rl)
                assert sum(r.success for r in sft) == sum(not r.success for r in sft)

    def scored(self, folder: Path, records: list[CriticRecord]) -> None:
        write_records(folder / "critic.jsonl", records)
        write_records(folder / "scored.jsonl", [dataclasses.replace(r, semantics=9.0, quality=9.0) for r in records])
        (folder / "scored.drops.json").write_text(json.dumps({"attempts": {"seen": len(records)}}))

    def test_scores_of_before_do_not_hide_what_came_since(self, tmp_path, capsys):
        records = [record(n, success=n % 2 == 0) for n in range(1, 9)]
        line = ["data", "filter", str(tmp_path), "--resume"]
        for changed, said in (
            (
                [dataclasses.replace(records[0], success=True, labelled_by="user"), *records[1:]],
                "1 were judged by a person",
            ),
            ([*records, record(9)], "it has 9, and 8 were scored"),
            (records[1:], "1 are not in it any more"),
        ):
            self.scored(tmp_path, records)
            assert main(line) == 0
            capsys.readouterr()
            write_records(tmp_path / "critic.jsonl", changed)
            assert main(line) == 1
            error = capsys.readouterr().err
            assert said in error and "data score" in error and "--resume" in error

    def test_nothing_left_is_an_error_and_no_circle(self, tmp_path, capsys):
        failures = [record(n, success=False, refined="") for n in range(1, 4)]
        write_records(tmp_path / "critic.jsonl", failures)
        assert main(["data", "filter", str(tmp_path)]) == 1
        assert "all are failures without a refined prompt" in capsys.readouterr().err
        self.scored(tmp_path, failures)
        assert main(["data", "filter", str(tmp_path)]) == 1
        assert "3 a failure without a refined prompt" in capsys.readouterr().err
        write_records(tmp_path / "sft.jsonl", [])
        for form, said in (("trl", "no attempt was left"), ("rl", "`data filter"), ("compare", "")):
            code = main(["data", "export", str(tmp_path), "--format", form])
            assert (code == 1) == bool(said) and said in capsys.readouterr().err
        write_records(tmp_path / "rl.jsonl", [])
        assert main(["data", "export", str(tmp_path), "--format", "rl"]) == 1
        assert "`data score" in capsys.readouterr().err


class TestFiles:
    @pytest.mark.parametrize("line", ["[" * 100_000, '{"plan": ' * 50_000, "\x00", '{"id": 1e400}'])
    def test_a_line_that_is_no_record_is_named(self, tmp_path, line, capsys):
        (tmp_path / "critic.jsonl").write_text(line)
        for command in (["filter"], ["score", "--judge", "checker"]):
            assert main(["data", command[0], str(tmp_path), *command[1:]]) == 1
            assert "line 1" in capsys.readouterr().err

    @pytest.mark.parametrize("plan", [{}, {"execution_plan": 5}, {"execution_plan": ["a"]}, {"execution_plan": [{}]}])
    def test_a_plan_that_is_none_is_named(self, tmp_path, plan, capsys):
        (tmp_path / "planner.jsonl").write_text(json.dumps({"id": "a", "request": "r", "images": [], "plan": plan}))
        assert main(["data", "planner", str(tmp_path)]) == 1
        assert "line 1: its plan" in capsys.readouterr().err

    @pytest.mark.parametrize("step", [{"step_number": 1}, {"step_number": 1, "prompt": "x"}])
    def test_a_plan_may_lack_what_it_does_not_say(self, tmp_path, step):
        plan = {"id": "r", "request": "q", "images": [], "plan": {"execution_plan": [step]}}
        lines = [{**plan, "pictures": [""]}, {**plan, "id": "s", "pictures": []}, {**plan, "id": "t"}]
        (tmp_path / "planner.jsonl").write_text("\n".join(map(json.dumps, lines)))
        write_records(tmp_path / "critic.jsonl", [record()])
        assert main(["data", "export", str(tmp_path), "--format", "easy", "--format", "hard"]) == 0
        assert main(["data", "planner", str(tmp_path), "--cuts", "-1"]) == 1

    @pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000])
    def test_a_broken_list_of_datasets_is_named(self, tmp_path, text, capsys):
        write_records(tmp_path / "sft.jsonl", [record()])
        (tmp_path / "dataset_info.json").write_text(text)
        assert main(["data", "export", str(tmp_path), "--format", "sharegpt"]) == 1
        assert "dataset_info.json" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["a\0.png", "x" * 300 + ".png", "../a.png"])
    def test_a_name_that_no_picture_has_costs_its_attempt_alone(self, tmp_path, name):
        write_records(tmp_path / "critic.jsonl", [record(after=name)])
        write_records(tmp_path / "sft.jsonl", [record(after=name)])
        assert main(["data", "score", str(tmp_path), "--judge", "checker"]) == 1
        assert main(["data", "export", str(tmp_path), "--format", "trl"]) == 0


class TestRuns:
    @pytest.fixture
    def run(self, studio: Any) -> Path:
        plan = Plan((PlanStep(1, prompt="one"), PlanStep(2, prompt="two")), request="Show it.")
        studio.run(plan, [studio.yes()], name="first", user_images=studio.keep("red"))
        return studio.runs / "first"

    def unsealed(self, run: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """As older versions wrote it: without digests."""
        state = json.loads((run / "run.json").read_text())
        lines = [json.loads(line) for line in (run / "trajectory.jsonl").read_text().splitlines()]
        for entry in (state, *lines):
            entry.pop("digest", None)
        return state, lines

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(draw=st.data())
    def test_a_damaged_value_costs_its_attempt_or_plan_alone(self, studio, run, tmp_path_factory, draw):
        sound = json.loads((run / "run.json").read_text()), (run / "trajectory.jsonl").read_bytes()
        state, lines = self.unsealed(run)
        value = draw.draw(st.sampled_from([None, "no", 5, 1.5, -3, [], {}, ["a"], {"a": 1}, True]))
        place = draw.draw(st.sampled_from(["attempt", "judgment", "result", "attempts", "results", "trajectory"]))
        trajectory = state["trajectory"]
        target: Any = {
            "attempt": lines[0], "judgment": lines[0]["judgment"], "result": trajectory["results"][0],
            "attempts": trajectory, "results": trajectory, "trajectory": state,
        }[place]  # fmt: skip
        name = place if place in target else draw.draw(st.sampled_from(sorted(target)))
        target[name] = value
        (run / "run.json").write_text(json.dumps(state))
        (run / "trajectory.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
        out = tmp_path_factory.mktemp("out")
        found, plans, drops = from_runs(runs_below(studio.runs), out, studio.store)
        assert all(d.complete() for d in drops.values())
        for made in (*found, *plans):
            assert not invalid(type(made), json.loads(json.dumps(dataclasses.asdict(made))))
        write_records(out / "critic.jsonl", found)
        assert len(list(read_records(out / "critic.jsonl", CriticRecord))) == len(found)
        (run / "run.json").write_text(json.dumps(sound[0]))
        (run / "trajectory.jsonl").write_bytes(sound[1])

    def test_a_line_that_was_cut_off_is_taken_from_the_runs_own_record(self, studio, run, tmp_path):
        whole, _, _ = from_runs(runs_below(studio.runs), tmp_path / "a", studio.store)
        data = (run / "trajectory.jsonl").read_bytes()
        (run / "trajectory.jsonl").write_bytes(data[: len(data) - 40])
        found, _, drops = from_runs(runs_below(studio.runs), tmp_path / "b", studio.store)
        assert [r.id for r in found] == [r.id for r in whole] and drops["attempts"].seen == len(whole)


class TestResume:
    def command(self, data: Path, out: Path, *more: str) -> int:
        line = ["sft", "critic", "--model", str(BASE), "--data", str(data), "--out", str(out), "--batch", "2"]
        return main([*line, "--save-every", "1", *more])

    def test_a_training_goes_on_as_it_was_begun(self, data, tmp_path, capsys):
        assert self.command(data, tmp_path / "o", "--steps", "1") == 0
        for more, said in ((["--batch", "4"], "--batch is 4"), (["--lora-rank", "4"], "--lora-rank is 4")):
            assert self.command(data, tmp_path / "o", "--steps", "2", "--resume", *more) == 1
            assert said in capsys.readouterr().err
        assert self.command(data, tmp_path / "o", "--steps", "2", "--resume") == 0
        assert len(list((tmp_path / "o" / "checkpoints").glob("checkpoint-*"))) == 2
        newest = tmp_path / "o" / "checkpoints" / "checkpoint-2"
        (newest / "model.safetensors").write_bytes(b"\x00" * 50)
        assert self.command(data, tmp_path / "o", "--steps", "3", "--resume") == 1
        assert re.search(r"checkpoint-2 is damaged .*Delete that folder", capsys.readouterr().err)

    def test_a_state_that_cannot_be_read_is_no_checkpoint(self, tmp_path):
        for number, text in ((1, "{}"), (2, "["), (3, "")):
            (tmp_path / f"checkpoint-{number}").mkdir()
            (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text(text)
        assert models.last_whole(tmp_path) == str(tmp_path / "checkpoint-1")
