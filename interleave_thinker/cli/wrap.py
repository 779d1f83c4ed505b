"""`interleave-thinker wrap | unwrap`: put a loop around a workflow, and take it off again."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..comfyui.agent_clip import find_agent_clip
from ..comfyui.client import ComfyClient, WorkflowError
from ..comfyui.find_inputs import find_inputs
from ..comfyui.placeholders import wrap_warnings
from ..comfyui.workflow import load_workflow
from ..comfyui.workflow_json import write_json
from ..comfyui.wrap import AgentChoice, refuse_a_loop, unwrap, wrap
from ..contract import COMFYUI_ADDRESS, PACKAGED_CLIP, T_MAX
from ..errors import ConfigError
from .options import add_t_max, print_note, print_warning


class _Unnamed(str):
    """The agent where nobody named one: the workflow's own CLIP goes before it."""


def add_commands(commands: Any) -> None:
    put = commands.add_parser("wrap", help="put a loop around a workflow of yours")
    put.add_argument("workflow", type=Path, help="a file in API format, alone or in a request body")
    put.add_argument("-o", "--to", type=Path, required=True, help="where the wrapped workflow goes")
    put.add_argument("--prompt", metavar="NODE.input", help="the positive prompt, where it is not found")
    put.add_argument("--image", metavar="NODE.input", help="the picture that is edited, or none")
    put.add_argument("--seed", metavar="NODE.input", help="the seed")
    put.add_argument("--output", metavar="NODE", help="the node that shows the result")
    shown = f"clip:FILE, node:ID, folder:NAME, server:NAME; else the workflow's own CLIP, or clip:{PACKAGED_CLIP}"
    put.add_argument("--agent", default=_Unnamed(f"clip:{PACKAGED_CLIP}"), help=shown)
    put.add_argument("--critic", help="another agent for the critic")
    add_t_max(put, T_MAX)
    _add_server(put)
    put.set_defaults(do=_wrap)
    take = commands.add_parser("unwrap", help="take the loop off again")
    take.add_argument("workflow", type=Path)
    take.add_argument("-o", "--to", type=Path, required=True)
    _add_server(take)
    take.set_defaults(do=_unwrap)


def _add_server(command: argparse.ArgumentParser) -> None:
    shown = "address of ComfyUI, which is asked only if the file is in the editor's format"
    command.add_argument("--server", default=COMFYUI_ADDRESS, help=shown)


def _wrap(options: argparse.Namespace) -> int:
    workflow = _load(options)
    refuse_a_loop(workflow)
    named = {name: getattr(options, name) for name in ("prompt", "image", "seed", "output")}
    found = find_inputs(workflow, **named)
    critic = AgentChoice.read(options.critic) if options.critic else None
    planner, said = _agent(options.agent, workflow, found.output)
    wrapped = wrap(workflow, found, planner=planner, critic=critic, t_max=options.t_max)
    if unwrap(wrapped) != workflow:
        raise WorkflowError(
            f"The loop around {options.workflow} could not be taken off again without a trace, so nothing was written. "
            "Please report this workflow."
        )
    print(f"Prompt {'.'.join(found.prompt)}, seed {'.'.join(found.seed) if found.seed else 'none'}, ", end="")
    print(f"reference {'.'.join(found.image)}" if found.image else "no reference: each step is drawn from text", end="")
    print(f", result of node {found.output}.")
    print(said, end="")
    for warning in wrap_warnings(workflow, found):
        print_warning(warning)
    _write_workflow(options, wrapped)
    return 0


def _agent(named: str, workflow: Mapping[str, Any], output: str) -> tuple[AgentChoice, str]:
    """The agent, and what to say of it: which it is and why, where nobody named one."""
    if not isinstance(named, _Unnamed):
        return AgentChoice.read(named), ""
    clip = find_agent_clip(workflow, output)
    if not clip.node:
        return AgentChoice(), f"Agent: a second model, {PACKAGED_CLIP}, because {clip.why_not}.\n"
    loras = f" {', '.join(clip.loras)} is on it for the generator; the agent works without." if clip.loras else ""
    note = f" {clip.note}" if clip.note else ""
    said = f"Agent: the workflow's own CLIP, node {clip.node} ({clip.file}).{loras}{note}\n"
    return AgentChoice("node", clip.node), said


def _unwrap(options: argparse.Namespace) -> int:
    _write_workflow(options, unwrap(_load(options)))
    return 0


def _load(options: argparse.Namespace) -> dict[str, Any]:
    return load_workflow(options.workflow, client=ComfyClient(options.server.rstrip("/")), note=print_note)


def _write_workflow(options: argparse.Namespace, workflow: Mapping[str, Any]) -> None:
    """With a line break at the end if the file that was read has one; the editor writes none."""
    path: Path = options.to
    try:
        end = b"\n" if options.workflow.read_bytes().rstrip(b"\0").endswith(b"\n") else b""
        path.write_bytes(write_json(workflow) + end)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from None
    print(f"Wrote {path}")
