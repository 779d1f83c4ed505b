"""Decode a reply with any model that computes logits, one token or several in a pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from copy import copy
from typing import TYPE_CHECKING, Protocol

from .base import Completion, Sampling, TextStream, check_logits
from .drafts import DRAFT, Drafts
from .picking import pick
from .reply_form import FormSteering
from .token_text import TokenText

if TYPE_CHECKING:
    import torch

NEAR, NEAR_IN_FLOAT32 = 4, 64
"""Steps of the number format by which logits may differ when several tokens are computed in one pass. In float32 the
differences of all layers add up: up to 20 steps were seen."""
LOOKED_AT = 32
"""How many of the likeliest tokens are looked at for the size of a step."""


class Decoder(Protocol):
    """A model after it has read a prompt.

    first: logits of the first token of the reply, (1, vocabulary). dtype: number format of the computation.
    """

    first: torch.Tensor
    dtype: torch.dtype

    @property
    def stop_tokens(self) -> Collection[int]: ...

    @property
    def takes_several(self) -> bool: ...

    def read(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append tokens to the cache; several only if `takes_several`. Returns the next token's logits after each of
        them, (tokens, vocabulary).
        """
        ...

    def forget(self, count: int) -> None:
        """Remove the last `count` tokens from the cache."""
        ...


def decode(
    decoder: Decoder,
    sampling: Sampling,
    stream: TextStream,
    text_of: Callable[[Sequence[int]], str],
    *,
    name: str,
    steering: FormSteering | None = None,
    drafts: Drafts | None = None,
    check: Callable[[], None] = lambda: None,
) -> Completion:
    """Write one reply, greedy or sampled.

    Where the decoder takes several tokens at once, what `drafts` guesses is read along, and counts as far as it is what
    is written anyway (speculative decoding; Leviathan et al., arXiv 2211.17192). name: of the agent. check: called at
    each token; its exception passes through.

    Raises:
        AgentError: the model computes no numbers.
    """
    text = TokenText(text_of)
    drafts = drafts or Drafts()
    read: list[int] = []
    rows, at = decoder.first, 0  # rows[i]: logits of what follows read[i]; at first, of what follows the prompt

    def done(*, cut_off: bool = False) -> Completion:
        if not stream.early and (rest := text.rest()):
            stream.push(rest, tokens=0)
        return stream.completion(cut_off=cut_off, log_odds=steering.log_odds if steering is not None else None)

    for place in range(sampling.max_tokens):
        check()
        check_logits(rows[at : at + 1], name)
        before = copy(steering)
        doubt = _doubt(rows[at], decoder.dtype) if len(rows) > 1 else 0.0
        token, in_doubt = _chosen(rows[at], sampling, place, steering, doubt)
        if in_doubt:
            read = read[at : at + 1]  # several tokens are added up in another order than one
            decoder.forget(len(rows) - at)
            rows, at, steering = decoder.read(read), 0, before
            token, _ = _chosen(rows[0], sampling, place, steering)
        if token in decoder.stop_tokens:
            return done()
        drafts.took(token)
        if steering is not None:
            steering.took(token)
        piece = text.add(token)
        if not piece:
            stream.count()
        elif not stream.push(piece):
            return done()
        if at + 1 < len(rows) and read[at + 1] == token:
            at += 1
        elif place + 1 < sampling.max_tokens:
            if len(rows) > at + 1:
                decoder.forget(len(rows) - at - 1)
            most = min(DRAFT, sampling.max_tokens - place - 1) if decoder.takes_several else 0
            read = [token, *drafts.guess(most)]
            rows, at = decoder.read(read), 0
    return done(cut_off=True)


def _chosen(
    logits: torch.Tensor, sampling: Sampling, place: int, steering: FormSteering | None, doubt: float = 0.0
) -> tuple[int, bool]:
    """The token that `pick` takes after steering, and whether the pick or the steering is in doubt."""
    if steering is None:
        return pick(logits, sampling, place, doubt)
    token, in_doubt = pick(steering.steered(logits), sampling, place, doubt)
    return token, in_doubt or steering.lead < doubt


def _doubt(logits: torch.Tensor, dtype: torch.dtype) -> float:
    """By how much two logits may differ and still change places when they are computed one at a time."""
    import torch

    steps = NEAR_IN_FLOAT32 if dtype == torch.float32 else NEAR
    likeliest = torch.topk(logits.float(), min(LOOKED_AT, logits.shape[-1])).values
    return steps * float(torch.finfo(dtype).eps) * max(1.0, float(likeliest.abs().max()))
