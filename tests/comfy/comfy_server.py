"""A real ComfyUI server for tests and benchmarks: a process on a free port, with folders of its own.

What ran is read from the server's own messages.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interleave_thinker.comfyui.client import ComfyClient

REPO = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("INTERLEAVE_COMFYUI", REPO / ".dev" / "ComfyUI"))


@dataclass
class Ran:
    """What one queued prompt did: outputs by node, the pack's events, and which nodes started."""

    outputs: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    received: int = 0
    """Bytes of websocket traffic."""

    def of(self, event: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.events if name == event]

    @property
    def made(self) -> list[tuple[int, int]]:
        """(step, attempt) of pictures that were really generated, not recalled."""
        return [(f["step"], f["attempt"]) for f in self.of("attempt") if not f["recalled"]]

    @property
    def started(self) -> list[str]:
        """Ids of the user's nodes, in the order in which they (or their copies) started."""
        return [f["node"] for f in self.of("executing")]

    @property
    def document(self) -> dict[str, Any]:
        for output in self.outputs.values():
            for entry in output.get("interleave_document", []):
                return dict(entry["document"])
        raise AssertionError("no document came out")

    @property
    def folder(self) -> Path:
        for output in self.outputs.values():
            for entry in output.get("interleave_document", []):
                return Path(entry["path"]).parent
        raise AssertionError("no document came out")


@dataclass
class Comfy:
    """A server process below `base`, which holds its models, inputs, outputs and users."""

    base: Path
    arguments: tuple[str, ...] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    comfyui: Path = COMFYUI

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> Path:
        return self.base / "output"

    def start(self, timeout: float = 120) -> Comfy:
        nodes = self.base / "custom_nodes"
        nodes.mkdir(parents=True, exist_ok=True)
        if not (nodes / "interleave-thinker").exists():
            (nodes / "interleave-thinker").symlink_to(REPO, target_is_directory=True)
        if not (self.base / "models").exists():
            (self.base / "models").symlink_to(COMFYUI / "models", target_is_directory=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--base-directory", str(self.base), "--database-url", "sqlite:///:memory:", *self.arguments]
        with (self.base / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.comfyui, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if self.process.poll() is not None:
                self.process = None
                raise RuntimeError(f"ComfyUI ended:\n{self.log()[-3000:]}")
            try:
                self.get("/system_stats")
                return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        self.kill()
        raise RuntimeError(f"ComfyUI did not start in {timeout} s:\n{self.log()[-3000:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def kill(self) -> None:
        """SIGKILL, no clean-up."""
        self.stop(signal.SIGKILL)

    def log(self) -> str:
        return (self.base / "server.log").read_text(errors="replace")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as reply:
            return json.loads(reply.read())

    def post(self, path: str, body: Any) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def run(self, prompt: dict[str, Any], watch: Callable[[str, dict[str, Any]], None] | None = None) -> Ran:
        """Queue and wait. Raises WorkflowError as the command line does."""
        events: list[tuple[str, dict[str, Any]]] = []

        def on_event(event: str, facts: Any) -> None:
            events.append((event, dict(facts)))
            if watch is not None:
                watch(event, dict(facts))

        client = ComfyClient(self.url)
        outputs = client.run(prompt, on_event)
        return Ran(outputs, events, client.received)
