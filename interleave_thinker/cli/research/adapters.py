"""`interleave-thinker adapters`: what was trained, in the forms that ComfyUI takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ...errors import ConfigError
from ...research.train.adapters import Dtype
from ..config_file import add_config, save_options
from ..options import add_json, print_note, print_table, print_warning, write_figures
from .check_adapter import add_check

if TYPE_CHECKING:
    from ...research.train.extract import Extraction, Layer

SHOWN = 12
"""Layers of the printed table; all are in the file of `--json`."""


def add_commands(commands: Any) -> None:
    adapters = commands.add_parser("adapters", help="give a trained agent back to ComfyUI")
    commands = adapters.add_subparsers(dest="adapters_command", required=True)
    merged = commands.add_parser("merge", help="base + LoRA adapter -> a folder for Load Agent (models/VLM)")
    merged.add_argument("base", type=Path)
    merged.add_argument("adapter", type=Path)
    merged.add_argument("--out", type=Path, required=True, help="a new folder")
    comfy = commands.add_parser("export-comfy", help="a folder -> one file for Load CLIP (models/text_encoders)")
    comfy.add_argument("model", type=Path)
    comfy.add_argument("--adapter", type=Path, help="merge this into it first")
    comfy.add_argument("--lora", action="store_true", help="the adapter alone, for Agent from CLIP (models/loras)")
    comfy.add_argument("--out", type=Path, required=True, help="NAME.safetensors")
    for parser, do in ((merged, _merge), (comfy, _export), (_extract_command(commands), _extract)):
        parser.add_argument("--dtype", choices=get_args(Dtype), default="bfloat16")
        add_config(parser)
        parser.add_argument(
            "--resume", action="store_true", help="nothing to go on with: an output that is whole is kept"
        )
        parser.add_argument("--dry-run", action="store_true", help="say what it would write")
        parser.set_defaults(do=do)
    add_check(commands)


def _extract_command(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "extract",
        help="the difference of two checkpoints -> an adapter for Agent from CLIP (models/loras)",
        description="Low-rank pairs of the linear layers and embeddings, and constants, layer by layer; two "
        "8B checkpoints need under 6 GB of RAM. BASE and TUNED, the full model: a Qwen3-VL folder, or one file as "
        "stock Load CLIP takes it (bfloat16, not quantised).",
    )
    parser.add_argument("base", type=Path, metavar="BASE")
    parser.add_argument("tuned", type=Path, metavar="TUNED")
    parser.add_argument("--rank", type=int, default=0, help="largest rank of a layer")
    parser.add_argument(
        "--error",
        type=float,
        default=0.0,
        help="instead of --rank: the smallest rank of each layer whose relative error is at most this, such as 0.1",
    )
    parser.add_argument("--max-rank", type=int, default=256, help="largest rank of a layer with --error")
    parser.add_argument(
        "--linear-only",
        action="store_true",
        help="no pairs of embeddings and no constants: for programs that put pairs beside linear layers alone",
    )
    parser.add_argument("--out", type=Path, required=True, help="NAME.safetensors")
    add_json(parser)
    return parser


def _merge(options: argparse.Namespace) -> None:
    from ...research.train.adapters import merge

    if options.resume and (options.out / "config.json").is_file():
        print(f"{options.out} is there already")
        return
    print(f"{_size(options.base):.2f} GB of weights -> {options.out}")
    if not options.dry_run:
        merge(options.base, options.adapter, options.out, options.dtype)
        save_options(options, options.out / "merge.config.yaml")
        print(f"Wrote {options.out}")


def _export(options: argparse.Namespace) -> None:
    if options.lora and options.adapter is None:
        raise ConfigError("--lora writes an adapter alone: name its folder with --adapter.")
    if options.resume and options.out.is_file():
        print(f"{options.out} is there already")
        return
    print(f"{_size(options.adapter if options.lora else options.model):.2f} GB of weights -> {options.out}")
    if options.dry_run:
        return
    if options.lora:
        from ...research.train.checkpoint import Checkpoint
        from ...research.train.peft_pairs import export_lora

        warnings = export_lora(Checkpoint.open(options.model), options.adapter, options.out, options.dtype)
    else:
        from ...research.train.adapters import export_comfy

        warning = export_comfy(options.model, options.out, options.dtype, options.adapter)
        warnings = [warning] if warning else []
    save_options(options, options.out.with_suffix(".config.yaml"))
    print(f"Wrote {options.out}")
    for warning in warnings:
        print_warning(warning)


def _extract(options: argparse.Namespace) -> None:
    from ...research.train.checkpoint import Checkpoint
    from ...research.train.extract import asked, bytes_at, check_choice, check_made, check_same_model, extract

    check_choice(options.rank, options.error, options.max_rank)
    base, tuned = Checkpoint.open(options.base), Checkpoint.open(options.tuned)
    if options.resume and options.out.is_file():
        chosen = asked(options.rank, options.error, options.max_rank, options.dtype, options.linear_only)
        check_made(base, tuned, options.out, chosen)
        print(f"{options.out} is there already")
        return
    check_same_model(base, tuned)
    itemsize = 4 if options.dtype == "float32" else 2
    most = bytes_at(base, options.rank or options.max_rank, itemsize, options.linear_only)
    layers = len(base.paired(options.linear_only))
    print(
        f"{(base.bytes + tuned.bytes) / 2**30:.2f} GB of weights, {layers} layers -> {options.out}, "
        f"at most {most / 1e6:.1f} MB"
    )
    if options.dry_run:
        return
    made = extract(
        base,
        tuned,
        options.out,
        rank=options.rank,
        error=options.error,
        max_rank=options.max_rank,
        dtype=options.dtype,
        linear_only=options.linear_only,
        on_layer=_progress(layers),
    )
    save_options(options, options.out.with_suffix(".config.yaml"))
    _print_extraction(made, options.error)
    if options.json:
        write_figures(options.json, made.to_dict())
    print(f"Wrote {options.out}")


def _progress(layers: int) -> Callable[[Layer], None]:
    """Prints a line at each tenth of the layers."""
    done = 0

    def told(layer: Layer) -> None:
        nonlocal done
        done += 1
        if done * 10 // layers > (done - 1) * 10 // layers:
            print(f"{done}/{layers} {layer.layer} rank {layer.rank} error {layer.error:.4f}", flush=True)

    return told


def _print_extraction(made: Extraction, error: float) -> None:
    from ...research.train.extract import KINDS

    worst = sorted(made.layers, key=lambda layer: -layer.error)
    if worst:
        rows = [(f.layer, " x ".join(map(str, f.shape)), str(f.rank), f"{f.error:.4f}") for f in worst[:SHOWN]]
        print_table([("layer, the worst first", "size", "rank", "relative error"), *rows])
    if len(worst) > SHOWN:
        print(f"... and {len(worst) - SHOWN} more, all with an error below")
    ranks = [f.rank for f in made.layers]
    pairs = f"{len(ranks)} layers of rank {min(ranks)} to {max(ranks)}" if ranks else "No pairs"
    print(f"{pairs}, {made.bytes / 1e6:.1f} MB. Relative error of all: {made.error:.4f}")
    if made.constants:
        print(f"Constants, of biases and of norms, exactly: {len(made.constants)} layers")
    if made.folded:
        print(f"Norms that layers behind them take up, exactly: {len(made.folded)}")
    over = sum(layer.error > error for layer in made.layers) if error else 0
    if over:
        print_warning(
            f"{over} layers are above {error}: give a larger --max-rank, or --dtype float32 for a small error."
        )
    for left in made.dropped:
        of = "of a base that is zero there" if left.change is None else f"changed by {left.change:.4f} of the base's"
        print_note(f"left out: {left.kind}, {left.parameters} numbers, {of}. {KINDS[left.kind]}")


def _size(folder: Path) -> float:
    """GB of weights, of a folder or one file."""
    files = folder.glob("*.safetensors") if folder.is_dir() else [folder] if folder.is_file() else []
    return sum(p.stat().st_size for p in files) / 2**30
