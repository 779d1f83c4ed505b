"""`interleave-thinker prompts`: the prompt texts of planner and critic."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..roles.prompt_files import import_official


def add_commands(commands: Any) -> None:
    prompts = commands.add_parser("prompts", help="prompt texts").add_subparsers(dest="what", required=True)
    imported = prompts.add_parser(
        "import", help="copy the prompts of your own clone of the official repository into your prompt folder"
    )
    imported.add_argument("clone", type=Path, help="folder of the clone (it holds UEval/system.py)")
    imported.add_argument("--comfyui", type=Path, help="your ComfyUI folder: its nodes then use these prompts")
    imported.add_argument("--to", type=Path, help="any other folder; default ~/.config/interleave-thinker/prompts")
    imported.set_defaults(do=_import_prompts)


def _import_prompts(options: argparse.Namespace) -> int:
    target = options.to or Path.home() / ".config" / "interleave-thinker" / "prompts"
    if options.comfyui:
        target = options.comfyui / "user" / "interleave_thinker" / "prompts"
    for path in import_official(options.clone, target):
        print(f"Wrote {path}")
    return 0
