"""How fast the agents answer the calls of the critic that real runs made, against plain `generate` of the whole answer.

    python benchmarks/agent_speed.py [--calls 120] [--requests 24] [--runs FOLDER] [--json F]

The loop first makes the tiny world's requests (or takes the run folders in FOLDER). Then its calls are asked again, in
their order and run by run, alternating between all sides in one process with one thread. Each call may look into the
replies of its run before it; at the beginning of a run there are none.

calls: how many. equal: least share of them in which a side's verdict and refined prompt are the reference's.
ratio_transformers, ratio_native: calls a second against the reference, by process CPU time. forwards_share: passes
    behind the prompt, against one a token. images_per_call: pictures that the model looked at. prefilled, decoded:
    tokens a call.
sampled: calls at temperature 0.7, in float32 on the CPU. same_tokens: share of them whose reply is the same with
    guesses and without.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests" / "comfy"))

from inside import run_inside  # noqa: E402

from interleave_thinker.cli.command_line import main as command_line  # noqa: E402
from interleave_thinker.research.data.from_runs import from_runs, runs_below  # noqa: E402

WEIGHTS = REPO / "interleave_thinker" / "tinyworld" / "weights"


def make_runs(folder: Path, requests: int) -> Path:
    """The loop makes held-out requests of the tiny world."""
    asked = ["--out", str(folder), "--requests", str(requests), "--t-max", "5", "--yes"]
    if command_line(["bench", "tiny", "generate", *asked]):
        raise SystemExit("the loop made no runs")
    return folder


def write_calls(runs: Path, out: Path, most: int) -> Path:
    """The calls of the critic in these runs, and their pictures."""
    records = from_runs(runs_below(runs), out)[0][:most]
    calls = [
        {
            "run": record.id.rsplit("/", 1)[0],
            "before": str(out / record.before) if record.before else "",
            "after": str(out / record.after),
            "prompt": record.prompt,
            "used": record.used,
        }
        for record in records
    ]
    file = out / "calls.json"
    file.write_text(json.dumps(calls), encoding="utf-8")
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description="Agents against plain generate.")
    parser.add_argument("--calls", type=int, default=120, help="greedy ones, at most")
    parser.add_argument("--sampled", type=int, default=200, help="calls at temperature 0.7, at most")
    parser.add_argument("--requests", type=int, default=36, help="that the loop makes first")
    parser.add_argument("--runs", type=Path, help="folder with run folders; none are made then")
    parser.add_argument("--json", type=Path, metavar="F", help="write the numbers there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        runs = options.runs or make_runs(Path(work) / "runs", options.requests)
        calls = write_calls(runs, Path(work), max(options.calls, options.sampled))
        counts = [str(options.calls), str(options.sampled)]
        found = run_inside("recorded_calls.py", str(WEIGHTS), str(calls), *counts, seconds=3600)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
