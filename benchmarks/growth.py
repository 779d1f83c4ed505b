"""Whether the hundredth step of a run costs what the first one does.

    python benchmarks/growth.py [--steps 5 20 50 100] [--rounds 5] [--size 512] [--nodes 10] [--json F]

Runs of so many steps, one attempt each, on one real ComfyUI on the CPU, the shortest to the longest, in several rounds.
The body is that of loop_cost.py. attempt_ms: median from one attempt to the next. last_to_first: of the longest run,
the last 20 attempts against the first 20, medians; the median of all rounds. rss_growth_mb: the server's memory from
the first longest run's 20th attempt to the end of the last one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from loop_cost import SETTLED, Meter, looped

from comfy_server import Comfy  # isort: skip  (loop_cost knows where it is)

END = 20
"""Attempts at either end of a run that are compared."""


def gaps_of(server: Comfy, steps: int, size: int, nodes: int, seed: int) -> tuple[list[float], Meter]:
    meter = Meter(server)
    graph = looped(steps, size, nodes)
    graph["2"]["inputs"]["seed"] = seed
    server.run(graph, meter)
    return [1000 * (b - a) for a, b in zip(meter.times, meter.times[1:], strict=False)], meter


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 20, 50, 100])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--nodes", type=int, default=10, help="stock nodes of the body, 2 or more")
    parser.add_argument("--json", type=Path, metavar="F", help="write the numbers there")
    options = parser.parse_args()
    medians: dict[int, list[float]] = {}
    ends: list[tuple[float, float]] = []
    resident: list[int] = []
    seed = 1
    with tempfile.TemporaryDirectory() as folder:
        server = Comfy(Path(folder))
        (server.base / "custom_nodes").mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("memory_probe.py"), server.base / "custom_nodes")
        server.start()
        try:
            gaps_of(server, 5, options.size, options.nodes, seed)  # what is made once
            for _ in range(options.rounds):
                for steps in sorted(options.steps):
                    seed += 1  # nothing is recalled from another run
                    gaps, meter = gaps_of(server, steps, options.size, options.nodes, seed)
                    medians.setdefault(steps, []).append(statistics.median(gaps))
                ends.append((statistics.median(gaps[:END]), statistics.median(gaps[-END:])))
                resident += meter.resident[SETTLED:] or meter.resident
        finally:
            server.stop()
    found: dict[str, Any] = {
        "attempt_ms": {steps: round(statistics.median(times), 1) for steps, times in medians.items()},
        "first_ms": round(statistics.median(first for first, _ in ends), 1),
        "last_ms": round(statistics.median(last for _, last in ends), 1),
        "last_to_first": statistics.median(last / first for first, last in ends),
        "last_to_first_of_each_round": [round(last / first, 3) for first, last in ends],
        "rss_growth_mb": (resident[-1] - resident[0]) // 2**20,
        "rss_mb_every_20": [r // 2**20 for r in resident[::20]],
        "live_tensors_every_20_of_the_last": [entry["tensors"] for entry in meter.live],
    }
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
