"""`interleave-thinker sft`, `grpo`: from exported rows to a trained agent."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from ...agents.adapter_folder import base_of, weight_files
from ...errors import ConfigError
from ...research.train.costs import PICTURE_SECONDS, Work, costs
from ...research.train.grpo import GrpoOptions, too_few
from ...research.train.layout import Asked, Shape, layout
from ...research.train.models import ModelOptions, Precision
from ...research.train.rewards import Part, Variant
from ...research.train.rows import sft_rows, states
from ...research.train.sft import SftOptions
from ...resolve import SCORER_HELP
from ..config_file import add_config, read_options, save_options
from ..options import (
    add_endpoints,
    add_generator_options,
    add_seed,
    add_workers,
    generator_choice,
    model_folder,
)
from .ray_options import add_ray_options, ray_workers


def add_commands(commands: Any) -> None:
    _add_sft(commands)
    _add_grpo(commands)


def _add_sft(commands: Any) -> None:
    sft = commands.add_parser(
        "sft",
        help="supervised fine-tuning of planner or critic",
        description="TRL's SFTTrainer on rows of `data export --format trl`; the loss is on the reply only. Several "
        "processes: accelerate launch -m interleave_thinker.cli sft ... (docs/training.md).",
    )
    sft.add_argument("role", choices=["planner", "critic"], help="what is trained; names the data's file by default")
    sft.add_argument("--data", type=Path, required=True, help="folder of an export, or a file of rows")
    _add_model(sft)
    sft.add_argument(
        "--start-adapter",
        type=Path,
        help="with --lora-rank: begin as this adapter file (adapters extract), not at zero",
    )
    sft.add_argument("--epochs", type=float, default=2.0)
    sft.add_argument("--batch", type=int, default=2, help="rows a device and step")
    sft.add_argument("--accumulate", type=int, default=1, help="steps of which gradients are added up")
    sft.add_argument("--learning-rate", type=float, default=2e-5)
    sft.add_argument("--schedule", default="cosine")
    sft.add_argument("--warmup", type=float, default=0.1, help="share of the steps, or their number")
    sft.add_argument("--weight-decay", type=float, default=1e-6)
    sft.add_argument("--max-length", type=int, default=16384, help="tokens of a row with its pictures")
    _add_running(sft, save_every=500, log_every=10)
    sft.set_defaults(do=_sft)


def _add_grpo(commands: Any) -> None:
    grpo = commands.add_parser(
        "grpo",
        help="single-step GRPO of the critic",
        description="TRL's GRPOTrainer on states of `data export --format rl`. Each refined prompt is tried once with "
        "the generator; what fails is masked (--reward code pays it as no change, as released).",
    )
    grpo.add_argument("--data", type=Path, required=True, help="folder of an export, or a file of states")
    _add_model(grpo)
    add_generator_options(grpo, required=True, several_servers=True, output_saved_as=None)
    add_ray_options(grpo, "generators")
    add_workers(
        grpo,
        "generator calls at a time; with --ray alone, workers on the CPU",
        default=8,
    )
    grpo.add_argument("--timeout", type=float, default=120.0, help="seconds for a picture, then it has failed")
    grpo.add_argument(
        "--reward-cache",
        type=Path,
        help="folder of scores that are kept for --resume and other trainings; default: OUT/rewards",
    )
    grpo.add_argument("--judge", required=True, help=SCORER_HELP)
    add_endpoints(grpo)
    grpo.add_argument("--reward", choices=get_args(Variant), default="ours", help="whose (docs/training_reference.md)")
    grpo.add_argument("--without", action="append", choices=get_args(Part), default=[], help="a part to leave out")
    grpo.add_argument("--group", type=int, default=8, help="responses to a state")
    grpo.add_argument("--batch", type=int, default=8, help="responses a device and step")
    grpo.add_argument("--accumulate", type=int, default=16, help="steps of which gradients are added up")
    grpo.add_argument("--epochs", type=float, default=1.0)
    grpo.add_argument("--learning-rate", type=float, default=2e-6)
    grpo.add_argument("--schedule", default="constant")
    grpo.add_argument("--weight-decay", type=float, default=1e-2)
    grpo.add_argument("--kl", type=float, default=1e-3, help="weight of the divergence from the start (code: 0)")
    grpo.add_argument("--temperature", type=float, default=1.0)
    grpo.add_argument("--max-tokens", type=int, default=4096, help="of a response")
    grpo.add_argument("--generator-seed", type=int, default=0, help="of every picture")
    grpo.add_argument("--vllm", choices=["colocate", "server"], help="rollouts by vLLM")
    grpo.add_argument("--vllm-memory", type=float, default=0.3, help="share of a GPU that vLLM takes (0.3)")
    grpo.add_argument(
        "--vllm-context", type=int, default=0, help="tokens of question and response; 0: the model's most"
    )
    grpo.add_argument("--vllm-tensor-parallel", type=int, default=1, help="GPUs that share one copy of vLLM's model")
    grpo.add_argument("--vllm-server", default="", help="address of trl vllm-serve, for --vllm server")
    _add_running(grpo, save_every=50, log_every=1)
    grpo.add_argument(
        "--picture-seconds", type=float, default=PICTURE_SECONDS, help="for --dry-run: what a picture takes (2.3)"
    )
    grpo.add_argument("--judge-price", type=float, default=0.0, help="for --dry-run: of a call")
    grpo.set_defaults(do=_grpo)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", type=model_folder, required=True, help="a Qwen3-VL folder to start from, or tiny (the tiny world's)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints, history and result")
    parser.add_argument("--lora-rank", type=int, default=0, help="0 trains the weights themselves")
    parser.add_argument("--lora-alpha", type=int, default=0, help="default: twice the rank")
    parser.add_argument("--lora-dropout", type=float, default=0.0)
    parser.add_argument(
        "--quantize", choices=["4bit"], default="", help="with --lora-rank: frozen weights in 4 bits (QLoRA)"
    )
    parser.add_argument("--train-vision", action="store_true", help="vision tower and projector learn too")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto")
    parser.add_argument("--max-pixels", type=int, default=1024 * 1024, help="a larger picture is scaled down")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="less memory, more time")
    parser.add_argument("--prompts", type=Path, help="folder of prompt texts; default: the model's own")


def _add_running(parser: argparse.ArgumentParser, *, save_every: int, log_every: int) -> None:
    parser.add_argument("--steps", type=int, default=0, help="instead of epochs")
    add_seed(parser)
    parser.add_argument("--save-every", type=int, default=save_every, help="steps between checkpoints")
    parser.add_argument("--log-every", type=int, default=log_every)
    parser.add_argument("--deepspeed", type=Path, help="a JSON of DeepSpeed's; with accelerate launch its YAML does")
    parser.add_argument("--report-to", action="append", default=[], help="wandb, tensorboard, ...; repeatable")
    add_config(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--dry-run", action="store_true", help="check the data, say what it would take, do nothing")
    parser.add_argument("--count", type=int, help="for --dry-run: so many rows or states, instead of reading --data")
    parser.add_argument("--train-gpus", type=int, help="for --dry-run: how many GPUs train")
    parser.add_argument("--gpu-gb", type=float, help="for --dry-run: memory of each")
    parser.add_argument(
        "--beside-gb",
        type=float,
        default=0.0,
        help="for --dry-run: memory of each that something else takes, such as ComfyUI",
    )


def _sft(options: argparse.Namespace) -> None:
    chosen = SftOptions(
        _model(options),
        _file(options.data, f"{options.role}_sft.jsonl"),
        options.out,
        **_values(
            options,
            "epochs steps batch accumulate learning_rate schedule warmup weight_decay max_length save_every log_every "
            "seed deepspeed prompts resume",
        ),
        report_to=tuple(options.report_to),
    )
    if options.dry_run:
        left_out = ""
        if options.count is None:
            rows, dropped = sft_rows(chosen.data)
            left_out = f", {sum(dropped.values())} left out" if dropped else ""
        count = _count(options) or len(rows)
        in_a_step = chosen.batch * chosen.accumulate * (options.train_gpus or 1)
        steps = chosen.steps or math.ceil(count * chosen.epochs / in_a_step)
        print(f"{count} rows{left_out}; {steps} steps on {_devices(options)}; {_disk(options)}")
        _print_layout(options, Asked(**_rows_asked(options, SFT_REPLY), all_logits=True))
        return
    _keep(options, f"sft-{options.role}")
    from ...research.train.sft import fine_tune

    _print_result(fine_tune(chosen))


def _grpo(options: argparse.Namespace) -> None:
    chosen = GrpoOptions(
        _model(options),
        _file(options.data, "critic_rl.jsonl"),
        options.out,
        generator=generator_choice(options),
        variant=options.reward,
        without=tuple(options.without),
        ray_workers=tuple(ray_workers(options)),
        **_values(
            options,
            "group batch accumulate epochs steps learning_rate schedule weight_decay kl temperature max_tokens "
            "generator_seed workers timeout reward_cache save_every log_every seed deepspeed prompts resume "
            "vllm_memory vllm_context vllm_tensor_parallel vllm_server",
        ),
        vllm=options.vllm or "",
        report_to=tuple(options.report_to),
    )
    if options.dry_run:
        count = _count(options) or len(states(chosen.data, chosen.prompts)[0])
        on_one = chosen.batch * chosen.accumulate
        in_a_step = on_one * (options.train_gpus or 1)
        if in_a_step % chosen.group:
            raise ConfigError(
                f"batch x accumulate x devices is {in_a_step}, and must be a multiple of group ({chosen.group}): the "
                "responses to a state are compared within a step."
            )
        steps = chosen.steps or int(count * chosen.group // in_a_step * chosen.epochs)
        calls = steps * in_a_step
        print(
            f"{count} states; {steps} steps on {_devices(options)}, at most {calls} generator and {2 * calls} judge "
            f"calls; {_disk(options)}"
        )
        if count * chosen.group < in_a_step:
            print(f"Will not run: {too_few(count, in_a_step // chosen.group)}")
        beside = chosen.vllm == "colocate"
        asked = Asked(
            **_rows_asked(options, chosen.max_tokens),
            written=0 if chosen.vllm else on_one,
            reference=bool(chosen.kl),
            vllm_memory=chosen.vllm_memory if beside else 0.0,
            vllm_context=chosen.vllm_context if beside else 0,
            vllm_tensor_parallel=chosen.vllm_tensor_parallel,
        )
        _print_layout(options, asked)
        _print_costs(options, asked, calls // chosen.group)
        return
    _keep(options, "grpo")
    from ...research.train.grpo import train_critic
    from ...resolve import scorer_from

    _print_result(train_critic(chosen, lambda: scorer_from(options.judge, endpoints=options.endpoints)))


SFT_REPLY = 1024
"""Tokens of a reply that is learned, for the arithmetic of --dry-run."""
LAYOUTS = ((8, 80.0), (1, 24.0))
"""GPUs and their memory in GB, where the command names none."""
LARGE_GB = 40.0
"""Memory from which a GPU counts as a data centre's, for its speed."""


def _count(options: argparse.Namespace) -> int:
    """Rows that --count names, or 0.

    Raises:
        ConfigError: it is less than 1.
    """
    if options.count is not None and options.count < 1:
        raise ConfigError(f"--count is {options.count}; it must be 1 or more.")
    return int(options.count or 0)


def _devices(options: argparse.Namespace) -> str:
    count = options.train_gpus or 1
    return "one device" if count == 1 else f"{count} devices"


def _rows_asked(options: argparse.Namespace, reply: int) -> dict[str, Any]:
    return {
        "rows": options.batch,
        "reply": reply,
        "max_pixels": options.max_pixels,
        "lora_rank": options.lora_rank,
        "quantized": bool(options.quantize),
        "beside_gb": options.beside_gb,
        "in_float32": options.precision == "fp32",
        "checkpointing": options.gradient_checkpointing,
    }


def _print_layout(options: argparse.Namespace, asked: Asked) -> None:
    """Memory of each GPU, for the GPUs that are named, or for two usual machines."""
    gpus, size = options.train_gpus, options.gpu_gb
    if (gpus is not None and gpus < 1) or (size is not None and not 0 < size < 1e6):
        raise ConfigError(f"--train-gpus is {gpus} and --gpu-gb {size}; both must be more than 0.")
    if not 0 <= options.beside_gb < 1e6:
        raise ConfigError(f"--beside-gb is {options.beside_gb}; it must be 0 or more.")
    folder = base_of(options.model)
    if not (folder / "config.json").is_file():
        print(f"Memory of a GPU: not computed, there is no {folder / 'config.json'}.")
        return
    shape = Shape.of(folder)
    if gpus is not None or size is not None:
        _print_lines(layout(shape, asked, gpus or 1, size or 80.0).lines())
        return
    for count, memory in LAYOUTS:
        found = layout(shape, asked, count, memory)
        _print_lines(found.lines())
        if found.problems and count == 1:
            small = _for_a_small_gpu(asked)
            print("\nWith an adapter on weights in 4 bits, smaller pictures and replies (as recipes/grpo_24gb.yaml):")
            _print_lines(layout(shape, small, count, memory).lines())


def _for_a_small_gpu(asked: Asked) -> Asked:
    """What recipes/grpo_24gb.yaml changes for one GPU of 24 GB."""
    writes = asked.written or asked.vllm_memory
    return replace(
        asked,
        rows=1,
        reply=1024,
        max_pixels=512 * 512,
        lora_rank=32,
        quantized=True,
        checkpointing=True,
        written=8 if writes else 0,
        reference=False,
        vllm_memory=0.0,
    )


def _print_costs(options: argparse.Namespace, asked: Asked, states: int) -> None:
    """Hours of a GRPO training, on the GPUs that are named, or on one of 80 GB."""
    folder = base_of(options.model)
    if not (folder / "config.json").is_file():
        return
    if not 0 < options.picture_seconds < 1e9 or not 0 <= options.judge_price < 1e9:
        raise ConfigError(
            f"--picture-seconds is {options.picture_seconds} and --judge-price {options.judge_price}; seconds must be "
            "more than 0, and a price not less."
        )
    servers = max(1, len(options.server), options.gpus)
    work = Work(
        states,
        options.group,
        asked.question,
        options.train_gpus or 1,
        (options.gpu_gb or 80.0) < LARGE_GB,
        servers,
        bool(options.vllm),
        asked.checkpointing,
        asked.reference and not asked.lora_rank,
        options.picture_seconds,
        options.judge_price,
    )
    _print_lines(costs(Shape.of(folder), work))


def _print_lines(lines: list[str]) -> None:
    print("\n" + "\n".join(lines))


def _print_result(folder: Path) -> None:
    from ...research.train.models import is_main_process

    if is_main_process():  # one line for all processes of a training
        print(f"Wrote {folder}")


def _model(options: argparse.Namespace) -> ModelOptions:
    names = "model lora_rank lora_alpha lora_dropout train_vision precision max_pixels gradient_checkpointing quantize"
    return ModelOptions(**_values(options, names), start_adapter=getattr(options, "start_adapter", None))


def _values(options: argparse.Namespace, names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names.split()}


def _file(path: Path, name: str) -> Path:
    return path / name if path.is_dir() else path


THE_SAME = ("model", "lora_rank", "batch", "accumulate", "group", "seed")
"""Options that a training goes on with as it was begun: the order of its rows and the shape of its weights."""


def _keep(options: argparse.Namespace, name: str) -> None:
    """Save the options beside the output.

    Raises:
        ConfigError: a training that is resumed was begun with others.
    """
    kept = options.out / f"{name}.config.yaml"
    if options.resume and kept.is_file() and any(options.out.glob("checkpoints/checkpoint-*")):
        before = read_options(kept)
        for option in THE_SAME:
            was, now = before.get(option.replace("_", "-")), getattr(options, option, None)
            if was is not None and now is not None and Path(str(was)).name != Path(str(now)).name:  # of a path the name
                raise ConfigError(
                    f"--{option.replace('_', '-')} is {now}, and the training in {options.out} was begun with {was}. "
                    "Go on with that, or train into another folder."
                )
    if options.count is not None:
        raise ConfigError("--count stands in for the data in --dry-run only; a training reads all of --data.")
    options.out.mkdir(parents=True, exist_ok=True)
    save_options(options, kept)


def _disk(options: argparse.Namespace) -> str:
    weights = _size(options.model)
    if not weights and (base_of(options.model) / "config.json").is_file():  # not downloaded yet
        weights = 2 * Shape.of(base_of(options.model)).parameters / 2**30
    # Whole weights and two moments of Adam, in float32.
    kept = 3 * weights * _halves(options.model) if not options.lora_rank else 0.05 * weights
    return f"about {2 * kept + weights:.2g} GB for two checkpoints and the result"


def _halves(folder: Path) -> int:
    """How many times as large the weights are in float32."""
    try:
        config = json.loads((base_of(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 1
    return 1 if (config.get("dtype") or config.get("torch_dtype")) == "float32" else 2


def _size(folder: Path) -> float:
    return sum(p.stat().st_size for p in weight_files(folder)) / 2**30
