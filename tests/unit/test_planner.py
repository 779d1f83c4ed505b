"""The Planner: one question, one re-ask that shows what was wrong, then the declared end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from interleave_thinker.agents.base import Completion, Message, Sampling
from interleave_thinker.agents.scripted import ScriptedAgent
from interleave_thinker.errors import PlanError
from interleave_thinker.roles.planner import make_plan


class Interrupted(BaseException):
    """As ComfyUI's interrupt, which is no Exception and must not be swallowed."""


def reply(*prompts: str | None, text: str | None = "words") -> str:
    steps = [{"step_number": i, "prompt": p, "auxiliary_text": text} for i, p in enumerate(prompts, 1)]
    return f"<think>r</think><answer>{json.dumps({'execution_plan': steps})}</answer>"


def picture(colour: str) -> Image.Image:
    return Image.new("RGB", (4, 4), colour)


def asked(agent: ScriptedAgent, call: int = 0) -> tuple[Any, ...]:
    return agent.calls[call][0].parts


def emitted(agent: ScriptedAgent, **settings: Any) -> list[str]:
    """Runs make_plan; returns the longest text that the agent wrote in each call."""
    written: list[str] = []

    def watch(text: str) -> bool:
        if not written or not text.startswith(written[-1]):
            written.append(text)
        written[-1] = text
        return True

    try:
        make_plan(agent, "a story", on_text=watch, **settings)
    except PlanError:
        pass
    return written


# --- what the agent is asked -----------------------------------------------------------------------------------


def test_a_request_without_pictures_is_one_user_text() -> None:
    agent = ScriptedAgent([reply("a")])
    make_plan(agent, "a story {max_steps}", max_steps=7)
    ((message,),) = agent.calls
    assert message.role == "user" and len(message.parts) == 1
    assert "at most 7" in str(message.parts[0]) and str(message.parts[0]).endswith("a story {max_steps}")


PICTURES: list[tuple[str, str, int, list[str]]] = [
    ("no marker: after the text", "go on", 2, ["go on", "#", "#"]),
    ("a marker each", "from <image> to <IMAGE> and on", 2, ["from ", "#", " to ", "#", " and on"]),
    ("fewer markers than pictures", "<image> go on", 2, ["#", " go on", "#"]),
    ("more markers than pictures", "a <image> b <image> c", 1, ["a ", "#", " b  c"]),
]


@pytest.mark.parametrize(("why", "request_text", "count", "expected"), PICTURES, ids=[c[0] for c in PICTURES])
def test_pictures_stand_where_the_request_says(why: str, request_text: str, count: int, expected: list[str]) -> None:
    """The official demo drops surplus pictures silently; here every picture reaches the agent."""
    agent = ScriptedAgent([reply("a")])
    images = [picture("red"), picture("blue")][:count]
    make_plan(agent, request_text, images)
    parts = asked(agent)
    assert [p for p in parts if not isinstance(p, str)] == images
    shown = ["#" if not isinstance(p, str) else p for p in parts]
    shown[0] = str(shown[0]).split("The request:\n")[1]
    assert [p for p in shown if p] == expected
    assert all(p != "" for p in parts), "an empty text is no part"


def test_the_callers_pictures_are_left_alone() -> None:
    """The official demo appends its own pictures to the caller's list."""
    images = [picture("red")]
    make_plan(ScriptedAgent([reply("a")]), "<image>", images)
    assert len(images) == 1


def test_prompt_texts_come_from_the_user_then_from_the_model(tmp_path: Path) -> None:
    for name in ("mine", "models"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "planner_text.md").write_text(name + " {text_input}")
    agent = ScriptedAgent([reply("a")], prompts=str(tmp_path / "models"))
    make_plan(agent, "x")
    make_plan(agent, "x", prompt_folders=[str(tmp_path / "mine")])
    assert (asked(agent, 0), asked(agent, 1)) == (("models x",), ("mine x",))


# --- what comes of the answer -----------------------------------------------------------------------------------


def test_a_plan_knows_its_request_and_reasoning() -> None:
    planned = make_plan(ScriptedAgent([reply("a", "b")]), " a story ")
    assert (planned.plan.request, planned.plan.reasoning, planned.fallback) == ("a story", "r", False)
    assert [s.prompt for s in planned.plan.steps] == ["a", "b"] and planned.raw == reply("a", "b")


NUMBERS = [
    ("no pictures", 0, ("a", "b"), [1, 2]),
    ("Task B continues after the user's pictures", 2, ("a", "b"), [3, 4]),
    ("Task A describes them and counts from 1", 2, (None, None), [1, 2]),
]


@pytest.mark.parametrize(("why", "images", "prompts", "numbers"), NUMBERS, ids=[c[0] for c in NUMBERS])
def test_numbers(why: str, images: int, prompts: tuple[str | None, ...], numbers: list[int]) -> None:
    planned = make_plan(ScriptedAgent([reply(*prompts)]), "x", [picture("red")] * images)
    assert [s.step_number for s in planned.plan.steps] == numbers


REASKED = [
    ("no object", "I would rather write a poem.", "no JSON object"),
    ("nothing", "", "it was empty"),
    ("too many steps", reply("a", "b", "c"), "max_steps is 2"),
    ("a step of nothing", reply(None, text=None), "neither a prompt nor a text"),
]


@pytest.mark.parametrize(("why", "bad", "problem"), REASKED, ids=[c[0] for c in REASKED])
def test_a_bad_reply_is_shown_to_the_agent_once_with_what_is_wrong(why: str, bad: str, problem: str) -> None:
    agent = ScriptedAgent([bad, reply("a", "b")])
    planned = make_plan(agent, "x", max_steps=2)
    assert [s.prompt for s in planned.plan.steps] == ["a", "b"] and len(agent.calls) == 2
    first, wrong, again = agent.calls[1]
    assert [first] == agent.calls[0]
    assert wrong == Message("assistant", (bad,))
    assert again.role == "user" and problem in str(again.parts[0])


def test_the_second_try_has_another_seed() -> None:
    seeds = []

    class Noting(ScriptedAgent):
        def complete(self, messages: Any, sampling: Sampling, on_text: Any = None) -> Completion:
            seeds.append(sampling.seed)
            return super().complete(messages, sampling, on_text)

    make_plan(Noting(["?", reply("a")]), "x", sampling=Sampling(seed=5))
    assert seeds == [5, 6]


def test_two_bad_replies_are_an_error_that_says_what_was_wrong_and_what_to_do() -> None:
    agent = ScriptedAgent(["no", "still no"])
    with pytest.raises(PlanError, match=r"no JSON object.*'still no'.*Try another seed"):
        make_plan(agent, "x")
    assert len(agent.calls) == 2


def test_or_the_declared_fallback() -> None:
    planned = make_plan(ScriptedAgent(["no"]), " a cat ", single_step_fallback=True)
    assert planned.fallback and [(s.prompt, s.instruction) for s in planned.plan.steps] == [("a cat", "a cat")]
    assert planned.raw == "no"


@pytest.mark.parametrize("request_text", ["", "  \n"])
def test_an_empty_request_is_refused_before_the_agent_is_asked(request_text: str) -> None:
    agent = ScriptedAgent([reply("a")])
    with pytest.raises(PlanError, match="empty"):
        make_plan(agent, request_text)
    assert agent.calls == []


# --- streaming --------------------------------------------------------------------------------------------------


def test_writing_ends_at_the_closing_tag() -> None:
    agent = ScriptedAgent([reply("a") + " and now a poem" * 1000])
    (text,) = emitted(agent)
    assert text.startswith(reply("a")) and len(text) < len(reply("a")) + 4


def test_a_closing_tag_that_is_quoted_while_thinking_ends_nothing() -> None:
    """Agents that think repeat the form they were asked for."""
    thought = "<think>The form is <answer>{...}</answer>, so:</think>"
    plan = make_plan(ScriptedAgent([thought + reply("a").split("</think>")[1]]), "x").plan
    assert [s.prompt for s in plan.steps] == ["a"]


def test_a_reply_that_never_stops_is_bounded_by_max_tokens() -> None:
    agent = ScriptedAgent(["la " * 100_000])
    written = emitted(agent, sampling=Sampling(max_tokens=50))
    assert len(agent.calls) == 2 and all(len(text) <= 50 * 4 for text in written)


def test_a_plan_that_was_cut_off_is_asked_for_again_and_not_silently_shortened() -> None:
    long = reply(*["a picture"] * 30)
    agent = ScriptedAgent([long, reply("a")])
    planned = make_plan(agent, "x", sampling=Sampling(max_tokens=200), max_steps=50)
    assert [s.prompt for s in planned.plan.steps] == ["a"]
    assert "cut off after 200 tokens" in str(agent.calls[1][-1].parts[0])
    with pytest.raises(PlanError, match=r"cut off after 200 tokens.*larger max_tokens"):
        make_plan(ScriptedAgent([long]), "x", sampling=Sampling(max_tokens=200), max_steps=50)


def test_a_whole_plan_that_only_lacks_its_closing_tag_is_taken() -> None:
    whole = reply("abc").removesuffix("</answer>")
    padded = whole.replace("<think>r", "<think>r" + "." * (-len(whole) % 4))
    tokens = len(padded) // 4
    agent = ScriptedAgent([padded + " \n" * 100])
    make_plan(agent, "x", sampling=Sampling(max_tokens=tokens))
    assert len(agent.calls) == 1


def test_an_interrupt_passes_through() -> None:
    def interrupt(text: str) -> bool:
        raise Interrupted

    agent = ScriptedAgent([reply("a")])
    with pytest.raises(Interrupted):
        make_plan(agent, "x", on_text=interrupt, single_step_fallback=True)
    assert len(agent.calls) == 1, "no re-ask and no fallback after an interrupt"
