"""`interleave-thinker data ...`: from requests, or from runs that were made, to what trainers read.

prompts -> trajectories -> from-runs -> score -> filter | planner -> export
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from ...research.data.schemas import SCHEMAS
from . import data_collect, data_prepare


def add_commands(commands: Any) -> None:
    data = commands.add_parser("data", help="from requests or runs to records for training", description=__doc__)
    commands = data.add_subparsers(dest="data_command", required=True)
    data_collect.add_prompts(commands)
    data_collect.add_trajectories(commands)
    data_collect.add_from_runs(commands)
    data_prepare.add_score(commands)
    data_prepare.add_agree(commands)
    data_prepare.add_filter(commands)
    data_prepare.add_planner(commands)
    data_prepare.add_export(commands)
    shape = commands.add_parser("schema", help="JSON Schema of a record")
    shape.add_argument("record", choices=sorted(SCHEMAS))
    shape.set_defaults(do=_schema)


def _schema(options: argparse.Namespace) -> int:
    print(json.dumps(SCHEMAS[options.record], indent=2))
    return 0
