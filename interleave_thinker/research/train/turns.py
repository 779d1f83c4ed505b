"""Whose turn it is in SFT: rows with equally many pictures make a batch.

A batch is padded to its longest row, and a row that compares five attempts is three times as long as a judgment.
The order follows from the seed alone, so that a training goes on after a kill, and runs on several processes, as it
would have in one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence


def in_turn(
    pictures: Sequence[int], batch: int, seed: int = 0, *, epochs: float = 1.0, steps: int = 0
) -> tuple[int, list[int]]:
    """(steps, index of each row in its turn; steps x batch of them).

    pictures: how many each row has. batch: rows a step, over all devices. steps: instead of epochs.
    In each pass every row comes once; rows that fill no batch of their own kind share those between the kinds.
    """
    steps = steps or math.ceil(len(pictures) * epochs / batch)
    rng = random.Random(f"turns-{seed}")
    order: list[int] = []
    while len(order) < steps * batch:
        order += _one_pass(pictures, batch, rng)
    return steps, order[: steps * batch]


def _one_pass(pictures: Sequence[int], batch: int, rng: random.Random) -> list[int]:
    kinds: dict[int, list[int]] = {}
    for index in rng.sample(range(len(pictures)), len(pictures)):
        kinds.setdefault(pictures[index], []).append(index)
    batches, left = [], []
    for count in sorted(kinds):
        rows = kinds[count]
        whole = len(rows) // batch * batch
        batches += [rows[at : at + batch] for at in range(0, whole, batch)]
        left += rows[whole:]
    batches += [left[at : at + batch] for at in range(0, len(left), batch)]
    last = [batches.pop()] if batches and len(batches[-1]) < batch else []  # a short one ends the pass
    rng.shuffle(batches)
    return [index for rows in batches + last for index in rows]
