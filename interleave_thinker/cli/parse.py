"""`interleave-thinker parse`: what is read in an agent's raw reply."""

from __future__ import annotations

import argparse
import codecs
import json
from pathlib import Path
from typing import Any

from ..errors import ConfigError, InterleaveError
from ..loop.plan import Plan, checked
from ..reading.judgments import read_judgment
from ..reading.plan_text import plan_from_text, plan_reading


def add_commands(commands: Any) -> None:
    parse = commands.add_parser("parse", help="what the parsers make of an agent's raw reply, as JSON")
    parse.add_argument("kind", choices=["plan", "judgment"])
    parse.add_argument("--typed", action="store_true", help="a plan as Plan from Text reads it, plain lists too")
    parse.add_argument("file", type=Path)
    parse.set_defaults(do=_parse)


def _parse(options: argparse.Namespace) -> int:
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
