"""What a refined prompt is worth: tried once, scored, and masked where that fails, so that no failure is paid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from interleave_thinker.errors import GeneratorError
from interleave_thinker.research.train.grpo import CriticReward
from interleave_thinker.research.train.models import TrainError
from interleave_thinker.research.train.reward_cache import RewardCache, maker
from interleave_thinker.research.train.rollouts import Rollouts, Trial
from interleave_thinker.research.worker_pool import WorkerPoolError
from interleave_thinker.resolve import GeneratorChoice
from interleave_thinker.roles.scorer import Score, ScoreError


class Painter:
    """A generator that paints one colour; some calls fail, some never end."""

    name = "painter"

    def __init__(self, fails=(), slow=()):
        self.fails, self.slow, self.asked = set(fails), set(slow), []

    def generate(self, request):
        self.asked.append(request.prompt)
        if request.prompt in self.fails:
            raise GeneratorError("the server is down")
        if request.prompt in self.slow:
            time.sleep(3)
        return Image.new("RGB", request.size or (8, 8), "red")


class Eight:
    name = "eight"

    def score(self, before, after, instruction):
        if instruction == "unscorable":
            raise ScoreError("no marks")
        return Score(8, 8)


def reply(verdict, prompt):
    answer = json.dumps({"previous_step_success": verdict, "refine_prompt": prompt})
    return [{"role": "assistant", "content": f"<think>x</think><answer>{answer}</answer>"}]


class TestReward:
    @pytest.fixture
    def state(self, tmp_path):
        Image.new("RGB", (32, 24), "blue").save(tmp_path / "a.png")
        return {"id": "1", "prompt": "p", "used": "u", "before": None, "after": str(tmp_path / "a.png"),
                "semantics": 4.0, "quality": 4.0, "success": False}  # fmt: skip

    def values(self, painter, state, *replies, variant="ours", **more):
        rollouts = Rollouts(painter, Eight(), workers=4, timeout=1.0, pause=0.0)
        metrics = {}
        found = CriticReward(rollouts, variant)(
            [None] * len(replies), replies, state=[json.dumps({**state, **more})] * len(replies),
            log_metric=metrics.__setitem__,
        )  # fmt: skip
        return found, rollouts, metrics

    def test_a_response_is_paid_by_the_picture_that_its_prompt_made(self, state):
        found, _, metrics = self.values(Painter(), state, reply(False, "better"), reply(True, ""))
        assert found == [pytest.approx(0.1 + 0.5 + 0.4 * (1 + 4 / 6) / 2), pytest.approx(0.1)]
        assert metrics["critic/right"] == 0.5 and metrics["critic/tried"] == 0.5

    def test_one_failed_generation_is_masked_and_the_group_goes_on(self, state):
        painter = Painter(fails={"bad"})
        found, rollouts, metrics = self.values(painter, state, *(reply(False, p) for p in ("good", "bad", "fine")))
        assert found[1] is None and found[0] == found[2] > 0
        assert painter.asked.count("bad") == 3, "it is tried again before it is given up"
        assert (rollouts.tally.failed, metrics["critic/masked"]) == (1, pytest.approx(1 / 3))
        assert rollouts.tally.reasons == {"the server is down": 3}

    def test_a_slow_generation_is_masked(self, state):
        found, rollouts, _ = self.values(Painter(slow={"slow"}), state, reply(False, "slow"), reply(False, "good"))
        assert found[0] is None and found[1] is not None and rollouts.tally.late == 1

    def test_the_released_reward_pays_a_failed_or_late_picture_as_no_change(self, state):
        """0.5 F + 0.5 (0.2 acc + 0.6 * 0.5 + 0.2 * 0.5); the paper's is masked."""
        broken = {"fails": {"bad"}, "slow": {"slow"}}
        replies = [reply(False, p) for p in ("bad", "slow")]
        found, rollouts, metrics = self.values(Painter(**broken), state, *replies, variant="code")
        assert found == [pytest.approx(0.5 + 0.1 + 0.2)] * 2 and metrics["critic/masked"] == 0
        assert (rollouts.tally.failed, rollouts.tally.late) == (1, 1)
        assert self.values(Painter(**broken), state, *replies, variant="paper")[0] == [None, None]

    def test_with_every_server_down_all_are_masked_and_training_goes_on(self, state):
        class Down:
            def map(self, items):
                raise WorkerPoolError("all places are lost")

        rollouts = Rollouts(None, Eight(), pause=0.0, pool=Down())
        assert rollouts.score([Trial("p", "r", None, state["after"])]) == [None]
        assert rollouts.tally.failed == 1

    def test_a_generator_that_never_works_ends_the_training_with_its_reason(self, state):
        """Masking each of them would train on nothing and say nothing."""
        rollouts = Rollouts(Painter(fails={"bad"}), Eight(), pause=0.0)
        for step in range(40):
            good = step == 10
            trial = Trial("p", "good" if good else "bad", None, state["after"])
            if step < 30:
                assert (rollouts.score([trial])[0] is not None) is good
            else:
                with pytest.raises(TrainError, match="the server is down"):
                    rollouts.score([trial])
                break

    def test_a_judge_that_cannot_say_is_masked(self, state):
        found, rollouts, _ = self.values(Painter(), state, reply(False, "x"), prompt="unscorable")
        assert found == [None] and rollouts.tally.unscored == 1

    def test_the_same_prompt_is_tried_once(self, state):
        painter = Painter()
        found, _, _ = self.values(painter, state, *[reply(False, "same")] * 4)
        assert painter.asked == ["same"] and len(set(found)) == 1

    def test_nothing_is_generated_for_an_acceptance(self, state):
        painter = Painter()
        self.values(painter, state, reply(True, "x"), reply(True, "y"), success=True)
        assert painter.asked == []

    def test_a_picture_from_text_has_the_size_of_the_attempt(self, state):
        trial = Trial("p", "r", None, state["after"])
        assert trial.request(5).size == (32, 24) and trial.request(5).seed == 5 and not trial.request(5).references


def test_the_tiny_generator_may_be_asked_from_many_threads():
    """Its scheduler counts steps; two calls at a time once counted together. In a batch the pictures are the same."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from interleave_thinker.generators.base import GenerationRequest

    generator = GeneratorChoice("tiny").load()
    asked = [GenerationRequest(f"a big {c} circle in the center on a white background", seed=n, size=(64, 64))
             for n, c in enumerate(("red", "blue", "green"))]  # fmt: skip
    alone = [generator.generate(r) for r in asked]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(generator.generate, asked))
    assert [a.tobytes() for a in alone] == [t.tobytes() for t in together]
    for one, other in zip(
        alone, generator.generate_all([*asked, replace(asked[0], prompt="word " * 200)]), strict=False
    ):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).mean() < 1
    sizes = [p.size for p in generator.generate_all([replace(asked[0], size=(96, 80)), *asked])]
    assert sizes == [(96, 80)] + [(64, 64)] * 3


class TestRewardCache:
    """A picture that was drawn and judged is never paid for again: by another process, nor after a kill."""

    @pytest.fixture
    def trial(self, tmp_path):
        Image.new("RGB", (32, 24), "blue").save(tmp_path / "after.png")
        Image.new("RGB", (32, 24), "green").save(tmp_path / "before.png")
        return Trial("p", "r", str(tmp_path / "before.png"), str(tmp_path / "after.png"))

    def rollouts(self, tmp_path, **more):
        made_by, seed = more.pop("made_by", "painter, eight"), more.pop("seed", 0)
        cache = RewardCache(tmp_path / "rewards", made_by, seed)
        return Rollouts(Painter(), Eight(), seed, pause=0.0, cache=cache, **more)

    def test_a_second_training_asks_for_nothing_that_is_there(self, tmp_path, trial):
        first, second = self.rollouts(tmp_path), self.rollouts(tmp_path)
        assert first.score([trial]) == second.score([trial]) == [Score(8, 8)]
        assert second.generator.asked == [] and (second.tally.cached, second.tally.made) == (1, 0)

    def test_what_the_picture_depends_on_is_in_its_key(self, tmp_path, trial):
        self.rollouts(tmp_path).score([trial])
        Image.new("RGB", (32, 24), "red").save(tmp_path / "other.png")
        Image.new("RGB", (64, 24), "red").save(tmp_path / "wide.png")
        others = [
            (replace(trial, prompt="another"), {}), (replace(trial, instruction="another"), {}),
            (replace(trial, before=str(tmp_path / "other.png")), {}), (replace(trial, before=None), {}),
            (replace(trial, after=str(tmp_path / "wide.png")), {}), (trial, {"seed": 1}), (trial, {"made_by": "x"}),
        ]  # fmt: skip
        for other, change in others:
            again = self.rollouts(tmp_path, **change)
            again.score([other])
            assert again.tally.cached == 0, (other, change)

    def test_the_same_state_elsewhere_on_disk_is_the_same(self, tmp_path, trial):
        """Exported again, or on another machine: the pictures count, not where they lie."""
        self.rollouts(tmp_path).score([trial])
        (tmp_path / "moved").mkdir()
        for name in ("before", "after"):
            (tmp_path / f"{name}.png").rename(tmp_path / "moved" / f"{name}.png")
        moved = Trial("p", "r", *(str(tmp_path / "moved" / f"{name}.png") for name in ("before", "after")))
        again = self.rollouts(tmp_path)
        assert again.score([moved]) == [Score(8, 8)] and again.tally.cached == 1

    @pytest.mark.parametrize("broken", [b"", b"{", b"[]", b'{"semantics": 99, "quality": 1}', b'{"semantics": "NaN"}'])
    def test_a_broken_file_counts_as_none(self, tmp_path, trial, broken):
        self.rollouts(tmp_path).score([trial])
        (file,) = (tmp_path / "rewards").rglob("*.json")
        file.write_bytes(broken)
        again = self.rollouts(tmp_path)
        assert again.score([trial]) == [Score(8, 8)] and again.tally.made == 1

    def test_a_full_disk_costs_the_cache_and_not_the_training(self, tmp_path, trial):
        (tmp_path / "rewards").write_text("a file where the folder belongs")
        rollouts = self.rollouts(tmp_path)
        assert rollouts.score([trial]) == [Score(8, 8)]
        assert any("rewards" in reason for reason in rollouts.tally.reasons), "rollouts.json says why it is empty"

    def test_another_workflow_is_another_maker(self, tmp_path):
        file = tmp_path / "w.json"
        file.write_text("{}")
        first = maker(GeneratorChoice("comfyui", file), "judge")
        assert maker(GeneratorChoice("comfyui", file, server="http://other:8188"), "judge") == first
        file.write_text("[]")
        os.utime(file, (1, 1))
        others = [
            maker(GeneratorChoice("comfyui", file), "judge"),
            maker(GeneratorChoice("tiny"), "judge"),
            maker(GeneratorChoice("comfyui", file), "other"),
        ]
        assert len({first, *others}) == 4
        pipeline = tmp_path / "pipeline"
        pipeline.mkdir()
        (pipeline / "model_index.json").write_text("{}")
        before = maker(GeneratorChoice(str(pipeline)), "judge")
        (pipeline / "model_index.json").write_text("[]!")
        assert maker(GeneratorChoice(str(pipeline)), "judge") != before

    def test_what_fails_is_not_kept(self, tmp_path, trial):
        rollouts = self.rollouts(tmp_path)
        rollouts.generator.fails.add("r")
        assert rollouts.score([trial]) == [None] and not (tmp_path / "rewards").exists()


TWO = """
import json, os, sys
from accelerate import PartialState
from PIL import Image
from interleave_thinker.research.train.models import TrainError
from interleave_thinker.research.train.rollouts import Rollouts, SharedRollouts, Trial
from interleave_thinker.roles.scorer import Score

out, state = sys.argv[1], PartialState(cpu=True)

class Painter:
    name = "painter"
    def generate(self, request):
        with open(f"{out}/asked-{state.process_index}", "a") as file:
            file.write(request.prompt + "\\n")
        if request.prompt == "bad":
            raise ValueError("it never works")
        return Image.new("RGB", (8, 8), "red")

class Length:
    name = "length"
    def score(self, before, after, instruction):
        return Score(len(instruction), 9)

first = state.process_index == 0
shared = SharedRollouts(Rollouts(Painter(), Length(), pause=0.0) if first else None)
own = [Trial("i" * n, f"{n}", None, f"{out}/a.png") for n in ([1, 2, 5] if first else [2, 3, 3, 4])]
scores = [s.semantics for s in shared.score(own)]
nothing = shared.score([]) if first else [s.semantics for s in shared.score(own[:1])]
problem = ""
try:
    for _ in range(40):
        shared.score([Trial("x", "bad", None, f"{out}/a.png")])
except TrainError as error:
    problem = str(error)
with open(f"{out}/result-{state.process_index}.json", "w") as file:
    json.dump([scores, nothing, problem], file)
state.wait_for_everyone()
state.destroy_process_group()
"""


def test_one_set_of_generators_serves_all_processes(tmp_path):
    """Two processes: the first makes all calls, each prompt once; each gets its own scores, and the error, back."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "run.py").write_text(TWO)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    line = [*launch, str(tmp_path / "run.py"), str(tmp_path)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"result-{n}.json").read_text()) for n in (0, 1))
    assert first[:2] == [[1, 2, 5], []] and second[:2] == [[2, 3, 3, 4], [2]]
    assert "it never works" in first[2] and first[2] == second[2]
    asked = (tmp_path / "asked-0").read_text().split()
    assert sorted(p for p in asked if p != "bad") == ["1", "2", "3", "4", "5"] and not (tmp_path / "asked-1").exists()
