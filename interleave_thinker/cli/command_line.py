"""The command line.

interleave-thinker run --workflow workflows/api/tiny_story.json --request "..."
interleave-thinker wrap IN.json -o OUT.json
interleave-thinker unwrap IN.json -o OUT.json
interleave-thinker vram WORKFLOW [--models DIR] [--json F]
interleave-thinker doctor [WORKFLOW] [--seconds S] [--json F]
interleave-thinker export RUN --out FILE.html|zip|docx|mp4
interleave-thinker parse plan|judgment FILE
interleave-thinker prompts import CLONE --to FOLDER
interleave-thinker tinyworld install | train | attempts | average | eval
interleave-thinker data prompts | trajectories | from-runs | score | filter | planner | export
interleave-thinker sft planner | critic, grpo, ablate
interleave-thinker adapters extract | merge | export-comfy | check
interleave-thinker bench ueval | comm | wise | rise | viescore | tiny
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import re
import sys
from collections.abc import Sequence

from ..errors import InterleaveError
from ..printable import printable
from . import doctor, export, parse, prompts, run, tinyworld, vram, wrap
from .config_file import with_config

EXTRAS = {
    "accelerate": "transformers",
    "av": "export",
    "bitsandbytes": "quantization",
    "datasets": "train",
    "deepspeed": "deepspeed",
    "diffusers": "diffusers",
    "docx": "export",
    "json_repair": "transformers",
    "matplotlib": "bench",
    "openai": "server",
    "openpyxl": "bench",
    "peft": "transformers",
    "pyarrow": "bench",
    "ray": "ray",
    "rich": "bench",
    "scipy": "bench",
    "torch": "transformers",
    "torchvision": "transformers",
    "transformers": "transformers",
    "trl": "train",
    "vllm": "vllm",
}
"""Packages that some commands import, and the extra that installs each."""


def _missing_package(error: ImportError) -> str | None:
    """The package of an extra that is not installed; None where the error has another reason."""
    name = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError):
        return name if name in EXTRAS else None
    # transformers' own: "Qwen3VLVideoProcessor requires the Torchvision library but it was not found"
    found = re.search(r"requires the (\w+) library but it was not found", str(error))
    asked = found[1].lower() if found else ""
    return asked if asked in EXTRAS else None


def build_parser() -> argparse.ArgumentParser:
    """Of all commands; without those of the research where the package lacks them."""
    parser = argparse.ArgumentParser(prog="interleave-thinker", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for group in (run, wrap, vram, doctor, export, parse, prompts):
        group.add_commands(commands)
    tiny = tinyworld.add_commands(commands)
    try:
        research = importlib.import_module(".research", __package__)
    except ModuleNotFoundError as error:  # the registry's archive leaves it out
        if not str(error.name).startswith(f"{__package__}.research"):
            raise
    else:
        research.add_commands(commands, tiny)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; errors meant for the user are one line on stderr."""
    parser = build_parser()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character shows its code
    try:
        options = parser.parse_args(with_config(parser, sys.argv[1:] if arguments is None else arguments))
        code: int | None = options.do(options)
    except InterleaveError as error:
        print(f"Error: {printable(str(error), lines=True)}", file=sys.stderr)
        return 1
    except ImportError as error:
        package = _missing_package(error)
        if package is None:
            raise
        extra = EXTRAS[package]
        print(
            f"Error: this needs the package {package}. Install it: pip install 'interleave-thinker[{extra}]' "
            f"(in a clone: pip install -e '.[{extra}]').",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a file of the user's that cannot be read or written
        print(f"Error: {error.filename or 'A file'}: {error.strerror or error}.", file=sys.stderr)
        return 1
    return code or 0
