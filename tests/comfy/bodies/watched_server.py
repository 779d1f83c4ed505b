"""A test server that is asked for one prompt at a time and never waited for too long.

A prompt that does not end by itself is interrupted; a server that does not heed that is killed and started anew, so
that one body that hangs costs its own test and no other.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfy_server import Comfy, Ran

from interleave_thinker.comfyui.client import ComfyClient, WorkflowError, _RunningNodes, describe_refusal
from interleave_thinker.contract import EVENT_TYPE

DEADLINE = 30.0
"""Seconds that a prompt may take."""
AFTER_ERROR = 0.2
"""Seconds of silence after which a prompt with an error has told everything."""
GRACE = 3.0
"""Seconds that an interrupted prompt has to end."""

Watch = Callable[[str, Mapping[str, Any]], None]
"""Called with each message of the server about a prompt while it runs: its kind and its facts."""


class Hung(AssertionError):
    """A prompt did not end by itself."""


@dataclass
class Outcome(Ran):
    """What one queued prompt did, whether it ended well or not."""

    errors: list[str] = field(default_factory=list)
    """Every error that the server told, in words: node, step, attempt, message. Also why it refused the prompt."""
    dropped: dict[str, Any] = field(default_factory=dict)
    """Outputs that ComfyUI dropped because their inputs are not valid; the rest ran."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """What the test nodes wrote down."""
    log: str = ""
    """What the server logged meanwhile."""
    seconds: float = 0.0
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [entry["document"] for out in self.outputs.values() for entry in out.get("interleave_document", [])]

    @property
    def recalled(self) -> list[tuple[int, int]]:
        return [(f["step"], f["attempt"]) for f in self.of("attempt") if f["recalled"]]


class _Client(ComfyClient):
    """Follows a prompt to its very end: an error of a blocked node does not end the others."""

    def __init__(self, url: str, more: Mapping[str, Any], found: Outcome, watch: Watch | None):
        super().__init__(url)
        self.more, self.found, self.watch = more, found, watch

    async def _queue(self, session: Any, prompt: Mapping[str, Any], targets: Any = None) -> str:
        body = {"prompt": prompt, "client_id": self.client_id, **self.more}
        async with session.post(f"{self.url}/prompt", json=body) as reply:
            answer = await reply.json(content_type=None)
        if "prompt_id" not in answer:
            raise WorkflowError(describe_refusal(answer, prompt))
        self.found.dropped = answer.get("node_errors") or {}
        return str(answer["prompt_id"])

    async def _follow(self, socket: Any, prompt: Mapping[str, Any], prompt_id: str, on_event: Any) -> None:
        running, ended = _RunningNodes(), False
        while True:
            try:
                message = await socket.receive(timeout=AFTER_ERROR if ended else None)
            except (TimeoutError, asyncio.TimeoutError):
                return
            if message.type.name in ("CLOSE", "CLOSING", "CLOSED", "ERROR"):
                raise WorkflowError("the server closed the connection")
            if message.type.name != "TEXT":
                continue
            packet = json.loads(message.data)
            kind, data = packet.get("type"), packet.get("data") or {}
            if data.get("prompt_id") not in (None, prompt_id):
                continue
            self.found.messages.append((kind, data))
            if kind == "progress_state":
                running.running = [node for node in data.get("nodes", {}).values() if node.get("state") == "running"]
            elif kind == "executing" and data.get("node"):
                running.last = str(data["node"])
                self.found.events.append(("executing", {"node": str(data.get("display_node") or data["node"])}))
            elif kind == EVENT_TYPE:
                self.found.events.append((data.get("event", ""), data))
            elif kind == "execution_error":
                text = str(data.get("exception_message", "")).strip()
                self.found.errors.append(f"{running.label(prompt, str(data.get('node_id')))}: {text}")
            elif kind == "execution_interrupted":
                self.found.errors.append(f"Interrupted at {running.label(prompt, str(data.get('node_id')))}.")
            if self.watch is not None:
                await asyncio.to_thread(self.watch, str(kind), data)
            if kind == "executing" and data.get("node") is None:
                if not self.found.errors:
                    return
                ended = True  # what the pack wrote before the error is told a moment later

    async def follow(self, prompt: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        return (await asyncio.wait_for(self._run(prompt, lambda event, facts: None), deadline))["outputs"]


@dataclass
class WatchedServer:
    """`nodes`: a file of custom nodes that the server loads beside the pack. `calls`: its route of what they wrote."""

    base: Path
    arguments: tuple[str, ...] = ()
    nodes: Path = field(default_factory=lambda: Path(__file__).with_name("body_nodes.py"))
    calls: str = "/body_tests/calls"
    server: Comfy = field(init=False)

    def __post_init__(self) -> None:
        custom = self.base / "custom_nodes"
        custom.mkdir(parents=True)
        (custom / self.nodes.name).symlink_to(self.nodes)
        self.server = Comfy(self.base, self.arguments).start()

    def stop(self) -> None:
        self.server.stop()

    def queue(
        self,
        prompt: Mapping[str, Any],
        *,
        targets: list[str] | None = None,
        extra: Mapping[str, Any] | None = None,
        watch: Watch | None = None,
        deadline: float = DEADLINE,
    ) -> Outcome:
        """Run a prompt to its end.

        targets: the output nodes to run, as the editor asks for some only. extra: what the editor sends along.

        Raises:
            Hung: it did not end in time. The next prompt finds a server that works.
        """
        more: dict[str, Any] = {}
        if targets is not None:
            more["partial_execution_targets"] = targets
        if extra is not None:
            more["extra_data"] = extra
        found = Outcome({}, [])
        start, logged = time.monotonic(), len(self.server.log())
        client = _Client(self.server.url, more, found, watch)
        try:
            found.outputs = asyncio.run(client.follow(prompt, deadline))
        except WorkflowError as error:
            found.errors.append(str(error))
        except (TimeoutError, asyncio.TimeoutError):
            log = self.server.log()[logged:][-2000:]
            raise Hung(f"did not end in {deadline:g} s; {self._end()}\n{log}") from None
        found.seconds = time.monotonic() - start
        found.calls = self.server.get(self.calls)
        found.log = self.server.log()[logged:]
        return found

    def _end(self) -> str:
        """Interrupt what runs; kill the server if that does not help. Says which it was."""
        until = time.monotonic() + GRACE
        try:
            self.server.post("/interrupt", {})
            while time.monotonic() < until:
                if not self.server.get("/queue")["queue_running"]:
                    self.server.get(self.calls)
                    return "interrupted"
                time.sleep(0.1)
        except (urllib.error.URLError, OSError):
            pass
        self.server.kill()
        self.server.start()
        return "the server did not heed an interrupt and was killed"
