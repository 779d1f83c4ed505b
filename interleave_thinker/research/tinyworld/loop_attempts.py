"""Attempts as the loop itself makes them, with a critic that rejects, rewrites and accepts; labelled by the checker.

    interleave-thinker tinyworld attempts --critic DIR --out DIR --count 8000

In use a critic meets other images than those of random walks: the loop tries again where the critic misread an image,
and goes on from an image that it wrongly accepted. Here it learns from attempts that came about in this way.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from ...agents.adapter_folder import load_weights
from ...agents.base import chat_content
from ...loop.trajectory import Judgment
from ...reading.judgments import read_judgment
from ...roles.critic import critic_turn, white_canvas
from ...tinyworld import checker
from ...tinyworld.language import scene_after
from ...tinyworld.pipeline import TinyKontextPipeline
from ...tinyworld.requests import draw_request
from ...tinyworld.scene import SIDE, Scene
from .attempts import attempt_record

STORIES = 64
T_MAX = 5
MAX_TOKENS = 96


def make_loop_attempts(pipeline: TinyKontextPipeline, critic: Path, out: Path, count: int, seed: int = 0) -> int:
    """Write PNGs and attempts.jsonl below `out`; resumes by appending. Returns how many there are.

    Each record has also `accepted`, the critic's verdict. An attempt is not recorded if the image that it starts from
    shows nothing of this world: it has no right result.
    """
    out.mkdir(parents=True, exist_ok=True)
    log = out / "attempts.jsonl"
    have = len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0
    judges = _Critics(critic)
    rng = random.Random(f"loop-attempts-{seed}-{have}")
    stories = [_Story(rng, have + STORIES + i) for i in range(STORIES)]  # above any of an earlier call
    while have < count:
        drawn = [s for s in stories if s.image is None]
        edited = [s for s in stories if s.image is not None]
        for group in filter(None, (drawn, edited)):
            made = pipeline(
                [s.used for s in group],
                None if group is drawn else [s.image for s in group],
                generator=[torch.Generator().manual_seed(rng.getrandbits(31)) for _ in group],
            ).images
            judgments = judges([(s.image, image, s.prompt, s.used) for s, image in zip(group, made, strict=True)])
            with log.open("a", encoding="utf-8") as lines:
                for story, image, judgment in zip(group, made, judgments, strict=True):
                    name = f"{have:06d}.png"
                    image.save(out / name)
                    lines.write(json.dumps(story.judged(image, name, judgment)) + "\n")
                    have += 1
        stories = [_Story(rng, have + STORIES + i) if s.ended else s for i, s in enumerate(stories)]
        print(f"attempts {have}/{count}", flush=True)
    return have


class _Story:
    """A request's right plan under way: the image before the current step, and the generator's next prompt."""

    def __init__(self, rng: random.Random, number: int):
        self.number, self.at, self.tried, self.ended = number, 0, 0, False
        self.before: Scene | None = None
        self.image: Image.Image | None = None
        self.file = ""
        self.prompts = [step.prompt for step in draw_request(rng, "story").plan.steps if step.prompt]
        self.used = self.prompts[0]

    @property
    def prompt(self) -> str:
        return self.prompts[self.at]

    def judged(self, image: Image.Image, file: str, judgment: Judgment) -> dict[str, Any]:
        """The record of an attempt. The story then goes on, or tries again, as the loop would."""
        after = checker.read(image).scene
        step = f"{self.number}-{self.at}"
        record = attempt_record(step, self.prompt, self.used, self.before, after, self.file, file)
        record["accepted"] = judgment.accepted
        self.tried += 1
        if not judgment.accepted and self.tried < T_MAX:
            self.used = judgment.refined_prompt or self.used
            return record
        self.at, self.tried = self.at + 1, 0
        self.before, self.image, self.file = after, image, file
        self.ended = self.at == len(self.prompts) or after is None or scene_after(self.prompt, after) is None
        if not self.ended:
            self.used = self.prompt
        return record


class _Critics:
    """One critic that answers many turns at once; an agent answers one."""

    def __init__(self, folder: Path):
        self.prompts = str(folder / "prompts")
        self.processor = Qwen3VLProcessor.from_pretrained(folder)
        self.processor.tokenizer.padding_side = "left"
        self.model = load_weights(Qwen3VLForConditionalGeneration, folder, torch.float32).eval()

    def __call__(self, asked: Sequence[tuple[Image.Image | None, Image.Image, str, str]]) -> list[Judgment]:
        texts: list[str] = []
        images: list[Image.Image] = []
        for before, after, prompt, used in asked:
            turn = critic_turn(before or white_canvas((SIDE, SIDE)), after, prompt, used, [self.prompts])
            content, shown = chat_content(turn)
            images += shown
            messages = [{"role": "user", "content": content}]
            texts.append(self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        batch = self.processor(text=texts, images=images, return_tensors="pt", padding=True)
        with torch.inference_mode():
            replies = self.model.generate(**batch, do_sample=False, max_new_tokens=MAX_TOKENS)
        replies = replies[:, batch["input_ids"].shape[1] :]
        return [read_judgment(t) for t in self.processor.batch_decode(replies, skip_special_tokens=True)]
