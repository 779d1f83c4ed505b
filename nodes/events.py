"""What the browser and API clients are told while a loop runs.

Stock messages do most of it (previews and progress of the cloned nodes, text on a node). One event of
our own, "interleave_thinker", carries plan, attempts and judgments; `js/` and the command line listen. What is sent,
and when, is in `session.py`; the names of the events are in `contract.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import comfy.model_management
from server import PromptServer

from ..interleave_thinker.contract import EVENT_TYPE, Event, Writing
from .comfy_internals.server import executing_prompt_id, send_progress_text
from .folders import run_path, runs_root, saved_file
from .users import current_client, multi_user

_log = logging.getLogger(__name__)

MAX_SHOWN = 2000
"""Characters of streamed agent text that are sent."""
SECONDS_BETWEEN_TEXTS = 0.25
"""Seconds between two sendings: a token each would flood the connection."""

check_interrupt = comfy.model_management.throw_exception_if_processing_interrupted


def send_event(event: Event, node_id: str, facts: Mapping[str, Any]) -> None:
    """Tell every open page and client: a second tab, or one that was reloaded under another id, shows the run too.

    With several users only the page that queued is told, and `run`, `parent` and `file` name the user's folder.
    `image` names the same file as ComfyUI's /view takes it.
    """
    if event == "warning":
        _log.warning("InterleaveThinker, run %s: %s", facts.get("run"), facts.get("text"))
    server = PromptServer.instance
    if server is None:
        return
    message = {"event": event, "node": node_id, **facts}
    if facts.get("file"):
        message["image"] = saved_file(runs_root() / str(facts["file"]))
    prompt_id = executing_prompt_id()
    if prompt_id is not None:
        message["prompt_id"] = prompt_id
    if not multi_user():
        server.send_sync(EVENT_TYPE, message)
        return
    message |= {name: run_path(str(message[name])) for name in ("run", "file", "parent") if message.get(name)}
    client = current_client()
    if client is not None:
        server.send_sync(EVENT_TYPE, message, client)


def editors_graph(extra: Any) -> dict[str, Any] | None:
    """The editor's graph, which it sends along (`extra_pnginfo`); API clients may send none."""
    workflow = extra.get("workflow") if isinstance(extra, dict) else None
    return workflow if isinstance(workflow, dict) else None


def workflow_id(extra: Any) -> str:
    """Whose events these are: node ids alone are the same in many workflows. "" without an editor."""
    return str((editors_graph(extra) or {}).get("id", ""))[:100]


def is_heard() -> bool:
    """Whether who queued the running prompt listens to its messages."""
    server = PromptServer.instance
    return server is not None and server.client_id is not None


def text_below(text: str, extra: Any) -> dict[str, Any] | None:
    """The `ui` of a node that shows a text below itself in the editor. extra: the node's hidden `extra_pnginfo`.

    None where no editor queued. Some API clients take the first node that shows anything for the result of the run.
    """
    return {"text": [text]} if editors_graph(extra) is not None else None


def show_text(text: str, node_id: str) -> None:
    """Text on a node, replaced by the next one."""
    server = PromptServer.instance
    if server is None:
        return
    client = current_client() if multi_user() else server.client_id
    if client is not None:
        send_progress_text(text, node_id, client)


def text_watcher(node_id: str, writing: Writing, what: str = "") -> Any:
    """An `on_text` for agents: shows what is written on the node and honours an interrupt at each token."""
    label = f"{writing} {what}".rstrip()

    shown_at = 0.0

    def on_text(text: str) -> bool:
        nonlocal shown_at
        check_interrupt()
        now = time.monotonic()
        if now - shown_at > SECONDS_BETWEEN_TEXTS:
            shown_at = now
            show_text(f"{label}\n{text[-MAX_SHOWN:]}", node_id)
        return True

    return on_text
