"""Choose the next token: the likeliest, or a draw whose noise depends on seed, place and token alone.

So a reply has the same tokens, however many of them are computed in one pass.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Sampling

if TYPE_CHECKING:
    import torch

COLDEST = 1e-6
"""A temperature up to it is greedy: logits divided by less overflow."""
COMPARED = 1024
"""Of more tokens than these, each with each other, it is always in doubt which one is drawn."""
BORDER = 64
"""Tokens behind the last of the top_k that are looked at where it is doubtful which is the last."""


def pick(logits: torch.Tensor, sampling: Sampling, place: int, doubt: float = 0.0) -> tuple[int, bool]:
    """The token at `place` of the reply, counted from 0, and whether it is in doubt.

    logits: (vocabulary). A draw takes top_k (0: all), then top_p of the tempered distribution, then the largest sum of
    log-probability and Gumbel noise (Gumbel, 1954), which draws each token with its probability. doubt: by how much two
    logits may move against each other when they are computed anew; True where that may make another token of it.
    """
    import torch

    if sampling.temperature <= COLDEST:
        values, ids = torch.topk(logits.float(), min(2, logits.shape[-1]))
        return int(ids[0]), _lead(values) < doubt
    doubt /= sampling.temperature
    most = min(sampling.top_k, logits.shape[-1]) if sampling.top_k > 0 else logits.shape[-1]
    values, ids = torch.topk(logits.float() / sampling.temperature, min(most + bool(doubt) * BORDER, logits.shape[-1]))
    chances = torch.softmax(values[:most], -1)
    noisy = values + _noise(sampling.seed, place, ids.tolist()).to(values.device)
    kept = noisy[:most].masked_fill(chances.cumsum(-1) - chances >= max(sampling.top_p, 1e-9), float("-inf"))
    best = int(kept.argmax())
    in_doubt = bool(doubt) and (most > COMPARED or _may_change(values, noisy, best, most, sampling.top_p, doubt))
    return int(ids[best]), in_doubt


def _may_change(values: torch.Tensor, noisy: torch.Tensor, best: int, most: int, top_p: float, doubt: float) -> bool:
    """Whether another token may be drawn where any two of the values move against each other by `doubt` at most.

    values: falling, more than `most` of them where there are more, so that those next to the border are among them.
    """
    import torch

    chances = torch.softmax(values[:most], -1)
    chances = torch.cat((chances, chances.new_zeros(len(values) - most)))
    apart = values[:, None] - values[None]  # [i, j]: by how much i is likelier than j
    fewest = chances @ (apart > doubt).float()  # chances of those that surely come before each
    largest = chances @ (apart >= -doubt).float() - chances
    slack = doubt / 2
    next_value = values[most] if len(values) > most else float("-inf")
    possible = (values >= values[most - 1] - doubt) & (fewest - slack < top_p)
    sure = (values > next_value + doubt) & ((largest + slack < top_p) | (top_p >= 1))
    rivals = possible & (noisy > noisy[best] - doubt)
    rivals[best] = False
    unseen = bool(possible[-1]) and len(values) > most
    return bool(rivals.any()) or not bool(sure[best]) or unseen


def _noise(seed: int, place: int, tokens: Sequence[int]) -> torch.Tensor:
    """Gumbel noise of each token, whatever rank it has."""
    import torch

    even = [_even(f"{seed}/{place}/{token}") for token in tokens]
    return torch.tensor([-math.log(-math.log(value)) for value in even])


def _even(text: str) -> float:
    """Between 0 and 1, both left out."""
    return (int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "little") + 0.5) / 2**48


def _lead(best: torch.Tensor) -> float:
    return float(best[0] - best[1]) if len(best) > 1 else float("inf")
