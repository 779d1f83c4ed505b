"""The command line.

interleave-thinker run --workflow workflows/api/tiny_story.json --request "..."
interleave-thinker wrap IN.json -o OUT.json
interleave-thinker unwrap IN.json -o OUT.json
interleave-thinker parse plan|judgment FILE
interleave-thinker prompts import CLONE --to FOLDER
interleave-thinker tinyworld install | train | attempts | average | eval
interleave-thinker data prompts | trajectories | from-runs | score | filter | planner | export
interleave-thinker sft planner | critic, grpo, adapters merge | export-comfy, ablate
interleave-thinker bench ueval | comm | wise | rise | viescore | tiny
"""

from __future__ import annotations

import argparse
import codecs
import importlib
import io
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError, InterleaveError
from .settings_file import with_config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; errors meant for the user are one line on stderr."""
    parser = argparse.ArgumentParser(prog="interleave-thinker", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    _add_run(commands)
    _add_wrap(commands)
    _add_parse(commands)
    _add_prompts(commands)
    from .tinyworld.commands import add_commands as add_tinyworld

    add_tinyworld(commands)
    for part in ("data", "train", "ablate", "bench"):
        try:
            module = importlib.import_module(f".{part}.commands", __package__)
        except ModuleNotFoundError as error:  # the registry's archive leaves them out
            if not str(error.name).startswith(f"{__package__}.{part}"):
                raise
        else:
            module.add_commands(commands)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character shows its code
    try:
        options = parser.parse_args(with_config(parser, sys.argv[1:] if arguments is None else arguments))
        code: int | None = options.do(options)
    except InterleaveError as error:
        print(f"Error: {error}", file=sys.stderr)
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


def _add_run(commands: Any) -> None:
    run = commands.add_parser("run", help="queue a workflow (API format) in ComfyUI and follow it")
    run.add_argument("--workflow", type=Path, required=True, help="a file in API format")
    run.add_argument("--request", help="what text and pictures should tell; goes into the Planner")
    run.add_argument("--image", type=Path, action="append", default=[], help="a picture of yours; repeatable")
    run.add_argument("--seed", type=int, help="seed of planner and loop")
    run.add_argument("--t-max", type=int, help="generator calls a step may take")
    run.add_argument("--server", default="http://127.0.0.1:8188", help="address of ComfyUI")
    run.add_argument("--user", default="", help="id of a ComfyUI user, where the server has several (--multi-user)")
    run.set_defaults(do=_run)


def _run(options: argparse.Namespace) -> int:
    from .comfy_client import ComfyClient
    from .comfy_workflow import load_workflow, prepare

    client = ComfyClient(options.server.rstrip("/"), user=options.user)
    workflow = load_workflow(options.workflow)
    names = [client.upload(path) for path in options.image]
    prompt = prepare(workflow, request=options.request, images=names, seed=options.seed, t_max=options.t_max)
    begun = time.monotonic()
    outputs = client.run(prompt, _print_event)
    documents = [
        d for output in outputs.values() for d in (output.get("output", output)).get("interleave_document", [])
    ]
    print(f"Finished in {time.monotonic() - begun:.1f} s.")
    for document in documents:
        print(f"Document: {document['path']}")
    return 0


def _print_event(event: str, facts: Mapping[str, Any]) -> None:
    """One line an event, as it happens."""
    if event == "planned":
        print("Plan:")
        for step in facts["plan"]["execution_plan"]:
            print(f"  {step['step_number']}. {step['prompt'] or step['auxiliary_text'] or step['instruction']}")
    elif event == "attempt":
        recalled = ", recalled" if facts["recalled"] else f", {facts['seconds']:.2f} s"
        print(
            f"Step {facts['step']}/{facts['steps']}, attempt {facts['attempt']}/{facts['t_max']} "
            f"(seed {facts['seed']}{recalled}): {facts['prompt']}"
        )
    elif event == "judgment":
        judgment = facts["judgment"]
        if judgment["accepted"]:
            print("  accepted")
        else:
            unread = "" if judgment["parsed"] else " (the critic's reply could not be read)"
            unread += f" ({judgment['note']})" if judgment.get("note") else ""
            print(f"  rejected{unread}; refined prompt: {judgment['refined_prompt'] or facts['prompt']}")
        if judgment["reasoning"]:
            print(f"    {' '.join(judgment['reasoning'].split())[:300]}")
    elif event == "chosen" and not facts["accepted"]:
        print(f"  no attempt was accepted; attempt {facts['chosen']} goes on")
    elif event == "done" and facts["status"] != "done":
        print(facts["reason"])
    sys.stdout.flush()


def _add_wrap(commands: Any) -> None:
    wrap = commands.add_parser("wrap", help="put a loop around a workflow of yours (API format)")
    wrap.add_argument("workflow", type=Path)
    wrap.add_argument("-o", "--to", type=Path, required=True, help="where the wrapped workflow goes")
    wrap.add_argument("--prompt", metavar="NODE.input", help="the positive prompt, where it is not found")
    wrap.add_argument("--image", metavar="NODE.input", help="the reference picture")
    wrap.add_argument("--seed", metavar="NODE.input", help="the seed")
    wrap.add_argument("--output", metavar="NODE", help="the node that shows the result")
    wrap.add_argument(
        "--agent", default="clip:qwen3vl_8b_fp8_scaled.safetensors", help="clip:FILE, folder:NAME, server:NAME"
    )
    wrap.add_argument("--critic", help="another agent for the critic")
    wrap.add_argument("--t-max", type=int, default=3, help="generator calls a step may take")
    wrap.set_defaults(do=_wrap)
    unwrap = commands.add_parser("unwrap", help="take the loop off again")
    unwrap.add_argument("workflow", type=Path)
    unwrap.add_argument("-o", "--to", type=Path, required=True)
    unwrap.set_defaults(do=_unwrap)


def _wrap(options: argparse.Namespace) -> int:
    from .comfy_choice import find_places
    from .comfy_workflow import load_workflow
    from .wrap import AgentChoice, wrap

    workflow = load_workflow(options.workflow)
    named = {name: getattr(options, name) for name in ("prompt", "image", "seed", "output")}
    places = find_places(workflow, **named)
    critic = AgentChoice.read(options.critic) if options.critic else None
    wrapped = wrap(workflow, places, planner=AgentChoice.read(options.agent), critic=critic, t_max=options.t_max)
    print(f"Prompt {'.'.join(places.prompt)}, seed {'.'.join(places.seed) if places.seed else 'none'}, ", end="")
    print(
        f"reference {'.'.join(places.image)}" if places.image else "no reference: each step is drawn from text", end=""
    )
    print(f", result of node {places.output}.")
    _write_workflow(options.to, wrapped)
    return 0


def _unwrap(options: argparse.Namespace) -> int:
    from .comfy_workflow import load_workflow
    from .wrap import unwrap

    _write_workflow(options.to, unwrap(load_workflow(options.workflow)))
    return 0


def _write_workflow(path: Path, workflow: Mapping[str, Any]) -> None:
    try:
        path.write_text(json.dumps(workflow, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from None
    print(f"Wrote {path}")


def _add_parse(commands: Any) -> None:
    parse = commands.add_parser("parse", help="what the parsers make of an agent's raw reply, as JSON")
    parse.add_argument("kind", choices=["plan", "judgment"])
    parse.add_argument("--typed", action="store_true", help="a plan as Plan from Text reads it, plain lists too")
    parse.add_argument("file", type=Path)
    parse.set_defaults(do=_parse)


def _parse(options: argparse.Namespace) -> int:
    from .judgments import read_judgment

    try:
        raw = _decoded(options.file.read_bytes())
    except OSError as error:
        raise ConfigError(f"Cannot read {options.file}: {error.strerror or error}.") from None
    if options.kind == "judgment":
        print(json.dumps(read_judgment(raw).to_dict(), ensure_ascii=False, indent=2))
        return 0
    print(json.dumps(_parsed_plan(raw, options.typed), ensure_ascii=False, indent=2))
    return 0


def _decoded(data: bytes) -> str:
    """A text file, also one that an editor or a shell of Windows wrote as UTF-16."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")


def _parsed_plan(raw: str, typed: bool) -> dict[str, Any]:
    """What Planner (or Plan from Text) makes of a text: `valid` says whether it would go on with it."""
    from .plan import Plan, checked
    from .plan_text import plan_from_text, plan_reading

    plan: Plan | None = None
    problem = ""
    try:
        if typed:
            plan = plan_from_text(raw)
        else:
            reading = plan_reading(raw)
            plan, problem = reading.plan, reading.problem
        found = checked(plan, first_number=plan.steps[0].step_number) if plan else None
    except InterleaveError as error:
        found, problem = None, str(error)
    shown = found or plan
    return {
        "parsed": plan is not None,
        "valid": found is not None,
        "problem": problem or None,
        "plan": shown.to_dict() if shown else None,
    }


def _add_prompts(commands: Any) -> None:
    prompts = commands.add_parser("prompts", help="prompt texts").add_subparsers(dest="what", required=True)
    imported = prompts.add_parser(
        "import", help="copy the prompts of your own clone of the official repository into your prompt folder"
    )
    imported.add_argument("clone", type=Path, help="folder of the clone (it holds UEval/system.py)")
    imported.add_argument("--comfyui", type=Path, help="your ComfyUI folder: its nodes then use these prompts")
    imported.add_argument("--to", type=Path, help="any other folder; default ~/.config/interleave-thinker/prompts")
    imported.set_defaults(do=_import_prompts)


def _import_prompts(options: argparse.Namespace) -> int:
    from .prompts import import_official

    target = options.to or Path.home() / ".config" / "interleave-thinker" / "prompts"
    if options.comfyui:
        target = options.comfyui / "user" / "interleave_thinker" / "prompts"
    for path in import_official(options.clone, target):
        print(f"Wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
