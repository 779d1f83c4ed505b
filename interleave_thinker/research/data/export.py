"""Records -> files for trainers.

trl       prompt-completion conversations with pictures (TRL's SFTTrainer), `critic_sft.jsonl`, `planner_sft.jsonl`
sharegpt  LLaMA-Factory's `critic_sft.json`, `planner_sft.json` with `dataset_info.json`
rl        `critic_rl.jsonl`: states for single-step GRPO, in the fields of the paper's code
compare   `compare_sft.jsonl`: attempts at one step side by side, for TRL (`comparisons.py`)
easy      whole documents as one sequence: reasoning, then a plan, a picture and a text for each step
hard      the same with every attempt and the critic's judgment of it

Image paths are relative to the export's folder. In sequences the signs < > & of agents' texts are escaped, so that only
our own tags are tags.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...agents.base import chat_content
from ...contract import MAX_STEPS
from ...loop.plan import Plan
from ...roles.critic import critic_turn, white_canvas
from ...roles.planner import planner_turn
from .records import CriticRecord, DataError, Drops, PlannerRecord, open_image

WHITE = "data/interleave/white.png"
"""The white canvas; the paper's code knows it by this ending of the path and draws from text alone."""
IMAGE_MARK = "<image>"
IMAGE_TOKEN = "<img_token>"
OnAccept = Literal["repeat", "empty"]
Format = Literal["trl", "sharegpt", "rl", "compare", "easy", "hard"]


@dataclass(frozen=True)
class Conversation:
    """A user turn and the reply that is wanted. `turn`: texts, and paths of pictures relative to the data's folder."""

    turn: tuple[str | Path, ...]
    reply: str

    @property
    def images(self) -> list[str]:
        return [p.as_posix() for p in self.turn if isinstance(p, Path)]


@dataclass(frozen=True)
class ExportOptions:
    """prompts: folder of prompt texts that the model is to know; None for ours. on_accept: the refined prompt in the
    reply about a success: the prompt again (paper's code) or nothing (paper, figure 4). max_steps: the number that our
    own planner prompt names.
    """

    prompts: Path | None = None
    on_accept: OnAccept = "repeat"
    max_steps: int = MAX_STEPS


def critic_conversation(record: CriticRecord, options: ExportOptions) -> Conversation:
    """The critic's turn about an attempt, and the right reply."""
    before = Path(record.before) if record.before else Path(WHITE)
    turn = critic_turn(before, Path(record.after), record.prompt, record.used, [options.prompts])
    refined = record.refined or record.used
    if record.success:
        refined = record.used if options.on_accept == "repeat" else ""
    answer = json.dumps({"previous_step_success": record.success, "refine_prompt": refined}, ensure_ascii=False)
    return Conversation(turn, f"<think>{inside(record.reasoning)}</think><answer>{answer}</answer>")


def planner_conversation(record: PlannerRecord, options: ExportOptions) -> Conversation:
    """The request with its pictures, and the plan."""
    turn = planner_turn(record.request, [Path(p) for p in record.images], options.max_steps, [options.prompts])
    written = {name: record.plan[name] for name in ("execution_plan", "title", "lead") if record.plan.get(name)}
    body = json.dumps(written, ensure_ascii=False)
    thought = inside(str(record.plan.get("reasoning") or ""))
    return Conversation(turn, f"<think>{thought}</think><answer>{body}</answer>")


def trl(conversation: Conversation) -> dict[str, Any]:
    """A row for TRL's SFTTrainer; its loss is on the completion only."""
    content, images = chat_content(conversation.turn)
    return {
        "prompt": [{"role": "user", "content": content}],
        "completion": [{"role": "assistant", "content": chat_content([conversation.reply])[0]}],
        "images": [p.as_posix() for p in images],
    }


def sharegpt(conversation: Conversation) -> dict[str, Any]:
    """A row for LLaMA-Factory. A text that says <image> itself would be taken for a picture: its mark is broken up."""
    asked = "".join(IMAGE_MARK if isinstance(p, Path) else _no_mark(p) for p in conversation.turn)
    return {
        "messages": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": _no_mark(conversation.reply)},
        ],
        "images": conversation.images,
    }


def state(record: CriticRecord) -> dict[str, Any]:
    """A row of critic_rl.jsonl: the state (I_{i-1}, I_i^t, p_i, r_i^t) with its scores and label.

    Raises:
        DataError: the record has no scores.
    """
    if record.semantics is None or record.quality is None:
        raise DataError(f"Record {record.id} has no scores; `data score` comes before `data export --format rl`.")
    return {
        "id": record.id,
        "origin_prompt": record.prompt,
        "rewritten_prompt": record.used,
        "origin_image_path": record.before or WHITE,
        "edited_image_path": record.after,
        "evaluation": {"semantics": record.semantics, "quality": record.quality, "success": record.success},
    }


def sequences(
    plans: Sequence[PlannerRecord], attempts: Sequence[CriticRecord], *, hard: bool
) -> tuple[list[dict[str, Any]], Drops]:
    """Whole documents, for training a model that writes and draws by itself; only runs whose every step succeeded."""
    by_run: dict[tuple[str, int], list[CriticRecord]] = defaultdict(list)
    for record in attempts:
        by_run[record.id.rpartition("/")[0], record.step].append(record)
    drops = Drops()
    rows = []
    for plan in plans:
        steps = [step.to_dict() for step in Plan.from_dict(plan.plan).steps]  # with keys that the record left out
        if len(plan.pictures) != len(steps):
            drops.drop("its pictures are not one for each step")
            continue
        tried = [_towards(by_run[plan.id, n], plan.pictures[n - 1]) for n in range(1, len(steps) + 1)]
        drawn = [(s, t) for s, t in zip(steps, tried, strict=True) if s["prompt"] is not None]
        if any(not t or not t[-1].success for _, t in drawn):
            drops.drop("a step without an accepted attempt")
            continue
        drops.keep()
        rows.append(_sequence(plan, steps, tried, hard=hard))
    return rows, drops


def _towards(attempts: Sequence[CriticRecord], ended: str) -> list[CriticRecord]:
    """The attempts at a step, in their order, up to the picture that it ended with and from the picture before it."""
    chosen = next((r for r in attempts if r.after == ended), None)
    if chosen is not None:
        attempts = [r for r in attempts if r.group == chosen.group and r.attempt <= chosen.attempt]
    return sorted(attempts, key=lambda r: r.attempt)


def _sequence(
    plan: PlannerRecord, steps: Sequence[Mapping[str, Any]], tried: Sequence[Sequence[CriticRecord]], *, hard: bool
) -> dict[str, Any]:
    parts = [_tag("gthink", plan.plan.get("reasoning"))]
    images = list(plan.images)
    for step, attempts in zip(steps, tried, strict=True):
        if step["prompt"] is not None:
            parts.append(_tag("plan", step["prompt"]))
            for attempt in attempts if hard else attempts[-1:]:
                parts.append(f"<image>{IMAGE_TOKEN}</image>.")
                images.append(attempt.after)
                if hard:
                    verdict = {"success": attempt.success, "refine_prompt": "" if attempt.success else attempt.refined}
                    judged = _escaped(json.dumps(verdict, ensure_ascii=False))
                    parts.append(f"<critic>{_tag('think', attempt.reasoning)}{judged}</critic>")
        if step.get("auxiliary_text"):
            parts.append(_tag("info", step["auxiliary_text"]))
    marks = plan.request.lower().count(IMAGE_MARK)
    request = plan.request + IMAGE_MARK * (len(plan.images) - marks)
    return {
        "id": plan.id,
        "messages": [{"role": "user", "content": request}, {"role": "assistant", "content": "".join(parts)}],
        "images": images,
    }


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """JSON lines; whole or not at all. Returns how many."""
    part = path.with_name(path.name + ".part")
    count = 0
    with part.open("w", encoding="utf-8", errors="replace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    os.replace(part, path)
    return count


def write_white(folder: Path, size: tuple[int, int]) -> None:
    path = folder / WHITE
    path.parent.mkdir(parents=True, exist_ok=True)
    white_canvas(size).save(path)


def size_of_first(folder: Path, records: Sequence[CriticRecord]) -> tuple[int, int]:
    """That of the first picture that can be read, for the white canvas."""
    for record in records:
        try:
            return open_image(folder, record.after).size
        except DataError:
            continue
    return (1024, 1024)


def _tag(name: str, text: object) -> str:
    return f"<{name}>{_escaped(str(text or ''))}</{name}>"


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)


_BLOCKS = re.compile(r"</?\s*(?:think|answer)\s*>", re.I)


def inside(text: str) -> str:
    """Reasoning that cannot end its own block, nor hold another answer."""
    return _BLOCKS.sub("", text)


def _no_mark(text: str) -> str:
    return text.replace(IMAGE_MARK, "<image >")
