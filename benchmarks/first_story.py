"""From a bare machine to the first finished story: `dev.py demo` in fresh clones, of several revisions in turn.

    python benchmarks/first_story.py HEAD~20 HEAD [--rounds 2] [--json F]

Each run clones the repository into a temporary folder and begins with empty caches of pip and uv, so everything is
downloaded. Shown are seconds of each step, processor seconds of all that ran (on a busy machine the better measure),
and bytes that came through a proxy on loopback, which this script starts and which sees no contents. Where the network
asks for a proxy of its own, bytes are not counted. What lies on the machine's own disk for pip to find is no download.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
LIST_PACKAGES = """
import importlib.metadata as m, json
sizes = {f"{d.metadata['Name']}=={d.version}": sum(f.size or 0 for f in d.files or ()) for d in m.distributions()}
print(json.dumps(sizes))
"""


class CountingProxy:
    """Passes HTTPS connections on and counts the bytes that come back, by host."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.port = 0

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            asked = await reader.readuntil(b"\r\n\r\n")
            host, _, port = asked.split()[1].decode().rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer, host))
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str = "") -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                if host:
                    self.received[host] += len(data)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=1 << 18)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    def start(self) -> None:
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True).start()
        ready.wait()

    @property
    def total(self) -> int:
        return sum(self.received.values())


def fresh_clone(revision: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """A clone that nothing was set up in, and an environment with empty caches."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", REPO, clone], check=True)
    subprocess.run(["git", "checkout", "-q", revision], cwd=clone, check=True)
    caches = {"PIP_CACHE_DIR": f"{folder}/pip", "UV_CACHE_DIR": f"{folder}/uv"}
    return clone, {**os.environ, **caches, "NO_PROXY": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1"}


def first_story(revision: str, folder: Path) -> dict[str, Any]:
    """Seconds, processor seconds and bytes of `dev.py demo`, and what it installed."""
    counted = not any(os.environ.get(name) for name in PROXIES)
    clone, env = fresh_clone(revision, folder)
    proxy = CountingProxy()
    if counted:
        proxy.start()
        env |= dict.fromkeys(PROXIES, f"http://127.0.0.1:{proxy.port}")
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "dev.py", "demo"]
    with subprocess.Popen(command, cwd=clone, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        steps, document = read_steps(process.stdout, proxy)
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode or not document or not Path(document).is_file():
        raise SystemExit(f"{revision}: no story came of it (exit code {process.returncode}).")
    python = clone / ".dev" / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    packages = json.loads(subprocess.check_output([python, "-I", "-c", LIST_PACKAGES], text=True))
    return {
        "revision": revision,
        "seconds": seconds,
        "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "bytes": proxy.total if counted else None,
        "hosts": dict(proxy.received),
        "steps": steps,
        "packages": packages,
    }


def read_steps(lines: Any, proxy: CountingProxy) -> tuple[dict[str, dict[str, float]], str]:
    """Seconds and bytes of each step, as dev.py reports them line by line; and where the document lies."""
    steps: dict[str, dict[str, float]] = {}
    document, received = "", 0
    for line in lines:
        if done := re.match(r"\[(?:setup|demo)\] (?:(.+): done in )?([\d.]+) s$", line.strip()):
            steps[done[1] or "server and story"] = {"seconds": float(done[2]), "bytes": proxy.total - received}
            received = proxy.total
            print(f"  {done[1] or 'server and story'}: {float(done[2]):.1f} s", flush=True)
        elif line.startswith("Document: "):
            document = line.removeprefix("Document: ").strip()
    return steps, document


def report(runs: list[dict[str, Any]]) -> list[str]:
    """Medians by revision, the ratios to the first one, and what it installed that another does not."""
    revisions = list(dict.fromkeys(run["revision"] for run in runs))
    lines, first = [], None
    for revision in revisions:
        mine = [run for run in runs if run["revision"] == revision]
        middle = {k: statistics.median(run[k] or 0 for run in mine) for k in ("seconds", "processor_seconds", "bytes")}
        disk = sum(mine[-1]["packages"].values())
        lines.append(
            f"{revision}: {middle['seconds']:.0f} s, {middle['processor_seconds']:.0f} processor seconds, "
            f"{middle['bytes'] / 1e6:.0f} MB downloaded, {len(mine[-1]['packages'])} packages of {disk / 1e6:.0f} MB"
        )
        if first:
            ratios = {k: middle[k] / first[0][k] for k in middle if first[0][k]}
            lines.append(f"  to {revisions[0]}: " + ", ".join(f"{k} {ratio:.0%}" for k, ratio in ratios.items()))
            names = {name.partition("==")[0] for name in mine[-1]["packages"]}
            gone = {n: size for n, size in first[1].items() if n.partition("==")[0] not in names}
            told = [f"{name} ({size / 1e6:.0f})" for name, size in sorted(gone.items(), key=lambda kept: -kept[1])]
            lines.append(f"  without (MB on the disk): {', '.join(told)}")
        first = first or (middle, mine[-1]["packages"])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs="+", help="commits of this repository; ratios are to the first")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each revision, in turn")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:  # deleted at the end: on a slow disk that takes minutes
        for number in range(options.rounds):
            for place, revision in enumerate(options.revisions):
                print(f"Round {number + 1}, {revision}; load {os.getloadavg()[0]:.1f}", flush=True)
                runs.append(first_story(revision, Path(folder) / f"{number}-{place}"))
                print(f"  in all: {runs[-1]['seconds']:.0f} s, {runs[-1]['processor_seconds']:.0f} processor seconds")
                if options.json:
                    options.json.write_text(json.dumps(runs, indent=1) + "\n")
        print("\n".join(report(runs)), flush=True)


if __name__ == "__main__":
    main()
