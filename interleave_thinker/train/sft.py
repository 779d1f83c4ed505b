"""Supervised fine-tuning of planner or critic with TRL's SFTTrainer (paper, section 4.3; reference values in recipes/).

One user turn with pictures, one reply; the loss is on the reply only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .models import CHECKPOINTS, ModelOptions, TrainError, load_model, lora, run, save_result, use_bf16
from .rows import dataset, sft_rows


@dataclass(frozen=True)
class SftOptions:
    """batch: rows a device and step; times accumulate and devices it is the global batch. max_length: tokens of a row
    with its pictures; a longer one is cut. steps: 0 for `epochs` whole passes. prompts: folder that is kept with the
    model; default: the base model's own. warmup: share of the steps. save_every: steps between checkpoints.
    """

    base: ModelOptions
    data: Path
    out: Path
    epochs: float = 2.0
    steps: int = 0
    batch: int = 2
    accumulate: int = 1
    learning_rate: float = 2e-5
    schedule: str = "cosine"
    warmup: float = 0.1
    weight_decay: float = 1e-6
    max_length: int = 16384
    save_every: int = 500
    log_every: int = 10
    seed: int = 0
    deepspeed: Path | None = None
    prompts: Path | None = None
    resume: bool = False
    report_to: tuple[str, ...] = field(default=())


def fine_tune(options: SftOptions, said: Callable[[str], None] = print) -> Path:
    """Train and save; returns the folder of the result. See `models.run` for going on after a kill.

    Raises:
        TrainError: bad rows, or a training that is there already.
        AgentError: the base model cannot be loaded.
    """
    rows, dropped = sft_rows(options.data)
    said(f"{len(rows)} rows" + "".join(f"; {n} left out: {why}" for why, n in dropped.items()))
    try:
        import torch
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise TrainError(
            f"Training needs the extra 'train': pip install 'interleave-thinker[train]' ({error})."
        ) from None
    model, processor = load_model(options.base)
    arguments = SFTConfig(
        output_dir=str(options.out / CHECKPOINTS),
        num_train_epochs=options.epochs,
        max_steps=options.steps or -1,
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=options.accumulate,
        learning_rate=options.learning_rate,
        lr_scheduler_type=options.schedule,
        warmup_steps=int(options.warmup) if options.warmup >= 1 else options.warmup,
        weight_decay=options.weight_decay,
        max_length=options.max_length,
        completion_only_loss=True,
        bf16=use_bf16(options.base.precision),
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=options.base.gradient_checkpointing,
        logging_steps=options.log_every,
        logging_first_step=True,
        save_steps=options.save_every,
        save_total_limit=2,
        seed=options.seed,
        deepspeed=str(options.deepspeed) if options.deepspeed else None,
        report_to=list(options.report_to),
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset(rows),
        processing_class=processor,
        peft_config=lora(options.base),
    )
    run(trainer, options.out / CHECKPOINTS, options.resume)
    return save_result(trainer, processor, options.base, options.out, options.prompts)
