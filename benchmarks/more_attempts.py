"""What attempts after the third are worth to a critic that does not err: the ground truth, with T_max 3 and 5.

    python benchmarks/more_attempts.py OUT [--requests 200] [--seeds 0,1,2] [--json FIGURES.json]

With a critic that errs a wrong attempt that it accepts is not tried again; here every one is. Nothing is trained.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from interleave_thinker.research.ablate.experiment import Experiment
from interleave_thinker.research.ablate.known import kept
from interleave_thinker.research.ablate.report import estimate
from interleave_thinker.research.ablate.rows import ORACLE, Row

ROWS = (Row("oracle agents, T_max 3", ORACLE, ORACLE, 3), Row("oracle agents, T_max 5", ORACLE, ORACLE, 5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--requests", type=int, default=200, help="of each seed")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--dtype", default="bfloat16", help="of the generator")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    experiment = Experiment(
        options.out, options.out, options.out, requests=options.requests, generator_dtype=options.dtype
    )
    found = experiment.run(ROWS, [int(s) for s in options.seeds.split(",")])
    few, many = (found[row.name] for row in ROWS)
    told = {name: estimate({s: f["shares"] for s, f in by_seed.items()}) for name, by_seed in found.items()}
    gains = {s: [m - f for m, f in zip(many[s]["shares"], few[s]["shares"], strict=True)] for s in few}
    told["T_max 5 - T_max 3"] = estimate(gains)
    for name, of in told.items():
        low, high = of["ci95"]
        print(f"{name}: {of['mean']:+.1%} ({low:+.1%} to {high:+.1%})")
    if options.json:
        figures = {**told, "requests": options.requests, "generator_dtype": options.dtype, "measured": kept(found)}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
