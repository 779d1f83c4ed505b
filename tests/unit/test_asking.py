"""Asking an agent until its reply can be read: when it is ended, asked again, and what is said of it."""

from __future__ import annotations

from interleave_thinker.agents.base import Completion, Message, Sampling
from interleave_thinker.agents.scripted import ScriptedAgent
from interleave_thinker.roles.asking import ask_anew, describe_unreadable, until_answered


def test_the_watcher_can_end_a_reply_too() -> None:
    watch = until_answered(lambda text: len(text) < 5)
    assert watch("abc") and not watch("abcde") and not until_answered(None)('<answer>{"a": 1}</answer>')


def test_unreadable_replies_are_described_by_their_cause() -> None:
    assert "cut off after 7" in describe_unreadable(Completion("abc", "length", 7))
    assert "empty" in describe_unreadable(Completion(" \n", "stop"))
    assert "no JSON object" in describe_unreadable(Completion("abc", "stop"))


def test_a_question_is_put_anew_with_another_seed_and_warmer_until_it_is_read() -> None:
    agent, used = ScriptedAgent(["a", "b", "7", "8"]), []

    def ask(sampling: Sampling) -> Completion:
        used.append((sampling.seed, sampling.temperature))
        return agent.complete([Message("user", ("?",))], sampling)

    def read(text: str) -> int | None:
        return int(text) if text.isdigit() else None

    asked = ask_anew(ask, read, Sampling(seed=5), 3, warmer=0.7)
    assert (asked.value, asked.tries, asked.completion.text) == (7, 3, "7")
    assert used == [(5, 0.0), (6, 0.7), (7, 0.7)], "a greedy agent would only repeat itself"


def test_what_is_never_read_is_none_and_the_last_reply_is_kept() -> None:
    agent = ScriptedAgent(["a", "b"])
    asked = ask_anew(lambda s: agent.complete([Message("user", ("?",))], s), lambda text: None, Sampling(), 2)
    assert (asked.value, asked.tries, asked.completion.text) == (None, 2, "b")
