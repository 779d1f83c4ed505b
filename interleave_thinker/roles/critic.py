"""The Critic: two pictures and a prompt in, judgment and refined prompt out (paper, section 3.3).

It sees the picture before (a white sheet if there was none), the attempt, what the plan wanted and
the prompt really used. It does not see the request or other steps. Knows nothing of the loop.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from PIL import Image

from ..agents.base import Agent, Completion, Message, OnText, Part, Sampling, kept_loaded, shifts_verdicts
from ..agents.reply_form import ReplyForm
from ..contract import MAX_STRICTNESS
from ..errors import AgentError, ConfigError
from ..loop.plan import text_or_none
from ..loop.trajectory import MOST_LOG_ODDS, Judgment
from ..reading.judgments import PROMPT_KEPT, judgment_reader, judgment_reading
from ..reading.replies import Reply
from .asking import ask_twice, describe_unreadable, in_form, until_answered
from .prompt_files import fill, load_prompt

T = TypeVar("T")
OnUnreadable = Literal["retry", "accept"]

JUDGMENT_FORM = ReplyForm(
    ('{"previous_step_success": ', ("true", "false"), ', "refine_prompt": "'),
    schema='{"type": "object", "properties": {"previous_step_success": {"type": "boolean"}, '
    '"refine_prompt": {"type": "string"}}, "required": ["previous_step_success", "refine_prompt"], '
    '"additionalProperties": false}',
)
COMPARE_FORM = ReplyForm(
    ('{"best": ',),
    schema='{"type": "object", "properties": {"best": {"type": "integer"}}, "required": ["best"], '
    '"additionalProperties": false}',
)
NOT_SHIFTED = "Strictness did not act: the reply has no verdict where the form has it."


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
    strictness: float = 0.0,
) -> Judgment:
    """Ask the critic about one attempt; ask once more if the reply cannot be read.

    instruction: what the plan wanted of this step, p_i: its `PlanStep.prompt`, not its `instruction` (u_i).
    prompt: what the generator really got (r_i^t).
    on_unreadable: what two unreadable replies count as: a rejection that keeps the prompt, or an
        acceptance. Either way `parsed` is False and `raw` has the reply. A rejection whose verdict was read stays
        one; if its refined prompt cannot be read twice, the prompt stays and `note` says so.
    strictness: -20 to 20. Accept only if the log-odds of true exceed this. Above 0: stricter. Below 0: more lenient.
        0: as trained. The log-odds are shifted before anything is sampled, so at a temperature above 0 it changes the
        odds of an acceptance. A reply without a verdict where the form has it is not shifted: `strictness` of the
        judgment is 0 then, and `note` says so. `sampling.strictness` does not count.

    The reply is ended as soon as it says "accepted": the prompt that would follow only repeats `prompt`.

    Raises:
        AgentError: the agent cannot be used, or gives no token probabilities and `strictness` is not 0.
        ConfigError: `strictness` is no number from -20 to 20, or not 0 where the critic's prompt text asks for a form
            of its own.
    """
    folders = [*prompt_folders, agent.prompts]
    sampling = in_form(sampling or Sampling(), [JUDGMENT_FORM], agent, "critic", folders)
    _check_strictness(strictness, agent, sampling)
    sampling = replace(sampling, strictness=strictness)
    before = white_canvas(after.size) if before is None else before
    judgment = Judgment(False, parsed=False)
    rejected: Judgment | None = None

    def take(completion: Completion, reply: Reply) -> str | None:
        nonlocal judgment, rejected
        judgment, certain = judgment_reading(reply, cut=completion.finish == "length")
        if judgment.parsed or certain:
            judgment = _with_log_odds(judgment, completion.log_odds, strictness)
        if judgment.parsed:
            return None
        judgment = replace(judgment, note=describe_unreadable(completion, judgment.note))
        rejected = judgment if certain else rejected
        return judgment.note

    ask_twice(
        agent,
        critic_turn(before, after, instruction, prompt, folders),
        take,
        reader=lambda: judgment_reader(until_accepted=True),
        sampling=sampling,
        prompt_folders=folders,
        on_text=on_text,
    )
    if judgment.parsed and rejected is None:
        settled = replace(judgment, refined_prompt=prompt) if judgment.accepted else judgment
    elif judgment.parsed and not judgment.accepted:
        settled = judgment
    elif rejected is not None:  # where only the form was asked for again, the verdict of the first reply stands
        settled = replace(rejected, parsed=True, note=PROMPT_KEPT)
    else:
        return replace(judgment, accepted=on_unreadable == "accept", reasoning="")
    if strictness and settled.log_odds is None:
        return replace(settled, note=f"{settled.note} {NOT_SHIFTED}".strip())
    return settled


def _check_strictness(strictness: object, agent: Agent, sampling: Sampling) -> None:
    if not isinstance(strictness, (int, float)) or not -MAX_STRICTNESS <= strictness <= MAX_STRICTNESS:
        raise ConfigError(
            f"strictness is {strictness!r:.40}; it must be a number from {-MAX_STRICTNESS:g} to "
            f"{MAX_STRICTNESS:g}. 0 leaves verdicts alone."
        )
    if strictness and not shifts_verdicts(agent):
        raise AgentError(
            f"strictness is {strictness:g}, but {agent.name} gives no token probabilities, so its verdicts cannot be "
            "shifted. Set strictness to 0, or use Load Agent, or Agent from CLIP with a Qwen3-VL, Qwen3.5 or Gemma 4."
        )
    if strictness and sampling.form is None:
        raise ConfigError(
            f"strictness is {strictness:g}, but your prompt text for the critic asks for a form of its own, in which "
            "the verdict cannot be found. Set strictness to 0, or let the text ask for "
            '{"previous_step_success": ..., "refine_prompt": "..."}.'
        )


def _with_log_odds(judgment: Judgment, log_odds: float | None, strictness: float) -> Judgment:
    """With what the agent thought of its verdict, where that is known; only then was it shifted."""
    if log_odds is None or math.isnan(log_odds):
        return judgment
    within = max(-MOST_LOG_ODDS, min(log_odds, MOST_LOG_ODDS))
    return replace(judgment, strictness=float(strictness), log_odds=within)


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

    Not in the paper: it serves `on_exhausted="best"`. The last attempt is the one that the paper keeps and that the
    critic has refined most, so another one must win twice more. The agent first names one among all attempts. If that
    is not the last, it is shown beside the last alone, in both orders, and must be named each time: an agent may name
    an image for its place. An unreadable answer means the last.

    Raises:
        AgentError: the agent cannot be used.
    """
    before = white_canvas(attempts[-1].size) if before is None else before
    folders = [*prompt_folders, agent.prompts]
    sampling = in_form(sampling or Sampling(), [COMPARE_FORM], agent, "compare", folders)

    def named(order: Sequence[int]) -> int | None:
        parts: tuple[Part, ...] = compare_turn(before, [attempts[at] for at in order], instruction, folders)
        watch = until_answered(on_text, ["best"])
        completion = agent.complete([Message("user", parts)], sampling, watch)
        answer = watch.read(completion.text).answer or {}
        number = re.search(r"\d{1,4}", text_or_none(answer.get("best")) or "")
        place = int(number.group()) if number else 0
        return order[place - 1] if 1 <= place <= len(order) else None

    last = len(attempts) - 1
    with kept_loaded(agent):
        found = named(range(len(attempts)))
        if found is None or found == last:
            return last + 1
        # Of two attempts, one order was the first question.
        pairs = [(found, last), (last, found)] if last > 1 else [(last, found)]
        return (found if all(named(pair) == found for pair in pairs) else last) + 1
