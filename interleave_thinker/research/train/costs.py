"""Hours and calls of a GRPO training, by arithmetic: for `--dry-run`.

Every rate here is an assumption that stands in the printed table, to be replaced by what your machine does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .layout import Shape

REPLY = 300
"""Tokens of a usual reply: a rejection with its refined prompt."""
WRITTEN = {"vllm": 1500.0, "": 200.0}
"""Tokens a second that a GPU writes for an 8B: vLLM with 16 replies at a time; transformers in 4 bits with 8."""
FLOPS, FLOPS_SMALL = 4e14, 5e13
"""Operations a second of a GPU while it learns: 40% of an H100's peak in bfloat16; 30% of a card's of 24 GB."""
PICTURE_SECONDS = 2.3
"""A picture of 1024 x 1024 in 4 steps, text encoder and VAE with it."""


@dataclass(frozen=True)
class Work:
    """states: each has `group` responses. question: tokens. servers: that draw at the same time."""

    states: int
    group: int
    question: int
    gpus: int
    small_gpus: bool
    servers: int
    vllm: bool
    checkpointing: bool
    reference: bool
    picture_seconds: float = PICTURE_SECONDS
    judge_price: float = 0.0

    @property
    def responses(self) -> int:
        return self.states * self.group


def costs(shape: Shape, work: Work) -> list[str]:
    """As Markdown: hours of each part, which follow each other in every step, and the judge's calls."""
    responses = work.responses
    rate = WRITTEN["vllm" if work.vllm else ""]
    flops = FLOPS_SMALL if work.small_gpus else FLOPS
    # TRL weighs what vLLM wrote by how likely the model itself finds it, which is one pass forward.
    passes = 6 + 2 * work.checkpointing + 2 * work.reference + 2 * work.vllm
    tokens = responses * (work.question + REPLY)
    billions = shape.parameters / 1e9
    hours = {
        "writing": responses * REPLY / rate / work.gpus / 3600,
        "learning": passes * shape.parameters * tokens / flops / work.gpus / 3600,
        "pictures": responses * work.picture_seconds / work.servers / 3600,
    }
    why = {
        "writing": f"{responses} replies x {REPLY} tokens / {rate:g} a second / {_gpus(work.gpus)}",
        "learning": f"{passes} x {billions:.1f} B x {tokens / 1e6:.0f} M tokens / {flops:.0e} a second / "
        f"{_gpus(work.gpus)}",
        "pictures": f"at most {responses} x {work.picture_seconds:g} s / {work.servers} "
        f"{'servers' if work.servers > 1 else 'server'}; where half of the states are failures, half of it",
    }
    lines = ["Time, by arithmetic:", "", "| | hours | |", "|---|---|---|"]
    lines += [f"| {part} | {hours[part]:.1f} | {why[part]} |" for part in hours]
    total = sum(hours.values())
    lines.append(f"| **sum** | **{total:.1f}** | {total * work.gpus:.0f} GPU hours |")
    return [*lines, "", *_judge(work)]


def _judge(work: Work) -> Sequence[str]:
    calls = 2 * work.responses
    price = f", ${calls * work.judge_price:,.0f} at ${work.judge_price:g} each" if work.judge_price else ""
    return [f"Judge: at most {calls} calls (two a picture){price}."]


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' * (count > 1)}"
