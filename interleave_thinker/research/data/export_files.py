"""`data export`: which records become which file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...files import write_atomically
from .comparisons import comparisons
from .export import (
    Conversation,
    ExportOptions,
    critic_conversation,
    planner_conversation,
    sequences,
    sharegpt,
    size_of_first,
    state,
    trl,
    write_lines,
    write_white,
)
from .records import CRITIC_FILE, PLANNER_FILE, SCORED_FILE, CriticRecord, DataError, PlannerRecord, read_records


def export_all(
    data: Path, formats: Sequence[str], options: ExportOptions, source: str | None = None, name: str | None = None
) -> Iterator[str]:
    """Write every format into `data`; yields a line about each file.

    source, name: other records for the critic's conversations, and what their file is called; then only these.

    Raises:
        DataError: records are missing or cannot be read, or none is left to write.
    """
    critic = data / (source or "sft.jsonl")
    plans_file = data / "plans.jsonl"
    for form in formats:
        if form in ("trl", "sharegpt"):
            found: dict[str, list[Conversation]] = {}
            if critic.is_file():
                found[name or "critic_sft"] = [
                    critic_conversation(r, options) for r in read_records(critic, CriticRecord)
                ]
            if plans_file.is_file() and name is None:
                found["planner_sft"] = [
                    planner_conversation(r, options) for r in read_records(plans_file, PlannerRecord)
                ]
            if critic.is_file() and not any(found.values()):
                raise DataError(f"{critic} is empty: no attempt was left. See {data / 'filter.drops.json'} for why.")
            if not any(found.values()):
                raise DataError(
                    f"{data} holds neither {critic.name} nor plans.jsonl with records. For the critic run `data filter "
                    f"{data}`, or give --source critic.jsonl --name critic_sft to export all attempts; for the planner "
                    f"run `data planner {data}`."
                )
            yield from _conversations(data, form, found)
        elif form == "compare":
            _needs(data / SCORED_FILE, f"`data score {data}` writes it")
            talks = list(comparisons(list(read_records(data / SCORED_FILE, CriticRecord)), options))
            yield from _conversations(data, "trl", {"compare_sft": talks})
        elif form == "rl":
            _needs(data / "rl.jsonl", f"`data filter {data}` writes it")
            records = list(read_records(data / "rl.jsonl", CriticRecord))
            if not records:
                raise DataError(
                    f"{data / 'rl.jsonl'} is empty: reinforcement learning takes attempts with scores. Run `data score "
                    f"{data}` and `data filter {data} --resume`, or give the filter a larger --rl-share."
                )
            yield f"{write_lines(data / 'critic_rl.jsonl', map(state, records))} states: {data / 'critic_rl.jsonl'}"
        else:
            plans = list(read_records(data / PLANNER_FILE, PlannerRecord))
            attempts = list(read_records(data / CRITIC_FILE, CriticRecord))
            rows, drops = sequences(plans, attempts, hard=form == "hard")
            path = data / f"sequences_{form}.jsonl"
            yield f"{write_lines(path, rows)} sequences: {path}; " + "; ".join(drops.lines())
    scored = data / (CRITIC_FILE if (data / CRITIC_FILE).is_file() else critic.name)
    if scored.is_file():
        write_white(data, size_of_first(data, list(read_records(scored, CriticRecord))))


def _needs(path: Path, how: str) -> None:
    """Raises DataError if there is no such file."""
    if not path.is_file():
        raise DataError(f"There is no {path}; {how}.")


def _conversations(data: Path, form: str, found: dict[str, list[Conversation]]) -> Iterator[str]:
    info = {}
    for name, talks in found.items():
        if form == "trl":
            path = data / f"{name}.jsonl"
            write_lines(path, map(trl, talks))
        else:
            path = data / f"{name}.json"
            rows = json.dumps([sharegpt(t) for t in talks], ensure_ascii=False, indent=1)
            write_atomically(path, rows.encode("utf-8", "replace"))
            columns = {"messages": "messages", "images": "images"}
            tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
            info[name] = {"file_name": path.name, "formatting": "sharegpt", "columns": columns, "tags": tags}
        yield f"{len(talks)} conversations: {path}"
    if info:
        known = data / "dataset_info.json"
        try:
            before = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
        except (OSError, ValueError, RecursionError):
            before = None
        if not isinstance(before, dict):
            raise DataError(f"{known} is no JSON object of datasets. Repair it, or move it away.")
        write_atomically(known, json.dumps({**before, **info}, indent=2).encode())
