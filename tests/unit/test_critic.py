"""The Critic: judgments read liberally, ended early, asked for twice at most, and never invented."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import pytest
from PIL import Image

from interleave_thinker.agents.base import Message, Sampling
from interleave_thinker.agents.scripted import ScriptedAgent
from interleave_thinker.reading.judgments import MAX_PROMPT, read_judgment
from interleave_thinker.roles.critic import compare, judge, white_canvas

BEFORE, AFTER = Image.new("RGB", (6, 4), "red"), Image.new("RGB", (6, 4), "blue")
YES = '<think>fine</think><answer>{"previous_step_success": true, "refine_prompt": "a cat"}</answer>'
NO = '<think>blue</think><answer>{"previous_step_success": false, "refine_prompt": "a red cat"}</answer>'


class Interrupted(BaseException):
    """As ComfyUI's interrupt, which is no Exception and must not be swallowed."""


def asked(agent: ScriptedAgent, **settings: Any) -> Any:
    return judge(agent, BEFORE, AFTER, "a cat", "one cat", **settings)


# --- reading -------------------------------------------------------------------------------------------------

READ = [
    ("the wire format", NO, False, "a red cat"),
    ("accepted", YES, True, "a cat"),
    ("the official form", "<think>t</think><answer>{'previous_step_success': False, 'refine_prompt': 'a red cat'}</answer>", False, "a red cat"),
    ("keys of the paper's figure", '{"success": false, "refined_prompt": "a red cat"}', False, "a red cat"),
    ("keys with blanks", "{'success': False, 'Refine Prompt': 'a red cat'}", False, "a red cat"),
    ("keys in capitals", "{'Success': False, 'REFINED_PROMPT': 'a red cat'}", False, "a red cat"),
    ("other verdict keys", '{"accepted": false, "rewritten_prompt": "a red cat"}', False, "a red cat"),
    ("a verdict as text", '{"previous_step_success": "False", "refine_prompt": "a red cat"}', False, "a red cat"),
    ("a verdict as word", '{"judgment": "reject", "refine_prompt": "a red cat"}', False, "a red cat"),
    ("a verdict as number", '{"success": 0, "refine_prompt": "a red cat"}', False, "a red cat"),
    ("True as text", '{"success": "True"}', True, ""),
    ("true as text", '{"success": "true"}', True, ""),
    ("apostrophes", "{'success': False, 'refine_prompt': 'don't move the cat's hat'}", False, "don't move the cat's hat"),
    ("unknown keys", '{"success": false, "score": 3, "refine_prompt": "a red cat"}', False, "a red cat"),
    ("no prompt", '{"success": false}', False, ""),
    ("None for a prompt", "{'success': False, 'refine_prompt': None}", False, ""),
    ("'None' for a prompt", "{'success': False, 'refine_prompt': 'None'}", False, ""),
    ("a fence and chatter", "Sure:\n```json\n{\"success\": false, \"refine_prompt\": \"a red cat\"}\n```\n{ok}?", False, "a red cat"),
    ("the form quoted in the reasoning", '<think>so <answer>{"previous_step_success": true, "refine_prompt": "x"}</answer>?</think>' + NO, False, "a red cat"),
    ("cut off after an acceptance", '<answer>{"previous_step_success": true, "ref', True, ""),
    ("cut off after a rejection", "<answer>{'previous_step_success': False,", False, ""),
    ("cut off, and the reasoning says the opposite", '<think>if "success": true, then</think><answer>{"success": false, "r', False, ""),
]  # fmt: skip


@pytest.mark.parametrize(("why", "raw", "accepted", "refined"), READ, ids=[c[0] for c in READ])
def test_judgments_are_read_liberally(
    why: str, raw: str, accepted: bool, refined: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judgment = read_judgment(raw)
    assert (judgment.parsed, judgment.accepted, judgment.refined_prompt) == (True, accepted, refined)
    assert judgment.raw == raw
    monkeypatch.setitem(sys.modules, "json_repair", None)  # type: ignore[arg-type]
    assert read_judgment(raw) == judgment


UNREADABLE = [
    ("nothing", ""),
    ("words", "What a lovely cat!"),
    ("only thoughts", "<think>It is fine: previous_step_success is true</think>"),
    ("nulls everywhere", '{"previous_step_success": null, "refine_prompt": null}'),
    ("another object", '{"execution_plan": []}'),
    ("a verdict that is none", '{"success": "maybe"}'),
    ("a verdict that is a list", '{"success": [true]}'),
    ("a huge number", '{"success": 0x' + "f" * 9999 + "}"),
    ("the form, copied instead of filled in", '<answer>{"previous_step_success": true or false, "refine_prompt": "..."}</answer>'),
    ("the form with a slash", '<answer>{"previous_step_success": true/false, "refine_prompt": "..."}</answer>'),
    ("think never closed", '<think>hm <answer>{"success": false, "refine_prompt": "a red cat"}</answer>'),
    ("think never closed, cut off", '<think>is "success": true, or<answer>{"success": false, "r'),
    ("two verdicts that disagree", '{"success": true} or rather {"success": false, "refine_prompt": "a red cat"}'),
    ("the last verdict is none", 'A good one: {"success": true}. This one: {"success": "partly"}'),
    ("a check below another name", '{"colour": {"success": true}, "count": {"success": true}}'),
    ("a list of checks", '[{"name": "colour", "success": true}, {"name": "count", "success": false}]'),
    ("cut off inside of the verdict", '<answer>{"previous_step_success": tr'),
]  # fmt: skip


@pytest.mark.parametrize(("why", "raw"), UNREADABLE, ids=[c[0] for c in UNREADABLE])
def test_no_verdict_is_made_up(why: str, raw: str) -> None:
    """Above all no acceptance: it would pass a bad picture on silently."""
    judgment = read_judgment(raw)
    assert (judgment.parsed, judgment.accepted, judgment.refined_prompt, judgment.raw) == (False, False, "", raw)


LOST = [
    ("a list", '{"success": false, "refine_prompt": ["a"]}'),
    ("an object", '<answer>{"success": false, "refine_prompt": {"subject": "a red cat"}}</answer>'),
    ("words without quotes", '<answer>{"success": false, "refine_prompt": a red cat}</answer>'),
    ("cut off", '<answer>{"success": false, "refine_prompt": "a red'),
    ("the form's dots", '<answer>{"success": false, "refine_prompt": "..."}</answer>'),
]


@pytest.mark.parametrize(("why", "raw"), LOST, ids=[c[0] for c in LOST])
def test_a_rejection_whose_prompt_cannot_be_read_is_asked_for_again_and_then_keeps_the_prompt(
    why: str, raw: str
) -> None:
    """It is a rejection whatever comes then: also an acceptance answers only the question about its form."""
    judgment = read_judgment(raw)
    assert (judgment.parsed, judgment.accepted, judgment.refined_prompt) == (False, False, "") and judgment.note
    agent = ScriptedAgent([raw, NO])
    assert asked(agent).refined_prompt == "a red cat" and len(agent.calls) == 2
    for second in (raw, "nice!", YES):
        judgment = asked(ScriptedAgent([raw, second]), on_unreadable="accept")
        assert (judgment.accepted, judgment.refined_prompt) == (False, "") and "prompt stays" in judgment.note


def test_a_draft_that_is_followed_by_more_text_is_no_verdict_where_the_reply_was_cut_off() -> None:
    draft = 'A good one gets {"success": true, "refine_prompt": "a cat"}. Looking closely, ' + "the cat " * 50
    judgment = asked(ScriptedAgent([draft, NO]), sampling=Sampling(max_tokens=40))
    assert not judgment.accepted and judgment.refined_prompt == "a red cat"


def test_no_reply_makes_read_judgment_raise_or_accept_by_noise() -> None:
    dice = random.Random(5)
    for _ in range(500):
        at = dice.randrange(len(NO))
        noise = bytes(dice.randrange(256) for _ in range(8)).decode("latin-1")
        for raw in (NO[:at], NO[at:], NO[:at] + noise + NO[at:], noise * 3):
            assert not read_judgment(raw).accepted


def test_a_refined_prompt_is_bounded() -> None:
    assert (
        len(read_judgment('{"success": false, "refine_prompt": "' + "x" * 50_000 + '"}').refined_prompt) == MAX_PROMPT
    )


# --- asking -----------------------------------------------------------------------------------------------------


def test_the_critic_sees_before_after_what_was_wanted_and_what_was_asked() -> None:
    agent = ScriptedAgent([NO])
    assert asked(agent).refined_prompt == "a red cat"
    ((message,),) = agent.calls
    assert (message.role, message.images) == ("user", (BEFORE, AFTER))
    text = message.parts[-1]
    assert isinstance(text, str) and text.index("a cat") < text.index("one cat")


def test_without_a_before_it_sees_white_of_the_same_size() -> None:
    agent = ScriptedAgent([NO])
    judge(agent, None, AFTER, "a cat", "one cat")
    assert agent.calls[0][0].images[0].tobytes() == white_canvas(AFTER.size).tobytes()


def test_slot_names_in_a_prompt_are_not_filled() -> None:
    agent = ScriptedAgent([NO])
    judge(agent, BEFORE, AFTER, "draw {rewritten_prompt}", "SECRET {original_instruction}")
    text = str(agent.calls[0][0].parts[-1])
    assert "draw {rewritten_prompt}" in text and text.count("SECRET") == 1


def test_an_accepted_prompt_is_the_one_that_was_used() -> None:
    assert asked(ScriptedAgent([YES])).refined_prompt == "one cat"


def test_an_unreadable_reply_is_shown_to_the_agent_once() -> None:
    agent = ScriptedAgent(["nice!", NO])
    assert asked(agent).refined_prompt == "a red cat"
    first, wrong, again = agent.calls[1]
    assert [first] == agent.calls[0] and wrong == Message("assistant", ("nice!",))
    assert again.role == "user" and "no JSON object" in str(again.parts[0])


@pytest.mark.parametrize(("declared", "accepted"), [("retry", False), ("accept", True)])
def test_two_unreadable_replies_are_the_declared_fallback_with_the_raw_text(declared: Any, accepted: bool) -> None:
    agent = ScriptedAgent(["nice!", "very nice!"])
    judgment = asked(agent, on_unreadable=declared)
    assert len(agent.calls) == 2
    assert (judgment.accepted, judgment.parsed, judgment.refined_prompt, judgment.raw) == (
        accepted,
        False,
        "",
        "very nice!",
    )


# --- ending early ----------------------------------------------------------------------------------------------------

LONG = " a very long prompt" * 500
EARLY = [
    ("accepted: the prompt would only be repeated", f'<think>fine</think><answer>{{"previous_step_success": true, "refine_prompt": "{LONG}"}}</answer>', '"refine'),
    ("accepted in Python", f"<think>fine</think><answer>{{'previous_step_success': True, 'refine_prompt': '{LONG}'}}</answer>", "'refine"),
    ("accepted as text", f'<answer>{{"success": "true", "refined_prompt": "{LONG}"}}</answer>', '"refined'),
    ("rejected, and babbling on", NO + LONG, LONG),
]  # fmt: skip


@pytest.mark.parametrize(("why", "reply", "unread"), EARLY, ids=[c[0] for c in EARLY])
def test_the_reply_ends_as_soon_as_nothing_more_matters(why: str, reply: str, unread: str) -> None:
    written: list[str] = []
    agent = ScriptedAgent([reply])
    judgment = asked(agent, on_text=lambda text: written.append(text) or True)  # type: ignore[func-returns-value]
    assert judgment.parsed and len(agent.calls) == 1
    assert len(written[-1]) <= reply.index(unread) + 4, "one token more than needed at most"
    assert judgment.raw == written[-1]


def test_a_rejection_is_read_to_its_end() -> None:
    agent = ScriptedAgent([NO])
    assert asked(agent).raw == NO


@pytest.mark.parametrize(
    "thought",
    [
        'The form is <answer>{"previous_step_success": true or false, "refine_prompt": "..."}</answer>.',
        'I could say <answer>{"previous_step_success": true, "refine_prompt": "x"}</answer>, but no.',
        '"previous_step_success": true, would be wrong.',
    ],
)
def test_thoughts_about_an_acceptance_are_none(thought: str) -> None:
    judgment = asked(ScriptedAgent([f"<think>{thought}</think>" + NO.split("</think>")[1]]))
    assert (judgment.accepted, judgment.refined_prompt) == (False, "a red cat")


def test_a_reply_that_never_stops_is_bounded_by_max_tokens() -> None:
    lengths: list[int] = []
    agent = ScriptedAgent(["la " * 100_000])
    judgment = asked(agent, sampling=Sampling(max_tokens=40), on_text=lambda text: lengths.append(len(text)) or True)  # type: ignore[func-returns-value]
    assert len(agent.calls) == 2 and max(lengths) <= 40 * 4 and not judgment.parsed
    assert "cut off after 40 tokens" in str(agent.calls[1][-1].parts[0])


def test_an_interrupt_passes_through() -> None:
    def interrupt(text: str) -> bool:
        if len(text) > 8:
            raise Interrupted
        return True

    agent = ScriptedAgent([YES])
    with pytest.raises(Interrupted):
        asked(agent, on_text=interrupt, on_unreadable="accept")
    assert len(agent.calls) == 1, "no re-ask and no fallback after an interrupt"
    with pytest.raises(Interrupted):
        compare(agent, None, [AFTER], "a cat", on_text=interrupt)


# --- comparing ---------------------------------------------------------------------------------------------------------


def best(number: object) -> str:
    return json.dumps({"best": number}).join(("<answer>", "</answer>"))


# Of three attempts: replies, which one is named among all, which is chosen. The second reply is about the named one
# and the last, the third about the last and the named one.
COMPARED = [
    ("named each time", [best(1), best(1), best(2)], 1, 1),
    ("a text", [best("attempt 2"), best("attempt 1"), best("attempt 2")], 2, 2),
    ("the same place in both orders, not the same attempt", [best(1), best(1), best(1)], 1, 3),
    ("the last at the second look", [best(2), best(2)], 2, 3),
    ("unreadable at the second look", [best(2), "the first"], 2, 3),
    ("unreadable at the third look", [best(2), best(1), "the second"], 2, 3),
    ("the last: not asked again", [best(3)], 3, 3),
    ("beyond the attempts: the last, as in the paper", [best(9)], 3, 3),
    ("zero", [best(0)], 3, 3),
    ("none", [best(None)], 3, 3),
    ("a number of many digits", ['<answer>{"best": ' + "9" * 4000 + "}</answer>"], 3, 3),
    ("unreadable", ["the second"], 3, 3),
]


@pytest.mark.parametrize(("why", "replies", "named", "chosen"), COMPARED, ids=[c[0] for c in COMPARED])
def test_an_earlier_attempt_must_be_named_beside_the_last_too(
    why: str, replies: list[str], named: int, chosen: int
) -> None:
    agent = ScriptedAgent(list(replies))
    attempts = [Image.new("RGB", (6, 4), c) for c in ("red", "green", "blue")]
    assert compare(agent, None, attempts, "a cat") == chosen
    pair = [attempts[named - 1], attempts[-1]]
    assert [list(call[0].images[1:]) for call in agent.calls] == [attempts, pair, pair[::-1]][: len(replies)]
    assert all(call[0].images[0].getpixel((0, 0)) == (255, 255, 255) for call in agent.calls)


def test_of_two_attempts_the_first_is_taken_if_named_in_both_orders() -> None:
    attempts = [Image.new("RGB", (6, 4), c) for c in ("red", "blue")]
    agent = ScriptedAgent([best(1), best(2)])
    assert compare(agent, None, attempts, "a cat") == 1
    assert [list(call[0].images[1:]) for call in agent.calls] == [attempts, attempts[::-1]]
