"""Compare the time of an attempt in our loop with that of a lean, hand-written API client.

    python benchmarks/loop_vs_client.py [--attempts 20] [--rounds 5] [--sizes 512 1024] [--nodes 10] [--json F]

The same body on one real ComfyUI on the CPU, without an agent on either side. The client keeps its connection, sends
one prompt for each attempt, ends it in a PreviewImage and gives the next one that picture as its reference, without
moving it. Runs of both alternate; nothing is recalled. loop_ms, client_ms: medians of wall time from one attempt to the
next. ratio_512, ratio_1024: of these two, by the side of the square pictures. whole_512, whole_1024: of the wall time
of whole runs, until the last file is on the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
from loop_cost import looped

from comfy_server import Comfy  # isort: skip  (loop_cost knows where it is)
from comfy_test_graphs import Graph, node  # isort: skip


class Times:
    def __init__(self) -> None:
        self.at: list[float] = []

    def __call__(self, event: str, facts: dict[str, Any]) -> None:
        if event == "judgment":
            self.at.append(time.perf_counter())


def gaps(times: list[float]) -> list[float]:
    return [1000 * (b - a) for a, b in pairwise(times)]


def loop_run(server: Comfy, attempts: int, size: int, nodes: int, seed: int) -> list[float]:
    graph, times = looped(attempts, size, nodes), Times()
    graph["2"]["inputs"]["seed"] = seed
    server.run(graph, times)
    return gaps(times.at)


def body(size: int, nodes: int, seed: int, reference: str) -> Graph:
    """The loop's body (loop_cost.py), its picture shown."""
    graph: Graph = {"b0": node("EmptyImage", width=size, height=size, batch_size=1, color=0x406080)}
    if reference:
        graph["b0"] = node("LoadImage", image=reference)
    graph["b1"] = node("ImageAddNoise", image=["b0", 0], seed=seed, strength=0.1)
    for i in range(2, nodes):
        kind = ("ImageFlip", "ImageInvert")[i % 2]
        extra = {"flip_method": "x-axis: vertically"} if kind == "ImageFlip" else {}
        graph[f"b{i}"] = node(kind, image=[f"b{i - 1}", 0], **extra)
    graph["show"] = node("PreviewImage", images=[f"b{nodes - 1}", 0])
    return graph


async def client_run(url: str, attempts: int, size: int, nodes: int, seed: int) -> list[float]:
    times, reference = [], ""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/ws?clientId=lean") as socket:
        for number in range(attempts):
            prompt = {"prompt": body(size, nodes, seed + number, reference), "client_id": "lean"}
            async with session.post(f"{url}/prompt", json=prompt) as reply:
                asked = (await reply.json())["prompt_id"]
            shown = ""
            while True:
                message = await socket.receive()
                packet = json.loads(message.data) if message.type == aiohttp.WSMsgType.TEXT else {}
                data = packet.get("data") or {}
                if data.get("prompt_id") != asked:
                    continue
                if packet["type"] == "executed":
                    shown = data["output"]["images"][0]["filename"]
                if packet["type"] == "executing" and data["node"] is None:
                    break
            reference = f"{shown} [temp]"
            times.append(time.perf_counter())
    return gaps(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--attempts", type=int, default=20, help="of a run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--nodes", type=int, default=10, help="stock nodes of the body, 2 or more")
    parser.add_argument("--json", type=Path, metavar="F", help="write the numbers there")
    options = parser.parse_args()
    found: dict[str, Any] = {"attempts": options.attempts * options.rounds, "loop_ms": {}, "client_ms": {}}
    with tempfile.TemporaryDirectory() as folder:
        server = Comfy(Path(folder)).start()
        try:
            for size in options.sizes:
                ours, theirs, whole = [], [], [0.0, 0.0]
                for number in range(options.rounds + 1):
                    seed = 1000 * size + 100 * number
                    began = time.perf_counter()
                    a = loop_run(server, options.attempts, size, options.nodes, seed)
                    between = time.perf_counter()
                    b = asyncio.run(client_run(server.url, options.attempts, size, options.nodes, seed + 50))
                    ended = time.perf_counter()
                    if number:  # before that, what is made once
                        ours += a
                        theirs += b
                        whole = [whole[0] + between - began, whole[1] + ended - between]
                loop, client = statistics.median(ours), statistics.median(theirs)
                found["loop_ms"][size], found["client_ms"][size] = round(loop, 1), round(client, 1)
                found[f"ratio_{size}"], found[f"whole_{size}"] = loop / client, whole[0] / whole[1]
        finally:
            server.stop()
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
