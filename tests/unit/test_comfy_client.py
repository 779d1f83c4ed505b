"""Following a run on ComfyUI's websocket, without a server: what is said of errors."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from interleave_thinker.comfyui.client import ComfyClient, WorkflowError

KINDS = {"16": "KSampler", "17": "ApiNode", "30": "LoopClose", "31": "SaveDocument", "50:16": "VAEDecode"}
PROMPT = {node_id: {"class_type": kind} for node_id, kind in KINDS.items()}
ERROR = ("execution_error", {"node_id": "30", "exception_message": "no room\n"})

Packet = tuple[str, Mapping[str, Any]]


def follow(*messages: Packet) -> None:
    async def socket() -> AsyncIterator[SimpleNamespace]:
        for kind, data in messages:
            packet = json.dumps({"type": kind, "data": {"prompt_id": "p", **data}})
            yield SimpleNamespace(data=packet, type=SimpleNamespace(name="TEXT"))

    asyncio.run(ComfyClient("http://none")._follow(socket(), PROMPT, "p", lambda event, facts: None))


def shown(node_id: str) -> str:
    """Of ids as the pack makes them: 30.s2a1.b16 is a copy of node 16, everything else is shown at Loop Close."""
    found = re.search(r"\.b([\w%]+)", node_id)
    return found[1].replace("%3A", ":") if found else node_id.split(".")[0]


def starts(node_id: str, *waiting: str) -> list[Packet]:
    """What ComfyUI says when a node starts while others run, which wait for it or for something else."""
    nodes = {
        i: {"node_id": i, "real_node_id": i.split(".")[0], "display_node_id": shown(i), "state": "running"}
        for i in (*waiting, node_id)
    }
    nodes["9"] = {"node_id": "9", "real_node_id": "9", "display_node_id": "9", "state": "finished"}
    return [("progress_state", {"nodes": nodes}), ("executing", {"node": node_id, "display_node": shown(node_id)})]


def told(step: int, attempt: int) -> Packet:
    return "interleave_thinker", {"event": "judgment", "step": step, "attempt": attempt}


def test_an_error_names_the_attempt_whose_node_failed_not_the_one_last_heard_of() -> None:
    """What the pack tells of an attempt waits until it is written: the next one may fail before."""
    with pytest.raises(WorkflowError, match=r"^Step 2, attempt 1, node 16 \(KSampler\): no room$"):
        follow(*starts("30"), *starts("30.s2a1.b16", "30", "30.s1a3.next"), told(1, 3), ERROR)


def test_a_node_that_waits_for_its_answer_is_named_although_others_started_since() -> None:
    with pytest.raises(WorkflowError, match=r"^Step 1, attempt 1, node 17 \(ApiNode\): no room$"):
        follow(*starts("30.s1a1.b17", "30"), *starts("31", "30", "30.s1a1.b17"), ERROR)


def test_a_node_in_a_subgraph_is_named() -> None:
    with pytest.raises(WorkflowError, match=r"^Step 10, attempt 2, node 50:16 \(VAEDecode\): no room$"):
        follow(*starts("30.s10a2.b50%3A16", "30", "30.s9a1.next"), ERROR)


def test_a_node_that_is_blocked_is_reported_by_its_own_id_and_has_a_place_too() -> None:
    blocked = ("execution_error", {"node_id": "30.s2a1.keep", "exception_message": "Execution Blocked: skipped"})
    for before in ((), starts("30.s2a1.keep", "30")):
        with pytest.raises(WorkflowError, match=r"^Step 2, attempt 1, .*Execution Blocked: skipped$"):
            follow(*starts("30"), *before, blocked)


def test_an_error_after_the_loop_names_no_attempt() -> None:
    after = ("execution_error", {"node_id": "31", "exception_message": "disk full"})
    with pytest.raises(WorkflowError, match=r"^node 31 \(SaveDocument\): disk full$"):
        follow(*starts("30.s2a1.b16", "30"), told(2, 1), *starts("31"), after)


def test_an_interrupt_names_its_place_and_another_prompts_messages_do_not() -> None:
    others = [(kind, {**data, "prompt_id": "q"}) for kind, data in starts("30.s9a9.b16")]
    with pytest.raises(WorkflowError, match=r"^Interrupted at Step 1, attempt 2, node 16 \(KSampler\)\.$"):
        follow(*starts("30.s1a2.b16", "30"), *others, ("execution_interrupted", {"node_id": "30"}))
