"""What the loop itself costs: time, websocket traffic and memory per attempt.

    python benchmarks/loop_cost.py [--attempts 100] [--size 512] [--nodes 10] [--cache=MODE]
        [--json F]

Starts a real ComfyUI on the CPU and runs one plan of `attempts` steps (T_max 1 judged attempts each,
so every attempt is one copy of the body). The body is `nodes` stock nodes, a switch and the rest on pictures.
Overhead is the time from one attempt to the next less the time in which body nodes run, both from the
server's messages of the same run: what is left is all that the loop adds, storing the picture, the judgment
and ComfyUI's own work for the loop's nodes included. The gap after every 20th attempt holds a garbage collection, for
counting what lives.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "tests" / "comfy")]

from comfy_server import Comfy, Ran  # noqa: E402
from comfy_test_graphs import Graph, node, ours, plan_text  # noqa: E402

SETTLED = 20
"""Attempts after which memory must stay level."""


def body(first: list[Any], loop: str, count: int) -> tuple[Graph, list[Any]]:
    """Stock nodes: reference or first picture, noise, flips, inversions; returns them and the last output."""
    graph: Graph = {
        "b0": node("ComfySwitchNode", switch=[loop, 3], on_false=first, on_true=[loop, 2]),
        "b1": node("ImageAddNoise", image=["b0", 0], seed=[loop, 5], strength=0.1),
    }
    last: list[Any] = ["b1", 0]
    for i in range(2, count):
        kind = ("ImageFlip", "ImageInvert")[i % 2]
        extra = {"flip_method": "x-axis: vertically"} if kind == "ImageFlip" else {}
        graph[f"b{i}"] = node(kind, image=last, **extra)
        last = [f"b{i}", 0]
    return graph, last


def looped(attempts: int, size: int, count: int) -> Graph:
    inner, last = body(["10", 0], "2", count)
    return {
        "1": ours("PlanFromText", text=plan_text(attempts), max_steps=100, title=""),
        "2": ours("LoopOpen", plan=["1", 0], seed=11),
        "10": node("EmptyImage", width=size, height=size, batch_size=1, color=0x406080),
        **inner,
        "21": ours("Judgment", accepted=True, refined_prompt=["2", 1], reasoning=""),
        "30": ours(
            "LoopClose",
            loop=["2", 0],
            image=last,
            judgment=["21", 0],
            t_max=2,
            on_exhausted="last",
            reference_policy="previous",
            gate="off",
            run_name="cost",
            accept_attempts="",
        ),
        "31": ours("UnpackDocument", document=["30", 0]),
        "32": node("PreviewAny", source=["31", 1]),
    }


class Meter:
    """Listens to a run: when each attempt came, how long its body ran, and the server's memory."""

    def __init__(self, server: Comfy):
        assert server.process is not None
        self.process = psutil.Process(server.process.pid)
        self.times: list[float] = []
        self.bodies: list[float] = []
        self.resident: list[int] = []
        self.live: list[dict[str, int]] = []
        """Tensors, their bytes and all Python objects after every 20 attempts."""
        self.server = server
        self._running, self._since, self._body = "", 0.0, 0.0

    def __call__(self, event: str, facts: dict[str, Any]) -> None:
        now = time.perf_counter()
        if event == "executing":
            if self._running.startswith("b"):
                self._body += now - self._since
            self._running, self._since = str(facts["node"]), now
        elif event == "judgment":
            self.times.append(now)
            self.bodies.append(self._body)
            self._body = 0.0
            self.resident.append(self.process.memory_info().rss)
            if len(self.times) % 20 == 0:
                self.live.append(self.server.get("/memory_probe"))


def measure(attempts: int, size: int, count: int, arguments: tuple[str, ...]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        server = Comfy(Path(folder), arguments)
        (server.base / "custom_nodes").mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("memory_probe.py"), server.base / "custom_nodes")
        server.start()
        try:
            meter = Meter(server)
            ran: Ran = server.run(looped(attempts, size, count), meter)
        finally:
            server.stop()
    overheads = [b - a - body for a, b, body in zip(meter.times, meter.times[1:], meter.bodies[1:], strict=False)]
    gaps = [b - a for a, b in zip(meter.times, meter.times[1:], strict=False)]
    settled, last = meter.resident[SETTLED], max(meter.resident[SETTLED:])
    return {
        "arguments": list(arguments),
        "attempts": len(meter.times),
        "size": size,
        "nodes": count,
        "attempt_ms": round(statistics.median(gaps) * 1000, 2),
        "attempt_ms_last_ten": round(statistics.median(gaps[-10:]) * 1000, 2),
        "body_ms": round(statistics.median(meter.bodies[1:]) * 1000, 2),
        "overhead_ms": round(statistics.median(overheads) * 1000, 2),
        "overhead_ms_last_ten": round(statistics.median(overheads[-10:]) * 1000, 2),
        "traffic_bytes_per_attempt": ran.received // max(1, len(meter.times)),
        "rss_after_20_mb": settled // 2**20,
        "rss_highest_after_20_mb": last // 2**20,
        "rss_mb_every_20": [r // 2**20 for r in meter.resident[SETTLED - 1 :: 20]],
        "rss_growth_mb": (last - settled) // 2**20,
        "live_tensors_every_20": [entry["tensors"] for entry in meter.live],
        "live_tensor_mb_every_20": [round(entry["bytes"] / 2**20, 1) for entry in meter.live],
        "python_objects_every_20": [entry["objects"] for entry in meter.live],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--attempts", type=int, default=100)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--nodes", type=int, default=10, help="stock nodes of the body, 2 or more")
    parser.add_argument("--cache", default="", help="one of ComfyUI's cache options, such as --cache-classic")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = measure(options.attempts, options.size, max(2, options.nodes), tuple(options.cache.split()))
    for name, value in figures.items():
        print(f"{name:28} {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
