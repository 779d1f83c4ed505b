"""`interleave-thinker export`: the document of a saved run as a file to pass on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..export.formats import FORMATS, export_run
from ..export.page import LAYOUTS, PageOptions
from ..files import write_atomically
from ..printable import printable


def add_commands(commands: Any) -> None:
    command = commands.add_parser("export", help="the document of a saved run as a page, ZIP, Word file or video")
    command.add_argument("run", type=Path, help="folder of a run, such as ComfyUI/output/interleave/story")
    shown = "file to write, whose ending says the format (" + ", ".join(FORMATS) + "); with --format also a folder"
    command.add_argument("--out", "-o", type=Path, required=True, help=shown)
    command.add_argument("--format", choices=FORMATS, help="of the file that is written into the folder --out")
    command.add_argument("--layout", choices=LAYOUTS, default="story", help="of HTML, ZIP and Word (default story)")
    command.add_argument("--title", default="", help="in place of the planner's")
    command.add_argument("--lead", default="", help="a sentence or two below the title, in place of the planner's")
    command.add_argument("--language", default="", help="such as en or pt-BR; without it the texts tell")
    command.add_argument("--details", action="store_true", help="say also how it was made: attempts, prompts, verdicts")
    shown = "put the editor's workflow into the pictures of HTML and ZIP; without it they hold pixels alone"
    command.add_argument("--with-workflow", action="store_true", help=shown)
    command.set_defaults(do=_export)


def _export(options: argparse.Namespace) -> int:
    out: Path = options.out
    ending = "" if out.is_dir() else out.suffix.removeprefix(".").lower()
    form = options.format or ending
    if form not in FORMATS:
        raise ConfigError(f"{out} does not say the format: end it in one of {', '.join(FORMATS)}, or give --format.")
    if ending in FORMATS and ending != form:
        raise ConfigError(f"{out} ends in .{ending}, but --format is {form}. Leave --format out, or change the ending.")
    made = export_run(
        options.run,
        form,
        PageOptions(options.layout, options.details, options.language),
        title=options.title,
        lead=options.lead,
        with_graph=options.with_workflow,
    )
    path = out if ending else out / made.name
    write_atomically(path, made.data)
    print(printable(f"Written: {path} ({len(made.data) / 1e6:.1f} MB)"))
    return 0
