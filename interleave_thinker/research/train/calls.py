"""Calls of an agent that were recorded: what it was asked, read back from the files that hold it.

A line of a file is one of these:
- a record of `data from-runs` (critic.jsonl, scored.jsonl, planner.jsonl): the product's own prompt is put around it
- a row of `data export --format trl` (critic_sft.jsonl, planner_sft.jsonl): its prompt as it is
- a state of `data export --format rl` (critic_rl.jsonl)
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

from PIL import Image

from ...agents.base import Message
from ...contract import MAX_STEPS
from ...files import hash_of
from ...reading.judgments import read_judgment
from ...reading.plan_text import read_plan
from ...roles.critic import critic_turn, white_canvas
from ...roles.planner import planner_turn
from ...storage.images import open_rgb
from .models import TrainError
from .rows import WHITE, drops_text, read_rows, sft_problem, state_problem, unreadable

Role = Literal["critic", "planner", "other"]
"""Whose reply is wanted. "other": neither a judgment nor a plan, such as a comparison."""
Speaker = Literal["system", "user", "assistant"]
Turn = tuple[Speaker, tuple[str | Path | None, ...]]
"""Who speaks, and the texts and pictures; None is the white canvas, as large as the next picture."""


@dataclass(frozen=True)
class Call:
    """One recorded call. name: where it is from, for people."""

    name: str
    role: Role
    turns: tuple[Turn, ...]

    @property
    def pictures(self) -> list[Path]:
        return [part for _, parts in self.turns for part in parts if isinstance(part, Path)]

    @cached_property
    def question(self) -> str:
        """A key of everything that is asked: texts and the content of pictures."""
        return hash_of([(who, [_content(part) for part in parts]) for who, parts in self.turns])

    def messages(self) -> list[Message]:
        """With the pictures opened.

        Raises:
            OSError: a picture is gone.
        """
        return [Message(who, _opened(parts)) for who, parts in self.turns]


def read_calls(files: list[Path], prompts: str | None, roles: tuple[Role, ...] = get_args(Role)) -> list[Call]:
    """The calls of all files, each once; those whose pictures cannot be read are left out.

    prompts: folder of the prompt texts for records; None for ours.

    Raises:
        TrainError: a file or a line of it cannot be read, or no call is left; says why.
    """
    found: dict[str, Call] = {}
    dropped: Counter[str] = Counter()
    for file in files:
        for number, row in read_rows(file, _problem):
            call = _call(file, number, row, prompts)
            if call.role not in roles:
                dropped[f"not asked for ({call.role})"] += 1
            elif reason := next((r for p in call.pictures if (r := unreadable(p))), ""):
                dropped[reason] += 1
            else:
                found.setdefault(call.question, call)
    if not found:
        names = ", ".join(str(file) for file in files) or "nothing"
        raise TrainError(f"No call to check with in {names} ({drops_text(dropped)}).")
    return list(found.values())


def spread(calls: list[Call], limit: int) -> list[Call]:
    """At most `limit` calls of each role, evenly from first to last; 0 keeps all."""
    kept: list[Call] = []
    for role in get_args(Role):
        of_role = [call for call in calls if call.role == role]
        many = min(limit or len(of_role), len(of_role))
        kept += [of_role[n * len(of_role) // many] for n in range(many)]
    return kept


def _call(file: Path, number: int, row: Mapping[str, Any], prompts: str | None) -> Call:
    folder = file.parent
    name = f"{file.stem}:{row.get('id') or number}"
    if "completion" in row:
        reply = "".join(part["text"] for message in row["completion"] for part in message["content"])
        role: Role = "critic" if read_judgment(reply).parsed else "planner" if read_plan(reply) else "other"
        pictures = iter(row["images"])
        turns = tuple(
            (
                cast(Speaker, message["role"]),
                tuple(folder / next(pictures) if p["type"] == "image" else str(p["text"]) for p in message["content"]),
            )
            for message in row["prompt"]
        )
        return Call(name, role, turns)
    if "request" in row and "plan" in row:
        images = [folder / image for image in row["images"]]
        return Call(name, "planner", (("user", planner_turn(row["request"], images, MAX_STEPS, [prompts])),))
    if "edited_image_path" in row:
        given = row["origin_image_path"]
        before = None if given.endswith(WHITE) else folder / given
        after, wanted, used = folder / row["edited_image_path"], row["origin_prompt"], row["rewritten_prompt"]
    else:
        before = folder / row["before"] if row["before"] else None
        after, wanted, used = folder / row["after"], row["prompt"], row["used"]
    return Call(name, "critic", (("user", critic_turn(before, after, wanted, used, [prompts])),))


def _problem(row: Any) -> str:
    """What is wrong with a line, or ""; by the keys that it has."""
    if not isinstance(row, Mapping):
        return "a line must be an object."
    if "completion" in row:
        speakers = {m.get("role") for m in row["prompt"]} if not (told := sft_problem(row)) else set()
        strange = sorted(str(s) for s in speakers - set(get_args(Speaker)))
        return told or (f"a message's role is {strange[0]!r:.40}." if strange else "")
    if "edited_image_path" in row:
        return state_problem(row)
    if "request" in row and "plan" in row:
        return _lacks(row, {"request": _is_text, "images": _are_texts})
    if "after" in row:
        return _lacks(row, {"prompt": _is_text, "used": _is_text, "after": _is_text, "before": _is_text_or_none})
    return "it is no call; give a file of `data from-runs` or `data export`, or a folder of runs."


def _lacks(row: Mapping[str, Any], kinds: Mapping[str, Callable[[Any], bool]]) -> str:
    for name, fits in kinds.items():
        if not fits(row.get(name)):
            return f"{name} is {row.get(name)!r:.60}, which no record of `data from-runs` has there."
    return ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _content(part: str | Path | None) -> list[str]:
    if isinstance(part, Path):
        return ["picture", hashlib.sha256(part.read_bytes()).hexdigest()]
    return ["white"] if part is None else ["text", part]


def _opened(parts: tuple[str | Path | None, ...]) -> tuple[str | Image.Image, ...]:
    opened: list[str | Image.Image | None] = [open_rgb(part) if isinstance(part, Path) else part for part in parts]
    size = (1024, 1024)
    for at in reversed(range(len(opened))):
        part = opened[at]
        if isinstance(part, Image.Image):
            size = part.size
        elif part is None:
            opened[at] = white_canvas(size)
    return tuple(part for part in opened if part is not None)
