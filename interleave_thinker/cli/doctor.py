"""`interleave-thinker doctor`: whether a workflow works on this machine, how fast, and what to change."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..agents.base import Sampling
from ..comfyui.check_stages import PICTURES, Stage, stages_of
from ..comfyui.client import ComfyClient, OutOfTime, ServerLost, WorkflowError
from ..comfyui.workflow import load_workflow
from ..comfyui.wrap import AgentChoice
from ..contract import NODE_IDS
from ..doctor.advice import advice_for
from ..doctor.check_agent import PICTURE_SIDE, SECONDS, Role, check_agent
from ..doctor.facts import COMFYUI_ENDED, Result, facts_of, machine_of, this_machine
from ..doctor.measure import measure
from ..doctor.peak_memory import graphics_card, read_peak, reset_peak
from ..doctor.report import as_text, report_of
from ..errors import ConfigError, InterleaveError
from ..generators.base import GenerationRequest, Generator
from ..resolve import AGENT_HELP, GENERATOR_HELP, ORACLE, TINY, GeneratorChoice, agent_from
from .options import TINY_SIZE, add_device, add_endpoints, add_json, add_server, print_note, write_figures

ROLES: tuple[Role, ...] = ("planner", "critic")
SHORTEST, LONGEST = 10.0, 7200.0
"""Seconds that can be given."""
_PICTURE_PROMPT = "a medium red circle at the center on a white background"


def add_commands(commands: Any) -> None:
    shown = "whether a workflow works on this machine: speed, memory, can the agent be read and does it see"
    command = commands.add_parser("doctor", help=shown)
    shown = "a file in API format, wrapped or not; without one: the server's versions, or --agent and --generator here"
    command.add_argument("workflow", type=Path, nargs="?", help=shown)
    shown = "with a workflow, instead of its agent: clip:FILE, node:ID, folder:NAME, server:NAME; without one: "
    command.add_argument("--agent", help=shown + AGENT_HELP)
    command.add_argument("--generator", help=f"without a workflow: {GENERATOR_HELP}")
    shown = f"for everything (default {SECONDS:.0f}); what is not done by then is named"
    command.add_argument("--seconds", type=float, default=SECONDS, help=shown)
    command.add_argument("--user", default="", help="id of a ComfyUI user, where the server has several (--multi-user)")
    add_endpoints(command)
    add_device(command)
    add_server(command)
    add_json(command)
    command.set_defaults(do=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    if not SHORTEST <= options.seconds <= LONGEST:
        raise ConfigError(f"--seconds is {options.seconds:g}; give a number from {SHORTEST:.0f} to {LONGEST:.0f}.")
    if options.workflow is not None and options.generator:
        raise ConfigError("With a workflow its own generator is measured: leave out --generator, or the workflow.")
    here = options.workflow is None and (options.agent or options.generator)
    facts = _facts_here(options) if here else _facts_of_server(options)
    where = {"workflow": options.workflow and str(options.workflow), "server": None if here else options.server}
    print(f"\n{as_text(report_of(facts))}")
    if options.json:
        advice = [{"rule": a.rule, "text": a.text} for a in advice_for(facts)]
        write_figures(options.json, {**where, **facts, "advice": advice})
    return 1 if facts["problems"] else 0


# A workflow on a server


def _facts_of_server(options: argparse.Namespace) -> dict[str, Any]:
    ends_at = time.monotonic() + options.seconds
    client = ComfyClient(options.server.rstrip("/"), user=options.user)
    if not client.answers():
        raise ConfigError(
            f"No ComfyUI answers at {client.url}. Start it, or name its address with --server. Without ComfyUI: "
            "--agent NAME and --generator NAME."
        )
    machine = machine_of(client.system_stats())
    if options.workflow is None:
        none = "Nothing was measured: name a workflow, as in "
        return facts_of((), machine=machine, notes=[none + "interleave-thinker doctor my_workflow_api.json."])
    if busy := client.waiting():
        raise ConfigError(
            f"ComfyUI at {client.url} has {busy} prompts in its queue, and the figures would be wrong. Try again "
            "when it is empty."
        )
    choice = AgentChoice.read(options.agent) if options.agent else None
    workflow = load_workflow(options.workflow, client=client, note=print_note)
    kinds = client.node_kinds()
    if NODE_IDS.check_agent not in kinds:
        raise ConfigError(
            f"The ComfyUI at {client.url} has no node {NODE_IDS.check_agent}. Install InterleaveThinker there, or "
            "update it."
        )
    plan = stages_of(
        workflow,
        seconds=options.seconds,
        seed=random.randrange(2**32),
        agent=choice,
        is_there=kinds.__contains__,
        is_paid=lambda kind: bool(kinds.get(kind, {}).get("api_node")),
        about=lambda kind: kinds.get(kind, {}),
    )
    results = measure(
        plan.stages,
        lambda stage, begun: _told(_run_stage(client, stage, begun, ends_at - time.monotonic())),
        lambda: ends_at - time.monotonic(),
    )
    return facts_of(results, machine=machine, notes=plan.notes, t_max=plan.t_max, has_agent=plan.has_agent)


def _run_stage(client: ComfyClient, stage: Stage, begun: Result, left: float) -> Result:
    print(f"{stage.label} ... ", end="", flush=True)
    since = time.monotonic()
    try:
        return begun.ended(client.run_part(stage.prompt, [stage.result_node], seconds=left), stage.result_node)
    except OutOfTime:
        return replace(begun, stopped="time", seconds=left)
    except KeyboardInterrupt:
        return replace(begun, stopped="person", seconds=time.monotonic() - since)
    except ServerLost:
        return replace(begun, error=COMFYUI_ENDED)
    except WorkflowError as error:
        return replace(begun, error=str(error))


def _told(result: Result) -> Result:
    """Ends the line that the stage began."""
    if result.stopped:
        none = "no time left" if result.stopped == "time" else "stopped"
        print(none if result.seconds is None else f"stopped after {result.seconds:.0f} s")
    elif result.error or result.found.get("error"):
        print("failed")
    else:
        print("done" if result.seconds is None else f"{result.seconds:.1f} s")
    return result


# An agent and a generator in this process


def _facts_here(options: argparse.Namespace) -> dict[str, Any]:
    ends_at = time.monotonic() + options.seconds
    machine, results = this_machine(), []
    if options.agent:
        pairs: list[tuple[Role, ...]] = [ROLES]
        if options.agent == TINY:  # two agents
            pairs = [("planner",), ("critic",)]
        elif options.agent == ORACLE:
            pairs = [("critic",)]
        share = options.seconds / (2 if options.generator else 1) / len(pairs)
        results += [_ask_here(options, roles, share) for roles in pairs]
    if options.generator:
        results += _draw_here(options, ends_at)
    return facts_of(results, machine=machine, has_agent=bool(options.agent))


def _ask_here(options: argparse.Namespace, roles: Sequence[Role], seconds: float) -> Result:
    label = f"Asking the {' and '.join(roles)}"
    print(f"{label} ... ", end="", flush=True)
    begun, card = time.monotonic(), graphics_card()
    result = Result("agent", label, tuple(roles))
    try:
        agent = agent_from(options.agent, role=roles[0], endpoints=options.endpoints, device=options.device)
    except ConfigError:  # what was typed; nothing is measured yet
        raise
    except Exception as error:
        return _told(replace(result, error=_words(error)))
    taken = time.monotonic() - begun
    if taken >= seconds:
        return _told(replace(result, stopped="time", seconds=taken))
    reset_peak(card)
    side = TINY_SIZE[0] if options.agent.startswith(TINY) else PICTURE_SIDE
    found = check_agent(agent, Sampling(), roles=roles, side=side, seconds=seconds - taken, failures=(Exception,))
    told = {**found.to_dict(), "peak": read_peak(card)}
    return _told(replace(result, seconds=time.monotonic() - begun, found=told))


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, InterleaveError) else f"{type(error).__name__}: {error}"


def _draw_here(options: argparse.Namespace, ends_at: float) -> list[Result]:
    card = graphics_card()
    print("Loading the generator ... ", end="", flush=True)
    begun = time.monotonic()
    loaded = Result("generator", "Loading the generator")
    try:
        generator = GeneratorChoice(options.generator, server=options.server, device=options.device).load()
    except Exception as error:  # what the agent said is kept
        return [_told(replace(loaded, error=_words(error)))]
    _told(replace(loaded, seconds=time.monotonic() - begun))
    drawn: list[Result] = []
    for number in range(1, PICTURES + 1):
        drawn.append(_draw(generator, number, card, ends_at, options.generator == TINY))
        if drawn[-1].error:
            break
    return drawn


def _draw(generator: Generator, number: int, card: Any, ends_at: float, tiny: bool) -> Result:
    drawn = Result("picture", f"Making picture {number}")
    print(f"{drawn.label} ... ", end="", flush=True)
    if time.monotonic() > ends_at:
        return _told(replace(drawn, stopped="time"))
    reset_peak(card)
    begun = time.monotonic()
    size = TINY_SIZE if tiny else None
    try:
        picture = generator.generate(GenerationRequest(_PICTURE_PROMPT, seed=number, size=size))
    except Exception as error:  # PyTorch's own for memory, for one
        return _told(replace(drawn, error=_words(error)))
    told = {"width": picture.width, "height": picture.height, "count": 1, "peak": read_peak(card)}
    return _told(replace(drawn, seconds=time.monotonic() - begun, found=told))
