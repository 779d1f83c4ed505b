"""With --multi-user, runs, store, prompt texts and events belong to the user who queued."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from comfy_server import Comfy
from comfy_test_graphs import loop, plan_text

from interleave_thinker.comfyui.client import ComfyClient

KEY = "interleave_user"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    server = Comfy(tmp_path_factory.mktemp("users"), ("--multi-user",)).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ann(shared: Comfy) -> str:
    return str(shared.post("/users", {"username": "Ann"}))


@pytest.fixture(scope="module")
def bob(shared: Comfy) -> str:
    return str(shared.post("/users", {"username": "Bob /../ x"}))


def ask(server: Comfy, path: str, user: str | None, body: Any = None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} | ({"comfy-user": user} if user is not None else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(server.url + path, data, headers), timeout=30) as reply:
            return reply.status, json.loads(reply.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def queue(server: Comfy, user: str | None, graph: Any, client: str | None = None, **more: Any) -> dict[str, Any]:
    """Queue as a user and wait; returns the history's entry."""
    body = {"prompt": graph, **more} | ({"client_id": client} if client else {})
    status, reply = ask(server, "/prompt", user, body)
    assert status == 200, reply
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = server.get(f"/history/{reply['prompt_id']}")
        if found:
            entry = dict(found[reply["prompt_id"]])
            assert entry["status"]["status_str"] == "success", entry["status"]
            return entry
        time.sleep(0.05)
    raise AssertionError("the prompt did not end")


def graph(title: str, run_name: str, seed: int, steps: int = 1) -> dict[str, Any]:
    made = loop(plan_text(steps), seed=seed, run_name=run_name)
    made["1"]["inputs"]["title"] = title
    return made


def document_folder(entry: dict[str, Any]) -> Path:
    return Path(entry["outputs"]["31"]["interleave_document"][0]["path"]).parent


def names(server: Comfy, user: str) -> dict[str, str]:
    status, found = ask(server, "/interleave_thinker/runs", user)
    assert status == 200
    return {entry["name"]: entry["title"] for entry in found}


def test_runs_and_store_lie_with_their_user(shared: Comfy, ann: str, bob: str) -> None:
    mine = queue(shared, ann, graph("Ann's secret", "story", 1))
    yours = queue(shared, bob, graph("Bob's secret", "story", 2))
    root = shared.output / "interleave"
    assert document_folder(mine) == root / f"@{ann}" / "story"
    assert document_folder(yours) == root / f"@{bob}" / "story"
    assert names(shared, ann) == {f"@{ann}/story": "Ann's secret"}
    assert names(shared, bob) == {f"@{bob}/story": "Bob's secret"}
    users = shared.base / "user"
    for user in (ann, bob):
        assert len(list((users / user / "interleave_thinker" / "store" / "images").glob("*.png"))) == 1
    assert not (users / "interleave_thinker" / "store").exists()
    assert [p.name for p in root.iterdir() if not p.name.startswith("@")] == []


def test_pictures_and_files_of_a_user_are_found_by_the_page(shared: Comfy, ann: str) -> None:
    entry = queue(shared, ann, graph("", "pictures", 3))
    for name in names(shared, ann):
        with urllib.request.urlopen(
            f"{shared.url}/view?filename=run.json&type=output&subfolder=interleave/{name}"
        ) as r:
            assert json.loads(r.read())["trajectory"]["status"] == "done"
    output = entry["outputs"]["31"]
    assert len(output["images"]) == 1 and len(output["files"]) == 3
    for shown in (*output["images"], *output["files"]):
        asked = f"filename={shown['filename']}&type={shown['type']}&subfolder={shown['subfolder']}"
        with urllib.request.urlopen(f"{shared.url}/view?{asked}") as reply:
            assert reply.status == 200


def test_the_same_workflow_of_two_users_runs_for_each(shared: Comfy, ann: str, bob: str) -> None:
    """ComfyUI's cache must not hand one user's document to the other."""
    same = graph("same", "same", 4)
    assert document_folder(queue(shared, ann, same)).parent.name == f"@{ann}"
    assert document_folder(queue(shared, bob, same)).parent.name == f"@{bob}"
    assert document_folder(queue(shared, ann, same)).parent.name == f"@{ann}"


@pytest.mark.parametrize("place", ["extra_data", "prompt id"])
def test_a_user_cannot_be_forged(shared: Comfy, ann: str, bob: str, place: str) -> None:
    first = queue(shared, ann, graph("", f"mine {place}", 5))
    extra = {"extra_data": {KEY: ann, "kept": 1}} if place == "extra_data" else {"prompt_id": first["prompt"][1]}
    if place == "prompt id":
        ask(shared, "/history", ann, {"delete": [first["prompt"][1]]})
    entry = queue(shared, bob, graph("", f"forged {place}", 6), **extra)
    assert entry["prompt"][3][KEY] == bob
    assert place != "extra_data" or entry["prompt"][3]["kept"] == 1
    assert f"@{bob}/forged {place}" in names(shared, bob)
    assert not any("forged" in name for name in names(shared, ann))


@pytest.mark.parametrize("user", [None, "default", "nobody", "", "__unknown", "../x"])
def test_unknown_users_get_no_list_and_a_folder_of_their_own(shared: Comfy, ann: str, bob: str, user: str) -> None:
    status, found = ask(shared, "/interleave_thinker/runs", user)
    assert status == 401 and set(found) == {"error"}
    run_name = f"by {uuid.uuid4().hex}"
    entry = queue(shared, user, graph("", run_name, 7), extra_data={KEY: ann})
    assert document_folder(entry) == shared.output / "interleave" / "@__unknown" / run_name
    assert not any(run_name in name for user in (ann, bob) for name in names(shared, user))


def test_a_run_cannot_take_a_users_folder(shared: Comfy, ann: str, bob: str) -> None:
    entry = queue(shared, bob, graph("", f"@{ann}", 8))
    assert document_folder(entry) == shared.output / "interleave" / f"@{bob}" / f"_{ann}"


def test_events_go_to_the_page_that_queued(shared: Comfy, ann: str, bob: str) -> None:
    async def heard() -> tuple[list[Any], list[Any]]:
        events: dict[str, list[Any]] = {"ann": [], "bob": []}
        async with aiohttp.ClientSession() as session:

            async def listen(client: str) -> None:
                async with session.ws_connect(f"{shared.url}/ws?clientId={client}") as socket:
                    async for message in socket:
                        packet = json.loads(message.data) if message.type.name == "TEXT" else {}
                        if packet.get("type") == "interleave_thinker":
                            events[client].append(packet["data"])

            tasks = [asyncio.create_task(listen(client)) for client in events]
            await asyncio.sleep(0.5)
            await asyncio.to_thread(queue, shared, ann, graph("", "told", 9, steps=2), "ann")
            await asyncio.to_thread(queue, shared, bob, graph("", "told nobody", 10))
            await asyncio.sleep(0.5)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return events["ann"], events["bob"]

    mine, yours = asyncio.run(heard())
    assert yours == []
    assert {"plan", "attempt", "done"} <= {facts["event"] for facts in mine}
    assert next(facts["run"] for facts in mine if facts["event"] == "plan") == f"@{ann}/told"
    for facts in mine:
        if facts["event"] == "attempt":
            assert facts["file"].startswith(f"@{ann}/told/attempts/")
            assert (shared.output / "interleave" / facts["file"]).is_file()
            folder, _, name = f"interleave/{facts['file']}".rpartition("/")
            assert facts["image"] == {"filename": name, "subfolder": folder, "type": "output"}
        assert "told nobody" not in json.dumps(facts)


def test_a_single_user_changes_nothing(comfy: Any) -> None:
    """Whatever a client says, runs lie where they always did; a header is of no matter."""
    for number, user in enumerate((None, "somebody")):
        entry = queue(comfy, user, graph("single", f"single {number}", 11), extra_data={KEY: "kept"})
        assert document_folder(entry) == comfy.output / "interleave" / f"single {number}"
        assert entry["prompt"][3][KEY] == "kept"
        assert ask(comfy, "/interleave_thinker/runs", user)[0] == 200
    assert names(comfy, "somebody")["single 1"] == "single"
    assert (comfy.base / "user" / "interleave_thinker" / "store" / "images").is_dir()
    assert not [p for p in (comfy.output / "interleave").iterdir() if p.name.startswith("@")]


def test_the_command_line_queues_as_a_user(shared: Comfy, ann: str, bob: str) -> None:
    ComfyClient(shared.url, user=ann).run(graph("by command", "by command", 8909))
    assert any(name.endswith("/by command") for name in names(shared, ann))
    assert not any("by command" in name for name in names(shared, bob))
