"""Options that several commands have, each in one place.

An option with two spellings had one on some commands and the other elsewhere; all commands take both. The name under
which a command keeps its value is the older one, so that option files that were saved are read back.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contract import COMFYUI_ADDRESS, MAX_STEPS
from ..errors import ConfigError
from ..printable import printable
from ..resolve import GENERATOR_HELP, TINY, GeneratorChoice

TINY_SIZE = (64, 64)
TINY_MOST = 256
"""Size of the images of the tiny world."""
LONGEST_LINE = 2000
"""Characters of a line that repeats what a model, a server or a file said."""
LONGEST_CELL = 200
"""Characters of a cell; names of files are the user's or a workflow's."""


def add_seed(parser: argparse.ArgumentParser, help: str | None = None, *, default: int | None = 0) -> None:
    parser.add_argument("--seed", type=int, default=default, help=help)


def add_t_max(parser: argparse.ArgumentParser, default: int | None) -> None:
    shown = "" if default is None else f" (default {default})"
    parser.add_argument("--t-max", type=int, default=default, help=f"generator calls a step may take{shown}")


def add_max_steps(parser: argparse.ArgumentParser) -> None:
    shown = f"steps that a planner's plan may have (default {MAX_STEPS}, or what the folder's run was begun with)"
    parser.add_argument("--max-steps", type=int, help=shown)


def max_steps_of(options: argparse.Namespace, begun_with: object) -> int:
    """As typed; else as the run was begun, whose plans it is part of; else the default.

    begun_with: the number that the folder's run has, if it has one. Older versions had another default.

    Raises:
        ConfigError: it is less than 1.
    """
    if options.max_steps is not None and options.max_steps < 1:
        raise ConfigError(f"--max-steps is {options.max_steps}; it must be 1 or more.")
    if options.max_steps is not None:
        return int(options.max_steps)
    return begun_with if isinstance(begun_with, int) and not isinstance(begun_with, bool) else MAX_STEPS


def add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", help="WIDTHxHEIGHT of pictures made from text alone")


def add_endpoints(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--endpoints", type=Path, help="file of chat endpoints (docs/agents-server.md)")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cuda or cpu for local models; default: the best there is")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, help="write the figures here as well")


def write_figures(path: Path, figures: Mapping[str, Any]) -> None:
    """What `--json` asks for, with a line that says so.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.write_text(json.dumps(figures, ensure_ascii=False, indent=2) + "\n", "utf-8", "backslashreplace")
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from None
    print(f"Wrote {path}")


def add_workers(parser: argparse.ArgumentParser, help: str, *, default: int = 1, saved_as: str = "workers") -> None:
    """saved_as: the option's name in the parsed options and in files of them."""
    names = ("--workers", "--concurrency")
    parser.add_argument(*names, dest=saved_as, metavar="N", type=int, default=default, help=help)


def add_server(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    if several:
        shown = f"ComfyUI's address, repeatable ({COMFYUI_ADDRESS})"
        parser.add_argument("--server", action="append", default=[], help=shown)
    else:
        parser.add_argument("--server", default=COMFYUI_ADDRESS, help="address of ComfyUI")


def model_folder(text: str) -> Path:
    """For --model of a training: a folder, or `tiny` for the tiny world's base model."""
    folder = Path(text)
    if text != TINY or folder.exists():
        return folder
    from ..tinyworld.convert import WEIGHTS

    return WEIGHTS / "base"


def print_note(text: str) -> None:
    """What was done with a file beyond reading it."""
    print(f"Note: {printable(text, longest=LONGEST_LINE)}")


def print_warning(text: str) -> None:
    """What the user should do something about."""
    print(f"Warning: {printable(text, longest=LONGEST_LINE)}")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """rows: the first is the head; all have as many cells."""
    rows = [[printable(cell, longest=LONGEST_CELL) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def add_generator_options(
    parser: argparse.ArgumentParser, *, required: bool, several_servers: bool, output_saved_as: str | None
) -> None:
    """The generator and, for a ComfyUI workflow, its files, server and inputs.

    output_saved_as: the name of the output node in the parsed options; None for a command that does not ask for
    inputs and output, which then are found.
    """
    parser.add_argument("--generator", required=required, help=GENERATOR_HELP)
    parser.add_argument("--workflow", type=Path, help="ComfyUI workflow in API format")
    parser.add_argument("--edit-workflow", type=Path, help="another one for steps that edit a picture")
    if output_saved_as is not None:
        shown = "of the workflow's {}, where it is not found"
        for name in ("prompt", "seed", "image"):
            parser.add_argument(f"--{name}-input", metavar="NODE.input", help=f"NODE.input {shown.format(name)}")
        names = ("--output-node", "--output-input")
        parser.add_argument(*names, dest=output_saved_as, metavar="NODE", help=f"NODE {shown.format('output')}")
    add_server(parser, several=several_servers)


def generator_choice(options: argparse.Namespace, spec: str | None = None) -> GeneratorChoice:
    """The generator that the options of `add_generator_options` name. spec: its name, where the option may lack it."""
    given = vars(options)
    saved_as = {f"{name}_input": name for name in ("prompt", "seed", "image", "output")} | {"output_node": "output"}
    inputs = {name: given[key] for key, name in saved_as.items() if key in given}
    server = options.server if isinstance(options.server, str) else next(iter(options.server), COMFYUI_ADDRESS)
    return GeneratorChoice(
        spec or options.generator,
        options.workflow,
        options.edit_workflow,
        inputs,
        server,
        given.get("device"),
        given.get("dtype", "auto"),
    )


def size_for(generator: str | None, text: str | None) -> tuple[int, int] | None:
    """Width and height from --size; without it the tiny world's own for its generator, else None.

    Raises:
        ConfigError: see `size_from`; or the tiny generator is asked for more than it can draw.
    """
    size = size_from(text)
    if generator != TINY:
        return size
    if size is not None and max(size) > TINY_MOST:
        raise ConfigError(
            f"--size is {text!r}; the tiny generator learned pictures of 64x64, and draws at most "
            f"{TINY_MOST}x{TINY_MOST}."
        )
    return size or TINY_SIZE


def size_from(text: str | None) -> tuple[int, int] | None:
    """Width and height from "1024x1024".

    Raises:
        ConfigError: it is written otherwise, or outside 16 to 8192.
    """
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and 16 <= int(width) <= 8192 and 16 <= int(height) <= 8192):
        raise ConfigError(f"--size is {text!r}; write it as 1024x1024.")
    return int(width), int(height)
