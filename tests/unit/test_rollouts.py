"""What a refined prompt is worth: tried once, scored, and masked where that fails, so that no failure is paid."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from PIL import Image

from interleave_thinker.errors import GeneratorError
from interleave_thinker.research.train.grpo import CriticReward
from interleave_thinker.research.train.models import TrainError
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
