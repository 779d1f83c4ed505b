"""How often a critic's verdict is the label (the accuracy that the paper's equation 3 rewards verdict by verdict)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...agents.base import Agent, Sampling, identity
from ...errors import AgentError, RunError
from ...files import hash_of
from ...roles.critic import judge
from ..answer_file import AnswerFile
from ..intervals import bootstrap, interval_by_rank
from .records import CriticRecord, DataError, open_image
from .scoring import HOPELESS

VERDICTS_FILE = "verdicts.jsonl"
KINDS = ("all", "drawn", "edited", "first", "later")
"""Of attempts: from text alone, from a picture, the first at its step, those after it."""
Counts = NDArray[np.int64]
"""Of a step: right attempts accepted, right attempts, wrong attempts rejected, wrong attempts."""


def agreement(
    critic: Agent,
    records: Sequence[CriticRecord],
    folder: Path,
    *,
    workers: int = 1,
    max_tokens: int = 4096,
    verdicts: AnswerFile | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Figures by kind of attempt; shares are in [0, 1], and None where there is nothing to share.

    max_tokens: of a reply. A reply that cannot be read, or is cut off, is a wrong verdict. An attempt whose picture
    cannot be read, or that the critic refuses, is counted and left out. verdicts: those that are there are not asked
    for; new ones are kept there.

    Raises:
        AgentError: the critic cannot be used: it refused `HOPELESS` attempts in a row, or all of them.
        DataError: no attempt is left.
        RunError: a verdict cannot be kept.
    """
    kept = verdicts or AnswerFile(None)
    refused: list[AgentError] = []  # in a row, up to now; appending and clearing are atomic

    def one(record: CriticRecord) -> tuple[bool, bool] | str:
        """(whether the verdict is the label, whether it could be read), or why it was not asked for."""
        try:
            before = open_image(folder, record.before) if record.before else None
            after = open_image(folder, record.after)
        except DataError as error:
            return str(error)
        pictures = [image and (image.size, hashlib.sha256(image.tobytes()).hexdigest()) for image in (before, after)]
        key = hash_of("verdict", identity(critic), pictures, record.prompt, record.used, max_tokens)
        match kept.known.get(key):
            case {"accepted": bool(accepted), "parsed": bool(parsed)}:
                return parsed and accepted == record.success, parsed
        if len(refused) >= HOPELESS:
            raise refused[-1]  # the critic is not asked any more
        try:
            judgment = judge(critic, before, after, record.prompt, record.used, sampling=Sampling(max_tokens))
        except AgentError as error:
            refused.append(error)
            return str(error)
        refused.clear()
        kept.keep(key, accepted=judgment.accepted, parsed=judgment.parsed)
        return judgment.parsed and judgment.accepted == record.success, judgment.parsed

    kinds: dict[str, dict[str, Counts]] = {}
    left_out: Counter[str] = Counter()
    unreadable = asked = 0
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number, (record, found) in enumerate(zip(records, pool.map(one, records), strict=True), 1):
                on_progress(number)
                if isinstance(found, str):
                    left_out[found] += 1
                    continue
                asked += 1
                unreadable += not found[1]
                at = 0 if record.success else 2
                for kind in (
                    "all",
                    "edited" if record.before else "drawn",
                    "first" if record.attempt == 1 else "later",
                ):
                    counts = kinds.setdefault(kind, {}).setdefault(record.group, np.zeros(4, np.int64))
                    counts[at : at + 2] += found[0], 1
        except (AgentError, RunError):
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if not asked and refused:
        raise refused[-1]
    if not asked:
        raise DataError(f"No attempt could be judged: {left_out or 'there is none'}.")
    return {
        "attempts": asked,
        "unreadable": unreadable,
        "left_out": dict(left_out),
        "kinds": {kind: _figures(np.stack(list(kinds[kind].values()))) for kind in KINDS if kind in kinds},
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"{figures['attempts']} attempts, {figures['unreadable']} replies that cannot be read",
        *(f"{count} left out: {why}" for why, count in figures["left_out"].items()),
        "",
        "| attempts | balanced accuracy | 95% interval | right accepted | wrong rejected |",
        "|---|---|---|---|---|",
    ]
    for kind, found in figures["kinds"].items():
        low, high = found["ci95"]
        right, wrong = (_share(found[name]) for name in ("right_accepted", "wrong_rejected"))
        balanced = "" if found["balanced_accuracy"] is None else f"{found['balanced_accuracy']:.1%}"
        lines.append(
            f"| {kind} | {balanced} | {'' if low is None else f'{low:.1%} to {high:.1%}'} | {right} | {wrong} |"
        )
    return "\n".join(lines)


def _share(counted: Sequence[int]) -> str:
    hit, of = counted
    return f"{hit} of {of}" + (f" ({hit / of:.1%})" if of else "")


def _figures(steps: Counts) -> dict[str, Any]:
    """The interval is a bootstrap over steps, because the attempts at one step are alike."""
    rng = np.random.default_rng(0)
    total = steps.sum(0)
    drawn = bootstrap(lambda: _balanced(steps[rng.integers(len(steps), size=len(steps))].sum(0)))
    return {
        "balanced_accuracy": _balanced(total),
        "ci95": list(interval_by_rank(drawn)) if drawn else [None, None],
        "right_accepted": [int(n) for n in total[:2]],
        "wrong_rejected": [int(n) for n in total[2:]],
    }


def _balanced(counts: Counts) -> float | None:
    """Mean of the shares of right and of wrong attempts that were judged so; None where there is none of one kind."""
    if not counts[1] or not counts[3]:
        return None
    return float(counts[0] / counts[1] + counts[2] / counts[3]) / 2
