"""The order of rows in SFT: a batch has rows with equally many images.

A batch is padded to its longest row, and a row that compares five attempts is three times as long as a judgment. The
order follows from the seed alone, so a training goes on after a kill, and runs on several processes, with the batches
that it would have had in one piece.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence


def order_rows(
    image_counts: Sequence[int], batch: int, seed: int = 0, *, epochs: float = 1.0, steps: int = 0
) -> tuple[int, list[int]]:
    """(steps, indices of the rows in their order; steps x batch of them).

    image_counts: how many images each row has. batch: rows a step, over all devices. steps: instead of epochs.
    Each pass has every row once. Rows that are left over where a batch of one kind is not full make batches of several
    kinds.
    """
    steps = steps or math.ceil(len(image_counts) * epochs / batch)
    rng = random.Random(f"turns-{seed}")
    order: list[int] = []
    while len(order) < steps * batch:
        order += _one_pass(image_counts, batch, rng)
    return steps, order[: steps * batch]


def _one_pass(image_counts: Sequence[int], batch: int, rng: random.Random) -> list[int]:
    kinds: dict[int, list[int]] = {}
    for index in rng.sample(range(len(image_counts)), len(image_counts)):
        kinds.setdefault(image_counts[index], []).append(index)
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
