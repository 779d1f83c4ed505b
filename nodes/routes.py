"""Routes that change nothing: which runs are saved, which node of a workflow is what, what a plan's text says.

Everything else comes through ComfyUI's own routes.
"""

from __future__ import annotations

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
    folders = [p for p in root.iterdir() if (p / "run.json").is_file()] if root.is_dir() else []
    folders.sort(key=lambda p: (p / "run.json").stat().st_mtime, reverse=True)
    listed = []
    for folder in folders[:LISTED]:
        state = read_state(folder) or {}
        status = (state.get("trajectory") or {}).get("status", "")
        origin = {k: str(v)[:100] for k, v in (state.get("origin") or {}).items() if k in ("node", "workflow")}
        title = str(state.get("title") or "")[:200]
        listed.append({"name": folder.name, "title": title, "status": str(status), "origin": origin})
    return web.json_response(listed)


async def _choose(request: web.Request) -> web.Response:
    try:
        asked = await request.json()
        if not isinstance(asked, dict):
            raise InterleaveError("Send an object with a workflow in it.")
        found = candidates(
            checked_workflow(asked.get("workflow"), "The workflow"),
            output=_text(asked.get("output")),
            among=_texts(asked.get("among")),
        )
    except (ValueError, InterleaveError) as error:
        return web.json_response({"error": str(error)[:500]}, status=400)
    return web.json_response(
        {"outputs": found.outputs, "prompts": found.prompts, "seed": found.seed, "images": found.images}
    )


async def _plan(request: web.Request) -> web.Response:
    try:
        asked = await request.json()
        text = asked.get("text") if isinstance(asked, dict) else None
        if not isinstance(text, str):
            raise InterleaveError("Send an object with the plan's text in it.")
        steps = asked.get("max_steps")
        plan = plan_as_typed(text, steps if isinstance(steps, int) and steps > 0 else MAX_STEPS)
    except (ValueError, InterleaveError) as error:
        return web.json_response({"plan": None, "error": str(error)[:500]})
    return web.json_response({"plan": plan.to_dict(), "error": ""})


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Any) -> set[str] | None:
    return {v for v in value if isinstance(v, str)} if isinstance(value, list) else None
