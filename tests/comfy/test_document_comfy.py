"""The document of a run, from the server: made anew for whoever asks, of that user's runs alone."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_server import Comfy
from comfy_test_graphs import loop, ours, plan_text
from PIL import Image

RUN = "fox"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    running = Comfy(tmp_path_factory.mktemp("documents"), ("--multi-user",)).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def ann(server: Comfy) -> str:
    return str(server.post("/users", {"username": "Ann"}))


@pytest.fixture(scope="module")
def bob(server: Comfy) -> str:
    return str(server.post("/users", {"username": "Bob"}))


def ask(server: Comfy, user: str | None, **asked: str) -> tuple[int, bytes, Any]:
    address = f"{server.url}/interleave_thinker/document?{urllib.parse.urlencode(asked)}"
    headers = {"comfy-user": user} if user else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as reply:
            return reply.status, reply.read(), reply.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def queue(server: Comfy, user: str, graph: dict[str, Any], extra: dict[str, Any]) -> None:
    """As the editor does it for a user, to the end."""
    body = json.dumps({"prompt": graph, "extra_data": extra}).encode()
    headers = {"comfy-user": user, "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/prompt", body, headers), timeout=30) as reply:
        prompt = json.loads(reply.read())["prompt_id"]
    until = time.monotonic() + 120
    while not (found := server.get(f"/history/{prompt}")):
        assert time.monotonic() < until, "the prompt did not end"
        time.sleep(0.1)
    assert found[prompt]["status"]["status_str"] == "success", found[prompt]["status"]


@pytest.fixture(scope="module")
def run(server: Comfy, ann: str) -> str:
    """A run of Ann's, queued as the editor does; returns its name as the page knows it."""
    graph = loop(plan_text(2), run_name=RUN)
    extra = {"extra_pnginfo": {"workflow": {"id": "w", "nodes": [], "version": 0.4}}}
    queue(server, ann, graph, extra)
    return f"@{ann}/{RUN}"


def test_a_page_comes_with_the_texts_and_pictures_and_cannot_run_anything(server: Comfy, ann: str, run: str) -> None:
    status, data, headers = ask(server, ann, run=run, format="html", layout="comic", title="Mine")
    page = data.decode()
    assert status == 200 and 'class="comic"' in page and '<h1 dir="auto">Mine</h1>' in page and page.count("<img ") == 2
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert headers["Content-Disposition"].startswith("inline;")


def test_a_download_has_a_name_and_holds_no_workflow_unless_asked(server: Comfy, ann: str, run: str) -> None:
    status, data, headers = ask(server, ann, run=run, format="zip", title="狐", download="1")
    assert status == 200 and headers["Content-Disposition"].startswith("attachment;")
    assert urllib.parse.quote("狐.zip") in headers["Content-Disposition"]
    pictures = {n: Image.open(io.BytesIO(d)).info for n, d in unzipped(data).items() if n.endswith("png")}
    assert len(pictures) == 2 and not any(pictures.values())
    asked = unzipped(ask(server, ann, run=run, format="zip", workflow="1")[1])
    assert all("workflow" in Image.open(io.BytesIO(d)).info for n, d in asked.items() if n.endswith("png"))


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_other_users_runs_are_not_given(server: Comfy, ann: str, bob: str, run: str) -> None:
    for name in (run, RUN, f"../@{ann}/{RUN}"):
        status, data, _ = ask(server, bob, run=name, format="html")
        assert status == 400 and "error" in json.loads(data), name
    assert ask(server, None, run=run, format="html")[0] == 401


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"format": "pdf"}, "format is 'pdf'"),
        ({"layout": "poster"}, "layout is 'poster'"),
        ({"language": "plain English"}, "language is"),
        ({"run": "nothing"}, "There is no run"),
        ({"run": "../../input"}, "is a path"),
        ({"run": ".."}, "run_name"),
        ({"run": ""}, "run_name"),
    ],
)
def test_what_is_wrong_is_said(server: Comfy, ann: str, run: str, asked: dict[str, str], said: str) -> None:
    status, data, _ = ask(server, ann, **({"run": run, "format": "html"} | asked))
    assert status == 400 and said in json.loads(data)["error"]


@pytest.mark.parametrize("edited", [{"file": 5}, {"prompt": 5}])
def test_a_run_that_somebody_edited_is_refused_with_a_reason(
    server: Comfy, ann: str, run: str, edited: dict[str, Any]
) -> None:
    root = server.output / "interleave" / f"@{ann}"
    shutil.copytree(root / RUN, root / "edited", dirs_exist_ok=True)
    state = json.loads((root / "edited" / "run.json").read_text())
    del state["digest"]
    for attempt in state["trajectory"]["attempts"]:
        attempt |= edited
    (root / "edited" / "run.json").write_text(json.dumps(state))
    status, data, _ = ask(server, ann, run=f"@{ann}/edited", format="html", details="1")
    assert status == 400 and json.loads(data)["error"]


def test_nothing_is_written_for_it(server: Comfy, ann: str, run: str) -> None:
    folder = server.output / "interleave" / run
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    for form in ("html", "zip", "docx", "mp4"):
        assert ask(server, ann, run=run, format=form)[0] == 200
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


# --- Save Document -------------------------------------------------------------------------------------------------


def saved(server: Comfy, ann: str, name: str, extra: dict[str, Any] | None = None, **inputs: Any) -> Path:
    graph = loop(plan_text(2), run_name=name)
    graph["31"] = ours("SaveDocument", document=["30", 0], **inputs)
    queue(server, ann, graph, {"extra_pnginfo": extra} if extra else {})
    return server.output / "interleave" / f"@{ann}" / name


def test_the_saved_page_is_as_its_node_says(server: Comfy, ann: str) -> None:
    folder = saved(server, ann, "said", title="A fox", layout="guide", language="en-GB")
    page = (folder / "document.html").read_text(encoding="utf-8")
    assert '<html lang="en-GB"' in page and 'class="guide"' in page and '<h1 dir="auto">A fox</h1>' in page
    assert (folder / "document.md").read_text(encoding="utf-8").startswith("# A fox\n\n")


WORKFLOW = {"workflow": {"id": "w", "nodes": [{"type": "TellTale"}], "version": 0.4}}


@pytest.mark.parametrize("asked", [False, True])
def test_the_page_holds_the_workflow_only_if_asked_the_folders_pictures_always(
    server: Comfy, ann: str, asked: bool
) -> None:
    folder = saved(server, ann, f"leak{asked}", WORKFLOW, workflow_in_page=asked)
    page = (folder / "document.html").read_text(encoding="utf-8")
    inside = [base64.b64decode(data) for data in re.findall(r"data:image/\w+;base64,([\w+/=]+)", page)]
    assert len(inside) == 2
    assert [("TellTale" in str(Image.open(io.BytesIO(data)).info)) for data in inside] == [asked, asked]
    for picture in folder.glob("image_*.png"):
        assert "TellTale" in Image.open(picture).info["workflow"]
