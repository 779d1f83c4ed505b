"""Which pictures published API clients receive when they queue a loop.

    python benchmarks/api_clients.py [--installed FOLDER] [--workflow F] [--json F]

Installs each client as it is, queues the tiny story on a real server with the client's own call, once anew and once
again (ComfyUI then has everything in its cache), and compares what the client fetched with the files of the run folder.
The last column is a stock graph that is queued again: what a client misses there is not the loop's fault.
Needs a network, pip, and Node.js with npm. With --installed the clients stay in FOLDER and are used again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
DRIVERS = Path(__file__).resolve().parent / "clients"
sys.path[:0] = [str(REPO / "tests" / "comfy")]

from comfy_server import Comfy  # noqa: E402

PYTHON_CLIENTS = ("comfy-cli", "comfy-api-simplified")
NODE_CLIENTS = ("@saintno/comfyui-sdk", "@stable-canvas/comfyui-client")
NODE_NEEDS = ("ws",)
"""Node.js before 22 has no WebSocket of its own."""
SAVE, OPEN = "InterleaveThinkerSaveDocument", "InterleaveThinkerLoopOpen"
SECONDS = 60
"""A client that needs longer has missed the end; the story takes about 15."""

Json = dict[str, Any]


@dataclass
class Call:
    """One use of a client. url, workflow file, id of Save Document, folder for what comes: pictures lie there after."""

    url: str
    workflow: Path
    node: str
    out: Path


@dataclass
class Clients:
    """Where the clients are installed."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "venv" / ("Scripts" if os.name == "nt" else "bin")

    def install(self) -> None:
        if not (self.folder / "venv").exists():
            venv.create(self.folder / "venv", with_pip=True)
            self._run([str(self.bin / "python"), "-m", "pip", "install", "--quiet", *PYTHON_CLIENTS])
        if not (self.folder / "node_modules").exists():
            (self.folder / "package.json").write_text('{"private": true}\n')
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
            self._run(["npm", "install", *quiet, *NODE_CLIENTS, *NODE_NEEDS])

    def version(self, name: str) -> str:
        if name in NODE_CLIENTS:
            package = self.folder / "node_modules" / name / "package.json"
            return str(json.loads(package.read_text(encoding="utf-8"))["version"])
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        return self._run([str(self.bin / "python"), "-c", code]).strip()

    def comfy_cli(self, call: Call) -> None:
        server = ["--host", "127.0.0.1", "--port", str(urllib.parse.urlsplit(call.url).port)]
        command = [str(self.bin / "comfy"), "--skip-prompt", "run", "--workflow", str(call.workflow)]
        text = self._run([*command, "--wait", "--json", *server])
        events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        urls = [event["url"] for event in events if event.get("type") == "output"]
        for number, url in enumerate(url for url in urls if ".png" in url):
            (call.out / f"{number}.png").write_bytes(fetched(url))

    def simplified(self, call: Call) -> None:
        self._drive([str(self.bin / "python"), str(DRIVERS / "simplified.py")], call)

    def cfli(self, call: Call, *more: str) -> None:
        script = self.folder / "node_modules" / "@saintno" / "comfyui-sdk" / "dist" / "cli.js"
        command = ["node", str(script), "-f", str(call.workflow), "-H", call.url, "--json", "--quiet", *more]
        self._run([*command, "--download", "-o", str(call.out)])

    def cfli_of_node(self, call: Call) -> None:
        self.cfli(call, "--output-nodes", call.node)

    def call_wrapper(self, call: Call) -> None:
        self._drive(["node", str(self._driver("call_wrapper.mjs"))], call)

    def enqueue(self, call: Call) -> None:
        self._drive(["node", str(self._driver("enqueue.mjs"))], call)

    def _driver(self, name: str) -> Path:
        """A copy beside the packages, where Node.js looks for them."""
        copy = self.folder / name
        copy.write_bytes((DRIVERS / name).read_bytes())
        return copy

    def _drive(self, command: list[str], call: Call) -> None:
        self._run([*command, call.url, str(call.workflow), call.node, str(call.out)])

    def _run(self, command: list[str]) -> str:
        """Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired: the client failed, or does not end.
        """
        home = {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder / "config"), "COLUMNS": "1000"}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **home},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout


CALLS: dict[str, tuple[str, Callable[[Clients, Call], None]]] = {
    "comfy run --wait": ("comfy-cli", Clients.comfy_cli),
    "queue_and_wait_images": ("comfy-api-simplified", Clients.simplified),
    "cfli -f": ("@saintno/comfyui-sdk", Clients.cfli),
    "cfli -f --output-nodes": ("@saintno/comfyui-sdk", Clients.cfli_of_node),
    "CallWrapper": ("@saintno/comfyui-sdk", Clients.call_wrapper),
    "enqueue": ("@stable-canvas/comfyui-client", Clients.enqueue),
}


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as reply:
        data: bytes = reply.read()
    return data


def document_images(comfy: Comfy, node: str) -> set[bytes]:
    """The chosen pictures of the latest run as its folder has them, when the server is done."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        queue = comfy.get("/queue")
        if not queue["queue_running"] and not queue["queue_pending"]:
            break
        time.sleep(0.2)
    latest = list(comfy.get("/history").values())[-1]
    images = latest["outputs"][node]["images"]
    return {(comfy.output / image["subfolder"] / image["filename"]).read_bytes() for image in images}


def result(use: Callable[[Call], None], comfy: Comfy, call: Call) -> str:
    """The pictures that a client has received when it reports the end of the run."""
    call.out.mkdir()
    failed = ""
    try:
        use(call)
    except subprocess.CalledProcessError as error:
        lines = [line for line in f"{error.stdout}\n{error.stderr}".splitlines() if line.strip()]
        failed = f"; failed: {lines[-1].strip()[:100]}" if lines else "; failed"
    except subprocess.TimeoutExpired:
        failed = f"; not ended after {SECONDS} s"
    wanted = document_images(comfy, call.node)
    got = [path.read_bytes() for path in sorted(call.out.iterdir()) if path.is_file()]
    other = sum(data not in wanted for data in got)
    return f"{len(wanted.intersection(got))} of {len(wanted)}" + (f", and {other} others" if other else "") + failed


def results(use: Callable[[Call], None], comfy: Comfy, folder: Path, story: Json, number: int) -> dict[str, str]:
    """number: another one for each client, so that everything is made anew."""
    (opened,) = of_kind(story, OPEN)
    story[opened]["inputs"]["seed"] = number
    stock = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": number}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "stock"}},
    }
    for node in stock.values():
        node["_meta"] = {"title": node["class_type"]}
    found = {}
    for label, graph, kind in (
        ("anew", story, SAVE),
        ("cached", story, SAVE),
        ("stock", stock, "SaveImage"),
        ("stock, cached", stock, "SaveImage"),
    ):
        (node_id,) = of_kind(graph, kind)
        file = folder / f"{label}.json"
        file.write_text(json.dumps(graph), encoding="utf-8")
        found[label] = result(use, comfy, Call(comfy.url, file, node_id, folder / f"{label} out"))
    return {label: found[label] for label in ("anew", "cached", "stock, cached")}


def of_kind(graph: Json, kind: str) -> list[str]:
    return [i for i, node in graph.items() if node["class_type"] == kind]


@contextmanager
def folder_for(chosen: Path | None) -> Iterator[Path]:
    """Where to install: a chosen folder, or one that is gone afterwards."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen.resolve()
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--installed", type=Path, help="keep the clients in this folder")
    parser.add_argument("--workflow", type=Path, default=REPO / "workflows" / "api" / "tiny_story.json")
    parser.add_argument("--json", type=Path, help="write the table here as well")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    story: Json = json.loads(options.workflow.read_text(encoding="utf-8"))
    table = []
    with folder_for(options.installed) as installed, tempfile.TemporaryDirectory() as base:
        clients = Clients(installed)
        clients.install()
        comfy = Comfy(Path(base) / "comfy").start()
        try:
            for number, (name, (package, use)) in enumerate(CALLS.items(), 1):
                folder = Path(base) / f"client{number}"
                folder.mkdir()
                row = {"client": package, "version": clients.version(package), "call": name}
                row |= results(partial(use, clients), comfy, folder, story, number)
                table.append(row)
                print(" | ".join(row.values()), flush=True)
        finally:
            comfy.stop()
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    return int(any(row["anew"] != "4 of 4" for row in table))


if __name__ == "__main__":
    raise SystemExit(main())
