"""The Critic: two pictures and a prompt in, judgment and refined prompt out (paper, section 3.3).

It sees the picture before (a white sheet if there was none), the attempt, what the plan wanted and
the prompt really used. It does not see the request or other steps. Knows nothing of the loop.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from PIL import Image

from .agents.base import Agent, Message, OnText, Part, Sampling
from .planner import describe_unreadable, until_answered
from .prompts import fill, load_prompt
from .replies import Reply, answer_part, read_reply, text_or_none
from .trajectory import Judgment

T = TypeVar("T")
OnUnreadable = Literal["retry", "accept"]

VERDICT_KEYS = ("previous_step_success", "success", "accepted", "judgment", "Judgment")
PROMPT_KEYS = ("refine_prompt", "refined_prompt", "Refine Prompt", "Refined Prompt", "rewritten_prompt")

_YES, _NO = {"true", "yes", "1", "accept", "accepted"}, {"false", "no", "0", "reject", "rejected"}
_ACCEPTED_ALREADY = re.compile(
    r"<answer>.*?[\"'](?:previous_step_success|success|accepted)[\"']\s*:\s*([\"']?)true\1\s*[,}]", re.S | re.I
)
"""Up to the mark after the verdict: "true or false" is the form being quoted, not a verdict."""
_CUT_OFF = re.compile(
    r"[\"'](?:previous_step_success|success|accepted)[\"']\s*:\s*([\"']?)(true|false)\1\s*(?:[,}]|\Z)", re.S | re.I
)
_QUOTED_FORM = re.compile(r"success[\"']?\s*:\s*[\"']?true\s*(?:or\b|[/|])", re.I)
"""The form itself, copied instead of filled in."""
MAX_PROMPT = 4_000
"""Characters of a refined prompt that are passed to the generator."""


def white_canvas(size: tuple[int, int]) -> Image.Image:
    """What the critic sees as "before" when there was no picture. The generator never gets it."""
    return Image.new("RGB", size, (255, 255, 255))


def judge(
    agent: Agent,
    before: Image.Image | None,
    after: Image.Image,
    instruction: str,
    prompt: str,
    *,
    sampling: Sampling | None = None,
    prompt_folders: Sequence[str | None] = (),
    on_unreadable: OnUnreadable = "retry",
    on_text: OnText | None = None,
) -> Judgment:
    """Ask the critic about one attempt; ask once more if the reply cannot be read.

    instruction: what the plan wanted of this step (p_i). prompt: what the generator really got (r_i^t).
    on_unreadable: what two unreadable replies count as: a rejection that keeps the prompt, or an
        acceptance. Either way `parsed` is False and `raw` has the reply.

    The reply is ended as soon as it says "accepted": the prompt that would follow only repeats `prompt`.

    Raises:
        AgentError: the agent cannot be used.
    """
    sampling = sampling or Sampling()
    folders = [*prompt_folders, agent.prompts]
    before = white_canvas(after.size) if before is None else before
    messages = [Message("user", critic_turn(before, after, instruction, prompt, folders))]
    raw = problem = ""
    for again in range(2):
        if again:
            reask = fill(load_prompt("reask", folders), problem=problem)
            messages += [Message("assistant", (raw,)), Message("user", (reask,))]
            sampling = replace(sampling, seed=sampling.seed + 1)
        completion = agent.complete(messages, sampling, _until_decided(on_text))
        raw = completion.text
        judgment = read_judgment(raw)
        if judgment.parsed:
            return replace(judgment, refined_prompt=prompt) if judgment.accepted else judgment
        problem = describe_unreadable(completion)
    return Judgment(accepted=on_unreadable == "accept", parsed=False, raw=raw)


def critic_turn(
    before: T, after: T, instruction: str, prompt: str, prompt_folders: Sequence[str | Path | None] = ()
) -> tuple[T | str, ...]:
    """What the critic is asked, as parts of one user turn; pictures may be anything that stands for one."""
    text = fill(load_prompt("critic", prompt_folders), original_instruction=instruction, rewritten_prompt=prompt)
    return (before, after, text.rstrip())


def compare_turn(
    before: T, attempts: Sequence[T], instruction: str, prompt_folders: Sequence[str | Path | None] = ()
) -> tuple[T | str, ...]:
    """What the critic is asked to compare, as `critic_turn`."""
    text = fill(load_prompt("compare", prompt_folders), original_instruction=instruction)
    return (before, *attempts, text.rstrip())


def read_judgment(raw: str) -> Judgment:
    """A critic's reply -> judgment. Never raises; what cannot be read has `parsed=False`."""
    reply = read_reply(raw)
    verdict, refined = _fields(reply)
    if verdict is None:
        verdict, refined = _from_cut_off(raw)
    if verdict is None or (not reply.exact and _QUOTED_FORM.search(answer_part(raw) or raw)):
        return Judgment(accepted=False, reasoning=reply.reasoning, parsed=False, raw=raw)
    return Judgment(verdict, (refined or "")[:MAX_PROMPT], reply.reasoning, True, raw)


def compare(
    agent: Agent,
    before: Image.Image | None,
    attempts: Sequence[Image.Image],
    instruction: str,
    *,
    sampling: Sampling | None = None,
    prompt_folders: Sequence[str | None] = (),
    on_text: OnText | None = None,
) -> int:
    """Which of several rejected attempts comes closest, from 1.

    Not in the paper: it serves `on_exhausted="best"`. The last attempt is what the paper keeps, and the one that the
    critic has refined most. One that is named among all takes its place only if it is also named beside the last
    alone, before it and after it, since what is named in one order may be named for its place. An unreadable answer
    means the last.

    Raises:
        AgentError: the agent cannot be used.
    """
    before = white_canvas(attempts[-1].size) if before is None else before
    folders = [*prompt_folders, agent.prompts]

    def named(order: Sequence[int]) -> int | None:
        parts: tuple[Part, ...] = compare_turn(before, [attempts[at] for at in order], instruction, folders)
        completion = agent.complete([Message("user", parts)], sampling or Sampling(), until_answered(on_text))
        answer = read_reply(completion.text).answer or {}
        number = re.search(r"\d{1,4}", text_or_none(answer.get("best")) or "")
        place = int(number.group()) if number else 0
        return order[place - 1] if 1 <= place <= len(order) else None

    last = len(attempts) - 1
    found = named(range(len(attempts)))
    if found is None or found == last:
        return last + 1
    pairs = [(found, last), (last, found)] if last > 1 else [(last, found)]  # of two, one order was the first question
    return (found if all(named(pair) == found for pair in pairs) else last) + 1


def _until_decided(on_text: OnText | None) -> OnText:
    answered = until_answered(on_text)

    def watch(text: str) -> bool:
        return answered(text) and not _ACCEPTED_ALREADY.search(answer_part(text))

    return watch


def _fields(reply: Reply) -> tuple[bool | None, str | None]:
    by_name = {k.strip().lower(): v for k, v in (reply.answer or {}).items()}
    verdict = next((_truth(by_name[k.lower()], reply.exact) for k in VERDICT_KEYS if k.lower() in by_name), None)
    refined = next((by_name[k.lower()] for k in PROMPT_KEYS if k.lower() in by_name), None)
    return verdict, text_or_none(refined) if isinstance(refined, str) and refined.strip(" .…") else None


def _truth(value: object, exact: bool) -> bool | None:
    """A verdict; of a repaired object only one in words, since a digit may be all that was left of garbage."""
    if isinstance(value, bool):
        return value
    if not exact and not isinstance(value, str):
        return None
    word = (text_or_none(value) or "").lower()
    return True if word in _YES else False if word in _NO else None


def _from_cut_off(raw: str) -> tuple[bool | None, str | None]:
    """A reply that ends in the middle of its object still has a verdict, and perhaps half a prompt.

    Half a prompt is dropped: the previous prompt with a new seed is the better try.
    """
    found = _CUT_OFF.search((answer_part(raw) or raw).split("<answer>")[-1])
    return (found.group(2).lower() == "true", None) if found else (None, None)
