"""Following a run on ComfyUI's websocket: what is said of errors. Uploading: under which name a picture arrives."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interleave_thinker.comfyui.client import NAME_BYTES, ComfyClient, WorkflowError, upload_names

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


class Uploads:
    """A server that takes uploads as ComfyUI does, and writes down their names. limit: of its file system."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.limit = NAME_BYTES
        self.loop = asyncio.new_event_loop()
        self.port = 0

    async def take(self, request: web.Request) -> web.Response:
        name = (await request.post())["image"].filename  # type: ignore[union-attr]
        if len(name.encode()) > self.limit:
            raise web.HTTPInternalServerError(text="File name too long")
        self.names.append(name)
        return web.json_response({"name": name})

    async def start(self) -> None:
        application = web.Application()
        application.router.add_post("/upload/image", self.take)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]

    def upload(self, name: str, data: bytes = b"x") -> str:
        picture: Any = SimpleNamespace(name=name, is_file=lambda: True, read_bytes=lambda: data)
        return ComfyClient(f"http://127.0.0.1:{self.port}").upload(picture)


@pytest.fixture(scope="module")
def uploads() -> Iterator[Uploads]:
    server = Uploads()
    server.loop.run_until_complete(server.start())
    thread = threading.Thread(target=server.loop.run_forever, daemon=True)
    thread.start()
    yield server
    server.loop.call_soon_threadsafe(server.loop.stop)
    thread.join(10)


FILE_NAMES = st.text(st.characters(exclude_characters="/\x00"), min_size=1, max_size=90).filter(
    lambda name: name not in (".", "..")
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=FILE_NAMES)
def test_a_picture_arrives_under_its_own_name(uploads: Uploads, name: str) -> None:
    """But for what a form's header cannot carry: line breaks, and several semicolons for some servers."""
    arrived = uploads.upload(name)
    assert arrived == uploads.names[-1] and len(arrived.encode()) <= NAME_BYTES
    if not re.search(r"[\x00-\x1f\x7f;\ud800-\udfff]|^[\\/]", name) and len(name.encode()) <= NAME_BYTES:
        assert arrived == name


@pytest.mark.parametrize(
    "name", ["\u57ce\u5e02.png", "a b.png", 'a"b.png', "a\\b.png", "a;b.png", "100%.png", "%41.png"]
)
def test_these_arrive_as_they_are(uploads: Uploads, name: str) -> None:
    assert uploads.upload(name) == name


@pytest.mark.parametrize("name", ["a;b;c.png", 'a";b.png', "a\nb.png", "a\r\nX-Header: b.png", "\udce9.png"])
def test_what_a_header_cannot_carry_arrives_in_another_spelling(uploads: Uploads, name: str) -> None:
    assert uploads.upload(name).endswith(".png")


@pytest.mark.parametrize("stem", ["x" * 300, "\u57ce\u5e02\u591c\u666f" * 40, "\U0001f389" * 80])
def test_a_name_that_no_file_system_takes_is_shortened_to_one_of_its_own(uploads: Uploads, stem: str) -> None:
    names = {uploads.upload(f"{stem}{n}.webp", data) for n in "12" for data in (b"a", b"b")}
    assert len(names) == 4 and all(n.startswith(stem[:20]) and n.endswith(".webp") for n in names)
    assert uploads.upload(f"{stem}1.webp", b"a") in names, "the same picture has the same name again"
    assert all(len(n.encode()) < 140 for n in names)


def test_a_server_that_takes_only_shorter_names_gets_one(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encrypted folder takes 143 bytes; and ComfyUI appends a number where the name is taken."""
    monkeypatch.setattr(uploads, "limit", 143)
    assert uploads.upload("x" * 200 + ".png").endswith(".png")
    monkeypatch.setattr(uploads, "limit", 10)
    with pytest.raises(WorkflowError, match="Cannot upload"):
        uploads.upload("x" * 200 + ".png")
    with pytest.raises(WorkflowError, match="There is no picture"):
        ComfyClient("http://none").upload(Path("missing.png"))


def test_a_long_extension_is_none() -> None:
    assert upload_names("a." + "x" * 300, b"")[0].count(".") == 1
    assert upload_names("." + "x" * 300, b"")[0].startswith(".xxx")
