"""How good one attempt is, on VIEScore's scale (paper, section 4.2; VIEScore, section 3).

SC, semantic consistency: the least of how far the change succeeded and how well the rest was kept. PQ, perceptual
quality: the least of naturalness and freedom from artifacts. Each 0 to 10; overall = sqrt(SC * PQ).
A `Scorer` is an agent as judge, or a closed world's checker. What a judge cannot say is an error, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from ..agents.base import Agent, Completion, Message, Part, Sampling, identity, kept_loaded
from ..errors import AgentError
from ..reading.replies import read_or_repair
from .asking import ask_anew, describe_unreadable, until_answered
from .critic import white_canvas
from .prompt_files import fill, load_prompt

TRIES = 3
LOWEST, HIGHEST = 0.0, 10.0


class ScoreError(AgentError):
    """An attempt that could not be scored; it is left out and counted, never given a score."""


@dataclass(frozen=True)
class Score:
    """semantics (SC) and quality (PQ), each 0 to 10."""

    semantics: float
    quality: float

    def __post_init__(self) -> None:
        for name in ("semantics", "quality"):
            value = getattr(self, name)
            if not LOWEST <= value <= HIGHEST:  # also NaN
                raise ValueError(f"{name} is {value}; it must be between 0 and 10.")

    @property
    def overall(self) -> float:
        """sqrt(SC * PQ), 0 to 10."""
        return math.sqrt(self.semantics * self.quality)


class Scorer(Protocol):
    """Says how good an attempt is."""

    @property
    def name(self) -> str:
        """What identifies the judge in records; no secrets, no paths."""
        ...

    def score(self, before: Image.Image | None, after: Image.Image, instruction: str) -> Score:
        """Score an attempt at `instruction` (p_i, not the prompt that was used).

        before: None for a picture made from text alone.

        Raises:
            ScoreError: it cannot be scored.
            AgentError: the judge cannot be used at all.
        """
        ...


def scorer_identity(scorer: Scorer) -> str:
    """What tells two judges apart where scores are kept (`agents.base.identity`)."""
    return str(getattr(scorer, "identity", scorer.name))


@dataclass
class AgentScorer:
    """Any agent as judge; each of the two questions is asked up to `TRIES` times until the reply has its marks."""

    agent: Agent
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=1024))
    prompt_folders: Sequence[str | None] = ()

    @property
    def name(self) -> str:
        return f"judge {self.agent.name}"

    @property
    def identity(self) -> str:
        return f"judge {identity(self.agent)}"

    def score(self, before: Image.Image | None, after: Image.Image, instruction: str) -> Score:
        folders = [*self.prompt_folders, self.agent.prompts]
        before = white_canvas(after.size) if before is None else before
        asked = fill(load_prompt("score_sc", folders), original_instruction=instruction)
        with kept_loaded(self.agent):
            semantics = self._least((before, after, asked.rstrip()))
            quality = self._least((after, load_prompt("score_pq", folders).rstrip()))
        return Score(semantics, quality)

    def _least(self, parts: tuple[Part, ...]) -> float:
        def ask(sampling: Sampling) -> Completion:
            return self.agent.complete([Message("user", parts)], sampling, until_answered(None, ["score"]))

        asked = ask_anew(ask, lambda text: read_marks(text, 2), self.sampling, TRIES, warmer=0.7)
        if asked.value is None:
            raise ScoreError(f"the judge's reply has no two marks: {describe_unreadable(asked.completion)}")
        return min(asked.value)


def read_marks(raw: str, count: int) -> tuple[float, ...] | None:
    """`count` marks of 0 to 10 under "score" in a judge's reply, or None. Never raises, never guesses."""
    found = (read_or_repair(raw, ["score"]).answer or {}).get("score")
    marks = found if isinstance(found, (list, tuple)) else [found]
    if len(marks) != count:
        return None
    numbers = [m for m in marks if isinstance(m, (int, float)) and not isinstance(m, bool) and LOWEST <= m <= HIGHEST]
    return tuple(float(n) for n in numbers) if len(numbers) == count else None
