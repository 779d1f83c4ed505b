"""Supervised fine-tuning of planner or critic with TRL's SFTTrainer (paper, section 4.3; reference values in recipes/).

One user turn with pictures, one reply; the loss is on the reply only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...agents.transformers_agent import special_marks
from .batch_order import order_rows
from .models import (
    CHECKPOINTS,
    RunOptions,
    check_numbers,
    extra_missing,
    learn_in_float32,
    load_model,
    lora,
    prompt_texts,
    run,
    save_result,
    start_from_file,
)
from .rows import check_questions, dataset, plain_rows, sft_rows

LEAST_LENGTH = 64
"""Tokens of a row: pictures are cut off with the text."""


@dataclass(frozen=True)
class SftOptions(RunOptions):
    """max_length: tokens of a row with its pictures; a longer one is cut. warmup: share of the steps, or how many."""

    epochs: float = 2.0
    batch: int = 2
    learning_rate: float = 2e-5
    schedule: str = "cosine"
    weight_decay: float = 1e-6
    save_every: int = 500
    warmup: float = 0.1
    max_length: int = 16384

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, warmup=(0, 1e12), max_length=(LEAST_LENGTH, 1e9))


def trainer_arguments(options: SftOptions) -> Any:
    """TRL's SFTConfig.

    Raises:
        TrainError: TRL is missing.
    """
    try:
        from trl import SFTConfig
    except ImportError as error:
        raise extra_missing(error) from None
    return SFTConfig(
        **options.arguments(),
        train_sampling_strategy="sequential",
        warmup_steps=int(options.warmup) if options.warmup >= 1 else options.warmup,
        max_length=options.max_length,
        completion_only_loss=True,
    )


def fine_tune(options: SftOptions, log: Callable[[str], None] = print) -> Path:
    """Train and save; returns the folder of the result. See `models.run` for going on after a kill.

    Raises:
        TrainError: bad rows, or a training that is there already.
        AgentError: the base model cannot be loaded.
    """
    options.check_packages()
    rows, dropped = sft_rows(options.data)
    if options.base.model.is_dir():  # else load_model says what it lacks
        check_questions(rows, prompt_texts(options.base, options.prompts))
    log(f"{len(rows)} rows" + "".join(f"; {n} left out: {why}" for why, n in dropped.items()))
    arguments = trainer_arguments(options)
    arguments.max_steps, order = order_rows(
        [len(row["images"]) for row in rows],
        options.batch * options.accumulate * arguments.world_size,
        options.seed,
        epochs=options.epochs,
        steps=options.steps,
    )
    from trl import SFTTrainer

    class Trainer(SFTTrainer):  # type: ignore[misc,unused-ignore]
        """Logs passes over the rows as epochs: by itself it takes the whole planned order for one."""

        def log(self, logs: dict[str, float], *rest: Any) -> None:
            share = self.state.epoch
            if share is not None:
                self.state.epoch = share * len(order) / len(rows)
            super().log(logs, *rest)
            self.state.epoch = share

    model, processor = load_model(options.base, arguments)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=dataset(plain_rows(rows, special_marks(processor.tokenizer))).select(order),
        processing_class=processor,
        peft_config=lora(options.base),
    )
    if options.base.start_adapter is not None:
        start_from_file(trainer.model, options.base.start_adapter)
    learn_in_float32(trainer)
    run(trainer, options.out / CHECKPOINTS, options.resume)
    return save_result(trainer, processor, options.base, options.out, options.prompts)
