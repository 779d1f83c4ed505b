"""`interleave-thinker wrap | unwrap`: put a loop around a workflow, and take it off again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..comfyui.find_inputs import find_inputs
from ..comfyui.workflow import load_workflow
from ..comfyui.wrap import AgentChoice, unwrap, wrap
from ..contract import PACKAGED_CLIP, T_MAX
from ..errors import ConfigError
from .options import add_t_max


def add_commands(commands: Any) -> None:
    put = commands.add_parser("wrap", help="put a loop around a workflow of yours (API format)")
    put.add_argument("workflow", type=Path)
    put.add_argument("-o", "--to", type=Path, required=True, help="where the wrapped workflow goes")
    put.add_argument("--prompt", metavar="NODE.input", help="the positive prompt, where it is not found")
    put.add_argument("--image", metavar="NODE.input", help="the reference picture")
    put.add_argument("--seed", metavar="NODE.input", help="the seed")
    put.add_argument("--output", metavar="NODE", help="the node that shows the result")
    put.add_argument("--agent", default=f"clip:{PACKAGED_CLIP}", help="clip:FILE, folder:NAME, server:NAME")
    put.add_argument("--critic", help="another agent for the critic")
    add_t_max(put, T_MAX)
    put.set_defaults(do=_wrap)
    take = commands.add_parser("unwrap", help="take the loop off again")
    take.add_argument("workflow", type=Path)
    take.add_argument("-o", "--to", type=Path, required=True)
    take.set_defaults(do=_unwrap)


def _wrap(options: argparse.Namespace) -> int:
    workflow = load_workflow(options.workflow)
    named = {name: getattr(options, name) for name in ("prompt", "image", "seed", "output")}
    found = find_inputs(workflow, **named)
    critic = AgentChoice.read(options.critic) if options.critic else None
    wrapped = wrap(workflow, found, planner=AgentChoice.read(options.agent), critic=critic, t_max=options.t_max)
    print(f"Prompt {'.'.join(found.prompt)}, seed {'.'.join(found.seed) if found.seed else 'none'}, ", end="")
    print(f"reference {'.'.join(found.image)}" if found.image else "no reference: each step is drawn from text", end="")
    print(f", result of node {found.output}.")
    _write_workflow(options.to, wrapped)
    return 0


def _unwrap(options: argparse.Namespace) -> int:
    _write_workflow(options.to, unwrap(load_workflow(options.workflow)))
    return 0


def _write_workflow(path: Path, workflow: Mapping[str, Any]) -> None:
    try:
        path.write_text(json.dumps(workflow, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from None
    print(f"Wrote {path}")
