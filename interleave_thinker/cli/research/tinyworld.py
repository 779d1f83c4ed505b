"""`interleave-thinker tinyworld ...`: train, attempts, lessons, average, eval."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...resolve import load_pipeline
from ..options import add_json, add_seed


def add_commands(commands: Any) -> None:
    """commands: the sub-commands of `tinyworld`."""
    _add_train(commands)
    _add_attempts(commands)
    _add_lessons(commands)
    _add_average(commands)
    _add_eval(commands)


def _add_train(commands: Any) -> None:
    train = commands.add_parser("train", help="train one of the tiny models; the same command resumes")
    train.add_argument("model", choices=["vae", "generator", "critic", "planner", "base"])
    train.add_argument("--out", type=Path, required=True, help="folder for checkpoints and results")
    train.add_argument("--steps", type=int, help="default: what the weights of the package were trained with")
    train.add_argument("--batch", type=int)
    train.add_argument("--learning-rate", type=float)
    add_seed(train)
    train.add_argument("--tokenizer", type=Path, help="generator: a CLIP tokenizer folder")
    train.add_argument("--attempts", type=Path, nargs="+", default=[], help="critic: folders of `tinyworld attempts`")
    train.add_argument(
        "--unknown-words",
        "--strangers",
        dest="strangers",
        metavar="SHARE",
        type=float,
        default=0.5,
        help="generator: share of lessons that may hold unknown words",
    )
    train.add_argument("--right-share", type=float, default=0.5, help="critic: of right attempts; less is stricter")
    train.add_argument("--start-from", type=Path, help="a trained folder to go on from")
    train.add_argument(
        "--lora-rank", type=int, help="critic, planner: train an adapter of the model of --start-from, of this rank"
    )
    train.add_argument("--start-adapter", type=Path, help="with --lora-rank: an adapter's .safetensors to go on from")
    train.add_argument(
        "--teacher", type=Path, help="with --lora-rank: learn the replies of this model, not the ground truth"
    )
    train.add_argument(
        "--compare-every", type=int, default=7, help="with --lora-rank, critic: of so many batches one has comparisons"
    )
    train.set_defaults(do=_train)


def _train(options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    if options.model in ("vae", "generator"):
        from ...research.tinyworld.train_generator import TrainOptions, train_transformer, train_vae
        from ...tinyworld.convert import WEIGHTS

        steps, batch, rate = (3000, 48, 2e-3) if options.model == "vae" else (5500, 64, 1e-3)
        chosen = TrainOptions(
            options.out,
            options.steps or steps,
            options.batch or batch,
            options.learning_rate or rate,
            options.seed,
            start_from=options.start_from,
            unknown_words=options.strangers,
        )
        if options.model == "vae":
            train_vae(chosen)
        else:
            train_transformer(chosen, options.tokenizer or WEIGHTS / "generator" / "tokenizer")
        return
    from ...research.tinyworld.sft import train_agent

    if options.model == "critic" and not options.attempts:
        raise ConfigError("The critic learns from real attempts: give --attempts (see `tinyworld attempts`).")
    if options.lora_rank is not None:
        _train_adapter(options)
        return
    if options.start_adapter or options.teacher:
        raise ConfigError("--start-adapter and --teacher are for an adapter: give --lora-rank too.")
    steps, batch, rate = (1200, 32, 8e-4) if options.model == "planner" else (1500, 48, 1e-3)
    train_agent(
        options.model,
        options.out,
        options.steps or steps,
        batch=options.batch or batch,
        learning_rate=options.learning_rate or rate,
        seed=options.seed,
        attempts=options.attempts,
        start_from=options.start_from,
        right_share=options.right_share,
    )


def _train_adapter(options: argparse.Namespace) -> None:
    from ...research.tinyworld.train_adapter import AdapterOptions, train_adapter
    from ...research.train.on_cpu import quicken

    if options.start_from is None:
        raise ConfigError("An adapter is added to a model: give its folder as --start-from.")
    if options.compare_every < 1:
        raise ConfigError(f"--compare-every is {options.compare_every}; it must be at least 1.")
    if not 1 <= options.lora_rank <= 1024:
        raise ConfigError(f"--lora-rank is {options.lora_rank}; it must be between 1 and 1024.")
    steps, batch, rate = (600, 16, 3e-3) if options.model == "planner" else (1000, 32, 1e-3)
    folder = train_adapter(
        AdapterOptions(
            options.model,
            options.start_from,
            options.out,
            options.lora_rank,
            options.steps or steps,
            options.batch or batch,
            options.learning_rate or rate,
            options.seed,
            start=options.start_adapter,
            teacher=options.teacher,
            attempts=options.attempts,
            right_share=options.right_share,
            compare_every=options.compare_every,
            on_cpu=quicken,
        )
    )
    print(f"Wrote {folder}")


def _add_attempts(commands: Any) -> None:
    attempts = commands.add_parser("attempts", help="let the generator make attempts for the critic to learn from")
    attempts.add_argument("--out", type=Path, required=True)
    attempts.add_argument("--count", type=int, default=6000)
    add_seed(attempts)
    attempts.add_argument("--generator", type=Path, help="pipeline folder; default: that of the package")
    attempts.add_argument("--critic", type=Path, help="a critic's folder: attempts as the loop makes them with it")
    attempts.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="of the generator; bfloat16 may be faster"
    )
    attempts.set_defaults(do=_attempts)


def _attempts(options: argparse.Namespace) -> None:
    from ...research.tinyworld.attempts import make_attempts
    from ...research.tinyworld.loop_attempts import make_loop_attempts
    from ...tinyworld.convert import WEIGHTS

    folder = options.generator or WEIGHTS / "generator"
    pipeline = load_pipeline(folder, dtype=options.dtype, device="cpu").pipeline
    if options.critic:
        made = make_loop_attempts(pipeline, options.critic, options.out, options.count, options.seed)
    else:
        made = make_attempts(pipeline, options.out, options.count, options.seed)
    print(f"{made} attempts in {options.out}")


def _add_lessons(commands: Any) -> None:
    lessons = commands.add_parser(
        "lessons", help="rows for `sft critic` from the attempts of a data set, also restated"
    )
    lessons.add_argument("data", type=Path, nargs="+", help="folders of `data score` or `tinyworld attempts`")
    lessons.add_argument("--out", type=Path, required=True, help="folder for lesson_sft.jsonl and its pictures")
    lessons.add_argument("--count", type=int, default=26000, help="rows that judge an attempt")
    lessons.add_argument("--compare", type=int, default=0, help="further rows that compare the attempts at a step")
    lessons.add_argument("--right-share", type=float, default=0.5, help="of right attempts; less is stricter")
    add_seed(lessons)
    lessons.set_defaults(do=_lessons)


def _lessons(options: argparse.Namespace) -> None:
    from ...research.tinyworld.lesson_rows import write_lessons
    from ...tinyworld.lessons import PROMPTS

    file = write_lessons(
        options.data,
        options.out,
        options.count,
        options.seed,
        PROMPTS,
        comparisons=options.compare,
        right_share=options.right_share,
    )
    print(f"Wrote {file}")


def _add_average(commands: Any) -> None:
    mean = commands.add_parser("average", help="the mean of the weights of two or more trainings of one model")
    mean.add_argument("models", type=Path, nargs="+", help="model folders")
    mean.add_argument("--out", type=Path, required=True)
    mean.set_defaults(do=_average)


def _average(options: argparse.Namespace) -> None:
    from ...research.tinyworld.weight_average import average

    average(options.models, options.out)
    print(f"Wrote {options.out}")


def _add_eval(commands: Any) -> None:
    evaluate = commands.add_parser("eval", help="planner, critic and loop on held-out requests, by the checker")
    evaluate.add_argument("--requests", type=int, default=200)
    add_seed(evaluate, "seed of the held-out requests")
    evaluate.add_argument("--t-max", default="1,3,5", help="values of T_max, separated by commas")
    add_json(evaluate)
    evaluate.add_argument("--weights", type=Path, help="other weights than those of the package")
    evaluate.set_defaults(do=_eval)


def _eval(options: argparse.Namespace) -> None:
    import json

    from ...research.tinyworld.evaluate import evaluate, table
    from ...tinyworld.convert import WEIGHTS

    limits = [int(t) for t in options.t_max.split(",")]
    figures = evaluate(options.weights or WEIGHTS, options.requests, options.seed, limits)
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
