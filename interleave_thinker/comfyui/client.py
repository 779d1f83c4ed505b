"""A client of a ComfyUI server: queue a workflow, follow it live, fetch what came out.

Speaks ComfyUI's own API (POST /prompt, the websocket, GET /history) and listens to the pack's event.
Knows nothing of what a workflow means; see `workflow.py` for that.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contract import EVENT_TYPE, placed_where
from ..errors import InterleaveError

HISTORY_TRIES = 200
"""Looks at the history, 0.05 s apart."""
NAME_BYTES = 255
"""The longest file name that file systems take."""
SHORT_NAME_BYTES = 120
"""Of a name that had to be shortened: encrypted folders take 143, and ComfyUI may append a number."""

OnEvent = Callable[[str, Mapping[str, Any]], None]
"""Called with the event and its facts: `contract.Event` from the pack, and "executing" from ComfyUI with the id of the
node that starts."""


class WorkflowError(InterleaveError):
    """The server refused the workflow, or a node failed; the message names node, step and attempt."""


class OutOfTime(WorkflowError):
    """The workflow did not end in the time it was given, and was interrupted."""


class ServerLost(WorkflowError):
    """ComfyUI cannot be reached, ended, or closed the connection while the workflow ran."""


class _NodeFailed(WorkflowError):
    """A node failed or was interrupted; ComfyUI's history tells of it too."""


@dataclass
class _RunningNodes:
    """Where a run is, for error messages: the nodes that ComfyUI says are running, and the last one to start.

    Not from the pack's events: those of an attempt come when it is written, which may be after the next one failed.
    """

    running: list[Mapping[str, Any]] = field(default_factory=list)
    last: str = ""

    def label(self, prompt: Mapping[str, Any], reported: str) -> str:
        """reported: id of the node that ComfyUI names: Loop Close for what it placed, but not for a blocked one."""
        inside = [n for n in self.running if reported in (str(n.get("node_id")), str(n.get("real_node_id")))]
        found = max(reversed(inside), key=self._order, default={"node_id": reported, "display_node_id": reported})
        node_id, placed = str(found.get("display_node_id")), self._placed(found)
        where = f"Step {placed[0]}, attempt {placed[1]}, " if any(placed) else ""
        return f"{where}node {node_id} ({prompt.get(node_id, {}).get('class_type', '?')})"

    def _order(self, node: Mapping[str, Any]) -> tuple[tuple[int, int], bool]:
        """Nodes of earlier attempts wait for what they placed; in an attempt, one that waits started before."""
        return self._placed(node), node.get("node_id") == self.last

    @staticmethod
    def _placed(node: Mapping[str, Any]) -> tuple[int, int]:
        return placed_where(str(node.get("node_id", ""))) or (0, 0)


@dataclass
class ComfyClient:
    """`url` such as http://127.0.0.1:8188. `user`: id of a ComfyUI user, where the server has several. `graph`: the
    workflow that is queued, in the editor's format, which the editor sends along for the run's folder and its pictures.
    """

    url: str
    user: str = field(default="", kw_only=True)
    graph: Mapping[str, Any] | None = field(default=None, kw_only=True)
    client_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    received: int = 0
    """Bytes that came over the websocket so far."""

    def run(self, prompt: Mapping[str, Any], on_event: OnEvent | None = None) -> dict[str, Any]:
        """Queue an API-format prompt and wait for its end. Returns the outputs by node id.

        Raises:
            WorkflowError: not accepted, a node failed, interrupted, or the server cannot be reached.
        """
        return dict(asyncio.run(self._run(prompt, on_event or (lambda event, facts: None)))["outputs"])

    def run_part(self, prompt: Mapping[str, Any], targets: Sequence[str], *, seconds: float) -> dict[str, Any]:
        """Queue a prompt of which only the output nodes `targets`, and what they need, are to run. What takes longer
        than `seconds`, the wait in the queue included, is taken out of the queue or interrupted; so it is where a
        person interrupts this program.

        Returns the prompt's entry in the server's history (GET /history), also where a node failed or was interrupted.

        Raises:
            OutOfTime: `seconds` are over.
            ServerLost: the server cannot be reached, ended, or closed the connection.
            WorkflowError: not accepted, or no history was kept of it.
        """
        return asyncio.run(self._run(prompt, lambda event, facts: None, targets, seconds))

    def system_stats(self) -> dict[str, Any]:
        """Versions and devices (GET /system_stats).

        Raises:
            WorkflowError: the server cannot be reached, or is no ComfyUI.
        """
        found = asyncio.run(self._asked("system_stats", "its versions"))
        if not (isinstance(found.get("system"), dict) and found["system"].get("comfyui_version")):
            raise WorkflowError(f"{self.url} answers, but not as ComfyUI does. Give ComfyUI's address with --server.")
        return found

    @property
    def _headers(self) -> dict[str, str]:
        return {"comfy-user": self.user} if self.user else {}

    def answers(self, seconds: float = 5.0) -> bool:
        """Whether a ComfyUI answers at this address within `seconds`."""
        return asyncio.run(self._answers(seconds))

    async def _answers(self, seconds: float) -> bool:
        import aiohttp

        try:
            timeout = aiohttp.ClientTimeout(total=seconds)
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session,
                session.get(f"{self.url.rstrip('/')}/system_stats") as reply,
            ):
                return reply.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def upload(self, path: Path) -> str:
        """Put a picture into the server's input folder; returns its name there.

        Raises:
            WorkflowError: there is no such picture, or the server does not take it.
        """
        return asyncio.run(self._upload(path))

    def node_kinds(self) -> dict[str, Any]:
        """What the server knows of its nodes, by class_type (GET /object_info).

        Raises:
            WorkflowError: the server cannot be reached or does not say.
        """
        return asyncio.run(self._asked("object_info", "its nodes"))

    def waiting(self) -> int:
        """How many prompts run or wait in the server's queue.

        Raises:
            WorkflowError: the server cannot be reached or does not say.
        """
        queue = asyncio.run(self._asked("queue", "its queue"))
        return len(queue.get("queue_running", ())) + len(queue.get("queue_pending", ()))

    async def _asked(self, path: str, what: str) -> dict[str, Any]:
        import aiohttp

        try:
            async with (
                aiohttp.ClientSession(headers=self._headers) as session,
                session.get(f"{self.url}/{path}") as reply,
            ):
                reply.raise_for_status()
                return dict(await reply.json())
        except (aiohttp.ClientError, OSError, ValueError, TypeError) as error:
            raise WorkflowError(f"Cannot ask ComfyUI at {self.url} for {what}: {error}") from error

    def fetch(self, file: Mapping[str, Any]) -> bytes:
        """A file that a node reported (filename, subfolder, type).

        Raises:
            WorkflowError: the server does not give it.
        """
        return asyncio.run(self._fetch(file))

    async def _fetch(self, file: Mapping[str, Any]) -> bytes:
        import aiohttp

        asked = {name: str(file.get(name, "")) for name in ("filename", "subfolder", "type")}
        try:
            async with (
                aiohttp.ClientSession(headers=self._headers) as session,
                session.get(f"{self.url}/view", params=asked) as reply,
            ):
                reply.raise_for_status()
                return await reply.read()
        except (aiohttp.ClientError, OSError) as error:
            raise WorkflowError(f"Cannot fetch {asked['filename']} from {self.url}: {error}") from error

    async def _upload(self, path: Path) -> str:
        import aiohttp

        if not path.is_file():
            raise WorkflowError(f"There is no picture {path}.")
        data = path.read_bytes()
        names = upload_names(path.name, data)
        try:
            async with aiohttp.ClientSession(headers=self._headers) as session:
                for number, name in enumerate(names, start=1):
                    form = aiohttp.FormData(quote_fields=False)  # else the name arrives percent-encoded
                    form.add_field("image", data, filename=header_name(name))
                    async with session.post(f"{self.url}/upload/image", data=form) as reply:
                        if reply.status == 500 and number < len(names):
                            continue  # a name that the server's file system does not take
                        reply.raise_for_status()
                        uploaded: str = (await reply.json())["name"]
                        return uploaded
        except (aiohttp.ClientError, OSError) as error:
            raise WorkflowError(f"Cannot upload {path.name} to {self.url}: {error}") from error
        raise AssertionError("the last name returns or raises")

    async def _run(
        self,
        prompt: Mapping[str, Any],
        on_event: OnEvent,
        targets: Sequence[str] | None = None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """The prompt's entry in the history. With `targets` also where a node failed; else that is raised."""
        import aiohttp

        address = self.url.rstrip("/").replace("http", "ws", 1) + f"/ws?clientId={self.client_id}"
        try:
            async with aiohttp.ClientSession(headers=self._headers) as session:
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    prompt_id = await self._queue(session, prompt, targets)
                    try:
                        await asyncio.wait_for(self._follow(socket, prompt, prompt_id, on_event), seconds)
                    except (TimeoutError, asyncio.TimeoutError):
                        await self._cancel(session, prompt_id)
                        raise OutOfTime(f"It took more than {seconds:.0f} s and was stopped.") from None
                    except asyncio.CancelledError:
                        if targets is not None:
                            await self._cancel(session, prompt_id)
                        raise
                    except _NodeFailed:
                        if targets is None:
                            raise
                return await self._ended(session, prompt_id)
        except (aiohttp.ClientError, OSError) as error:
            raise ServerLost(f"Cannot talk to ComfyUI at {self.url}: {error}") from error

    async def _cancel(self, session: Any, prompt_id: str) -> None:
        """Take a prompt out of the queue, or interrupt it where it runs."""
        for path, body in (("queue", {"delete": [prompt_id]}), ("interrupt", {"prompt_id": prompt_id})):
            async with session.post(f"{self.url}/{path}", json=body):
                pass

    async def _ended(self, session: Any, prompt_id: str) -> dict[str, Any]:
        """What history says came out. It is written shortly after the message that the run ended."""
        for _ in range(HISTORY_TRIES):
            async with session.get(f"{self.url}/history/{prompt_id}") as reply:
                history = await reply.json()
            if prompt_id in history:
                return dict(history[prompt_id])
            await asyncio.sleep(0.05)
        raise WorkflowError(f"ComfyUI at {self.url} ended the run but keeps no history of it.")

    async def _queue(self, session: Any, prompt: Mapping[str, Any], targets: Sequence[str] | None = None) -> str:
        body: dict[str, Any] = {"prompt": prompt, "client_id": self.client_id}
        if targets is not None:
            body["partial_execution_targets"] = list(targets)
        if self.graph is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": self.graph}}
        async with session.post(f"{self.url}/prompt", json=body) as reply:
            answer = await reply.json(content_type=None)
        errors = answer.get("node_errors") or {}
        if errors or "prompt_id" not in answer:
            raise WorkflowError(describe_refusal(answer, prompt))
        return str(answer["prompt_id"])

    async def _follow(self, socket: Any, prompt: Mapping[str, Any], prompt_id: str, on_event: OnEvent) -> None:
        running = _RunningNodes()
        async for message in socket:
            self.received += len(message.data) if isinstance(message.data, (str, bytes)) else 0
            if message.type.name != "TEXT":
                continue
            packet = json.loads(message.data)
            kind, data = packet.get("type"), packet.get("data") or {}
            if data.get("prompt_id") not in (None, prompt_id):
                continue
            if kind == "progress_state":
                running.running = [node for node in data.get("nodes", {}).values() if node.get("state") == "running"]
            elif kind == "executing" and data.get("node"):
                running.last = str(data["node"])
                on_event("executing", {"node": str(data.get("display_node") or data["node"])})
            elif kind == EVENT_TYPE:
                on_event(data.get("event", ""), data)
            elif kind == "execution_error":
                text = str(data.get("exception_message", "")).strip()
                raise _NodeFailed(f"{running.label(prompt, str(data.get('node_id')))}: {text}")
            elif kind == "execution_interrupted":
                raise _NodeFailed(f"Interrupted at {running.label(prompt, str(data.get('node_id')))}.")
            elif kind == "execution_success":
                return
        raise ServerLost(f"ComfyUI at {self.url} closed the connection before the run ended.")


def seconds_of(entry: Mapping[str, Any]) -> float | None:
    """How long a prompt ran until it was done or interrupted, by the server's clock, from its entry in the history;
    None where that does not tell."""
    messages = (entry.get("status") or {}).get("messages") or ()
    at = {kind: (facts or {}).get("timestamp") for kind, facts in messages}
    begun, ended = at.get("execution_start"), at.get("execution_success") or at.get("execution_interrupted")
    return (ended - begun) / 1000 if begun and ended else None


def describe_refusal(answer: Mapping[str, Any], prompt: Mapping[str, Any]) -> str:
    """The server's refusal in one line a node."""
    lines = []
    for node_id, entry in (answer.get("node_errors") or {}).items():
        for error in entry.get("errors", []):
            kind = prompt.get(node_id, entry).get("class_type", "?")
            said, about = f"{error.get('message')}: {error.get('details')}", error.get("extra_info") or {}
            if error.get("type") == "value_not_in_list":  # ComfyUI lists all that it has
                name, value = about.get("input_name"), str(about.get("received_value"))[:200]
                said = f"{name} is {value!r}, which this ComfyUI does not have"
            lines.append(f"node {node_id} ({kind}): {said}")
    if not lines:
        error = answer.get("error")
        lines.append(str(error.get("message", error)) if isinstance(error, Mapping) else str(answer))
    return "ComfyUI did not accept the workflow.\n" + "\n".join(lines)


def upload_names(name: str, data: bytes) -> list[str]:
    """Names to try for an uploaded file: its own, unless that is too long; a long one also shortened.

    A shortened name keeps the extension and is one of this name and content alone.
    """
    whole = name.encode("utf-8", "surrogatepass")
    name = whole.decode("utf-8", "replace")  # on Linux a name can have bytes that are no UTF-8
    if len(whole) <= SHORT_NAME_BYTES:
        return [name]
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 16:
        stem, dot, extension = name, "", ""
    end = f"_{hashlib.sha256(whole + data).hexdigest()[:12]}{dot}{extension}"
    short = stem.encode()[: SHORT_NAME_BYTES - len(end.encode())].decode("utf-8", "ignore") + end
    return [name, short] if len(name.encode()) <= NAME_BYTES else [short]


def header_name(name: str) -> str:
    """A file name as it can stand in a form's header: what would end or confuse the header is percent-encoded, as
    browsers do it. Quotes and backslashes are the client library's to escape."""
    unsafe = r"[\x00-\x1f\x7f;]" if name.count(";") > 1 or '"' in name else r"[\x00-\x1f\x7f]"
    return re.sub(unsafe, lambda found: f"%{ord(found[0]):02X}", name)
