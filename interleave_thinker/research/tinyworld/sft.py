"""Supervised fine-tuning of the tiny agents with transformers' Trainer, not with TRL's SFTTrainer as `train/sft.py`.

TRL reads rows of a file; here lesson i is drawn when it is needed, from the seed and i. TRL's loss also counts the line
break that the chat template puts after a reply; the package's weights were trained with a loss that ends before it.

    interleave-thinker tinyworld train critic  --out DIR     (needs `tinyworld attempts` before)
    interleave-thinker tinyworld train planner --out DIR     (starts from the critic's weights, which can see)
    interleave-thinker tinyworld train base    --out DIR     (the model that `sft` and `grpo` start from)

Loss on the reply only. Checkpoints every few hundred steps; the same command goes on from the last.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from ...agents.adapter_folder import load_weights
from ...agents.base import chat_content
from ...tinyworld.lessons import (
    PROMPTS,
    Lesson,
    base_lesson,
    compare_lesson,
    critic_lesson,
    planner_lesson,
    rendered_case,
)
from .attempt_pool import AttemptPool
from .vlm import build_processor, new_model, save_agent, train_tokenizer

COMPARE_EVERY = 7
"""Every so many batches one has only comparisons of attempts, because their turns are three times as long."""


class Lessons(Dataset[Lesson]):
    """Lesson i is drawn from the seed and i alone, so a resumed training sees the same lessons."""

    def __init__(
        self,
        role: str,
        count: int,
        seed: int,
        batch: int,
        pool: AttemptPool | None = None,
        compare_every: int = COMPARE_EVERY,
    ):
        self.role, self.count, self.seed, self.batch, self.pool = role, count, seed, batch, pool
        self.compare_every = compare_every

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Lesson:
        rng = random.Random(f"train-{self.role}-{self.seed}-{index}")
        if self.role == "planner":
            return planner_lesson(rng, PROMPTS)
        if self.role == "base":
            return base_lesson(rng, PROMPTS)
        chance = rng.random()
        if self.pool is None:
            return critic_lesson(rendered_case(rng), PROMPTS)
        if index // self.batch % self.compare_every == self.compare_every - 1:
            return compare_lesson(self.pool.group(rng), PROMPTS)
        if chance < 0.12:
            return critic_lesson(rendered_case(rng), PROMPTS)
        if chance < 0.57:
            return critic_lesson(self.pool.balanced_case(rng), PROMPTS)
        return critic_lesson(self.pool.restated_case(rng), PROMPTS)


class Collator:
    """Lessons -> one padded batch; labels are -100 except on the reply."""

    def __init__(self, processor: Qwen3VLProcessor):
        self.processor = processor
        self.answer_start = processor.tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]

    def __call__(self, lessons: Sequence[Lesson]) -> dict[str, Tensor]:
        texts: list[str] = []
        images: list[Image.Image] = []
        for lesson in lessons:
            content, shown = chat_content(lesson.parts)
            images += shown
            turn = [{"role": "user", "content": content}]
            asked = self.processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            texts.append(asked + lesson.reply + "<|im_end|>")
        batch = self.processor(text=texts, images=images or None, return_tensors="pt", padding=True)
        labels = batch["input_ids"].clone()
        start = torch.tensor(self.answer_start)
        for row, ids in zip(labels, batch["input_ids"], strict=True):
            windows = ids.unfold(0, len(start), 1)
            at = int((windows == start).all(1).nonzero()[0]) + len(start)
            row[:at] = -100
        labels[batch["attention_mask"] == 0] = -100
        return {**batch, "labels": labels}


def train_agent(
    role: str,
    out: Path,
    steps: int,
    *,
    batch: int = 48,
    learning_rate: float = 1e-3,
    seed: int = 0,
    attempts: Sequence[Path] = (),
    start_from: Path | None = None,
    right_share: float = 0.5,
) -> None:
    """Train `role` ("critic", "planner" or "base") and save it as a folder `out / role`."""
    set_seed(seed)
    pool = AttemptPool(attempts, right_share) if attempts else None
    if start_from is not None:
        processor = Qwen3VLProcessor.from_pretrained(start_from)
        model = load_weights(Qwen3VLForConditionalGeneration, start_from, torch.float32)
    else:
        processor = build_processor(train_tokenizer(_sentences(seed)))
        model = new_model(processor.tokenizer)
    work = out / f"{role}-checkpoints"
    trainer = Trainer(
        model=model,
        args=training_arguments(work, steps, batch, learning_rate, seed),
        train_dataset=Lessons(role, steps * batch, seed, batch, pool),
        data_collator=Collator(processor),
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(work)) if work.is_dir() else None)
    save_agent(model.float(), processor, out / role)


def training_arguments(
    work: Path,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
    *,
    warmup: int = 100,
    weight_decay: float = 0.01,
    bf16: bool = True,
) -> TrainingArguments:
    """warmup: steps in which the learning rate rises."""
    return TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=warmup,
        weight_decay=weight_decay,
        adam_beta2=0.98,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=50,
        save_steps=250,
        save_total_limit=1,
        train_sampling_strategy="sequential",  # lessons are random already, and each batch is meant as it is
        seed=seed,
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _sentences(seed: int) -> list[str]:
    """The texts that the tokenizer is trained on: turns of both roles."""
    rng = random.Random(f"tokenizer-{seed}")
    out = []
    for _ in range(2500):
        for lesson in (planner_lesson(rng, PROMPTS), critic_lesson(rendered_case(rng), PROMPTS)):
            out += [p for p in lesson.parts if isinstance(p, str)] + [lesson.reply]
    return out
