"""Rows of the tiny world to train on, and options of small trainings on the tiny critic."""

from __future__ import annotations

import json
import random
from pathlib import Path

from PIL import Image

from interleave_thinker.research.train.grpo import GrpoOptions
from interleave_thinker.research.train.models import ModelOptions
from interleave_thinker.research.train.sft import SftOptions
from interleave_thinker.resolve import GeneratorChoice
from interleave_thinker.tinyworld.lessons import PROMPTS, critic_lesson, rendered_case
from interleave_thinker.tinyworld.oracle import CheckerScorer

CRITIC = Path(__file__).parents[2] / "interleave_thinker" / "tinyworld" / "weights" / "critic"
BASE = CRITIC.parent / "base"


def write_rows(folder):
    """Twelve judged attempts on rendered pictures, as `data export` writes them."""
    (folder / "images").mkdir()
    rng, sft, rl = random.Random(7), [], []
    for n in range(12):
        case = rendered_case(rng)
        names = []
        for kind, image in (("before", case.before_image), ("after", case.after_image)):
            if image is not None:
                image.save(folder / "images" / f"{n}-{kind}.png")
            names.append(f"images/{n}-{kind}.png" if image is not None else "data/interleave/white.png")
        lesson = critic_lesson(case, PROMPTS)
        (folder / "data" / "interleave").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), "white").save(folder / "data" / "interleave" / "white.png")
        content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": lesson.parts[2]}]
        reply = [{"type": "text", "text": lesson.reply}]
        sft.append({"prompt": [{"role": "user", "content": content}],
                    "completion": [{"role": "assistant", "content": reply}], "images": names})  # fmt: skip
        score = CheckerScorer().score(case.before_image, case.after_image, case.prompt)
        rl.append({"id": str(n), "origin_prompt": case.prompt, "rewritten_prompt": case.used,
                   "origin_image_path": names[0], "edited_image_path": names[1],
                   "evaluation": {"semantics": score.semantics, "quality": score.quality, "success": case.right}})  # fmt: skip
    (folder / "critic_sft.jsonl").write_text("\n".join(map(json.dumps, sft)) + "\n")
    (folder / "critic_rl.jsonl").write_text("\n".join(map(json.dumps, rl)) + "\n")
    return folder


def sft_options(data, out, **more):
    base = ModelOptions(CRITIC, lora_rank=more.pop("lora_rank", 0))
    return SftOptions(base, data / "critic_sft.jsonl", out, batch=4, learning_rate=5e-4, log_every=1, **more)


def losses(out):
    return logged(out, "loss")


def logged(out, name):
    """What the trainer noted of each step."""
    return [float(e[name]) for e in json.loads((out / "history.json").read_text()) if "loss" in e]


def grpo_options(data, out, **more):
    values = {"group": 4, "batch": 8, "accumulate": 1, "steps": 2, "learning_rate": 1e-4, "max_tokens": 120} | more
    base = ModelOptions(CRITIC, lora_rank=values.pop("lora_rank", 0))
    return GrpoOptions(
        base, data / "critic_rl.jsonl", out, generator=GeneratorChoice("tiny"), temperature=1.3, **values
    )
