"""Rows of exported files (`data export`), checked before hours are spent on them."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...agents.base import chat_content
from ...agents.transformers_agent import without_marks
from ...files import write_atomically
from ...roles.critic import critic_turn, white_canvas
from ...roles.prompt_files import is_filled, load_prompt
from .models import TrainError

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
WHITE = "data/interleave/white.png"
"""Ending of the path that stands for the white canvas (`data export`; paper's code)."""


def read_rows(path: Path, problem: Callable[[Any], str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row); `problem` says what is wrong with a row, or "".

    Raises:
        TrainError: the file cannot be read, or a row is wrong; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainError(f"Cannot read {path}: {error}") from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if _HALF.search(line):  # half a character, which no tokenizer takes
                row = json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError) as error:
            raise TrainError(f"{path}, line {number} is not valid JSON: {error}.") from None
        wrong = problem(row)
        if wrong:
            raise TrainError(f"{path}, line {number}: {wrong}")
        yield number, row


def sft_rows(path: Path) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows of critic_sft.jsonl or planner_sft.jsonl, pictures as absolute paths; and why others were left out.

    Raises:
        TrainError: see `read_rows`; none is left.
    """
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    for _, row in read_rows(path, sft_problem):
        images = [path.parent / name for name in row["images"]]
        reason = next((r for p in images if (r := unreadable(p))), "")
        if reason:
            dropped[reason] += 1
            continue
        rows.append({**row, "images": [str(p.resolve()) for p in images]})
    if not rows:
        raise TrainError(f"{path} holds no row to learn from ({drops_text(dropped)}).")
    return rows, dropped


ASKED = ("critic", "compare", "planner_text", "planner_images")
"""Prompt files of the questions that rows hold."""


def check_questions(rows: Sequence[Mapping[str, Any]], prompts: Path | None) -> None:
    """Compare the rows' questions with the prompt texts that the trained model will be asked with.

    prompts: their folder; None for ours.

    Raises:
        TrainError: a question is written with another text. Such a model would be asked what it never saw.
    """
    templates = {name: load_prompt(name, [prompts]) for name in ASKED}
    for number, row in enumerate(rows, 1):
        asked = "".join(
            str(part.get("text", ""))
            for turn in row["prompt"]
            for part in (turn["content"] if isinstance(turn["content"], list) else [{"text": turn["content"]}])
        )
        if not any(is_filled(template, asked) for template in templates.values()):
            where = f"the prompt texts in {prompts}" if prompts else "our prompt texts"
            raise TrainError(
                f"Row {number} asks with another text than the trained model will be asked with ({where}). It begins "
                f"with {' '.join(asked.split())[:60]!r}. Give `sft` the folder of prompt texts that the rows were "
                "exported with (--prompts FOLDER), or export them again with those of the model."
            )


def states(path: Path, prompts: Path | None) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows of critic_rl.jsonl as prompts for GRPO, with the state itself as JSON in the column `state`.

    prompts: folder of the critic's prompt text; None for ours.

    Raises:
        TrainError: see `read_rows`; none is left.
    """
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    for number, row in read_rows(path, state_problem):
        before, after = row["origin_image_path"], path.parent / row["edited_image_path"]
        drawn = before.endswith(WHITE)
        reason = unreadable(after) or ("" if drawn else unreadable(path.parent / before))
        if reason:
            dropped[reason] += 1
            continue
        if drawn:
            with Image.open(after) as image:
                canvas = _white(path.parent, image.size)
        start = canvas if drawn else (path.parent / before).resolve()
        turn = critic_turn(start, after.resolve(), row["origin_prompt"], row["rewritten_prompt"], [prompts])
        state = {
            "id": str(row.get("id") or number),
            "prompt": row["origin_prompt"],
            "used": row["rewritten_prompt"] or row["origin_prompt"],
            "before": None if drawn else str(start),
            "after": str(after.resolve()),
            **{name: row["evaluation"][name] for name in ("semantics", "quality", "success")},
        }
        content, images = chat_content(turn)
        rows.append(
            {
                "prompt": [{"role": "user", "content": content}],
                "images": [str(p) for p in images],
                "state": json.dumps(state),
            }
        )
    if not rows:
        raise TrainError(f"{path} holds no state to learn from ({drops_text(dropped)}).")
    return rows, dropped


def unreadable(path: Path) -> str:
    """Why a picture cannot be used, or ""; a corrupt file is decoded to its end to find out."""
    try:
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        return "a picture is missing"
    except Exception:  # whatever a decoder makes of a broken file
        return "a picture cannot be read"
    return ""


def plain_rows(rows: Sequence[Mapping[str, Any]], marks: re.Pattern[str] | None) -> list[dict[str, Any]]:
    """The rows without marks of the chat form in their texts (`without_marks`): a mark is no picture and ends no turn.

    As an agent is asked. marks: of the model that learns.
    """

    def plain(part: Mapping[str, Any]) -> dict[str, Any]:
        return {n: without_marks(v, marks) if n == "text" and isinstance(v, str) else v for n, v in part.items()}

    def turns(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{**turn, "content": [plain(part) for part in turn["content"]]} for turn in messages]

    return [{**row, **{name: turns(row[name]) for name in ("prompt", "completion") if name in row}} for row in rows]


def dataset(rows: list[dict[str, Any]]) -> Any:
    """The rows as a datasets.Dataset whose pictures are opened when they are needed."""
    from datasets import Dataset, Image, List

    return Dataset.from_list(rows).cast_column("images", List(Image()))


def _white(folder: Path, size: tuple[int, int]) -> Path:
    path = folder / "data" / "interleave" / f"white_{size[0]}x{size[1]}.png"
    if not path.is_file():
        data = io.BytesIO()
        white_canvas(size).save(data, "PNG")
        write_atomically(path, data.getvalue())  # several processes may come here at once
    return path.resolve()


ROLES = {"system", "user", "assistant"}


def sft_problem(row: Any) -> str:
    if not isinstance(row, Mapping) or set(row) != {"prompt", "completion", "images"}:
        return "a row has the keys prompt, completion and images; `data export --format trl` writes such."
    if not isinstance(row["images"], list) or not all(isinstance(name, str) for name in row["images"]):
        return f"images is {row['images']!r:.60}; it must be a list of paths."
    try:
        asked = [(part["type"], part.get("text")) for turn in row["prompt"] for part in turn["content"]]
        answered = [(part["type"], part["text"]) for turn in row["completion"] for part in turn["content"]]
        reply = "".join(text for _, text in answered)
        roles = {turn["role"] for turn in row["prompt"]}
        last = [turn["role"] for turn in row["completion"]]
    except (TypeError, KeyError, AttributeError):
        return "prompt and completion must be lists of {role, content: [{type, text}]}."
    marks = sum(kind == "image" for kind, _ in asked)
    if marks != len(row["images"]):
        return f"{marks} image parts and {len(row['images'])} images."
    if not reply.strip():
        return "the completion is empty."
    if not roles <= ROLES:
        return f"role is {next(iter(roles - ROLES))!r:.40}; it must be system, user or assistant."
    if any(kind != "image" and (kind != "text" or not isinstance(text, str)) for kind, text in asked):
        return "the parts of a prompt are texts and images."
    if last != ["assistant"] or any(kind != "text" for kind, _ in answered):
        return "a completion is one message of the assistant, of text alone."
    return ""


def state_problem(row: Any) -> str:
    wanted = {"origin_prompt": str, "rewritten_prompt": str, "origin_image_path": str, "edited_image_path": str}
    if not isinstance(row, Mapping):
        return "a state must be an object."
    for name, kind in wanted.items():
        if not isinstance(row.get(name), kind):
            return f"{name} is {row.get(name)!r:.60}; it must be a text."
    found = row.get("evaluation")
    if not isinstance(found, Mapping) or not isinstance(found.get("success"), bool):
        return "evaluation needs semantics, quality (0 to 10) and success (true or false)."
    for name in ("semantics", "quality"):
        value = found.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 10:
            return f"evaluation.{name} is {value!r:.40}; it must be a number from 0 to 10."
    return ""


def drops_text(dropped: Counter[str]) -> str:
    return ", ".join(f"{n} left out: {why}" for why, n in dropped.most_common()) or "it is empty"
