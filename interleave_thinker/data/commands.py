"""`interleave-thinker data ...`: records for training, from runs that were made."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..store import AttemptStore, write_atomically
from .from_runs import from_runs, runs_below
from .records import (
    CRITIC_FILE,
    DROPS_FILE,
    PLANNER_FILE,
    CriticRecord,
    DataError,
    PlannerRecord,
    schema,
    write_records,
)


def add_commands(commands: Any) -> None:
    data = commands.add_parser("data", help="records for training, from runs that were made")
    what = data.add_subparsers(dest="data_command", required=True)
    runs = what.add_parser(
        "from-runs",
        help="records from the run folders of ComfyUI or the command line",
        description="Reads run folders (output/interleave of a ComfyUI) and writes critic.jsonl, planner.jsonl, "
        "drops.json and the pictures. What a person accepted or edited is labelled so.",
    )
    runs.add_argument("runs", type=Path, help="a folder of runs, such as ComfyUI/output/interleave")
    runs.add_argument(
        "--out", type=Path, required=True, help="where the records go; a new or empty folder, or --resume"
    )
    runs.add_argument("--store", type=Path, help="attempt store (user/interleave_thinker/store): users' own pictures")
    runs.add_argument("--resume", action="store_true", help="write the records anew beside pictures that are there")
    runs.add_argument("--dry-run", action="store_true", help="say what would be read, and write nothing")
    runs.set_defaults(do=_from_runs)
    shape = what.add_parser("schema", help="JSON Schema of a record")
    shape.add_argument("record", choices=["critic", "planner"])
    shape.set_defaults(do=_schema)


def _from_runs(options: argparse.Namespace) -> int:
    found = runs_below(options.runs)
    sizes = sum(p.stat().st_size for run in found for p in run.glob("attempts/*.png"))
    print(f"{len(found)} runs, {sizes / 2**20:.1f} MB of pictures at most")
    if options.dry_run:
        return 0
    if options.out.is_dir() and any(options.out.iterdir()) and not options.resume:
        raise DataError(f"{options.out} is not empty. Give a new folder, or --resume to write its records anew.")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        store = AttemptStore(options.store) if options.store else None
        critic, planner, drops = from_runs(found, options.out, store)
        write_records(options.out / CRITIC_FILE, critic)
        write_records(options.out / PLANNER_FILE, planner)
        report = {name: of.to_dict() for name, of in drops.items()}
        write_atomically(options.out / DROPS_FILE, (json.dumps(report, indent=2) + "\n").encode())
    except OSError as error:
        raise DataError(f"Cannot write to {options.out}: {error.strerror or error}.") from None
    for name, of in drops.items():
        print("\n".join([f"{name}: {of.lines()[0]}", *of.lines()[1:]]))
    print(f"Wrote {options.out / CRITIC_FILE} and {options.out / PLANNER_FILE}")
    return 0


def _schema(options: argparse.Namespace) -> int:
    print(json.dumps(schema(CriticRecord if options.record == "critic" else PlannerRecord), indent=2))
    return 0
