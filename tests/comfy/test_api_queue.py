"""What clients of other people rely on: the result is found and fetched by ComfyUI's own means, and nothing else looks
like one. `benchmarks/api_clients.py` queues with such clients; here stands what they need, each point alone.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from comfy_server import REPO, Comfy, Ran
from comfy_test_graphs import loop, plan_text, tiny_story

PLANNER, CLOSE, SAVE = "3", "31", "32"
"""Node ids of the tiny story."""
TEXT_FRAME = 3
"""ComfyUI's number of a binary frame that holds text."""
GRAPH = {"workflow": {"id": "from an editor", "nodes": []}}


def view(comfy: Comfy, file: dict[str, str]) -> bytes:
    """A file as clients fetch it: by name, subfolder and type alone."""
    with urllib.request.urlopen(f"{comfy.url}/view?{urllib.parse.urlencode(file)}", timeout=30) as reply:
        data: bytes = reply.read()
    return data


def queue(comfy: Comfy, prompt: dict[str, Any], extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """Queue as a client that listens, and wait. Returns the outputs."""
    body = {"prompt": prompt, "client_id": uuid.uuid4().hex}
    if extra is not None:
        body["extra_data"] = {"extra_pnginfo": extra}
    return finished(comfy, comfy.post("/prompt", body)["prompt_id"])


def finished(comfy: Comfy, prompt_id: str) -> dict[str, Any]:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        entry = comfy.get(f"/history/{prompt_id}").get(prompt_id)
        if entry:
            assert entry["status"]["status_str"] == "success", entry["status"]
            return dict(entry["outputs"])
        time.sleep(0.1)
    raise AssertionError("the prompt did not end")


# ---- the result


@pytest.fixture(scope="module")
def two_steps(comfy: Comfy) -> Ran:
    """A loop whose first attempts are rejected."""
    return comfy.run(loop(plan_text(2), accept="b - 1", seed=7301, run_name="for anyone"))


def test_pictures_and_files_of_a_document_come_by_view(comfy: Comfy, two_steps: Ran) -> None:
    """So a client needs no path of the server's disk."""
    output = two_steps.outputs["31"]
    names = [file["filename"] for file in output["files"]]
    assert names == ["document.html", "document.md", "trajectory.jsonl"]
    for file in (*output["images"], *output["files"]):
        assert set(file) == {"filename", "subfolder", "type"} and file["subfolder"] == "interleave/for anyone"
        assert view(comfy, file) == (two_steps.folder / file["filename"]).read_bytes()
    assert len(output["images"]) == 2
    assert output["interleave_document"][0]["files"] == output["files"]
    assert view(comfy, output["files"][0]).lower().startswith(b"<!doctype html")
    assert output["text"] == [view(comfy, output["files"][1]).decode()]
    assert len(view(comfy, output["files"][2]).splitlines()) == 4


def test_the_editors_job_has_no_files_but_pictures(comfy: Comfy) -> None:
    """Its app mode shows the last file of a job as the result. Who looks into the document finds the others."""
    output = queue(comfy, loop(plan_text(1), seed=7302), GRAPH)["31"]
    listed = {key for key, items in output.items() for item in items if isinstance(item, dict) and "filename" in item}
    assert listed == {"images"}
    (whole,) = output["interleave_document"]
    assert [view(comfy, file)[:1] for file in whole["files"]] == [b"<", b"p", b"{"]


def test_an_attempts_event_says_where_its_picture_is(comfy: Comfy, two_steps: Ran) -> None:
    """A client that listens can fetch each attempt as it comes, the rejected ones too."""
    told = two_steps.of("attempt")
    assert [(f["step"], f["attempt"]) for f in told] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for facts in told:
        assert facts["image"]["type"] == "output"
        assert view(comfy, facts["image"]) == (comfy.output / "interleave" / facts["file"]).read_bytes()
    assert [f["image"] for f in two_steps.of("judgment")] == [f["image"] for f in told]


def ended_early(comfy: Comfy, body: dict[str, Any], step: int) -> tuple[str, dict[str, Any]]:
    """Queue, and cancel when that step has begun. Returns the job's id and its entry in the history."""
    before = len(list((comfy.output / "interleave").glob("*")))
    prompt_id = comfy.post("/prompt", body)["prompt_id"]
    until = time.monotonic() + 60
    while time.monotonic() < until:
        runs = comfy.get("/interleave_thinker/runs")
        mine = [r["name"] for r in runs if r["origin"].get("prompt") == prompt_id]
        if mine and list((comfy.output / "interleave" / mine[0] / "attempts").glob(f"step{step:02d}*")):
            break
        time.sleep(0.05)
    assert len(list((comfy.output / "interleave").glob("*"))) == before + 1
    comfy.post("/interrupt", {})
    while time.monotonic() < until:
        entry = comfy.get(f"/history/{prompt_id}").get(prompt_id)
        if entry:
            return prompt_id, dict(entry)
        time.sleep(0.05)
    raise AssertionError("the job did not end")


def slow_steps(seed: int) -> dict[str, Any]:
    """Pictures that are large enough to be interrupted at."""
    return loop(plan_text(100), size=512, seed=seed)


def test_a_cancelled_job_names_its_run_to_who_polls(comfy: Comfy) -> None:
    """What was made is there; without its name nobody would find it."""
    _, entry = ended_early(comfy, {"prompt": slow_steps(7311)}, 2)
    assert entry["status"]["status_str"] == "error"
    (told,) = entry["outputs"]["30"]["interleave_run"]
    lines = view(comfy, {key: told[key] for key in ("filename", "subfolder", "type")}).splitlines()
    assert len(lines) >= 1 and told["subfolder"] == f"interleave/{told['run']}"


def test_a_cancelled_job_of_a_client_that_listens_is_in_the_list_of_runs(comfy: Comfy) -> None:
    """Such clients are told the run by an event; some would take an output of the loop for the end of the job."""
    prompt_id, entry = ended_early(comfy, {"prompt": slow_steps(7312), "client_id": uuid.uuid4().hex}, 2)
    assert "30" not in entry["outputs"]
    (run,) = [r for r in comfy.get("/interleave_thinker/runs") if r["origin"].get("prompt") == prompt_id]
    assert (comfy.output / "interleave" / run["name"] / "trajectory.jsonl").read_text()


# ---- nothing else looks like a result


def test_without_an_editors_graph_only_the_document_shows_anything(comfy: Comfy) -> None:
    """Clients take the first node that shows something for the end: here the plan, or a judgment in the loop."""
    prompt = tiny_story()
    prompt["4"]["inputs"]["seed"] = 7303
    assert set(queue(comfy, prompt)) == {SAVE}
    assert list(queue(comfy, loop(plan_text(1), seed=7304))) == ["31"]


def test_with_an_editors_graph_planner_and_critic_show_their_texts(comfy: Comfy) -> None:
    prompt = tiny_story()
    prompt["4"]["inputs"]["seed"] = 7305
    prompt[PLANNER]["inputs"]["seed"] = 7305
    outputs = queue(comfy, prompt, GRAPH)
    assert outputs[PLANNER]["text"][0].startswith("1. ")
    assert outputs[f"{CLOSE}.s1a1.b30"]["text"][0].startswith(("accepted", "rejected"))
    by_text = loop(f"1. {uuid.uuid4().hex}", seed=7306)
    outputs = queue(comfy, by_text, GRAPH)
    assert outputs["1"]["text"] == [by_text["1"]["inputs"]["text"]]
    assert outputs["30.s1a1.b21"]["text"] == ["accepted"]


def binary_frames(comfy: Comfy, flags: dict[str, Any] | None) -> list[int]:
    """The kinds of binary frames that a listening client gets while its prompt runs. flags: what it announces."""

    async def listen() -> list[int]:
        client, kinds = uuid.uuid4().hex, []
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{comfy.url}/ws?clientId={client}") as socket,
        ):
            if flags is not None:
                await socket.send_json({"type": "feature_flags", "data": flags})
                while (await socket.receive_json())["type"] != "feature_flags":
                    pass
            prompt = loop(f"1. {client}", seed=7307)
            async with session.post(f"{comfy.url}/prompt", json={"prompt": prompt, "client_id": client}) as reply:
                assert reply.status == 200
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    kinds.append(int.from_bytes(message.data[:4], "big"))
                elif message.json()["type"] == "execution_success":
                    return kinds
        raise AssertionError("the connection ended")

    return asyncio.run(asyncio.wait_for(listen(), 60))


def test_texts_go_only_to_clients_that_say_what_they_can_read(comfy: Comfy) -> None:
    """They are binary frames, which clients take for pictures. The editor announces its features, clients do not."""
    assert binary_frames(comfy, None) == []
    assert binary_frames(comfy, {}) == []
    assert TEXT_FRAME in binary_frames(comfy, {"supports_preview_metadata": True})


# ---- what the pages print


def printed(path: str) -> list[str]:
    """The shell lines of a page that talk to a server."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (REPO / path).read_text(encoding="utf-8"), re.M | re.S)
    return [block for block in blocks if "curl" in block]


def run_shell(comfy: Comfy, lines: str, folder: Path) -> str:
    """Run lines as printed, but for the server's address, where workflows/ lies."""
    shell = shutil.which("bash")
    if shell is None or shutil.which("curl") is None:
        pytest.skip("no bash or no curl")
    if not (folder / "workflows").exists():
        (folder / "workflows").symlink_to(REPO / "workflows", target_is_directory=True)
    lines = lines.replace("127.0.0.1:8188", comfy.url.removeprefix("http://"))
    done = subprocess.run([shell, "-c", lines], cwd=folder, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_the_line_that_queues_works_as_printed(comfy: Comfy, tmp_path: Path, page: str) -> None:
    line = printed(page)[0]
    assert len(line.splitlines()) == 1
    reply = json.loads(run_shell(comfy, line, tmp_path))
    assert reply["node_errors"] == {}
    assert len(finished(comfy, reply["prompt_id"])[SAVE]["images"]) == 4


def test_the_script_that_fetches_the_document_works_as_printed(comfy: Comfy, tmp_path: Path) -> None:
    _, script = printed("docs/api.md")
    run_shell(comfy, script, tmp_path)
    assert (tmp_path / "document.html").read_text(encoding="utf-8").lower().startswith("<!doctype html")
    assert (tmp_path / "image_01.png").read_bytes().startswith(b"\x89PNG")
