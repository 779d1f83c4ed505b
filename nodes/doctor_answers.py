"""What the sidebar's "Check this machine" asks the server: which prompts to queue, and what the results mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import nodes

from ..interleave_thinker.comfyui.check_stages import stages_of
from ..interleave_thinker.comfyui.client import describe_refusal
from ..interleave_thinker.comfyui.workflow import checked_workflow
from ..interleave_thinker.contract import T_MAX
from ..interleave_thinker.doctor.advice import SERVER_ENDED
from ..interleave_thinker.doctor.check_agent import SECONDS
from ..interleave_thinker.doctor.facts import COMFYUI_ENDED, Result, facts_of, machine_of
from ..interleave_thinker.doctor.report import report_of
from ..interleave_thinker.errors import InterleaveError

MAX_RESULTS = 50


def stages_for(asked: Any) -> dict[str, Any]:
    """{workflow, seed} -> `check_stages.Stages`, with the seconds that they may take together, and `comfyui_ended`:
    {error, advice} for where this server ends, which cannot say so then.

    Raises:
        InterleaveError: the workflow or the seed is not what it should be.
    """
    if not isinstance(asked, dict) or type(asked.get("seed")) is not int:
        raise InterleaveError("Send an object with a workflow and a seed in it.")
    workflow = checked_workflow(asked.get("workflow"), "The workflow")
    found = stages_of(workflow, seconds=SECONDS, seed=asked["seed"], is_there=_is_there, is_paid=_is_paid, about=_about)
    return {**asdict(found), "seconds": SECONDS, "comfyui_ended": {"error": COMFYUI_ENDED, "advice": SERVER_ENDED}}


def report_for(asked: Any) -> dict[str, Any]:
    """{stages, results, stats} -> {sections: [{title, lines}]}.

    stages: as `stages_for` gave them, without the prompts. results: [{kind, label, roles, seconds, found, error,
    stopped, refusal}], `doctor.facts.Result` and what /prompt refused with. stats: of /system_stats.

    Raises:
        InterleaveError: the body is no such object.
    """
    parts = [asked.get(name) for name in ("stages", "results", "stats")] if isinstance(asked, dict) else [None] * 3
    about, results, stats = parts
    if not (isinstance(about, dict) and isinstance(results, list) and isinstance(stats, dict)):
        raise InterleaveError("Send an object with stages, results and stats in it.")
    facts = facts_of(
        [_result(r) for r in results[:MAX_RESULTS] if isinstance(r, dict)],
        machine=machine_of(stats),
        notes=[str(note)[:500] for note in about.get("notes", [])][:MAX_RESULTS],
        t_max=about["t_max"] if type(about.get("t_max")) is int else T_MAX,
        has_agent=bool(about.get("has_agent")),
    )
    return {"sections": [asdict(section) for section in report_of(facts, "editor")]}


def _result(sent: Mapping[str, Any]) -> Result:
    refusal = sent.get("refusal")
    error = describe_refusal(refusal, {}) if isinstance(refusal, dict) else sent.get("error")
    seconds = sent.get("seconds")
    finite = isinstance(seconds, (int, float)) and math.isfinite(seconds)
    return Result.read({**sent, "error": error, "seconds": seconds if finite else None})


def _is_there(kind: str) -> bool:
    return kind in nodes.NODE_CLASS_MAPPINGS


def _about(kind: str) -> dict[str, Any]:
    """Of a class what GET /object_info says of it, as far as an output node is left out by it."""
    found = nodes.NODE_CLASS_MAPPINGS.get(kind)
    if not getattr(found, "OUTPUT_NODE", False):
        return {}
    try:
        return {"output_node": True, "input": found.INPUT_TYPES(), "output": list(found.RETURN_TYPES)}
    except Exception:  # another pack's code
        return {"output_node": True}


def _is_paid(kind: str) -> bool:
    return bool(getattr(nodes.NODE_CLASS_MAPPINGS.get(kind), "API_NODE", False))
