"""Attempts at one step side by side: what `on_exhausted="best"` asks the critic (not in the paper).

A trajectory ends at its first success, so its last attempt is nearly always the best. Here attempts come in any order;
otherwise a critic would learn to answer "the last" without looking.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...roles.critic import compare_turn
from .export import WHITE, Conversation, ExportOptions, inside
from .filters import by_step
from .records import CriticRecord, Drops

MOST = 5
"""Attempts in one comparison; of more, so many are drawn at random."""
TIE = 0.5
"""Attempts within so many points of the highest overall score (0 to 10) are equally good; the last of them is right."""


def comparisons(records: Sequence[CriticRecord], options: ExportOptions, seed: int = 0) -> Iterator[Conversation]:
    """One conversation for each step with several scored attempts; it joins their reasoning."""
    for group in by_step(records, Drops()):
        if len(group) > 1:
            rng = random.Random(f"compare-{seed}-{group[0].group}")
            yield _conversation(rng.sample(group, min(MOST, len(group))), options)


def _conversation(tried: Sequence[CriticRecord], options: ExportOptions) -> Conversation:
    scores = [record.overall or 0.0 for record in tried]
    best = max(n for n, score in enumerate(scores, 1) if score >= max(scores) - TIE)
    before = Path(tried[0].before or WHITE)
    turn = compare_turn(before, [Path(r.after) for r in tried], tried[0].prompt, [options.prompts])
    reasoning = " ; ".join(f"{n} {record.reasoning}" for n, record in enumerate(tried, 1))
    return Conversation(turn, f"<think>{inside(reasoning)}</think><answer>{json.dumps({'best': best})}</answer>")
