"""`interleave-thinker data ...`: from requests, or from runs that were made, to what trainers read.

prompts -> trajectories -> from-runs -> score -> filter | planner -> export
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from . import choosing, making
from .schemas import SCHEMAS


def add_commands(commands: Any) -> None:
    data = commands.add_parser("data", help="from requests or runs to records for training", description=__doc__)
    what = data.add_subparsers(dest="data_command", required=True)
    making.add_prompts(what)
    making.add_trajectories(what)
    making.add_from_runs(what)
    choosing.add_score(what)
    choosing.add_agree(what)
    choosing.add_filter(what)
    choosing.add_planner(what)
    choosing.add_export(what)
    shape = what.add_parser("schema", help="JSON Schema of a record")
    shape.add_argument("record", choices=sorted(SCHEMAS))
    shape.set_defaults(do=_schema)


def _schema(options: argparse.Namespace) -> int:
    print(json.dumps(SCHEMAS[options.record], indent=2))
    return 0
