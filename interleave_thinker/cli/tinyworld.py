"""`interleave-thinker tinyworld install`: the tiny world's models in a ComfyUI. Its training is `cli/research`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import ConfigError


def add_commands(commands: Any) -> Any:
    """Returns the sub-commands, for those of the training."""
    world = commands.add_parser("tinyworld", help="the small closed world: models for a CPU, with ground truth")
    tiny = world.add_subparsers(dest="what", required=True)
    _add_install(tiny)
    return tiny


def _add_install(commands: Any) -> None:
    install = commands.add_parser("install", help="put the tiny models into a ComfyUI's model folders")
    install.add_argument("--comfyui", type=Path, required=True, help="the ComfyUI folder")
    install.add_argument("--weights", type=Path, help="other weights than those of the package")
    install.set_defaults(do=_install)


def _install(options: argparse.Namespace) -> None:
    from ..tinyworld.convert import WEIGHTS, install

    if not (options.comfyui / "main.py").is_file():
        raise ConfigError(f"{options.comfyui} is not a ComfyUI folder: it has no main.py.")
    for path in install(options.comfyui / "models", options.weights or WEIGHTS):
        print(f"Wrote {path}")
