"""The stages of a check, one after the other, until the time is over or something ends them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..comfyui.check_stages import Stage
from .facts import COMFYUI_ENDED, Result, Stopped


def measure(stages: Sequence[Stage], run: Callable[[Stage, Result], Result], left: Callable[[], float]) -> list[Result]:
    """The results, in order. What was stopped, or not begun, is among them with its reason; what is skipped is not.

    run: queues a stage and returns the given result with what came of it. left: seconds. `js/doctor.mjs` does the same;
    `tests/js/doctor_histories.json` says of both what must come out.
    """
    results: list[Result] = []
    failed: set[str] = set()
    why: Stopped = ""
    for stage in stages:
        if failed & {stage.result_node, *stage.after}:
            continue
        begun = Result(stage.kind, stage.label, stage.roles)
        if not why and left() <= 0:
            why = "time"
        result = replace(begun, stopped=why) if why else run(stage, begun)
        results.append(result)
        if result.error or result.found.get("error"):
            failed.add(stage.result_node)
        why = "server" if result.error == COMFYUI_ENDED else result.stopped
    return results
