"""What the parts of `recipes/tiny.sh` gain on a CPU, each against what it replaces, in turn in one run.

    OMP_NUM_THREADS=1 python benchmarks/training_speed.py [--rounds 5]

- A step of SFT (32 judgments, forward and backward in bfloat16): Qwen3-VL as transformers computes it, and as
  `train/on_cpu.py` does.
- Pictures of the tiny generator, from text and edits: one at a time in float32, and 24 at a time in bfloat16.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch
from PIL import Image
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from interleave_thinker.research.tinyworld.sft import Collator
from interleave_thinker.research.train.on_cpu import quicken
from interleave_thinker.tinyworld.convert import WEIGHTS
from interleave_thinker.tinyworld.lessons import PROMPTS, critic_lesson, rendered_case
from interleave_thinker.tinyworld.pipeline import TinyKontextPipeline

ROWS, PICTURES = 32, 24


def step(quick: bool) -> Callable[[], None]:
    model = Qwen3VLForConditionalGeneration.from_pretrained(WEIGHTS / "base", dtype=torch.float32).train()
    if quick:
        quicken(model)
    rng = random.Random(0)
    lessons = [critic_lesson(rendered_case(rng), PROMPTS) for _ in range(ROWS)]
    batch = Collator(Qwen3VLProcessor.from_pretrained(WEIGHTS / "base"))(lessons)

    def work() -> None:
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()

    return work


def images(dtype: torch.dtype, at_a_time: int, edit: bool) -> Callable[[], None]:
    pipeline = TinyKontextPipeline.from_pretrained(WEIGHTS / "generator", torch_dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    start = [Image.new("RGB", (64, 64), "white")] * at_a_time if edit else None

    def work() -> None:
        for at in range(0, PICTURES, at_a_time):
            seeds = [torch.Generator().manual_seed(at + i) for i in range(at_a_time)]
            pipeline(["dye the disc azure"] * at_a_time, start, generator=seeds)

    return work


def compare(what: str, old: Callable[[], None], new: Callable[[], None], rounds: int) -> None:
    """In turn, after a first call that does not count; medians, and the median of the rounds' own ratios."""
    times: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        took = []
        for work in (old, new):
            begun = time.perf_counter()
            work()
            took.append(time.perf_counter() - begun)
        if number:
            times.append((took[0], took[1]))
    before, after = (statistics.median(t[i] for t in times) for i in (0, 1))
    ratios = [a / b for a, b in times]
    told = f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"{what}: {before:.3f} s before, {after:.3f} s now, {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    compare(f"SFT, a step of {ROWS} judgments", step(False), step(True), rounds)
    for edit in (False, True):
        old, new = images(torch.float32, 1, edit), images(torch.bfloat16, PICTURES, edit)
        compare(f"{PICTURES} pictures, {'edits' if edit else 'from text'}", old, new, rounds)


if __name__ == "__main__":
    main()
