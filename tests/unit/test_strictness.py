"""Strictness shifts the critic's verdict, is kept with it, and is part of what a judgment is recalled by."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from interleave_thinker.agents.base import Completion, Message, OnText, Sampling
from interleave_thinker.agents.scripted import ScriptedAgent
from interleave_thinker.agents.transformers_agent import load_agent
from interleave_thinker.driver import LoopModels, drive, start_run
from interleave_thinker.errors import AgentError, ConfigError
from interleave_thinker.loop.plan import Plan, PlanStep
from interleave_thinker.loop.state import LoopSettings
from interleave_thinker.loop.trajectory import MOST_LOG_ODDS, Attempt, Judgment, Trajectory, Verdicts
from interleave_thinker.research.data.from_runs import from_runs, runs_below
from interleave_thinker.roles.critic import NOT_SHIFTED, OnUnreadable, judge
from interleave_thinker.session import Session
from interleave_thinker.storage.run_folder import RunFolder
from interleave_thinker.tinyworld.convert import WEIGHTS
from interleave_thinker.tinyworld.scene import Scene, render

BEFORE, AFTER = Image.new("RGB", (6, 4), "red"), Image.new("RGB", (6, 4), "blue")
OF_BEFORE = {"accepted", "refined_prompt", "reasoning", "parsed", "raw", "note"}
NUMBERS = st.floats(-20, 20)


def said(accepted: bool) -> str:
    answer = json.dumps({"previous_step_success": accepted, "refine_prompt": "a red cat"})
    return f"<think>hm</think><answer>{answer}</answer>"


@dataclass
class CriticWithOdds(ScriptedAgent):
    """Its verdict is what its log-odds and the strictness make of it, as a greedy model's."""

    odds: float | None = 0.0
    shifts_verdicts: bool = True

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        if not self.replies:
            assert self.odds is not None
            scripted = ScriptedAgent([said(self.odds > sampling.strictness)])
            self.calls.append(messages)
            return replace(scripted.complete(messages, sampling, on_text), log_odds=self.odds)
        return replace(super().complete(messages, sampling, on_text), log_odds=self.odds)


def judged(agent: ScriptedAgent, strictness: float = 0.0, on_unreadable: OnUnreadable = "retry") -> Judgment:
    return judge(agent, BEFORE, AFTER, "a cat", "one cat", strictness=strictness, on_unreadable=on_unreadable)


# --- the judgment -------------------------------------------------------------------------------------------


@given(NUMBERS, NUMBERS)
def test_a_judgment_keeps_what_it_was_shifted_by_and_what_the_critic_itself_thought(odds: float, shift: float) -> None:
    judgment = judged(CriticWithOdds([], odds=odds), shift)
    assert (judgment.accepted, judgment.log_odds, judgment.strictness) == (odds > shift, odds, shift)
    assert judgment.turned == (judgment.accepted != (odds > 0)) and judgment.note == ""
    assert judgment.refined_prompt == ("one cat" if judgment.accepted else "a red cat")
    assert Judgment.from_dict(json.loads(json.dumps(judgment.to_dict(), allow_nan=False))) == judgment


def test_without_strictness_the_judgment_is_written_as_versions_before_wrote_it() -> None:
    judgment = judged(ScriptedAgent([said(False)]))
    assert set(judgment.to_dict()) == OF_BEFORE
    assert set(Attempt(1, 1, "p", 0, None, "k", judgment).to_dict()["judgment"]) == OF_BEFORE


@pytest.mark.parametrize("odds", [math.inf, -math.inf, 1e30])
def test_log_odds_without_bound_can_be_written_as_json(odds: float) -> None:
    """A browser reads no Infinity, and would pass over the whole attempt."""
    judgment = judged(CriticWithOdds([], odds=odds), 1.0)
    assert judgment.log_odds == math.copysign(MOST_LOG_ODDS, odds)
    json.dumps(judgment.to_dict(), allow_nan=False)


@given(st.one_of(st.floats(), st.integers(), st.text(), st.booleans(), st.none(), st.lists(st.floats())))
def test_a_record_whose_numbers_are_none_is_read_without_them(value: Any) -> None:
    read = Judgment.from_dict({"accepted": True, "strictness": value, "log_odds": value})
    json.dumps(read.to_dict(), allow_nan=False)
    if isinstance(value, (str, bool, list)) or value is None:
        assert read == Judgment(True)


@pytest.mark.parametrize("strictness", [math.nan, math.inf, 20.5, -21, "2", None])
def test_what_is_no_strictness_is_refused_by_its_value_before_anybody_is_asked(strictness: Any) -> None:
    agent = CriticWithOdds([])
    with pytest.raises(ConfigError, match=f"strictness is .{{0,1}}{strictness}.*from -20 to 20"):
        judged(agent, strictness)
    assert agent.calls == []


def test_an_agent_without_token_probabilities_is_refused_unless_strictness_is_0() -> None:
    agent = ScriptedAgent([said(True)], name="a server")
    with pytest.raises(AgentError, match=r"strictness is 2.5, but a server gives no token prob.*Set strictness to 0"):
        judged(agent, 2.5)
    assert agent.calls == []
    assert judged(agent, 0).accepted and judged(agent, -0.0).accepted


def test_a_prompt_text_with_a_form_of_its_own_is_refused_unless_strictness_is_0(tmp_path: Path) -> None:
    (tmp_path / "critic.md").write_text('{original_instruction} {rewritten_prompt}: {"verdict": true or false}')
    agent, texts = CriticWithOdds([said(True)]), [str(tmp_path)]
    with pytest.raises(ConfigError, match=r"strictness is -1, but your prompt text.*Set strictness to 0"):
        judge(agent, BEFORE, AFTER, "a cat", "one cat", strictness=-1, prompt_folders=texts)
    assert agent.calls == []
    assert judge(agent, BEFORE, AFTER, "a cat", "one cat", prompt_folders=texts).accepted


@pytest.mark.parametrize("strictness", [0.0, -1.0])
def test_judges_own_strictness_decides_and_not_that_among_the_samplings_values(strictness: float) -> None:
    """Else nobody could ask for 0."""
    agent = CriticWithOdds([], odds=1.0)
    judgment = judge(agent, BEFORE, AFTER, "a", "b", sampling=Sampling(strictness=2.0), strictness=strictness)
    assert (judgment.accepted, judgment.strictness) == (True, strictness)


def test_a_verdict_outside_of_the_form_is_not_said_to_be_shifted() -> None:
    judgment = judged(CriticWithOdds([said(False)], odds=None), -3)
    assert (judgment.accepted, judgment.strictness, judgment.note) == (False, 0, NOT_SHIFTED)
    lost = '<answer>{"previous_step_success": false, "refine_prompt": ["a"]}</answer>'
    judgment = judged(CriticWithOdds([lost], odds=None), -3)
    assert not judgment.accepted and NOT_SHIFTED in judgment.note and "prompt stays" in judgment.note


def test_a_rejection_that_stands_keeps_the_odds_of_its_own_reply() -> None:
    lost = '<answer>{"previous_step_success": false, "refine_prompt": ["a"]}</answer>'
    agent = CriticWithOdds([lost], odds=1.5)
    judgment = judged(agent, 2)
    assert (judgment.accepted, judgment.log_odds, judgment.strictness) == (False, 1.5, 2) and judgment.turned
    assert "trictness" not in str(agent.calls[1][-1].parts), "the agent is asked for its form alone"


def test_a_reply_that_is_no_judgment_has_no_odds() -> None:
    for fallback in ("retry", "accept"):
        judgment = judged(CriticWithOdds(["hm"], odds=1.0), 2, fallback)
        assert (judgment.log_odds, judgment.strictness, judgment.turned) == (None, 0, False)


def test_a_real_critic_is_turned_by_more_than_its_log_odds_and_not_by_less() -> None:
    critic = load_agent(WEIGHTS / "critic", device="cpu")
    wanted, shown = (Scene("circle", colour, "small", "center", "white") for colour in ("red", "blue"))
    prompt = "a small red circle at the center on a white background"
    for scene in (wanted, shown):
        own = judge(critic, None, render(scene), prompt, prompt)
        assert own.log_odds is not None and own.accepted == (own.log_odds > 0) == (scene is wanted)
        for by, turned in ((-0.1, False), (0.1, True)):
            strictness = own.log_odds + (by if own.accepted else -by)
            judgment = judge(critic, None, render(scene), prompt, prompt, strictness=strictness)
            assert (judgment.accepted != own.accepted) == judgment.turned == turned
            assert (judgment.log_odds, judgment.reasoning) == (own.log_odds, own.reasoning)


# --- the run ------------------------------------------------------------------------------------------------

PLAN = Plan((PlanStep(1, prompt="one"), PlanStep(2, prompt="two")), request="Show it.")


def told(studio: Any, agent: ScriptedAgent, strictness: float, *, painter: Any, name: str = "run") -> Session:
    loop = LoopModels(painter, agent, strictness=strictness)
    session = start_run(PLAN, loop, LoopSettings(t_max=2), studio.store, RunFolder(studio.runs, name))
    return drive(session, loop)


def test_another_strictness_is_judged_anew_from_recalled_pictures_and_0_recalls_what_was_before(
    studio: Any, painter: Any
) -> None:
    plain, agent = painter(), CriticWithOdds([], odds=1.0)
    first = told(studio, agent, 0.0, painter=plain)
    assert len(plain.requests) == len(agent.calls) == 2
    lenient = told(studio, agent, -2.0, painter=plain, name="lenient")
    assert [a.recalled for a in lenient.attempts] == [True, True] and len(agent.calls) == 4
    strict = told(studio, agent, 2.0, painter=plain, name="strict")
    assert [a.recalled for a in strict.attempts] == [True, False, False, False], "step 2 starts from another picture"
    assert [a.judgment.strictness for s in (lenient, strict) for a in s.attempts if a.judgment] == [-2, -2, 2, 2]
    made, asked = len(plain.requests), len(agent.calls)
    for strictness, before in ((0.0, first), (-2.0, lenient), (2.0, strict)):
        again = told(studio, agent, strictness, painter=plain, name=f"again {strictness}")
        assert [a.judgment for a in again.attempts] == [a.judgment for a in before.attempts]
    assert (len(plain.requests), len(agent.calls)) == (made, asked)


def test_at_0_the_key_of_a_judgment_is_that_of_versions_before() -> None:
    """tests/unit/test_files_of_before.py recalls their judgments; here: nothing that is 0 changes the key."""
    agent = ScriptedAgent([])
    key = LoopModels(None, agent).judged_by  # type: ignore[arg-type]
    same = [LoopModels(None, agent, strictness=s).judged_by for s in (0, 0.0, -0.0)]  # type: ignore[arg-type]
    others = [LoopModels(None, agent, strictness=s).judged_by for s in (1, -1, 0.1)]  # type: ignore[arg-type]
    assert set(same) == {key} and len({key, *others}) == 4
    assert LoopModels(None, agent, strictness=1).judged_by == LoopModels(None, agent, strictness=1.0).judged_by  # type: ignore[arg-type]


def test_the_accept_rate_counts_the_critics_own_verdicts() -> None:
    def attempt(judgment: Judgment | None, key: str = "k", *, overridden: bool = False) -> Attempt:
        return Attempt(1, 1, "p", 0, None, "i", judgment, judgment_key=key, overridden=overridden)

    attempts = (
        attempt(Judgment(True, strictness=1.0, log_odds=2.0)),
        attempt(Judgment(False), overridden=True),
        attempt(Judgment(True, strictness=-2.0, log_odds=2.0), overridden=True),
        attempt(Judgment(True, parsed=False)),
        attempt(Judgment(True, reasoning="no critic is connected"), ""),
        attempt(None, overridden=True),
    )
    assert Trajectory(PLAN, attempts).verdicts == Verdicts(2, 3, (-2.0, 1.0))
    assert Trajectory(PLAN, attempts[3:]).verdicts is None


def test_a_run_says_at_its_end_how_often_its_critic_accepted(studio: Any) -> None:
    run = studio.run(PLAN, [studio.no(), studio.yes(), studio.no()], t_max=3)
    assert run.events[-1][1]["verdicts"] == {"accepted": 1, "judged": 4, "strictness": (0.0, 0.0)}
    assert studio.run(PLAN, None, name="no critic").events[-1][1]["verdicts"] is None


def test_a_verdict_that_strictness_turned_is_no_training_data(studio: Any, painter: Any, tmp_path: Path) -> None:
    """It is not what the critic thinks. One that strictness did not turn is."""
    agent = CriticWithOdds([], odds=1.0)
    told(studio, agent, 2.0, painter=painter(), name="turned")
    told(studio, agent, 0.5, painter=painter(), name="kept")
    found, _, drops = from_runs(runs_below(studio.runs), tmp_path / "out", studio.store)
    assert {r.id.split("/")[0] for r in found} == {"kept"} and all(r.success for r in found) and len(found) == 2
    assert drops["attempts"].reasons["strictness turned the critic's verdict"] == 2
