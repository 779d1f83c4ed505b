"""`interleave-thinker vram`: what a workflow needs in the card's memory at once, by arithmetic from file sizes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..comfyui.client import ComfyClient
from ..comfyui.memory import CARDS, PIXELS, RESERVE, Fit, Needs, Scenario, fit, needs_of
from ..comfyui.model_files import Model, SizeLookup, clip_named, read_size
from ..comfyui.workflow import load_workflow
from ..comfyui.wrap import AgentChoice
from ..errors import ConfigError
from ..printable import printable
from .options import LONGEST_CELL, add_json, add_server, print_note, print_table, print_warning, write_figures


def add_commands(commands: Any) -> None:
    command = commands.add_parser("vram", help="what a workflow needs in memory at once, for cards of 8 to 24 GB")
    command.add_argument("workflow", type=Path, help="a file in API format, wrapped or not")
    shown = "ComfyUI's models folder, repeatable: sizes of your own files are read there"
    command.add_argument("--models", metavar="DIR", type=Path, action="append", default=[], help=shown)
    shown = "size of a file that is not here, repeatable (9.4GB, 340MB)"
    command.add_argument("--size", metavar="NAME=SIZE", action="append", default=[], help=shown)
    shown = "instead of the workflow's agent: clip:FILE, node:ID of a Load CLIP, folder:NAME, server:NAME"
    command.add_argument("--agent", help=shown)
    command.add_argument("--megapixels", type=float, help="of a picture (default: what the workflow says, or 1)")
    shown = f"of the card, for the desktop and CUDA (default {RESERVE / 1e9:g}GB)"
    command.add_argument("--reserve", metavar="SIZE", help=shown)
    add_server(command)
    add_json(command)
    command.set_defaults(do=_vram)


def _vram(options: argparse.Namespace) -> int:
    typed = dict(_typed_size(text) for text in options.size)
    reserve = read_size(options.reserve) if options.reserve else RESERVE
    if options.megapixels is not None and not 0.001 <= options.megapixels <= 256:
        raise ConfigError(f"--megapixels is {options.megapixels:g}; give a number from 0.001 to 256.")
    sizes = SizeLookup(options.models, typed)
    workflow = load_workflow(options.workflow, client=ComfyClient(options.server.rstrip("/")), note=print_note)
    agent = _agent(options.agent, workflow, sizes) if options.agent else None
    pixels = round(options.megapixels * PIXELS) if options.megapixels else None
    needs = needs_of(workflow, sizes, agent=agent, pixels=pixels)
    _print_models(needs)
    title, column = _own_agent(needs, options.agent)
    _print_phases(title, needs.own)
    if needs.shared:
        _print_phases("With the generator's own text encoder as agent", needs.shared)
    _print_cards(needs, reserve, column)
    for name in sizes.unused():
        print_warning(f"--size names {name}, which the workflow does not load.")
    if options.json:
        write_figures(options.json, memory_facts(needs, str(options.workflow), reserve))
    return 0


def memory_facts(needs: Needs, workflow: str, reserve: int) -> dict[str, Any]:
    """What `--json` writes; all sizes are bytes."""
    return {
        "workflow": workflow,
        "pixels": needs.pixels,
        "reserve": reserve,
        "has_agent": needs.has_agent,
        "shares_agent": needs.shares,
        "models": [_model_facts(m) for m in needs.models],
        "own_agent": _scenario_facts(needs.own, reserve),
        "shared_agent": _scenario_facts(needs.shared, reserve) if needs.shared else None,
    }


def verdict(found: Fit, unknown: Sequence[str]) -> str:
    """One card's line for people."""
    least = "at least " if unknown else ""
    moved = f"{least}{_gb(sum(found.moved.values()))} GB an attempt"
    if found.verdict == "fits":
        return "fits, nothing moves"
    if found.verdict == "unknown":
        return "not known"
    if found.verdict == "swaps":
        return f"swaps {moved}"
    passes = {"judge": "token", "plan": "token", "sample": "step"}
    words = {w: size for w, size in found.again.items() if w != "plan" or size != found.again.get("judge")}
    slow = [f"{word} {least}{_gb(size)} GB a {passes.get(word, 'pass')}" for word, size in words.items()]
    return f"offloads ({', '.join(slow)}), {moved}"


def _typed_size(text: str) -> tuple[str, int]:
    name, equals, size = text.rpartition("=")
    if not equals or not name:
        raise ConfigError(f"--size is {text!r}; write it as NAME=9.4GB.")
    return name, read_size(size)


def _agent(text: str, workflow: Mapping[str, Any], sizes: SizeLookup) -> Model:
    choice = AgentChoice.read(text)
    if choice.kind == "node":
        return clip_named(workflow, choice.name, sizes)
    if choice.kind == "server":
        return Model("agent", ())
    return Model("agent", (sizes.file(choice.name) if choice.kind == "clip" else sizes.folder(choice.name),))


def _own_agent(needs: Needs, named: str | None) -> tuple[str, str]:
    """What the scenario beside the shared one is: as a title, and as a column of the cards."""
    if named:
        return f"With {named} as agent", "the named agent"
    if needs.shares:
        return "With a second model as agent, which this workflow does not use", "a second model, not used"
    return "With an agent of its own", "agent of its own"


def _print_models(needs: Needs) -> None:
    every = [*needs.models, *(m for m in needs.own.agents if m not in needs.models)]
    rows = [(m.role, f.name, _gb(f.bytes), f.source) for m in every for f in m.files]
    if not rows:
        print("This workflow loads no model file by name.")
        return
    print("Models:")
    print_table([("for", "file", "GB", "size from"), *rows])
    missing = list(dict.fromkeys(f.name for m in every for f in m.files if f.bytes is None))
    for name in missing:
        print_warning(f"The size of {name} is not known: name its folder with --models, or give --size {name}=9.4GB.")


def _print_phases(title: str, scenario: Scenario) -> None:
    names = printable(", ".join(m.name for m in scenario.agents), longest=LONGEST_CELL) or "on a server or none"
    print(f"\n{title} ({names}), in GB:")
    rows = []
    for phase in scenario.phases:
        least = "at least " if any(m.unknown for m in phase.models) else ""
        models = " + ".join(m.name for m in phase.models)
        rows.append((phase.word, f"{least}{_gb(phase.weights)}", _gb(phase.working), _gb(phase.together), models))
    print_table([("phase", "weights", "work", "at once", "models"), *rows])
    least = "at least " if scenario.unknown else ""
    print(f"At once {least}{_gb(scenario.peak)} GB; with {least}{_gb(scenario.all_at_once)} GB nothing ever moves.")


def _print_cards(needs: Needs, reserve: int, own: str) -> None:
    print(f"\nCards, less {_gb(reserve)} GB for the desktop and CUDA:")
    print_table([("card", own, "shared with the generator"), *(_card(needs, c, reserve) for c in CARDS)])


def _card(needs: Needs, card: int, reserve: int) -> tuple[str, str, str]:
    both = [verdict(fit(s, card, reserve), s.unknown) if s else "-" for s in (needs.own, needs.shared)]
    return f"{card} GB", both[0], both[1]


def _gb(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e9:.1f}"


def _model_facts(model: Model) -> dict[str, Any]:
    files = [{"name": f.name, "bytes": f.bytes, "source": f.source} for f in model.files]
    return {"role": model.role, "nodes": list(model.nodes), "files": files}


def _scenario_facts(scenario: Scenario, reserve: int) -> dict[str, Any]:
    cards = {}
    for card in CARDS:
        found = fit(scenario, card, reserve)
        cards[str(card)] = {
            "verdict": found.verdict,
            "usable": found.usable,
            "moved_each_attempt": dict(found.moved),
            "read_again_each_pass": dict(found.again),
            "text": verdict(found, scenario.unknown),
        }
    return {
        "agents": [_model_facts(m) for m in scenario.agents],
        "phases": [
            {"phase": p.word, "models": [m.name for m in p.models], "weights": p.weights, "working": p.working}
            for p in scenario.phases
        ],
        "at_once": scenario.peak,
        "nothing_moves_with": scenario.all_at_once,
        "unknown": scenario.unknown,
        "cards": cards,
    }
