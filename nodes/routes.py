"""Routes that change nothing: which runs are saved, which node of a workflow is what, what a plan's text says.

Everything else comes through ComfyUI's own routes. Files are read and texts are parsed on threads, few at a time, so
that the server goes on answering others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import folder_paths
from aiohttp import web
from server import PromptServer

from ..interleave_thinker.comfyui.agent_clip import AgentClip, find_agent_clip, installed_agent
from ..interleave_thinker.comfyui.find_inputs import candidates
from ..interleave_thinker.comfyui.links import is_link
from ..interleave_thinker.comfyui.prompt_texts import POSITIVE
from ..interleave_thinker.comfyui.workflow import checked_workflow
from ..interleave_thinker.contract import MAX_STEPS_LIMIT
from ..interleave_thinker.errors import InterleaveError, RunError
from ..interleave_thinker.export.formats import export_run
from ..interleave_thinker.export.page import PageOptions
from ..interleave_thinker.files import is_below
from ..interleave_thinker.reading.plan_text import plan_as_typed
from ..interleave_thinker.storage.run_folder import safe_name
from .doctor_answers import report_for, stages_for
from .folders import USERS, run_path, runs_root, user_prefix
from .users import follow_requests, request_user

MAX_LISTED, MAX_LOOKED_AT = 200, 20_000
"""Runs that are listed, and folder entries that are looked at for them."""
SMALL_STATE, MAX_STATE = 64 * 1024, 4 * 1024**2
"""Bytes of a run.json that are read whole as a rule, and where its form is not ours."""
MAX_CACHED = 2000
"""Runs whose entries are kept in memory."""
MAX_CHOOSE, MAX_PLAN = 8 * 1024**2, 2 * 1024**2
"""Bytes of a request."""
MAX_NODES, MAX_TEXT, MAX_LINKS, MAX_WORK, MAX_NAME = 5000, 1_000_000, 20_000, 500_000, 500
MAX_PARTS = 200_000
"""What a route looks at; more is no workflow or plan of a person's. The links are followed from each sampler anew.
While Python's JSON reader makes many small parts, all threads wait."""

_END = re.compile(rb'"status":\s*("(?:[^"\\]|\\.)*")\s*\}\s*(?:,\s*"\w+":\s*"[^"\\]*"\s*)?\}\s*\Z')
"""The end of a trajectory, and of the file: a digest may stand between them."""
_log = logging.getLogger(__name__)
_listing, _computing, _exporting = asyncio.Semaphore(1), asyncio.Semaphore(2), asyncio.Semaphore(1)
_SHUT = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a document that is opened may do: be looked at."""
_entries: OrderedDict[Path, tuple[int, int, dict[str, Any]]] = OrderedDict()
Answer = tuple[int, str]
"""Status and JSON."""


def add_routes() -> None:
    """GET /interleave_thinker/runs: [{name, title, status, origin, time}], the latest first. It takes no parameters.

    GET /interleave_thinker/document?run=NAME&format=html|zip|docx|mp4: a run's document as a file; more parameters:
    layout, title, details=1, workflow=1, language, and download=1, without which a browser shows what it can.
    POST /interleave_thinker/choose: a workflow in API format, as {workflow, output?, among?} -> what the prompt,
    seed, reference and result could be (`find_inputs.Candidates`), and whether its own CLIP can be the agent.
    POST /interleave_thinker/plan: {text, max_steps?} -> {plan, error}, for the plan editor.
    POST /interleave_thinker/doctor: {workflow, seed} -> what to queue to measure it; POST
    /interleave_thinker/doctor_report: what came of it -> the report (`doctor_answers.py`). These only compute.
    A refusal is {"error": reason}: 400 for what cannot be read, 401 for an unknown user, 413 for what is too large.
    """
    server = getattr(PromptServer, "instance", None)  # there is none where only the nodes are imported
    if server is not None:
        follow_requests(server)
        server.routes.get("/interleave_thinker/runs")(_runs)
        server.routes.get("/interleave_thinker/document")(_document)
        server.routes.post("/interleave_thinker/choose")(_choose)
        server.routes.post("/interleave_thinker/plan")(_plan)
        server.routes.post("/interleave_thinker/doctor")(_doctor)
        server.routes.post("/interleave_thinker/doctor_report")(_doctor_report)


class _TooLarge(Exception):
    pass


async def _runs(request: web.Request) -> web.Response:
    try:
        user = request_user(request)
    except KeyError:
        return _reply(401, json.dumps({"error": "ComfyUI does not know this user."}))
    async with _listing:
        return _reply(200, await asyncio.to_thread(_list_runs, user))


async def _document(request: web.Request) -> web.Response:
    """Made anew each time, and written nowhere."""
    asked = request.query
    try:
        user = request_user(request)
    except KeyError:
        return _reply(401, json.dumps({"error": "ComfyUI does not know this user."}))
    try:
        form = asked.get("format", "html")
        options = PageOptions(asked.get("layout", "story"), asked.get("details") == "1", asked.get("language", ""))  # type: ignore[arg-type]
        folder = _run_folder(asked.get("run", ""), user)
        title, with_graph = asked.get("title", "")[:MAX_NAME], asked.get("workflow") == "1"
        async with _exporting:
            made = await asyncio.to_thread(
                lambda: export_run(folder, form, options, title=title, with_graph=with_graph)
            )
    except InterleaveError as error:
        return _reply(400, json.dumps({"error": str(error)[:500]}))
    except Exception as error:  # files of a run that somebody edited may hold anything
        _log.warning("A document could not be made.", exc_info=True)
        return _reply(400, json.dumps({"error": f"The document cannot be made ({type(error).__name__})."}))
    shown = "attachment" if asked.get("download") == "1" else "inline"
    name = f"{shown}; filename=\"document.{form}\"; filename*=UTF-8''{quote(made.name)}"
    headers = {"Content-Disposition": name, "Content-Security-Policy": _SHUT, "X-Content-Type-Options": "nosniff"}
    charset = "utf-8" if made.type.startswith("text/") else None
    return web.Response(body=made.data, content_type=made.type, charset=charset, headers=headers)


def _run_folder(name: str, user: str) -> Path:
    """The folder of a run, as the page names it.

    Raises:
        RunError: it is no run of this user.
    """
    owner = user_prefix(user)
    plain = name.removeprefix(f"{owner}/") if owner else name
    root = runs_root(user)
    folder = root / safe_name(plain, branch=True)
    if not is_below(root, folder) or not folder.is_dir():
        raise RunError(f"There is no run {plain[:MAX_NAME]!r}.")
    return folder


async def _choose(request: web.Request) -> web.Response:
    return await _computed(request, MAX_CHOOSE, _candidates, {})


async def _plan(request: web.Request) -> web.Response:
    return await _computed(request, MAX_PLAN, _read_plan, {"plan": None})


async def _doctor(request: web.Request) -> web.Response:
    return await _computed(request, MAX_CHOOSE, _stages, {})


async def _doctor_report(request: web.Request) -> web.Response:
    return await _computed(request, MAX_PLAN, report_for, {})


async def _computed(
    request: web.Request, most: int, compute: Callable[[Any], Any], refusal: Mapping[str, Any]
) -> web.Response:
    """Answer with what `compute` makes of the body, or with `refusal` and a reason."""
    try:
        body = await _body(request, most)
    except _TooLarge:
        return _reply(413, json.dumps({**refusal, "error": f"The request is larger than {most} bytes."}))
    except (web.HTTPException, ConnectionError, asyncio.CancelledError):
        raise
    except Exception as error:  # aiohttp has many for a body that is not what its headers say
        return _reply(400, json.dumps({**refusal, "error": f"The request cannot be read ({type(error).__name__})."}))
    async with _computing:
        return _reply(*await asyncio.to_thread(_parsed, body, compute, refusal))


async def _body(request: web.Request, most: int) -> bytes:
    """The body, read no farther than `most` bytes. ComfyUI's own bound is 100 MB.

    Raises:
        _TooLarge: there is more.
    """
    if (request.content_length or 0) > most:
        raise _TooLarge
    body = bytearray()
    async for part in request.content.iter_any():
        body += part
        if len(body) > most:
            raise _TooLarge
    return bytes(body)


def _parsed(body: bytes, compute: Callable[[Any], Any], refusal: Mapping[str, Any]) -> Answer:
    """JSON is UTF-8 (or UTF-16 or 32) whatever charset the headers name."""
    try:
        if body.count(b",") > MAX_PARTS:
            raise InterleaveError(f"The request has more than {MAX_PARTS} parts.")
        return 200, json.dumps(compute(json.loads(body)))
    except RecursionError:
        reason = "The request is nested too deeply."
    except (ValueError, TypeError, InterleaveError) as error:
        reason = str(error)[:500]
    except Exception as error:
        _log.warning("A request could not be answered.", exc_info=True)
        reason = f"The request cannot be read ({type(error).__name__})."
    return 400, json.dumps({**refusal, "error": reason})


def _reply(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, content_type="application/json")


def _candidates(asked: Any) -> dict[str, Any]:
    if not isinstance(asked, dict):
        raise InterleaveError("Send an object with a workflow in it.")
    workflow = checked_workflow(asked.get("workflow"), "The workflow")
    _check_size(workflow)
    found = candidates(workflow, output=_text(asked.get("output")), among=_texts(asked.get("among")))
    clip = find_agent_clip(workflow, found.outputs[0]) if len(found.outputs) == 1 else AgentClip()
    files = folder_paths.get_filename_list("text_encoders")
    return {**asdict(found), "agent_clip": asdict(clip), "installed_agent": installed_agent(files)}


def _stages(asked: Any) -> dict[str, Any]:
    if isinstance(asked, dict):
        _check_size(checked_workflow(asked.get("workflow"), "The workflow"))
    return stages_for(asked)


def _check_size(workflow: Mapping[str, Any]) -> None:
    """Raises:
    InterleaveError: the workflow is so large that looking at it takes long, or is none.
    """
    if len(workflow) > MAX_NODES:
        raise InterleaveError(f"The workflow has {len(workflow)} nodes; up to {MAX_NODES} are looked at.")
    links = samplers = 0
    for node in workflow.values():
        if not isinstance(node["class_type"], str) or len(node["class_type"]) > MAX_NAME:
            raise InterleaveError("The workflow has a node whose class_type is no name.")
        links += sum(map(is_link, node["inputs"].values()))
        samplers += any(name in node["inputs"] for name in (*POSITIVE, "latent_image"))
    if links > MAX_LINKS or (samplers + 1) * links > MAX_WORK:
        raise InterleaveError(f"The workflow has {links} links and {samplers} samplers, too many to look at.")


def _read_plan(asked: Any) -> dict[str, Any]:
    text = asked.get("text") if isinstance(asked, dict) else None
    if not isinstance(text, str):
        raise InterleaveError("Send an object with the plan's text in it.")
    steps = asked.get("max_steps")
    limit = min(steps, MAX_STEPS_LIMIT) if type(steps) is int and steps > 0 else MAX_STEPS_LIMIT
    try:
        if len(text) > MAX_TEXT:
            raise InterleaveError(f"The plan's text has {len(text)} characters; {MAX_TEXT} are allowed.")
        return {"plan": plan_as_typed(text, limit).to_dict(), "error": ""}
    except (ValueError, RecursionError, InterleaveError) as error:  # a text that is no plan is an answer, not a failure
        return {"plan": None, "error": str(error)[:500]}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Any) -> set[str] | None:
    return {v for v in value if isinstance(v, str)} if isinstance(value, list) else None


# The list of runs


def _list_runs(user: str) -> str:
    root = runs_root(user)
    top = os.path.realpath(root)
    listed: list[dict[str, Any]] = []
    for path, state in sorted(_state_files(root), key=lambda found: found[1].st_mtime_ns, reverse=True):
        if os.path.realpath(path).startswith(top + os.sep):  # a link may lead anywhere
            entry = {**_cached_entry(path, state), "time": int(state.st_mtime)}
            listed.append({"name": run_path(path.parent.name, user), **entry})
        if len(listed) == MAX_LISTED:
            break
    return json.dumps(listed)


def _state_files(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Each run.json with its state. Folders of users are no runs."""
    try:
        with os.scandir(root) as entries:
            for _, entry in zip(range(MAX_LOOKED_AT), entries, strict=False):
                if entry.name.startswith(USERS):
                    continue
                path = root / entry.name / "run.json"
                try:
                    state = path.stat()
                except (OSError, ValueError):  # no run, or deleted meanwhile, or not ours to read
                    continue
                if stat.S_ISREG(state.st_mode):
                    yield path, state
    except OSError:
        return


def _cached_entry(path: Path, state: os.stat_result) -> dict[str, Any]:
    """What the list says of a run, kept until its run.json changes."""
    known = _entries.pop(path, None)
    if known is None or known[:2] != (state.st_mtime_ns, state.st_size):
        known = (state.st_mtime_ns, state.st_size, _entry(_run_facts(path, state.st_size)))
    _entries[path] = known  # the last one used is the last one to go
    while len(_entries) > MAX_CACHED:
        _entries.popitem(last=False)
    return known[2]


def _entry(state: Mapping[str, Any]) -> dict[str, Any]:
    """A run of the list; whatever stands in its file, these are short texts."""
    trajectory, origin = (v if isinstance(v := state.get(k), dict) else {} for k in ("trajectory", "origin"))
    return {
        "title": (_text(state.get("title")) or "")[:200],
        "status": (_text(trajectory.get("status")) or "")[:100],
        "origin": {k: v[:100] for k in ("node", "workflow", "prompt") if isinstance(v := origin.get(k), str)},
    }


def _run_facts(path: Path, size: int) -> dict[str, Any]:
    """Title, origin and status of a run.json. A large one is read at its ends, where `Session.write` puts them."""
    try:
        with path.open("rb") as file:
            if size > SMALL_STATE:
                head = file.read(SMALL_STATE)
                file.seek(size - SMALL_STATE // 8)
                found = _from_ends(head, file.read(SMALL_STATE // 8))
                if found is not None or size > MAX_STATE:
                    return found or {}
                file.seek(0)
            state = json.loads(file.read(MAX_STATE + 1).decode("utf-8", "surrogatepass"))
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def _from_ends(head: bytes, tail: bytes) -> dict[str, Any] | None:
    """What stands before "state", and the status at the end of "trajectory"; None if the file has another form."""
    end = _END.search(tail)
    try:
        text = head[: head.rindex(b"\n")].decode("utf-8", "surrogatepass")
        cut = text.index('\n "state": {')
        found = json.loads(text[:cut].rstrip().rstrip(",") + "}")
        status = json.loads(end[1].decode("utf-8", "surrogatepass")) if end else None
    except (ValueError, RecursionError):
        return None
    if status is None or not isinstance(found, dict) or not {"title", "origin"} <= set(found):
        return None
    return {**found, "trajectory": {"status": status}}
