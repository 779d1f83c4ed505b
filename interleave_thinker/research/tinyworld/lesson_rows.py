"""Lessons for the critic from a data set's own attempts, as rows that `sft critic` takes.

    interleave-thinker tinyworld lessons DATA --out DATA --count 26000

Half are attempts as they were made, as many wrong as right; half are attempts under other words (`restated_case`).
The records of a data set alone teach a tiny critic to read instead of to look: a plain prompt mostly succeeds.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...agents.base import chat_content
from ...errors import ConfigError
from ...files import write_atomically
from ...tinyworld.lessons import Lesson, compare_lesson, critic_lesson
from .attempt_pool import AttemptPool

IMAGES = "lessons"


def write_lessons(
    folders: Sequence[Path],
    out: Path,
    count: int,
    seed: int,
    prompts: Mapping[str, str],
    *,
    comparisons: int = 0,
    right_share: float = 0.5,
) -> Path:
    """`out`/lesson_sft.jsonl of `count` judgments and some comparisons, their pictures beside it; written anew.

    folders: data sets of `data score`, or attempts of `tinyworld attempts`; a folder that is given twice counts twice.
    comparisons: further rows that compare the attempts at one step. right_share: share of right attempts among those
    with their own prompts, 0 to 1; less than a half makes a stricter critic.

    Raises:
        ConfigError: there are no such attempts, right ones and wrong ones; or they cannot be read.
    """
    if not 0 <= right_share <= 1:
        raise ConfigError(f"--right-share is {right_share}; it is a share, 0 to 1.")
    for folder in folders:
        if not any((folder / name).is_file() for name in ("scored.jsonl", "attempts.jsonl")):
            raise ConfigError(f"{folder} holds no scored.jsonl (`data score` writes it), and no attempts.jsonl.")
    try:
        pool = AttemptPool(folders, right_share)
    except (OSError, ValueError, KeyError, TypeError) as error:  # a lost picture, a broken line
        raise ConfigError(f"Cannot read the attempts of {', '.join(map(str, folders))}: {error}") from error
    if not pool.right or not pool.wrong:
        raise ConfigError(f"{len(pool.right)} attempts are right and {len(pool.wrong)} wrong; both kinds are needed.")
    if comparisons and not pool.several:
        raise ConfigError("No step was tried more than once, so there is nothing to compare.")
    (out / IMAGES).mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"lessons-{seed}")
    rows = []
    for number in range(count):
        case = pool.balanced_case(rng) if number % 2 else pool.restated_case(rng)
        rows.append(json.dumps(_row(critic_lesson(case, dict(prompts)), out, number)))
    for number in range(count, count + comparisons):
        rows.append(json.dumps(_row(compare_lesson(pool.group(rng), dict(prompts)), out, number)))
    file = out / "lesson_sft.jsonl"
    write_atomically(file, "".join(row + "\n" for row in rows).encode())
    return file


def _row(lesson: Lesson, out: Path, number: int) -> dict[str, Any]:
    content, images = chat_content(lesson.parts)
    names = [f"{IMAGES}/{number}-{n}.png" for n in range(1, len(images) + 1)]
    for name, image in zip(names, images, strict=True):
        image.save(out / name)
    return {
        "prompt": [{"role": "user", "content": content}],
        "completion": [{"role": "assistant", "content": chat_content([lesson.reply])[0]}],
        "images": names,
    }
