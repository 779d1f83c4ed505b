"""What was measured, as plain values: from the results of the stages to what `--json` writes (`docs/doctor.md`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from ..comfyui.client import seconds_of
from ..contract import CHECK_RESULT, PICTURE_RESULT, T_MAX, VERSION

LONGEST = 600
"""Characters of an error that are kept."""
COMFYUI_ENDED = (
    "ComfyUI ended, or closed the connection, while this was done; its log says why. Most often it is out of memory."
)

Stopped = Literal["", "time", "person", "server"]
"""Why a stage did not end: the time was over, a person stopped the check, ComfyUI ended in an earlier stage."""


@dataclass(frozen=True)
class Result:
    """What came of one stage (`comfyui/check_stages.py: Stage`).

    seconds: of the whole prompt on the server. found: what its node said. error: why it failed. stopped: why it did not
    end, "" where it did; `seconds` is how long it ran then, None where it was not begun.
    """

    kind: str
    label: str
    roles: tuple[str, ...] = ()
    seconds: float | None = None
    found: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    stopped: Stopped = ""

    def ended(self, entry: Mapping[str, Any], result_node: str) -> Result:
        """This with what came of its prompt, from the prompt's entry in ComfyUI's history. `js/doctor.mjs` does the
        same; `tests/js/doctor_histories.json` says of both what must come out.
        """
        said = {kind: about or {} for kind, about in (entry.get("status") or {}).get("messages") or ()}
        if (failure := said.get("execution_error")) is not None:
            where = f"node {failure.get('node_id', '?')} ({failure.get('node_type', '?')})"
            return replace(self, error=f"{where}: {str(failure.get('exception_message', '')).strip()}")
        if "execution_interrupted" in said:
            return replace(self, stopped="person", seconds=seconds_of(entry))
        shown = (entry.get("outputs") or {}).get(result_node) or {}
        found: Mapping[str, Any] = next(iter(shown.get(CHECK_RESULT) or shown.get(PICTURE_RESULT) or ()), {})
        return replace(self, seconds=seconds_of(entry), found=found)

    @staticmethod
    def read(data: Mapping[str, Any]) -> Result:
        """From plain values, such as the browser sends."""
        found, seconds, roles = data.get("found"), data.get("seconds"), data.get("roles")
        stopped = data.get("stopped")
        return Result(
            str(data.get("kind", "")),
            str(data.get("label", ""))[:LONGEST],
            tuple(map(str, roles)) if isinstance(roles, (list, tuple)) else (),
            float(seconds) if isinstance(seconds, (int, float)) else None,
            found if isinstance(found, Mapping) else {},
            str(data.get("error") or ""),
            next((why for why in get_args(Stopped) if why == stopped), ""),
        )


def facts_of(
    results: Sequence[Result],
    *,
    machine: Mapping[str, Any],
    notes: Sequence[str] = (),
    t_max: int = T_MAX,
    has_agent: bool = True,
) -> dict[str, Any]:
    """Everything as plain values; `docs/doctor.md` names the keys. An error that stages share is told once.

    results: in the order in which they came; `found` is what Check Agent and Measure Picture say. machine: of
    `machine_of` or `this_machine`. notes: what else to know, for people. t_max: the loop's. has_agent: whether there
    was one to ask.

    Raises:
        KeyError: a result's `found` lacks what its node says.
    """
    agents = [{"roles": list(r.roles), **r.found} for r in results if r.kind == "agent" and r.found]
    pictures = [{"seconds": r.seconds, **r.found} for r in results if r.kind == "picture" and r.found]
    critic = next((r.found for r in results if r.kind == "loop critic" and r.found), {})
    answers = [a for a in critic.get("answers", ()) if not a["unfinished"]]
    picture = next((r.seconds for r in results if r.kind == "loop picture" and r.found), None)
    looped = {"critic": answers[0]["seconds"], "picture": picture} if answers and picture is not None else None
    failed: dict[str, str] = {}
    for r in results:  # a later stage fails for the same reason
        failed.setdefault(r.error or str(r.found.get("error") or ""), r.label)
    return {
        "interleave_thinker": VERSION,
        **machine,
        "agents": agents,
        "pictures": pictures,
        "loop": looped,
        "t_max": t_max,
        "has_agent": has_agent,
        "problems": [f"{label}: {_one_line(said)[:LONGEST]}" for said, label in failed.items() if said],
        "not_done": [
            {"kind": r.kind, "label": r.label, "seconds": r.seconds, "why": r.stopped} for r in results if r.stopped
        ],
        "notes": list(notes),
    }


def _one_line(text: str) -> str:
    """A server's refusal has a line for each node."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return "".join(line + (" " if line.endswith(".") else "; ") for line in lines[:-1]) + "".join(lines[-1:])


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def machine_of(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Versions and device from ComfyUI's GET /system_stats. Sizes are bytes; what it does not tell is left out."""
    system = _mapping(stats.get("system"))
    versions = {
        "ComfyUI": system.get("comfyui_version"),
        "Python": str(system.get("python_version") or "").split(" ")[0],
        "PyTorch": system.get("pytorch_version"),
    }
    devices = stats.get("devices")
    device = _mapping(devices[0] if isinstance(devices, list) and devices else None)
    card = device.get("type") != "cpu"
    total, free = (
        (device.get("vram_total"), device.get("vram_free"))
        if card
        else (system.get("ram_total"), system.get("ram_free"))
    )
    return {
        "versions": {name: str(version)[:100] for name, version in versions.items() if version},
        "device": {
            "name": _plain_name(str(device.get("name") or "unknown")),
            "type": str(device.get("type") or "unknown"),
            "total": total if type(total) is int and total > 0 else None,
            "free": free if type(free) is int and free >= 0 else None,
        },
    }


def this_machine() -> dict[str, Any]:
    """The same of this process, where no ComfyUI is asked."""
    import platform

    versions = {"Python": platform.python_version()}
    device: dict[str, Any] = {"name": "CPU", "type": "cpu", "total": None, "free": None}
    try:
        import torch
    except ImportError:
        return {"versions": versions, "device": device}
    versions["PyTorch"] = torch.__version__
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        device = {"name": torch.cuda.get_device_name(), "type": "cuda", "total": total, "free": free}
    return {"versions": versions, "device": device}


def _plain_name(name: str) -> str:
    """ComfyUI writes "cuda:0 NVIDIA GeForce RTX 3060 : cudaMallocAsync"."""
    name = name.split(" : ")[0]
    first, _, rest = name.partition(" ")
    return (rest if ":" in first and rest else name)[:200]
