"""Routes that change nothing: which runs are saved, which node of a workflow is what, what a plan's text says.

Everything else comes through ComfyUI's own routes.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web
from server import PromptServer

from ..interleave_thinker.comfy_choice import candidates
from ..interleave_thinker.comfy_workflow import checked_workflow
from ..interleave_thinker.errors import InterleaveError
from ..interleave_thinker.plan import MAX_STEPS, plan_as_typed
from ..interleave_thinker.runs import read_state
from .folders import runs_root

LISTED = 200
MOST_NODES, MOST_TEXT = 5000, 1_000_000
"""What a route looks at; more is no workflow or plan of a person's."""


def add_routes() -> None:
    """GET /interleave_thinker/runs: [{name, title, status, origin}], the latest first. It takes no parameters.

    POST /interleave_thinker/choose: a workflow in API format, as {workflow, output?, among?} -> what the prompt,
    seed, reference and result could be (`comfy_choice.Candidates`).
    POST /interleave_thinker/plan: {text, max_steps?} -> {plan, error}, for the plan editor. Both only compute.
    """
    server = getattr(PromptServer, "instance", None)  # there is none where only the nodes are imported
    if server is not None:
        server.routes.get("/interleave_thinker/runs")(_runs)
        server.routes.post("/interleave_thinker/choose")(_choose)
        server.routes.post("/interleave_thinker/plan")(_plan)


async def _runs(request: web.Request) -> web.Response:
    root = runs_root()
    dated = []
    for path in root.glob("*/run.json"):
        with contextlib.suppress(OSError):  # deleted meanwhile
            dated.append((path.stat().st_mtime, path.parent))
    newest = [folder for _, folder in sorted(dated, reverse=True)[:LISTED]]
    return web.json_response([_entry(folder) for folder in newest])


def _entry(folder: Path) -> dict[str, Any]:
    """A run of the list; whatever stands in its file, these are texts."""
    state = read_state(folder) or {}
    trajectory, origin = (v if isinstance(v := state.get(k), dict) else {} for k in ("trajectory", "origin"))
    return {
        "name": folder.name,
        "title": str(state.get("title") or "")[:200],
        "status": str(trajectory.get("status") or ""),
        "origin": {k: str(v)[:100] for k, v in origin.items() if k in ("node", "workflow")},
    }


async def _choose(request: web.Request) -> web.Response:
    try:
        asked = await request.json()
        if not isinstance(asked, dict):
            raise InterleaveError("Send an object with a workflow in it.")
        workflow = checked_workflow(asked.get("workflow"), "The workflow")
        if len(workflow) > MOST_NODES:
            raise InterleaveError(f"The workflow has {len(workflow)} nodes; up to {MOST_NODES} are looked at.")
        output, among = _text(asked.get("output")), _texts(asked.get("among"))
        found = await asyncio.to_thread(candidates, workflow, output=output, among=among)
    except (ValueError, TypeError, RecursionError, InterleaveError) as error:
        return web.json_response({"error": str(error)[:500]}, status=400)
    return web.json_response(asdict(found))


async def _plan(request: web.Request) -> web.Response:
    try:
        asked = await request.json()
        text = asked.get("text") if isinstance(asked, dict) else None
        if not isinstance(text, str):
            raise InterleaveError("Send an object with the plan's text in it.")
        if len(text) > MOST_TEXT:
            raise InterleaveError(f"The plan's text has {len(text)} characters; {MOST_TEXT} are allowed.")
        steps = asked.get("max_steps")
        limit = steps if isinstance(steps, int) and steps > 0 else MAX_STEPS
        plan = await asyncio.to_thread(plan_as_typed, text, limit)
    except (ValueError, RecursionError, InterleaveError) as error:
        return web.json_response({"plan": None, "error": str(error)[:500]})
    return web.json_response({"plan": plan.to_dict(), "error": ""})


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Any) -> set[str] | None:
    return {v for v in value if isinstance(v, str)} if isinstance(value, list) else None
