"""SC and PQ for every attempt, and the label that follows from them (paper, section 4.1, stage 3).

A person's verdict is never changed. An attempt that the judge could not score is left without a score and counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ...errors import AgentError
from ...files import hash_of
from ...roles.scorer import Score, ScoreError, Scorer, scorer_identity
from ..answer_file import AnswerFile
from .records import CriticRecord, DataError, Drops, Labeller, open_image

SCORES_FILE = "scores.jsonl"
HOPELESS = 10
"""Failures of the judge itself, one after the other, after which it is given up."""
LabelBy = Literal["critic", "score"]
"""Whose verdict is the label J: that of the critic who made the trajectory, or the scores'."""


@dataclass(frozen=True)
class LabelOptions:
    """by: see `LabelBy`. min_semantics, min_quality: with "score", an attempt that has at least both is a success."""

    by: LabelBy = "critic"
    min_semantics: float = 8.0
    min_quality: float = 6.0

    def __post_init__(self) -> None:
        for name in ("min_semantics", "min_quality"):
            if not 0 <= getattr(self, name) <= 10:
                raise DataError(f"{name} is {getattr(self, name)}; it must be from 0 to 10.")


def score_all(
    records: Sequence[CriticRecord],
    folder: Path,
    scorer: Scorer,
    labels: LabelOptions,
    log: AnswerFile,
    *,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[CriticRecord], Drops]:
    """The records with their scores, in order; records that could not be scored are dropped and counted.

    folder: image paths of the records are relative to it. log: scores that were paid for, and are not paid for again.
    on_progress: gets the number of records so far.

    Raises:
        AgentError: the judge cannot be used: it failed for `HOPELESS` records in a row, or scored none.
    """
    drops = Drops()
    scored: list[CriticRecord] = []
    refused: list[AgentError] = []  # in a row, up to now; appending and clearing are atomic

    def one(record: CriticRecord) -> Score | AgentError | str:
        known = _known(log, _key(record, scorer))
        if known is not None:
            return known
        if len(refused) >= HOPELESS:
            return refused[-1]  # the judge is not asked any more
        try:
            before = open_image(folder, record.before) if record.before else None
            score = scorer.score(before, open_image(folder, record.after), record.prompt)
        except (ScoreError, DataError) as error:
            return str(error)
        except AgentError as error:  # one refusal costs one record
            refused.append(error)
            return error
        refused.clear()
        log.keep(_key(record, scorer), semantics=score.semantics, quality=score.quality)
        return score

    failures = 0
    with ThreadPoolExecutor(workers) as pool:
        for number, (record, found) in enumerate(zip(records, pool.map(one, records), strict=True), 1):
            failures = failures + 1 if isinstance(found, AgentError) else 0
            if isinstance(found, AgentError) and failures >= HOPELESS:
                pool.shutdown(wait=False, cancel_futures=True)
                raise found
            if isinstance(found, (str, AgentError)):
                drops.drop(str(found))
            else:
                drops.keep()
                scored.append(labelled(record, found, labels, "checker" if "checker" in scorer.name else "judge"))
            on_progress(number)
    if records and not scored:
        raise AgentError(f"{scorer.name} scored none of {len(records)} attempts: {drops.reasons.most_common(1)[0][0]}")
    return scored, drops


SCORED_DROPS = "scored.drops.json"


def check_scored(scored: Sequence[CriticRecord], records: Sequence[CriticRecord], folder: Path) -> None:
    """Compare the scored attempts with critic.jsonl, which they were made from, and which may have been made anew.

    Raises:
        DataError: there are other attempts by now, or a person has judged some since.
    """
    known, before = {record.id for record in records}, {record.id: record for record in scored}
    mine = [r for r in records if r.labelled_by == "user" and r.id in before]
    judged = sum((before[r.id].labelled_by, before[r.id].success) != ("user", r.success) for r in mine)
    gone = sum(record.id not in known for record in scored)
    try:
        seen = int(json.loads((folder / SCORED_DROPS).read_bytes())["attempts"]["seen"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        seen = len(records)
    said = [f"{judged} were judged by a person since"] if judged else []
    said += [f"{gone} are not in it any more"] if gone else []
    said += [f"it has {len(records)}, and {seen} were scored"] if seen != len(records) and not gone else []
    if said:
        raise DataError(
            f"{folder / 'critic.jsonl'} has changed since its attempts were scored: {', '.join(said)}. Run `data score "
            f"{folder} --judge J --resume`, which pays for no score twice."
        )


def labelled(record: CriticRecord, score: Score, options: LabelOptions, by: Labeller = "judge") -> CriticRecord:
    """The record with its scores, and with the label that they give where they are asked to."""
    record = replace(record, semantics=score.semantics, quality=score.quality)
    if options.by == "critic" or record.labelled_by == "user":
        return record
    success = score.semantics >= options.min_semantics and score.quality >= options.min_quality
    if success == record.success:
        return replace(record, labelled_by=by)
    # the critic's reasoning and prompt are about the other verdict
    return replace(record, success=success, labelled_by=by, refined="", reasoning="")


def _known(log: AnswerFile, key: str) -> Score | None:
    """None also where the line holds no score."""
    try:
        entry = log.known[key]
        return Score(float(entry["semantics"]), float(entry["quality"]))
    except (KeyError, TypeError, ValueError):
        return None


def _key(record: CriticRecord, scorer: Scorer) -> str:
    return hash_of("score", scorer_identity(scorer), record.before, record.after, record.prompt)
