"""`interleave-thinker run`: queue a workflow in ComfyUI and follow it."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..comfyui.client import ComfyClient
from ..comfyui.placeholders import placeholder_warnings
from ..comfyui.workflow import load_graph, load_workflow, prepare
from ..contract import MAX_STRICTNESS
from ..printable import printable
from ..tinyworld.thoughts import in_sentences
from .options import LONGEST_LINE, add_seed, add_server, add_t_max, print_note, print_warning

STRICTNESS_HELP = (
    "of the critic: accept only if the log-odds of true exceed this; above 0: stricter, below 0: more lenient, "
    f"0: as trained; {-MAX_STRICTNESS:g} to {MAX_STRICTNESS:g}"
)


def add_commands(commands: Any) -> None:
    run = commands.add_parser("run", help="queue a workflow (API format) in ComfyUI and follow it")
    run.add_argument("--workflow", type=Path, required=True, help="a file in API format, alone or in a request body")
    run.add_argument("--request", help="what text and pictures should tell; goes into the Planner")
    run.add_argument("--image", type=Path, action="append", default=[], help="a picture of yours; repeatable")
    add_seed(run, "seed of planner and loop", default=None)
    add_t_max(run, None)
    run.add_argument("--strictness", metavar="S", type=_strictness, help=STRICTNESS_HELP)
    run.add_argument(
        "--no-keep-form",
        dest="keep_form",
        action="store_false",
        help="agents write freely, and are not held to the form of their answers",
    )
    add_server(run)
    run.add_argument(
        "--graph",
        type=Path,
        metavar="FILE",
        help="the same workflow as the editor saves it: the run's folder and pictures then open in the editor",
    )
    run.add_argument("--user", default="", help="id of a ComfyUI user, where the server has several (--multi-user)")
    run.set_defaults(do=_run)


def _strictness(text: str) -> float:
    with contextlib.suppress(ValueError):
        if -MAX_STRICTNESS <= (value := float(text)) <= MAX_STRICTNESS:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number from {-MAX_STRICTNESS:g} to {MAX_STRICTNESS:g}")


def _run(options: argparse.Namespace) -> int:
    graph = load_graph(options.graph) if options.graph else None
    client = ComfyClient(options.server.rstrip("/"), user=options.user, graph=graph)
    workflow = load_workflow(options.workflow, client=client, note=print_note)
    names = [client.upload(path) for path in options.image]
    prompt = prepare(
        workflow,
        request=options.request,
        images=names,
        seed=options.seed,
        t_max=options.t_max,
        strictness=options.strictness,
        keep_form=options.keep_form,
    )
    for warning in placeholder_warnings(prompt):
        print_warning(warning)
    begun = time.monotonic()
    outputs = client.run(prompt, _print_event)
    documents = [
        d for output in outputs.values() for d in (output.get("output", output)).get("interleave_document", [])
    ]
    print(f"Finished in {time.monotonic() - begun:.1f} s.")
    for document in documents:
        _print(f"Document: {document['path']}")
    return 0


def _print(line: str) -> None:
    """One line of a model's or a server's words."""
    print(printable(line, longest=LONGEST_LINE))


def _accept_rate(verdicts: Mapping[str, Any]) -> str:
    """As the live view says it (`js/strip.mjs`)."""
    least, most = verdicts["strictness"]
    shift = f"strictness {least:g}" if least == most else f"strictness {least:g} to {most:g}"
    line = f"The critic accepted {verdicts['accepted']} of {verdicts['judged']} attempts"
    return f"{line} ({shift})." if least or most else f"{line}."


def _print_event(event: str, facts: Mapping[str, Any]) -> None:
    """One line an event, as it happens."""
    if event == "planned":
        print("Plan:")
        for step in facts["plan"]["execution_plan"]:
            _print(f"  {step['step_number']}. {step['prompt'] or step['auxiliary_text'] or step['instruction']}")
    elif event == "warning":
        print_warning(facts["text"])
    elif event == "attempt":
        recalled = ", from cache" if facts["recalled"] else f", {facts['seconds']:.2f} s"
        _print(
            f"Step {facts['step']}/{facts['steps']}, attempt {facts['attempt']}/{facts['t_max']} "
            f"(seed {facts['seed']}{recalled}): {facts['prompt']}"
        )
    elif event == "judgment":
        judgment = facts["judgment"]
        note = f" ({judgment['note']})" if judgment.get("note") else ""
        if judgment["accepted"]:
            _print(f"  accepted{note}")
        else:
            unread = "" if judgment["parsed"] else " (the critic's reply could not be read)"
            _print(f"  rejected{unread}{note}; refined prompt: {judgment['refined_prompt'] or facts['prompt']}")
        if judgment["reasoning"]:
            _print(f"    {' '.join(in_sentences(judgment['reasoning']).split())[:300]}")
    elif event == "chosen" and not facts["accepted"]:
        print(f"  no attempt was accepted; attempt {facts['chosen']} goes on")
    elif event == "done":
        if facts["reason"]:
            _print(facts["reason"])
        if facts.get("verdicts"):
            print(_accept_rate(facts["verdicts"]))
        if facts.get("loads"):
            print(f"Models loaded: {facts['loads']['count']} times; {facts['loads']['again']} of these again.")
    sys.stdout.flush()
