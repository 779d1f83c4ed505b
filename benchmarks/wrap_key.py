"""Compare what Wrap chose in a workflow with a key that a person wrote (benchmarks/wrap_keys)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEYS = Path(__file__).parent / "wrap_keys"


@dataclass(frozen=True)
class Chosen:
    """prompt, seeds: places as "NODE.input". image: the node of the reference, None for none."""

    output: str
    prompt: frozenset[str]
    image: str | None
    seeds: frozenset[str]


def load_keys(*files: Path) -> list[dict[str, Any]]:
    """The entries of each file by name; without files, all keys of templates, those of the newest version first."""
    if not files:
        files = tuple(sorted(KEYS.glob("comfyui-workflow-templates-*.json"), key=_version, reverse=True))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _version(file: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in file.stem.rpartition("-")[2].split("."))


def entry_for(keys: list[dict[str, Any]], name: str, prompt: Mapping[str, Any]) -> dict[str, Any] | None:
    """The entry of a workflow whose places are all in it: a template may be another in another version."""
    entries = [key[name] for key in keys if name in key]
    return next((entry for entry in entries if "refuse" in entry or _fits(entry, prompt)), None)


def _fits(entry: Mapping[str, Any], prompt: Mapping[str, Any]) -> bool:
    nodes = [*entry["output"], *(image for image in entry["image"] if image is not None)]
    places = [place for what in ("prompt", "seed") for alternative in entry[what] for place in alternative]
    return all(node in prompt for node in nodes) and all(_has(prompt, place) for place in places)


def _has(prompt: Mapping[str, Any], place: str) -> bool:
    node, _, name = place.partition(".")
    return node in prompt and name in prompt[node]["inputs"]


def what_is_wrong(entry: Mapping[str, Any], chosen: Chosen) -> str:
    """In words what was chosen otherwise than the key says; "" where all is right."""
    if "refuse" in entry:
        return f"no loop can be put around it: {entry['refuse']}"
    if chosen.output not in entry["output"]:
        return f"result {chosen.output}, not {' or '.join(entry['output'])}"
    if chosen.prompt not in [frozenset(alternative) for alternative in entry["prompt"]]:
        return f"prompt {_shown(chosen.prompt)}, not {' or '.join(_shown(a) for a in entry['prompt'])}"
    if chosen.image not in entry["image"]:
        return f"reference {chosen.image}, not {' or '.join(map(str, entry['image']))}"
    right = [frozenset(alternative) for alternative in entry["seed"]]
    if chosen.seeds not in right and not _of_one_result(entry, chosen.seeds):
        return f"seeds {_shown(chosen.seeds)}, not {' or '.join(_shown(a) for a in entry['seed'])}"
    return ""


def _of_one_result(entry: Mapping[str, Any], seeds: frozenset[str]) -> bool:
    """Where one of several results is chosen, only its own seeds count."""
    every = frozenset(place for alternative in entry["seed"] for place in alternative)
    return len(entry["output"]) > 1 and bool(seeds) and seeds <= every


def _shown(places: Any) -> str:
    return "+".join(sorted(places)) or "none"


def best(options: list[Any], wanted: Any) -> Any:
    """The first option that is wanted, else the first."""
    return next((option for option in options if wanted(option)), options[0])
