"""`doctor`: agents of every kind are told apart, each figure has its rule, and a workflow becomes prompts to measure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from interleave_thinker.agents.base import Completion, Message, OnText, Sampling
from interleave_thinker.agents.scripted import ScriptedAgent
from interleave_thinker.cli import main
from interleave_thinker.comfyui.agent_clip import chat_model
from interleave_thinker.comfyui.check_stages import Stage, Stages, stages_of
from interleave_thinker.comfyui.client import WorkflowError, describe_refusal, seconds_of
from interleave_thinker.comfyui.known_sizes import KNOWN_SIZES
from interleave_thinker.comfyui.links import is_link
from interleave_thinker.comfyui.workflow import load_workflow
from interleave_thinker.comfyui.wrap import AgentChoice
from interleave_thinker.contract import MEASURE_PICTURE, NODE_IDS, OLDEST_COMFYUI, VERSION
from interleave_thinker.doctor.advice import AGENT_FILES, SLOW_AGENT, advice_for, run_time
from interleave_thinker.doctor.check_agent import AgentCheck, check_agent
from interleave_thinker.doctor.facts import COMFYUI_ENDED, Result, facts_of, machine_of
from interleave_thinker.doctor.measure import measure
from interleave_thinker.doctor.peak_memory import card_peak
from interleave_thinker.doctor.questions import CRITIC_QUESTIONS, PLANNED_PICTURES
from interleave_thinker.doctor.report import LONGEST_LINE, as_text, report_of
from interleave_thinker.errors import AgentError, ConfigError
from interleave_thinker.printable import printable
from interleave_thinker.resolve import agent_from

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "workflows" / "api").glob("*.json"))

ACCEPT = '<think>x</think><answer>{"previous_step_success": true, "refine_prompt": ""}</answer>'
REJECT = '<think>x</think><answer>{"previous_step_success": false, "refine_prompt": "a better one"}</answer>'
STEPS = [{"step_number": n, "prompt": f"p{n}", "auxiliary_text": "t"} for n in range(1, PLANNED_PICTURES + 1)]
PLAN = f"<answer>{json.dumps({'execution_plan': STEPS})}</answer>"
STATS = (
    "system",
    "devices",
    "comfyui_version",
    "python_version",
    "ram_total",
    "ram_free",
    "type",
    "name",
    "vram_total",
)
CARD = {"versions": {"ComfyUI": "0.30.0"}, "device": {"name": "card", "type": "cuda", "total": 8 * 2**30, "free": 0}}


def facts(*checks: AgentCheck, **more: Any) -> dict[str, Any]:
    """As of these agents, each a critic, on a card."""
    results = [Result("agent", "Asking", ("critic",), 1.0, check.to_dict()) for check in checks]
    return {**facts_of(results, machine=CARD), **more}


def rules(found: dict[str, Any]) -> set[str]:
    return {advice.rule for advice in advice_for(found)}


def asked(*replies: str | Callable[[Sequence[Message]], str], **options: Any) -> AgentCheck:
    """What is found of an agent that replies so, as critic."""
    return check_agent(ScriptedAgent(replies), options.pop("sampling", None), roles=["critic"], side=64, **options)


# The questions


def test_each_right_answer_is_the_ground_truths() -> None:
    found = check_agent(agent_from("tiny:oracle"), roles=["critic"], side=64)
    assert [(a.question, a.right) for a in found.answers] == [(q.name, True) for q in CRITIC_QUESTIONS]
    assert found.verdict == "sees" and rules(facts(found)) == set()


def test_right_verdicts_take_turns_and_are_half_and_half() -> None:
    """So that two answers already tell one that always accepts, and chance makes half of them."""
    assert [q.accept for q in CRITIC_QUESTIONS] == [True, False] * (len(CRITIC_QUESTIONS) // 2)


def test_the_questions_are_those_of_the_real_roles_and_greedy() -> None:
    """What a loop never asks would say nothing about a loop."""
    heard: list[Sampling] = []

    class Listening(ScriptedAgent):
        def complete(self, messages: Any, sampling: Sampling, on_text: OnText | None = None) -> Completion:
            heard.append(sampling)
            return super().complete(messages, sampling, on_text)

    agent = Listening([PLAN, *(ACCEPT if q.accept else REJECT for q in CRITIC_QUESTIONS)])
    found = check_agent(agent, Sampling(max_tokens=400, temperature=1.5, seed=9))
    assert [a.role for a in found.answers] == ["planner"] + ["critic"] * len(CRITIC_QUESTIONS)
    assert all(a.right for a in found.answers) and found.verdict == "sees"
    assert {(s.temperature, s.max_tokens) for s in heard} == {(0.0, 400)}
    assert "previous_step_success" in "".join(agent.calls[1][0].texts)
    assert {image.size for call in agent.calls for image in call[0].images} == {(1024, 1024)}


# Agents of every kind


@pytest.mark.parametrize(
    ("reply", "verdict", "rule"),
    [
        (ACCEPT, "always accepts", "always_accepts"),
        (REJECT, "always rejects", "always_rejects"),
        ("What lovely pictures!", "unreadable", "unreadable"),
    ],
)
def test_an_agent_that_always_says_the_same_is_named_for_it(reply: str, verdict: str, rule: str) -> None:
    """Half of its answers are right all the same."""
    found = asked(reply)
    assert found.verdict == verdict and rules(facts(found)) == {rule}


def test_one_that_is_often_wrong_guesses_and_one_mistake_is_forgiven() -> None:
    right = [ACCEPT if q.accept else REJECT for q in CRITIC_QUESTIONS]
    assert asked(*right[:-1], ACCEPT).verdict == "errs"
    guesses = asked(right[0], ACCEPT, *right[2:4], REJECT, right[5])
    assert guesses.verdict == "guesses" and rules(facts(guesses)) == {"guesses"}


def test_a_reply_that_is_cut_off_asks_for_more_tokens() -> None:
    found = asked("so I look at the picture and see " * 50, sampling=Sampling(max_tokens=20))
    told = advice_for(facts(found))
    assert [a.rule for a in told] == ["cut_off"] and "max_tokens 20" in told[0].text and "2048" in told[0].text
    assert all(a.tries == 2 and a.tokens == 40 for a in found.answers)


def test_what_is_read_only_when_asked_again_counts_and_is_told() -> None:
    found = asked("Well.", ACCEPT, REJECT)
    assert found.answers[0].readable and found.answers[0].tries == 2
    assert "1 of them only when asked again" in as_text(report_of(facts(found)))


def test_a_plan_of_another_length_is_readable_and_wrong() -> None:
    plan = json.dumps({"execution_plan": STEPS[:1]})
    found = check_agent(ScriptedAgent([plan]), roles=["planner"])
    assert (found.answers[0].readable, found.answers[0].right) == (True, False)
    assert rules(facts(found)) == {"wrong_plan"} and found.verdict == "unknown"


def test_an_agent_that_cannot_be_used_is_a_result_with_its_reason() -> None:
    class Broken(ScriptedAgent):
        def complete(self, *_: Any, **__: Any) -> Completion:
            raise AgentError("Nobody answers at http://there.")

    found = facts_of([Result("agent", "Asking", ("critic",), 1.0, check_agent(Broken([])).to_dict())], machine=CARD)
    assert found["problems"] == ["Asking: Nobody answers at http://there."] and not found["agents"][0]["answers"]
    assert rules(found) == {"failed"} and "Nobody answers" in as_text(report_of(found))


@pytest.mark.parametrize("error", [AgentError("It went."), ConfigError("Key file k is missing.")])
def test_what_an_agent_said_before_it_failed_is_kept(error: Exception) -> None:
    class Failing(ScriptedAgent):
        def complete(self, *words: Any, **more: Any) -> Completion:
            if len(self.calls) == 2:
                raise error
            return super().complete(*words, **more)

    found = check_agent(Failing([ACCEPT, REJECT]), roles=["critic"], side=64)
    assert len(found.answers) == 2 and found.error == str(error)
    told = as_text(report_of(facts(found)))
    assert "2 of 2 could be read" in told and f"Failed: {error}" in told


def test_what_the_watcher_raises_leaves_the_check() -> None:
    """An interrupt in ComfyUI."""

    class Interrupted(Exception):
        pass

    def interrupt(text: str) -> bool:
        raise Interrupted

    with pytest.raises(Interrupted):
        asked(ACCEPT, on_text=interrupt)


# Time


class Clock:
    """Runs only while an agent writes."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SlowAgent(ScriptedAgent):
    """Waits, then writes a token in so many seconds."""

    clock: Clock
    waits: float
    a_token: float

    def complete(self, messages: Any, sampling: Sampling, on_text: OnText | None = None) -> Completion:
        self.clock.now += self.waits - self.a_token

        def told(text: str) -> bool:
            self.clock.now += self.a_token
            return on_text is None or on_text(text)

        return super().complete(messages, sampling, told)


def slow(seconds: float, *, waits: float = 3.0, a_token: float = 0.5) -> AgentCheck:
    agent = SlowAgent([REJECT])
    agent.clock, agent.waits, agent.a_token = Clock(), waits, a_token
    return check_agent(agent, roles=["critic"], side=64, seconds=seconds, clock=agent.clock)


def test_speed_is_counted_from_the_first_text_on() -> None:
    """Reading pictures, and loading, would make a quick writer slow."""
    found = slow(1e6)
    assert found.tokens_a_second == pytest.approx(2.0)
    assert {a.wait for a in found.answers} == {3.0}
    tokens = found.answers[0].tokens
    assert found.seconds_as("critic") == pytest.approx(3 + (tokens - 1) / 2)


@given(st.floats(0.1, 400), st.floats(0.5, 60), st.floats(0.01, 5))
def test_when_the_time_is_over_nothing_is_dropped_in_silence(seconds: float, waits: float, a_token: float) -> None:
    found = slow(seconds, waits=waits, a_token=a_token)
    assert len(found.answers) + len(found.skipped) == len(CRITIC_QUESTIONS)
    assert [a.unfinished for a in found.answers[:-1]] == [False] * (len(found.answers) - 1)
    told = as_text(report_of(facts(found)))
    assert ("Stopped in the middle" in told) == any(a.unfinished for a in found.answers)
    assert ("Not asked" in told) == bool(found.skipped)
    assert found.answers, "the first question is put in any case"


def test_one_that_was_stopped_is_no_wrong_answer() -> None:
    found = slow(20.0, a_token=2.0)
    assert found.answers[0].unfinished and found.verdict == "unknown"
    assert found.seconds_as("critic") is None, "how long a whole judgment takes is not known"
    assert rules(facts(found)) == {"slow_agent"}, "slow is all that is known"


# Rules


@given(st.floats(0.01, 100), st.sampled_from(["cuda", "cpu", "mps"]), st.sampled_from(["tiny", "server:me:model"]))
def test_a_slow_agent_is_told_by_where_it_runs(speed: float, device: str, name: str) -> None:
    agent = {**asked(ACCEPT, REJECT).to_dict(), "tokens_a_second": speed, "roles": ["critic"], "name": name}
    found = {**facts(), "agents": [agent], "device": {**CARD["device"], "type": device}}
    expected = set() if speed >= SLOW_AGENT or name != "tiny" else {"agent_on_cpu" if device == "cpu" else "slow_agent"}
    assert rules(found) & {"slow_agent", "agent_on_cpu"} == expected


def measured(picture: float, judgment: float, loop: tuple[float, float] | None, peak: float = 0.5) -> dict[str, Any]:
    right = asked(*(ACCEPT if q.accept else REJECT for q in CRITIC_QUESTIONS)).to_dict()
    agent = {**right, "roles": ["planner", "critic"], "judgment_seconds": judgment, "tokens_a_second": 50.0}
    size = {"width": 1024, "height": 1024, "count": 1, "peak": {"bytes": int(peak * 8 * 2**30), "of": "card"}}
    pictures = [{"seconds": picture * 3, **size}, {"seconds": picture, **size}]
    return {
        **facts(),
        "agents": [agent],
        "pictures": pictures,
        "loop": loop and {"picture": loop[0], "critic": loop[1]},
    }


def late(why: str) -> dict[str, Any]:
    return {"kind": "picture", "label": "P", "seconds": 70.0, "why": why}


@pytest.mark.parametrize(
    ("found", "rule"),
    [
        (measured(10, 5, (11, 5.5)), None),
        (measured(10, 5, (25, 20)), "changes_places"),
        (measured(61, 5, None), "slow_picture"),
        (measured(10, 5, None, peak=0.99), "full_card"),
        (measured(59, 200, None), "long_run"),
        ({**measured(1, 1, None), "versions": {"ComfyUI": "0.29.9"}}, "old_comfyui"),
        ({**measured(1, 1, None), "versions": {"ComfyUI": "0.100.0"}}, None),
        ({**measured(1, 1, None), "has_agent": False}, "no_agent"),
        ({**measured(1, 1, None), "not_done": [late("time")]}, "out_of_time"),
        ({**measured(1, 1, None), "not_done": [late("person")]}, None),
        ({**measured(1, 1, None), "problems": ["Making picture 1: node 26 (KSampler): size mismatch"]}, "failed"),
        ({**measured(1, 1, None), "problems": [f"Making picture 1: {COMFYUI_ENDED}"]}, "server_ended"),
        ({**measured(1, 1, None), "problems": ["CUDA out of memory. Tried to allocate"]}, "out_of_memory"),
        ({**measured(1, 1, None), "notes": ["No picture was made: this ComfyUI lacks Foo."]}, "lacking"),
    ],
)
def test_each_figure_has_its_rule_and_a_good_one_has_none(found: dict[str, Any], rule: str | None) -> None:
    assert rules(found) == ({rule} if rule else set())


def test_an_attempt_in_the_loop_counts_where_it_was_measured() -> None:
    alone, looped = run_time(measured(10, 5, None)), run_time(measured(10, 5, (25, 20)))
    assert alone and looped and (alone.attempt, looped.attempt) == (15, 45)
    assert looped.longest - looped.plan == 3 * (looped.shortest - looped.plan)
    assert run_time(facts()) is None


@given(st.text(min_size=1, max_size=700).filter(str.strip), st.booleans())
def test_nobody_whose_check_failed_is_told_that_nothing_is_to_change(error: str, measured_too: bool) -> None:
    found = facts_of([Result("picture", "Making picture 1", error=error)], machine=CARD)
    found = {**measured(10, 5, None), "problems": found["problems"]} if measured_too else found
    told = report_of(found)[-1]
    assert told.title == "What to change" and not any(line.startswith("Nothing") for line in told.lines)
    assert rules(found) & {"failed", "lacking", "out_of_memory"}


@pytest.mark.parametrize("why", ["time", "person", "server"])
def test_why_a_stage_did_not_end_is_told_and_who_stopped_it_is_not_sent_for_more_time(why: str) -> None:
    not_done = [late(why), {**late(why), "label": "Q", "seconds": None}]
    found = {**measured(10, 5, None), "not_done": not_done}
    told = as_text(report_of(found))
    words = {"time": "no time was left", "person": "was stopped before", "server": "ComfyUI ended before"}
    assert f"Q: {words[why]}" in next(line for line in told.splitlines() if "Q: " in line).replace("the check ", "")
    assert ("--seconds" in told) == (why == "time") == ("The time was over" in told)
    assert ("by a person" in told) == (why == "person")


def test_in_the_editor_nobody_is_sent_to_a_shell() -> None:
    slow_one = {**asked(ACCEPT, REJECT).to_dict(), "tokens_a_second": 0.5, "roles": ["critic"], "name": "tiny"}
    found = {**measured(99, 500, (500, 900)), "not_done": [late("time")], "has_agent": False}
    found |= {"agents": [slow_one], "problems": ["CUDA out of memory", "Foo: bar", f"P: {COMFYUI_ENDED}"]}
    texts = [advice.text for advice in advice_for(found, "editor")]
    assert len(texts) == len(advice_for(found)) > 5
    assert not [text for text in texts if "interleave-thinker" in text or "--seconds" in text]
    assert "vram WORKFLOW" in as_text(report_of(found)) and "WORKFLOW" not in as_text(report_of(found, "editor"))


NAMES = [
    "clip:Qwen35:1x2:qwen3.5_0.8b.safetensors",
    "clip:Qwen35:1x2:qwen3.5-27b.safetensors",
    "clip:Gemma4:1x2:gemma-4-31b-it.safetensors",
    "clip:Gemma4:1x2:gemma4_e4b.safetensors",
    "clip:qwen3vl_4b:1x2:qwen3vl_4b_fp8.safetensors",
    "clip:Qwen3VL_8B:1x2:",
    "server:home:gpt-huge",
    "my-folder",
]


@given(
    st.sampled_from(NAMES),
    st.one_of(st.none(), st.integers(1, 100 * 2**30), st.integers(4, 24).map(lambda gib: gib * 2**30)),
    st.sampled_from(["cuda", "cpu"]),
)
@example("clip:qwen3vl_4b:1x2:qwen3vl_4b_fp8.safetensors", 8 * 2**30, "cuda")
def test_no_agent_is_replaced_by_a_smaller_one_or_by_a_file_that_the_card_does_not_hold(
    name: str, total: int | None, device: str
) -> None:
    agent = {**asked(ACCEPT).to_dict(), "roles": ["critic"], "name": name}
    machine = {"versions": {}, "device": {"name": "x", "type": device, "total": total, "free": None}}
    found = {**facts_of([], machine=machine, has_agent=False), "agents": [agent]}
    advice = {a.rule: a.text for a in advice_for(found)}
    for rule in ("always_accepts", "no_agent"):
        for file in (f for f in AGENT_FILES if f in advice[rule]):
            assert device == "cuda" and total is not None and KNOWN_SIZES[file].bytes + 1e9 < total
    for file in (f for f in AGENT_FILES if f in advice["always_accepts"]):
        assert not name.startswith("server:")
        before, after = chat_model(name.split(":")[-1] or name.split(":")[1]), chat_model(file)
        assert after and (not before or float(before[1].strip("eb")) < float(after[1].strip("eb")))


@pytest.mark.parametrize(("gib", "size"), [(8, "4b"), (12, "4b"), (16, "8b"), (24, "8b")])
def test_each_card_is_told_of_the_largest_file_that_it_holds(gib: int, size: str) -> None:
    machine = {"versions": {}, "device": {**CARD["device"], "total": gib * 2**30}}
    assert f"qwen3vl_{size}" in advice_for(facts_of([], machine=machine, has_agent=False))[0].text


@given(st.text(max_size=3000), st.sampled_from(["reply", "name", "error", "note", "machine"]))
def test_what_others_wrote_reaches_the_terminal_as_plain_text_of_bounded_length(text: str, where: str) -> None:
    spiked = f"\x1b[2J\x1b]0;owned\x07{text}\x9b\u202e"
    answer = {**asked("What?").to_dict(), "roles": ["critic"]}
    if where == "reply":
        answer["answers"] = [{**answer["answers"][0], "reply": spiked}]
    elif where == "name":
        answer["name"] = spiked
    error = Result("picture", "P", error=spiked if where == "error" else "")
    machine = {"versions": {"ComfyUI": spiked if where == "machine" else "0.30.0"}, "device": CARD["device"]}
    found = facts_of([error], machine=machine, notes=[spiked] if where == "note" else [])
    sections = report_of({**found, "agents": [answer]})
    lines = as_text(sections).split("\n")
    assert all(line == printable(line) and len(line) <= LONGEST_LINE + 2 for line in lines)
    assert len(lines) == sum(len(s.lines) + 2 for s in sections) - 1, "no line was made by what others wrote"


@given(st.lists(st.text(max_size=50), max_size=3), st.lists(st.text(max_size=50), max_size=3), st.text(max_size=900))
def test_a_report_tells_all_that_was_not_measured_and_ends_with_what_to_change(
    notes: list[str], labels: list[str], error: str
) -> None:
    results = [*(Result("picture", label, stopped="time") for label in labels), Result("agent", "A", error=error)]
    sections = report_of(facts_of(results, machine={"versions": {}, "device": CARD["device"]}, notes=notes))
    assert sections[-1].title == "What to change" and sections[-1].lines
    told = "\n".join(line for section in sections for line in section.lines)
    assert all(printable(text) in told for text in (*notes, *labels))
    first = next((line for line in error.splitlines() if line.strip()), "")
    assert printable(" ".join(first.split())[:100]) in told


def test_a_picture_that_was_not_ready_in_time_says_how_long_it_was_waited_for() -> None:
    """For who has a slow card it is the only figure."""
    results = [Result("picture", "P", seconds=70.0, stopped="time"), Result("picture", "Q", stopped="time")]
    found = facts_of(results, machine=CARD)
    assert "not ready after 70 s" in advice_for(found)[0].text
    assert "P: stopped after 70 s" in as_text(report_of(found)) and "Q: no time was left" in as_text(report_of(found))


def test_only_some_of_many_bad_answers_are_told_one_by_one() -> None:
    told = as_text(report_of(facts(asked("Lovely!"))))
    assert told.count("it wrote") == 3 and "and 3 more" in told


def test_an_error_that_two_stages_share_is_told_once() -> None:
    results = [Result("agent", "Asking", error="gone"), Result("loop critic", "Asking again", error="gone")]
    assert facts_of(results, machine=CARD)["problems"] == ["Asking: gone"]


def test_the_machine_is_told_by_what_the_server_says() -> None:
    stats = {
        "system": {
            "comfyui_version": "0.30.0",
            "python_version": "3.12.3 (main, ...)",
            "ram_total": 64,
            "ram_free": 32,
        },
        "devices": [{"name": "cuda:0 NVIDIA X : cudaMallocAsync", "type": "cuda", "vram_total": 8, "vram_free": 7}],
    }
    told = machine_of(stats)
    assert told["versions"] == {"ComfyUI": "0.30.0", "Python": "3.12.3"}
    assert told["device"] == {"name": "NVIDIA X", "type": "cuda", "total": 8, "free": 7}
    assert machine_of({**stats, "devices": [{"name": "cpu", "type": "cpu", "vram_total": 1}]})["device"]["total"] == 64
    assert as_text(report_of(facts_of([], machine=machine_of({}))))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(STATS), inner, max_size=3),
    )
)
def test_whatever_a_server_says_of_itself_a_machine_is_shown(said: Any) -> None:
    stats = said if isinstance(said, dict) else {"system": said, "devices": said}
    assert as_text(report_of(facts_of([], machine=machine_of(stats))))


def test_each_missing_file_of_a_refusal_is_named_once_in_the_advice() -> None:
    missing = {
        "1": ("CLIPLoader", "clip_name", "a b.safetensors"),
        "12": ("VAELoader", "vae_name", "vae's.safetensors"),
    }
    errors = {
        node: {
            "class_type": kind,
            "errors": [{"type": "value_not_in_list", "extra_info": {"input_name": name, "received_value": file}}],
        }
        for node, (kind, name, file) in missing.items()
    }
    refused = Result("picture", "Making picture 1", error=describe_refusal({"node_errors": errors}, {}))
    facts = facts_of([refused], machine=CARD)
    (told,) = [advice.text for advice in advice_for(facts) if advice.rule == "lacking"]
    assert told.count("which this ComfyUI does not have") == 2 and told.count("; node 12") == 1
    assert "does not have; node 12 (VAELoader)" in facts["problems"][0]


def test_the_versions_are_those_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{VERSION}"\n' in project and f'\nrequires-comfyui = ">={OLDEST_COMFYUI}"\n' in project


# Stages


def stages(workflow: dict[str, Any], **options: Any) -> Stages:
    return stages_of(workflow, **{"seconds": 180, "seed": 7, **options})


def kinds(found: Stages) -> list[str]:
    return [stage.kind for stage in found.stages]


TINY_STORY = load_workflow(ROOT / "workflows" / "api" / "tiny_story.json")
PLAIN: dict[str, Any] = {
    "10": {"class_type": "UNETLoader", "inputs": {"unet_name": "x.safetensors"}},
    "11": {"class_type": "CLIPLoader", "inputs": {"clip_name": "clip_l.safetensors", "type": "stable_diffusion"}},
    "20": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["11", 0], "text": "a lighthouse"}},
    "25": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
    "26": {"class_type": "KSampler", "inputs": {"model": ["10", 0], "seed": 1, "positive": ["20", 0]}},
    "27": {"class_type": "VAEDecode", "inputs": {"samples": ["26", 0]}},
    "40": {"class_type": "SaveImage", "inputs": {"images": ["27", 0]}},
}
PLAIN["26"]["inputs"]["latent_image"] = ["25", 0]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_every_prompt_is_whole_and_runs_no_loop(path: Path) -> None:
    workflow = load_workflow(path)
    before = json.dumps(workflow)
    found = stages(workflow)
    assert json.dumps(workflow) == before and (found.stages or found.notes)
    for stage in found.stages:
        used = {node["class_type"] for node in stage.prompt.values()}
        loop = {NODE_IDS.loop_open, NODE_IDS.loop_close, NODE_IDS.planner, NODE_IDS.critic_refine, "SaveImage"}
        assert not used & {*loop, NODE_IDS.save_document}, "nothing of the user's is run or saved"
        links = [v for node in stage.prompt.values() for v in node["inputs"].values() if is_link(v)]
        assert {str(link[0]) for link in links} <= set(stage.prompt)
        assert stage.prompt[stage.result_node]["class_type"] in (NODE_IDS.check_agent, MEASURE_PICTURE)


def test_all_stages_hold_the_same_nodes_and_each_picture_is_a_new_one() -> None:
    """ComfyUI forgets the models of nodes that a prompt lacks, and recalls a picture that it has."""
    found = stages(TINY_STORY)
    assert kinds(found) == ["agent", "agent", "picture", "picture", "loop critic", "loop picture"]
    assert len({frozenset(stage.prompt) for stage in found.stages}) == 1
    drawn = [stage.prompt for stage in found.stages if stage.kind in ("picture", "loop picture")]
    assert len({prompt["26"]["inputs"]["seed"] for prompt in drawn}) == 3
    assert len({prompt["20"]["inputs"]["text"] for prompt in drawn}) == 3
    assert [stage.roles for stage in found.stages[:2]] == [("planner",), ("critic",)]
    assert (found.t_max, found.has_agent) == (5, True)


def test_a_picture_is_edited_as_in_the_later_steps_of_a_story() -> None:
    found = stages(TINY_STORY).stages[2].prompt
    assert found["23"]["inputs"]["switch"] is True
    source = found[found["21"]["inputs"]["pixels"][0]]
    assert source["class_type"] == "EmptyImage" and source["inputs"]["width"] == 64


def test_of_the_users_own_picture_is_edited_where_there_is_one() -> None:
    mine = {**TINY_STORY, "50": {"class_type": "LoadImage", "inputs": {"image": "me.png"}}}
    mine["4"] = {**mine["4"], "inputs": {**mine["4"]["inputs"], "images.image_0": ["50", 0]}}
    assert stages(mine).stages[2].prompt["21"]["inputs"]["pixels"] == ["50", 0]


def test_without_a_loop_the_workflows_own_seed_is_changed_and_an_agent_can_be_named() -> None:
    assert kinds(stages(PLAIN)) == ["picture", "picture"] and not stages(PLAIN).has_agent
    found = stages(PLAIN, agent=AgentChoice("folder", "mine"))
    assert kinds(found) == ["agent", "picture", "picture", "loop critic", "loop picture"]
    assert [stage.prompt["26"]["inputs"]["seed"] for stage in found.stages[1:3]] == [7, 8]
    loaded = [n for n in found.stages[0].prompt.values() if n["class_type"] == NODE_IDS.load_agent]
    assert [node["inputs"]["model"] for node in loaded] == ["mine"]


def test_the_workflows_own_clip_is_asked_where_it_can_be_the_agent() -> None:
    own = {**PLAIN, "11": {"class_type": "CLIPLoader", "inputs": {"clip_name": "qwen3vl_4b_fp8.safetensors"}}}
    found = stages(own)
    assert found.has_agent and found.stages[0].kind == "agent" and "its own CLIP" in found.notes[0]


def test_a_picture_that_a_seed_cannot_change_is_made_once() -> None:
    fixed = {"1": {"class_type": "EmptyImage", "inputs": {"width": 64}}}
    fixed["2"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
    assert kinds(stages(fixed)) == ["picture"]


def test_what_is_missing_or_paid_is_left_out_and_the_rest_is_measured() -> None:
    found = stages(TINY_STORY, is_there=lambda kind: kind != "KSampler")
    assert kinds(found) == ["agent", "agent"] and "lacks KSampler" in found.notes[0]
    assert all("26" not in stage.prompt for stage in found.stages), "one unknown node would have all refused"
    found = stages(TINY_STORY, is_paid=lambda kind: kind == "KSampler")
    assert kinds(found) == ["agent", "agent"] and "paid service" in found.notes[0]
    found = stages(TINY_STORY, is_there=lambda kind: kind != NODE_IDS.load_agent)
    assert set(kinds(found)) == {"picture"} and found.has_agent


@pytest.mark.parametrize("workflow", [{}, {"1": {"class_type": "Note", "inputs": {}}}], ids=["empty", "no picture"])
def test_a_workflow_with_nothing_to_measure_says_so(workflow: dict[str, Any]) -> None:
    found = stages(workflow)
    assert not found.stages and found.notes == ("The workflow shows no picture, so none was measured.",)
    assert rules(facts_of([], machine=CARD, notes=found.notes, has_agent=found.has_agent)) == {"no_agent"}


def test_a_loop_within_a_loop_is_not_drawn() -> None:
    inner = {**TINY_STORY, "60": {"class_type": NODE_IDS.loop_close, "inputs": {"image": ["31", 0], "loop": ["4", 0]}}}
    found = stages({"60": inner.pop("60"), **inner})
    assert set(kinds(found)) == {"agent"} and any("loop within the loop" in note for note in found.notes)


def test_an_agent_that_no_node_of_the_workflow_loads_is_refused() -> None:
    with pytest.raises(WorkflowError, match="no node 99"):
        stages(PLAIN, agent=AgentChoice("node", "99"))


def saved_on_the_way(kind: str = "SaveAndPass", slot: int = 0) -> dict[str, Any]:
    """Node 30 saves the decoded picture and passes it on to a scaler, whose picture is the result."""
    return {
        **PLAIN,
        "30": {"class_type": kind, "inputs": {"images": ["27", 0], "prefix": "mine"}},
        "31": {"class_type": kind, "inputs": {"images": ["30", slot], "prefix": "again"}},
        "32": {"class_type": "ImageScale", "inputs": {"image": ["31", slot]}},
        "40": {"class_type": "SaveImage", "inputs": {"images": ["32", 0]}},
    }


def about(kind: str) -> dict[str, Any]:
    """As GET /object_info."""
    inputs = {"required": {"images": ["IMAGE", {}], "prefix": ["STRING", {}]}}
    known = {
        "SaveAndPass": {"output_node": True, "input": inputs, "output": ["IMAGE", "STRING"]},
        "SaveAndMask": {"output_node": True, "input": inputs, "output": ["MASK"]},
    }
    return known.get(kind, {"output_node": kind == "SaveImage", "input": {}, "output": []})


def test_a_node_that_saves_the_picture_and_passes_it_on_is_left_out() -> None:
    """It would save pictures of the check among the user's own."""
    found = stages(saved_on_the_way(), about=about)
    assert kinds(found) == ["picture", "picture"] and not found.notes
    for stage in found.stages:
        assert not {"30", "31"} & set(stage.prompt) and stage.prompt["32"]["inputs"]["image"] == ["27", 0]


def test_a_node_that_saves_and_gives_what_only_it_has_is_named() -> None:
    for workflow in (saved_on_the_way("SaveAndMask"), saved_on_the_way(slot=1)):
        found = stages(workflow, about=about)
        assert "31" in found.stages[0].prompt and any("Node 31 (" in note and "saves" in note for note in found.notes)


def test_nodes_that_save_in_a_circle_do_not_hang_the_check() -> None:
    workflow = saved_on_the_way()
    workflow["30"]["inputs"]["images"] = ["31", 0]
    assert stages(workflow, about=about) is not None


# What came of a prompt


TABLE = json.loads((ROOT / "tests" / "js" / "doctor_histories.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", TABLE["histories"], ids=lambda row: row["why"])
def test_a_history_is_read_as_the_sidebar_reads_it(row: dict[str, Any]) -> None:
    assert Result("x", "y").ended(row["entry"], "n") == Result("x", "y", **row["result"])


@pytest.mark.parametrize("row", TABLE["checks"], ids=lambda row: row["why"])
def test_stages_follow_one_another_as_in_the_sidebar(row: dict[str, Any]) -> None:
    ends, over = iter(row["ends"]), False

    def run(stage: Stage, begun: Result) -> Result:
        nonlocal over
        end = next(ends)
        over = end == "time"
        errors = {"error": "no", "server": COMFYUI_ENDED}
        return Result("x", "y", error=errors.get(end, ""), stopped=end if end in ("time", "person") else "")

    def outcome(result: Result) -> str:
        if result.error:
            return "server" if result.error == COMFYUI_ENDED else "error"
        return "server_ended" if result.stopped == "server" else result.stopped or "done"

    told = measure(
        [Stage("picture", node, {}, node, (), tuple(after)) for node, after in row["stages"]], run, lambda: not over
    )
    assert [outcome(result) for result in told] == row["results"]
    assert next(ends, None) is None, "each end was used"


@given(st.integers(0, 2**36), st.integers(0, 2**36), st.integers(0, 2**36), st.integers(0, 2**36))
def test_a_cards_peak_is_pytorchs_own_with_what_else_is_on_the_card(
    most: int, now: int, others: int, room: int
) -> None:
    """What PyTorch has given back by now was in use together with the desktop's share."""
    most = max(most, now)
    total = most + others + room
    assert card_peak(most, now, total - now - others, total) == most + others


# What the server says


def test_seconds_are_the_servers_own_without_the_wait_in_its_queue() -> None:
    messages = [["execution_start", {"timestamp": 5000}], ["execution_success", {"timestamp": 7500}]]
    assert seconds_of({"status": {"messages": messages}}) == 2.5
    assert seconds_of({"status": {"messages": messages[:1]}}) is None and seconds_of({}) is None


def test_a_missing_model_file_is_named_without_the_list_of_all_others() -> None:
    about = {"input_name": "unet_name", "received_value": "mine.safetensors", "input_config": None}
    error = {"type": "value_not_in_list", "message": "Value not in list", "details": "x", "extra_info": about}
    told = describe_refusal({"node_errors": {"10": {"errors": [error], "class_type": "UNETLoader"}}}, {})
    assert told.endswith("node 10 (UNETLoader): unet_name is 'mine.safetensors', which this ComfyUI does not have")


# The command


def scripted() -> ScriptedAgent:
    """For --agent of a test."""
    return ScriptedAgent([PLAN, *(ACCEPT if q.accept else REJECT for q in CRITIC_QUESTIONS)])


def test_an_agent_of_ones_own_is_checked_without_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    body = "from interleave_thinker.agents.scripted import ScriptedAgent as A\ndef make(): return A(REPLIES)\n"
    (tmp_path / "my_doctor_agent.py").write_text(f"REPLIES = {scripted().replies!r}\n{body}")
    figures = tmp_path / "figures.json"
    assert main(["doctor", "--agent", "my_doctor_agent:make", "--json", str(figures)]) == 0
    assert "6 of 6 right: it sees the pictures" in capsys.readouterr().out
    told = json.loads(figures.read_text())
    assert told["agents"][0]["verdict"] == "sees" and told["advice"] == [] and told["server"] is None


MINE = """
from PIL import Image
from interleave_thinker.agents.scripted import ScriptedAgent
from interleave_thinker.errors import ConfigError, GeneratorError

class Failing(ScriptedAgent):
    def complete(self, *words, **more):
        if len(self.calls) == 2:
            raise ERROR
        return super().complete(*words, **more)

class Draws:
    name = "draws"
    def generate(self, request):
        if ERROR:
            raise ERROR
        return Image.new("RGB", (64, 64))

def agent(): return ScriptedAgent(REPLIES)
def failing(): return Failing(REPLIES)
def draws(): return Draws()
def broken(): raise ERROR
"""
ERRORS = [
    ("RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')", "out_of_memory"),
    ("ConfigError('Key file k.txt is missing.')", "failed"),
    ("KeyError('weights')", "failed"),
]


def told_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, *words: str) -> dict[str, Any]:
    """What --json says of an agent and a generator of one's own, which fail with an error."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"my_doctor_{abs(hash((error, words)))}"
    (tmp_path / f"{name}.py").write_text(f"{MINE}REPLIES = {scripted().replies!r}\nERROR = {error}\n")
    named = [word.replace("mine:", f"{name}:") for word in words]
    assert main(["doctor", *named, "--json", str(tmp_path / "figures.json")]) == (1 if error != "None" else 0)
    told: dict[str, Any] = json.loads((tmp_path / "figures.json").read_text())
    return told


@pytest.mark.parametrize(("error", "rule"), ERRORS)
def test_whatever_an_agent_fails_with_here_is_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, rule: str
) -> None:
    """PyTorch's error for memory among them: a traceback says nothing to a user."""
    told = told_here(tmp_path, monkeypatch, error, "--agent", "mine:failing")
    assert len(told["agents"][0]["answers"]) == 2 and rule in [a["rule"] for a in told["advice"]]


@pytest.mark.parametrize(("error", "rule"), ERRORS)
@pytest.mark.parametrize("generator", ["mine:broken", "mine:draws"])
def test_a_generator_that_fails_here_leaves_the_agents_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generator: str, error: str, rule: str
) -> None:
    told = told_here(tmp_path, monkeypatch, error, "--agent", "mine:agent", "--generator", generator)
    assert told["agents"][0]["verdict"] == "sees" and not told["pictures"] and len(told["problems"]) == 1
    assert [a["rule"] for a in told["advice"]] == [rule]


def test_a_generator_of_ones_own_is_measured_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = told_here(tmp_path, monkeypatch, "None", "--generator", "mine:draws")
    assert len(told["pictures"]) == 2 and not told["problems"]


def test_loading_counts_as_time_of_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_slow_agent.py").write_text(
        "import time\nfrom interleave_thinker.agents.scripted import ScriptedAgent\n"
        f"def make():\n    time.monotonic.now += 15\n    return ScriptedAgent({scripted().replies!r})\n"
    )
    assert main(["doctor", "--agent", "my_slow_agent:make", "--seconds", "12", "--json", str(tmp_path / "f.json")]) == 0
    told = json.loads((tmp_path / "f.json").read_text())
    assert not told["agents"] and told["not_done"][0]["seconds"] == 15 and told["not_done"][0]["why"] == "time"


def test_every_key_of_the_figures_is_documented(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    assert main(["doctor", "--agent", "tiny:oracle", "--json", str(figures)]) == 0
    told = json.loads(figures.read_text())
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    words = set(re.findall(r"`(\w+)`", page))
    assert {*told, *told["agents"][0], *told["agents"][0]["answers"][0]} <= words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seconds", "1"], "--seconds is 1; give a number from 10 to 7200"),
        (["--seconds", "nan"], "--seconds is nan"),
        (["x.json", "--generator", "tiny"], "leave out --generator"),
        (["x.json", "--server", "http://127.0.0.1:9"], "No ComfyUI answers at http://127.0.0.1:9"),
        (["--server", "http://127.0.0.1:9"], "--agent NAME"),
        (["--agent", "no such"], "is no model folder"),
    ],
)
def test_what_cannot_be_checked_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
