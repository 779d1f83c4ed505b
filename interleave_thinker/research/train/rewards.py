"""Rewards of single-step GRPO for the critic (paper, section 4.3), as pure functions.

A response is worth R = 0.5 * F + 0.5 * (verdict and step), in three variants:

paper   F in {0, 1}; R_acc = -|verdict - J| in {-1, 0}; R_step = O_new - O_old in points;
        R = 0.5 F + 0.5 (0.2 R_acc + 0.8 R_step)
code    the released code: acc in {0, 1}; dX = ((X_new - X_old) / 10 + 1) / 2 for X = SC and PQ, 0.5 where there is no
        score; R = 0.5 F + 0.5 (0.2 acc + 0.6 dSC + 0.2 dPQ). It reads replies in its own way (`read_as_released`).
ours    0 without the form; else R = 0.1 F + 0.5 acc + 0.4 refine, all in [0, 1] and with the ceiling 1 for both labels.
        For a good attempt, refine is 1 if it is accepted and 0 if it is rejected (a needless rewrite earns nothing).
        For a bad attempt, refine is 0 if it is accepted, and (1 + gain) / 2 if it is rejected, less a cost for words
        that were changed in vain.

Where an image could not be generated or scored, or came too late, `code` pays 0.5 for each d, as released. The other
variants have no reward for it (`pays_without_score`): `reward` is not called, and the trainer masks the response.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...reading.judgments import MAX_PROMPT, read_judgment
from ...reading.loose_json import repair
from ...roles.scorer import HIGHEST, Score

Variant = Literal["paper", "code", "ours"]
Part = Literal["format", "accuracy", "step"]

ALPHA = 0.2
"""Share of the accuracy within the second half (paper, equation of R)."""
VAIN = 0.1
"""Cost of a rewrite that changed every word and improved nothing."""
VERDICT, PROMPT = "previous_step_success", "refine_prompt"
"""Keys of an answer."""
_ANSWER = re.compile(r"<\s*answer\s*>(.*?)<\s*/\s*answer\s*>", re.DOTALL)
_TAG = r"<\s*{}\s*>"


@dataclass(frozen=True)
class Response:
    """A critic's response as it is read. verdict: None where it cannot be read. prompt: the refined prompt."""

    formatted: bool
    verdict: bool | None
    prompt: str


@dataclass(frozen=True)
class Outcome:
    """A response to a state, and its result.

    label: J, whether the attempt of the state was a success. used: the prompt r^t that made it. old: its score.
    new: score of the image of the refined prompt; None where no image was to be made.
    """

    response: Response
    label: bool
    used: str
    old: Score
    new: Score | None = None


def read_response(raw: str, variant: Variant = "ours") -> Response:
    """The response's verdict and refined prompt, and whether it keeps to the form.

    `code` reads as the released code does (`read_as_released`); the others read as in use, and want the exact form.
    """
    if variant == "code":
        return read_as_released(raw)
    judgment = read_judgment(raw)
    verdict = judgment.accepted if judgment.parsed else None
    return Response(is_formatted(raw), verdict, judgment.refined_prompt.strip())


def is_formatted(raw: str) -> bool:
    """Whether a reply has exactly the form (R_format), so that a trained critic's replies need no repair in use.

    The form: one <think> block, then one <answer> block with the two keys, of the right types, and nothing else.
    """
    import json

    text = raw.strip()
    if not (text.startswith("<think>") and text.count("<think>") == text.count("</think>") == 1):
        return False
    if text.count("<answer>") != 1 or text.count("</answer>") != 1 or not text.endswith("</answer>"):
        return False
    before, _, body = text.partition("<answer>")
    if not before.rstrip().endswith("</think>"):
        return False
    try:
        return _has_keys(json.loads(body.removesuffix("</answer>")))
    except (ValueError, RecursionError):
        return False


def read_as_released(raw: str) -> Response:
    """A response as the released reward reads it.

    The first <answer> block counts, and json_repair reads it: Python literals, a Markdown fence, a missing brace. Text
    around the block, such as an end mark, does not matter, nor does a missing <think>; one behind <answer> breaks the
    form. Not taken over: the released code also deletes blanks around each "/" in the prompt.
    """
    found = _ANSWER.search(raw)
    if found is None:
        return Response(False, None, "")
    answer = repair(found[1].strip())
    if not isinstance(answer, dict):
        return Response(False, None, "")
    thinks, answers = (re.search(_TAG.format(name), raw, re.IGNORECASE) for name in ("think", "answer"))
    in_order = thinks is None or (answers is not None and thinks.start() < answers.start())
    verdict, prompt = answer.get(VERDICT), answer.get(PROMPT)
    return Response(
        in_order and _has_keys(answer),
        bool(verdict) if isinstance(verdict, (bool, int)) and verdict in (0, 1) else None,
        prompt[:MAX_PROMPT].encode("utf-8", "replace").decode().strip() if isinstance(prompt, str) else "",
    )


def _has_keys(answer: Any) -> bool:
    """Whether an answer has both keys with values of their types."""
    return isinstance(answer, dict) and isinstance(answer.get(VERDICT), bool) and isinstance(answer.get(PROMPT), str)


def needs_image(response: Response, label: bool, variant: Variant) -> bool:
    """Whether this response has to be tried with the generator.

    code: whenever J is false, whatever the verdict. paper: whenever the response rejects. ours: where rejecting is
    right; the rest earns the same with any picture.
    """
    if variant == "code":
        return not label
    rejects = response.verdict is False
    return rejects and (variant == "paper" or not label)


def next_prompt(response: Response, used: str) -> str:
    """The generator's next prompt after this response: an empty refined prompt keeps the previous one."""
    return response.prompt or used


def pays_without_score(variant: Variant) -> bool:
    """Whether a response is paid though its image has no score: failed, late or unreadable to the judge."""
    return variant == "code"


def reward(outcome: Outcome, variant: Variant, without: Sequence[Part] = ()) -> float:
    """The value of a response (see above); `without` leaves parts out, for ablations."""
    form = float(outcome.response.formatted)
    half = {"paper": _paper, "code": _code, "ours": _ours}[variant]
    return half(outcome, form, tuple(without))


def _paper(outcome: Outcome, form: float, without: tuple[Part, ...]) -> float:
    wrong = 0.0 if outcome.response.verdict is outcome.label else 1.0
    step = 0.0 if outcome.new is None else outcome.new.overall - outcome.old.overall
    parts = {"format": 0.5 * form, "accuracy": 0.5 * ALPHA * -wrong, "step": 0.5 * (1 - ALPHA) * step}
    return sum(value for name, value in parts.items() if name not in without)


def _code(outcome: Outcome, form: float, without: tuple[Part, ...]) -> float:
    right = float(outcome.response.verdict is outcome.label)
    new, old = outcome.new, outcome.old
    semantics = 0.5 if new is None else normalised(new.semantics - old.semantics)
    quality = 0.5 if new is None else normalised(new.quality - old.quality)
    parts = {"format": 0.5 * form, "accuracy": 0.5 * ALPHA * right, "step": 0.5 * (0.6 * semantics + 0.2 * quality)}
    return sum(value for name, value in parts.items() if name not in without)


def _ours(outcome: Outcome, form: float, without: tuple[Part, ...]) -> float:
    if not form and "format" not in without:
        return 0.0
    right = float(outcome.response.verdict is outcome.label)
    parts = {"format": 0.1 * form, "accuracy": 0.5 * right, "step": 0.4 * _refinement(outcome)}
    return sum(value for name, value in parts.items() if name not in without)


def _refinement(outcome: Outcome) -> float:
    verdict, new = outcome.response.verdict, outcome.new
    if outcome.label or verdict is not False:
        return float(outcome.label and verdict is True)
    if new is None:
        return 0.0
    gained = gain(outcome.old, new)
    vain = 0.0 if gained > 0 else VAIN * changed_share(outcome.used, next_prompt(outcome.response, outcome.used))
    return max(0.0, (1 + gained) / 2 - vain)


def normalised(difference: float) -> float:
    """A difference of -10 to 10 points as 0 to 1; 0.5 is no change (released code)."""
    return (difference / HIGHEST + 1) / 2


def gain(old: Score, new: Score) -> float:
    """-1 to 1: the gained share of the points that were missing, or the lost share of the points that were there."""
    change = new.overall - old.overall
    room = HIGHEST - old.overall if change > 0 else old.overall
    return max(-1.0, min(1.0, change / room)) if room > 0 else 0.0


def changed_share(before: str, after: str) -> float:
    """Share of the words of both prompts that the other lacks (with their counts), 0 to 1."""
    from collections import Counter

    a, b = Counter(before.lower().split()), Counter(after.lower().split())
    total = sum((a | b).values())
    return sum(((a - b) + (b - a)).values()) / total if total else 0.0
