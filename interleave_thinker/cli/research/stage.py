"""Common parts of the stages of `interleave-thinker data`: options, no overwriting, counts of dropped records."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...files import write_atomically
from ...research.data.records import DataError, Drops
from ..config_file import add_config, read_options, save_options


def add_stage_options(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None]) -> None:
    add_config(parser)
    parser.add_argument("--resume", action="store_true", help="go on in, or write anew, what is there already")
    parser.add_argument("--dry-run", action="store_true", help="say what it would do and take, and do nothing")
    parser.set_defaults(do=lambda options: _guarded(work, options))


def _guarded(work: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    try:
        work(options)
    except OSError as error:
        place = error.filename or getattr(options, "out", None) or "a file"
        raise DataError(f"Cannot write {place}: {error.strerror or error}. What is finished is kept.") from None
    return 0


def begin_stage(options: argparse.Namespace, target: Path, takes: str) -> bool:
    """Print `takes`, refuse to overwrite an output, save the options. Returns False for a dry run.

    target: the output's folder, or its .jsonl file.

    Raises:
        DataError: the target is there already and --resume was not given, or there is less than one worker.
    """
    workers = getattr(options, "workers", 1)
    if workers < 1:
        raise DataError(f"--workers is {workers}; at least 1 is needed.")
    print(takes, flush=True)
    if options.dry_run:
        return False
    is_file = target.suffix == ".jsonl"
    there = target.exists() if is_file else target.is_dir() and any(target.iterdir())
    if there and not options.resume:
        what = "is there already" if is_file else "is not empty"
        raise DataError(f"{target} {what}. Give --resume to go on or to write it anew, or another folder.")
    folder = target.parent if is_file else target
    folder.mkdir(parents=True, exist_ok=True)
    save_options(options, _options_file(options, folder))
    return True


def saved_options(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The options that this command had when it last wrote into `folder`; none if it never did."""
    path = _options_file(options, folder)
    return read_options(path) if path.is_file() else {}


def _options_file(options: argparse.Namespace, folder: Path) -> Path:
    return folder / f"{options.data_command}.config.yaml"


def write_drops(path: Path, drops: dict[str, Drops]) -> None:
    counted = {name: of.to_dict() for name, of in drops.items()}
    write_atomically(path, (json.dumps(counted, indent=2) + "\n").encode())
    for name, of in drops.items():
        print("\n".join([f"{name}: {of.lines()[0]}", *of.lines()[1:]]))
