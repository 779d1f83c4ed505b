"""The pack's routes list and compute; what a run holds is read through ComfyUI's own file route."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from comfy_test_graphs import loop, node, ours, plan_text

from interleave_thinker.comfyui.client import WorkflowError
from interleave_thinker.comfyui.find_inputs import find_inputs


def test_saved_runs_are_listed_and_can_be_read(comfy: Any) -> None:
    comfy.run(loop(plan_text(2), seed=8101, run_name="listed run"))
    comfy.run(loop(plan_text(1), seed=8102, run_name="later run"))
    (comfy.output / "interleave" / "no run").mkdir()
    listed = comfy.get("/interleave_thinker/runs")
    names = [entry["name"] for entry in listed]
    assert names.index("later run") < names.index("listed run") and "no run" not in names
    assert all(set(entry) == {"name", "title", "status", "origin", "time"} for entry in listed)
    url = f"{comfy.url}/view?filename=trajectory.jsonl&subfolder=interleave/listed%20run&type=output"
    with urllib.request.urlopen(url) as reply:
        assert len([json.loads(line) for line in reply.read().splitlines()]) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_route_writes_nothing(comfy: Any, method: str) -> None:
    request = urllib.request.Request(f"{comfy.url}/interleave_thinker/runs", b"{}", method=method)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 405


def post(comfy: Any, path: str, body: Any, **more: str) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in more.items()}
    request = urllib.request.Request(f"{comfy.url}/interleave_thinker/{path}", body, headers)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_editor_is_told_what_the_command_line_would_choose(comfy: Any) -> None:
    """One choice for both: the route is the core's function."""
    graph = {
        "1": node("CLIPTextEncode", text="a red bicycle", clip=["9", 0]),
        "2": node("KSampler", model=["9", 1], seed=4, positive=["1", 0], latent_image=["8", 0]),
        "3": node("VAEDecode", samples=["2", 0], vae=["9", 2]),
        "4": node("SaveImage", images=["3", 0], filename_prefix="x"),
    }
    status, found = post(comfy, "choose", json.dumps({"workflow": graph}).encode())
    assert status == 200
    places = {"prompts": [[["1", "text"]]], "seeds": [["2", "seed"]], "images": []}
    clip = {"node": "", "file": "", "why_not": "the workflow has no Load CLIP of its own", "loras": [], "note": ""}
    assert found == {"outputs": ["4"], "shows": "images", **places, "agent_clip": clip, "installed_agent": ""}
    chosen = find_inputs(graph)
    assert [list(chosen.prompt)] == found["prompts"][0] and [list(chosen.seed or ())] == found["seeds"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"workflow": 5}', b'{"workflow": {"1": {}}}', b'{"workflow": {"nodes": []}}', b"\xff"],
)
def test_a_workflow_that_is_none_is_refused_with_a_reason(comfy: Any, body: bytes) -> None:
    status, found = post(comfy, "choose", body)
    assert status == 400 and found["error"]


CHOOSE = {"workflow": {"1": node("SaveImage", images=["2", 0]), "2": node("LoadImage", image="a.png")}}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps(CHOOSE).encode(), "application/json; charset=klingon"),
        (json.dumps(CHOOSE).encode("utf-16"), "application/json; charset=utf-16"),
        (json.dumps(CHOOSE).encode("utf-8-sig"), "application/json"),
        (json.dumps(CHOOSE).encode(), "text/plain; charset=utf-7"),
    ],
)
def test_a_body_is_json_whatever_its_charset_is_called(comfy: Any, body: bytes, content_type: str) -> None:
    status, found = post(comfy, "choose", body, Content_Type=content_type)
    assert status == 200 and found["outputs"] == ["1"]


HOSTILE = {
    "invalid bytes": b'{"text": "\xc3\x28", "workflow": {}}',
    "deep": b"[" * 200_000,
    "deep object": b'{"workflow":' * 100_000,
    "huge number": b'{"text": ' + b"9" * 5000 + b"}",
    "huge max_steps": b'{"text": 3, "max_steps": ' + b"9" * 4000 + b"}",
    "many parts": b'{"text": [' + b"[]," * 300_000 + b"[]]}",
    "NaN": b'{"text": NaN, "workflow": NaN}',
    "a number": b"5",
    "null": b"null",
    "odd classes": b'{"workflow": {"1": {"class_type": ["SaveImage"], "inputs": {"images": ["2", 0]}}}}',
    "odd nodes": b'{"workflow": {"1": 5, "2": null}}',
}


@pytest.mark.parametrize("path", ["choose", "plan"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_body_breaks_a_route(comfy: Any, path: str, kind: str) -> None:
    status, found = post(comfy, path, HOSTILE[kind])
    assert status == 400 and 0 < len(found["error"]) <= 500


@pytest.mark.parametrize("path", ["choose", "plan"])
def test_a_body_that_is_not_what_its_headers_say_is_refused(comfy: Any, path: str) -> None:
    status, found = post(comfy, path, b"no gzip at all", Content_Encoding="gzip")
    assert status == 400 and found["error"]


@pytest.mark.parametrize(("path", "most"), [("choose", 8 * 1024**2), ("plan", 2 * 1024**2)])
def test_what_is_too_large_is_not_read(comfy: Any, path: str, most: int) -> None:
    status, found = post(comfy, path, b" " * (most + 1))
    assert status == 413 and str(most) in found["error"]
    with socket.create_connection(("127.0.0.1", comfy.port)) as line:  # in parts, without its length
        head = f"POST /interleave_thinker/{path} HTTP/1.1\r\nHost: 127.0.0.1:{comfy.port}\r\n"
        line.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        part = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(most // 0x10000 + 1):
            line.sendall(part)
        assert b" 413 " in line.recv(100).split(b"\r\n")[0]


def test_lone_surrogates_go_through(comfy: Any) -> None:
    status, found = post(comfy, "plan", b'{"text": "1. a \\ud800 cat"}')
    assert status == 200 and (found["plan"] or found["error"])
    odd = {"workflow": {"\ud800": node("SaveImage", images=["2", 0]), "2": node("LoadImage", image="\udfff")}}
    status, found = post(comfy, "choose", json.dumps(odd).encode())
    assert status == 200 and found["outputs"] == ["\ud800"]


def test_max_steps_of_any_kind(comfy: Any) -> None:
    for steps in (True, None, -1, 1.5, "3", [], {}, 10**30):
        status, found = post(comfy, "plan", json.dumps({"text": "1. a\n2. b", "max_steps": steps}).encode())
        assert status == 200 and len(found["plan"]["execution_plan"]) == 2, steps


def test_a_workflow_of_samplers_only_is_refused(comfy: Any) -> None:
    graph = {str(i): node("KSampler", model=["0", 0], positive=[str(i + 1), 0]) for i in range(4999)}
    status, found = post(comfy, "choose", json.dumps({"workflow": graph}).encode())
    assert status == 400 and "too many" in found["error"]


def listed(comfy: Any) -> dict[str, Any]:
    return {entry["name"]: entry for entry in comfy.get("/interleave_thinker/runs")}


def write_run(comfy: Any, name: str, state: Any) -> Path:
    path = comfy.output / "interleave" / name / "run.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = state if isinstance(state, bytes) else json.dumps(state, ensure_ascii=False, indent=1).encode()
    path.write_bytes(data)
    return path


def saved(title: Any, status: Any = "done", filling: str = "", **more: Any) -> dict[str, Any]:
    """A run.json as `Session.write` writes it."""
    origin = {"node": "30", "workflow": "w"}
    trajectory = {"plan": {"text": filling}, "attempts": [], "results": [], "status": status}
    return {"title": title, "origin": origin, "state": {"status": "other"}, "trajectory": trajectory, **more}


@pytest.mark.parametrize("more", [{}, {"digest": "0123abcd"}])
@pytest.mark.parametrize("size", [10, 70_000, 1_000_000, 5_000_000])
def test_small_and_large_runs_are_listed_alike(comfy: Any, size: int, more: dict[str, str]) -> None:
    name = f"size {size} {len(more)}"
    write_run(comfy, name, saved('a "title" — ü', 'said "so" }} \n', "é" * (size // 2), **more))
    entry = listed(comfy)[name]
    assert entry["title"] == 'a "title" — ü' and entry["status"] == 'said "so" }} \n'
    assert entry["origin"] == {"node": "30", "workflow": "w"}


def test_a_large_run_in_another_form_is_read_whole_up_to_a_bound(comfy: Any) -> None:
    for name, filling in (("form small", 100_000), ("form large", 5_000_000)):
        state = saved("t", filling="x" * filling)
        write_run(comfy, name, json.dumps(dict(reversed(state.items()))).encode())
    found = listed(comfy)
    assert found["form small"]["title"] == "t" and found["form small"]["status"] == "done"
    large = {name: value for name, value in found["form large"].items() if name != "time"}
    assert large == {"name": "form large", "title": "", "status": "", "origin": {}}


def test_the_list_follows_its_files(comfy: Any) -> None:
    path = write_run(comfy, "changing", saved("before"))
    assert listed(comfy)["changing"]["title"] == "before"
    write_run(comfy, "changing", saved("after it"))
    assert listed(comfy)["changing"]["title"] == "after it"
    path.unlink()
    assert "changing" not in listed(comfy)


ODD_STATES = {
    "list": b"[1]",
    "no json": b"{",
    "latin": b'{"title": "\xe9"}',
    "deep": b"[" * 60_000,
    "deep and large": b"[" * 100_000,
    "empty": b"",
    "huge number": b'{"title": ' + b"9" * 5000 + b"}",
    "title object": json.dumps(saved({"a": ["b"]})).encode(),
    "title number": json.dumps(saved(7, 8)).encode(),
    "odd parts": b'{"title": null, "origin": [], "trajectory": 5}',
    "odd origin": b'{"title": "t", "origin": {"node": {"a": 1}, "workflow": [2]}, "trajectory": {"status": {}}}',
    "large, nothing ours": b'\n "state": {' + b" " * 100_000,
}


@pytest.mark.parametrize("kind", ODD_STATES)
def test_whatever_a_run_file_holds_it_is_listed(comfy: Any, kind: str) -> None:
    path = write_run(comfy, f"odd {kind}", ODD_STATES[kind])
    entry = listed(comfy)[f"odd {kind}"]
    assert entry["title"] in ("", "t") and entry["status"] in ("", "done")
    assert all(isinstance(v, str) for v in entry["origin"].values())
    path.unlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no links and pipes")
def test_links_that_lead_out_and_pipes_are_not_followed(comfy: Any, tmp_path: Path) -> None:
    root = comfy.output / "interleave"
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "run.json").write_text(json.dumps(saved("secret")))
    write_run(comfy, "sound", saved("sound"))
    made = [root / "linked folder", root / "link to itself", root / "linked inside"]
    made[0].symlink_to(tmp_path / "secret", target_is_directory=True)
    made[1].symlink_to(made[1])
    made[2].symlink_to(root / "sound", target_is_directory=True)
    for name in ("linked file", "pipe", "folder"):
        (root / name).mkdir()
    (root / "linked file" / "run.json").symlink_to(tmp_path / "secret" / "run.json")
    os.mkfifo(root / "pipe" / "run.json")
    (root / "folder" / "run.json").mkdir()
    found = listed(comfy)
    assert {"sound", "linked inside"} <= set(found)
    assert not {"linked folder", "link to itself", "linked file", "pipe", "folder"} & set(found)
    for link in made:
        link.unlink()


def test_a_plans_text_is_read_and_checked(comfy: Any) -> None:
    status, found = post(comfy, "plan", json.dumps({"text": "1. a cat\n2. make it sit"}).encode())
    assert status == 200 and found["error"] == ""
    assert [s["prompt"] for s in found["plan"]["execution_plan"]] == ["a cat", "make it sit"]
    for text in ("", '{"execution_plan": []}', plan_text(9)):
        status, found = post(comfy, "plan", json.dumps({"text": text, "max_steps": 8}).encode())
        assert status == 200 and found["plan"] is None and found["error"]


def test_an_edited_plan_is_used_and_the_agent_is_not_loaded(comfy: Any) -> None:
    """The Planner's agent here cannot be loaded at all; the edited plan makes that of no matter."""
    graph = loop("", seed=8103, run_name="edited plan")
    graph["40"] = ours(
        "LoadAgent",
        model="tiny-planner",
        adapter="none",
        dtype="auto",
        max_tokens=64,
        temperature=0.0,
        max_megapixels=1.0,
        prompts="no such folder",
    )
    graph["1"] = ours(
        "Planner",
        agent=["40", 0],
        request="Two pictures",
        max_steps=4,
        seed=0,
        if_unreadable="error",
        edited_plan="1. one\n2. two",
    )
    ran = comfy.run(graph)
    assert [s["prompt"] for s in ran.document["trajectory"]["plan"]["execution_plan"]] == ["one", "two"]
    assert ran.document["title"] == "Two pictures" and "40" not in ran.started
    graph["1"]["inputs"]["edited_plan"] = '{"execution_plan": []}'
    with pytest.raises(WorkflowError, match=r"node 1 \(InterleaveThinkerPlanner\).*step"):
        comfy.run(graph)
