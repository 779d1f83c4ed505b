"""What a second ComfyUI server brings to `data trajectories --ray`: the same requests on one server, then on two.

    python benchmarks/two_servers.py [--requests 24] [--json F]

Real servers on the CPU, one thread each, with stock nodes and the tiny generator; each run makes every picture anew, so
nothing is recalled. Ray is started before; the start of its workers counts in both. On a machine with two free cores
this shows what two machines would gain; where the cores are busy, it does not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "tests" / "comfy")]

import ray  # noqa: E402
from comfy_server import Comfy  # noqa: E402
from test_bench_comfy import plain  # noqa: E402

from interleave_thinker.research.data.requests import tiny_requests  # noqa: E402
from interleave_thinker.research.data.trajectories import RUNS, TrajectoryOptions, make_trajectories  # noqa: E402
from interleave_thinker.research.worker_pool import WorkerSpec  # noqa: E402
from interleave_thinker.resolve import GeneratorChoice  # noqa: E402
from interleave_thinker.storage.run_folder import read_trajectory  # noqa: E402


def measured(folder: Path, servers: list[Comfy], count: int, seed: int) -> tuple[float, int]:
    """Seconds and attempts of `count` stories on these servers."""
    folder.mkdir()
    for name, edit in (("draw", False), ("edit", True)):
        (folder / f"{name}.json").write_text(json.dumps(plain(edit)))
    choice = GeneratorChoice("comfyui", folder / "draw.json", folder / "edit.json")
    requests = [r for r in tiny_requests(3 * count, seed, folder) if r.category == "story"][:count]
    chosen = TrajectoryOptions(choice, "tiny:oracle", t_max=2)
    workers = [WorkerSpec(server=s.url) for s in servers]
    begun = time.monotonic()
    if make_trajectories(requests, folder, folder / "out", chosen, ray_workers=workers):
        raise SystemExit("Some requests failed; see failures.jsonl.")
    seconds = time.monotonic() - begun
    return seconds, sum(len(list(read_trajectory(run))) for run in (folder / "out" / RUNS).iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the servers and of Ray's workers
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        servers = [Comfy(Path(folder) / f"comfy{n}") for n in range(2)]
        try:
            for server in servers:
                server.start()
            for number, server in enumerate(servers):  # models are loaded
                measured(Path(folder) / f"warm{number}", [server], 1, 1)
            one, attempts = measured(Path(folder) / "one", servers[:1], options.requests, 21)
            two, same = measured(Path(folder) / "two", servers, options.requests, 22)
        finally:
            for server in servers:
                server.stop()
    figures = {
        "requests": options.requests,
        "attempts_per_second": {"one": attempts / one, "two": same / two},
        "ratio": (same / two) / (attempts / one),
    }
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
