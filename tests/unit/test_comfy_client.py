"""Following a run on ComfyUI's websocket, without a server: what is said of errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from interleave_thinker.comfy_client import ComfyClient, WorkflowError

PROMPT = {"16": {"class_type": "KSampler"}, "30": {"class_type": "LoopClose"}, "31": {"class_type": "SaveDocument"}}
ERROR = ("execution_error", {"node_id": "30", "exception_message": "no room\n"})


def follow(*messages: tuple[str, Mapping[str, Any]]) -> None:
    async def socket() -> AsyncIterator[SimpleNamespace]:
        for kind, data in messages:
            packet = json.dumps({"type": kind, "data": {"prompt_id": "p", **data}})
            yield SimpleNamespace(data=packet, type=SimpleNamespace(name="TEXT"))

    asyncio.run(ComfyClient("http://none")._follow(socket(), PROMPT, "p", lambda event, facts: None))


def starts(node: str, display: str) -> tuple[str, Mapping[str, Any]]:
    return "executing", {"node": node, "display_node": display}


def told(step: int, attempt: int) -> tuple[str, Mapping[str, Any]]:
    return "interleave_thinker", {"event": "judgment", "step": step, "attempt": attempt}


def test_an_error_names_the_attempt_whose_node_failed_not_the_one_last_heard_of() -> None:
    """What the pack tells of an attempt waits until it is written: the next one may fail before."""
    with pytest.raises(WorkflowError, match=r"^Step 2, attempt 1, node 16 \(KSampler\): no room$"):
        follow(starts("30", "30"), starts("30.s1a3.next", "30"), starts("30.s2a1.b16", "16"), told(1, 3), ERROR)


def test_an_error_after_the_loop_names_no_attempt() -> None:
    with pytest.raises(WorkflowError, match=r"^node 31 \(SaveDocument\): no room$"):
        follow(starts("30.s2a1.b16", "16"), told(2, 1), starts("31", "31"), ERROR)


def test_an_interrupt_names_its_place_and_another_prompts_messages_do_not() -> None:
    other = ("executing", {"node": "30.s9a9.b16", "display_node": "16", "prompt_id": "q"})
    with pytest.raises(WorkflowError, match=r"^Interrupted at Step 1, attempt 2, node 16 \(KSampler\)\.$"):
        follow(starts("30.s1a2.b16", "16"), other, ("execution_interrupted", {"node_id": "30"}))
