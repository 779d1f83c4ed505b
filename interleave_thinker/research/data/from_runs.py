"""Records from the run folders that the ComfyUI nodes and the command line write (`output/interleave`).

A person's own verdicts count as labels: an attempt that a person accepted is a success, whatever the critic's verdict.
A verdict that strictness turned is not the critic's own, so that attempt is left out; the log-odds in its record say
what the critic's own was. A plan that a person edited is marked as edited. Attempts and plans that cannot be used are
left out and counted.
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from ...contract import NODE_IDS
from ...errors import InterleaveError, RunError
from ...files import write_atomically
from ...loop.trajectory import Attempt, Trajectory
from ...storage.attempt_store import AttemptStore
from ...storage.images import read_image
from ...storage.run_folder import image_file, input_file, read_state, read_trajectory
from .records import CriticRecord, DataError, Drops, Labeller, PlannerRecord


class RunImages:
    """Copies of pictures below `out`/images, each once, named by content."""

    def __init__(self, out: Path, store: AttemptStore | None):
        self.out, self.store = out, store
        self.known: dict[str, str] = {}

    def of(self, run: Path, attempt: Attempt) -> str:
        """The picture of an attempt, from its run's folder.

        Raises:
            DataError: it is missing or damaged.
        """
        return self._keep(attempt.image_key, image_file(run, attempt) if attempt.file else None)

    def by_key(self, run: Path, key: str, attempts: tuple[Attempt, ...]) -> str:
        """The image of a key: an attempt's, or one of the user's."""
        made = next((a for a in attempts if a.image_key == key and a.file), None)
        if made is not None:
            return self.of(run, made)
        try:
            return self._keep(key, input_file(run, key))
        except RunError:
            raise DataError("a picture is missing") from None

    def _keep(self, key: str, path: Path | None) -> str:
        if key in self.known:
            return self.known[key]
        image = self._open(key, path)
        name = f"images/{''.join(c for c in key if c.isalnum())[:40]}.png"
        target = self.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            data = io.BytesIO()
            image.save(data, "PNG")
            write_atomically(target, data.getvalue())
        self.known[key] = name
        return name

    def _open(self, key: str, path: Path | None) -> Image.Image:
        """From the run folder, or else from the store; only with the pixels of its key."""
        found = read_image(path, key) if path is not None else None
        if found is None and self.store is not None:
            found = self.store.get_image(key)
        if found is None:
            there = path is not None and path.is_file()
            raise DataError("a picture cannot be read" if there else "a picture is missing")
        return found


def runs_below(root: Path) -> list[Path]:
    """Run folders at or below `root`, by name.

    Raises:
        DataError: there is none.
    """
    found = sorted(p.parent for p in root.rglob("run.json")) if root.is_dir() else []
    if not found:
        raise DataError(f"{root} holds no run folder (none with a run.json in it).")
    return found


def from_runs(
    runs: list[Path], out: Path, store: AttemptStore | None = None
) -> tuple[list[CriticRecord], list[PlannerRecord], dict[str, Drops]]:
    """Records of all runs; the same attempt or plan in two runs counts once. Pictures are copied to `out`/images."""
    drops = {"attempts": Drops(), "plans": Drops()}
    images = RunImages(out, store)
    attempts: dict[tuple[Any, ...], CriticRecord] = {}
    plans: dict[str, PlannerRecord] = {}
    names = _names(runs)
    for run in runs:
        trajectory = _trajectory(run)
        if trajectory is None:
            drops["plans"].drop("run.json cannot be read")
            continue
        edited = _was_edited(run)
        for record in _critic_records(run, names[run], trajectory, images, drops["attempts"]):
            same = (record.before, record.after, record.prompt, record.used)
            if same in attempts and attempts[same].labelled_by == "user":
                drops["attempts"].drop("the same attempt in another run")
                continue
            if same in attempts:
                drops["attempts"].drop("the same attempt in another run")
                if record.labelled_by != "user":
                    continue
            else:
                drops["attempts"].keep()
            attempts[same] = record
        _add_plan(run, names[run], trajectory, edited, images, plans, drops["plans"])
    return list(attempts.values()), list(plans.values()), drops


def _names(runs: list[Path]) -> dict[Path, str]:
    """Each run's name in records: its folder, with the folders above it where two have the same name."""
    twice = {name for name, count in Counter(run.name for run in runs).items() if count > 1}
    above = Path(os.path.commonpath(runs)) if len(runs) > 1 else Path()
    return {run: run.relative_to(above).as_posix() if run.name in twice else run.name for run in runs}


def _critic_records(
    run: Path, name: str, trajectory: Trajectory, images: RunImages, drops: Drops
) -> Iterator[CriticRecord]:
    """A run may hold a step twice: after a person accepted another attempt, later steps start from another picture.
    Attempts from one picture are a group, and each id is one record's.
    """
    starts: dict[int, list[str | None]] = defaultdict(list)
    ids: Counter[str] = Counter()
    for attempt in trajectory.attempts:
        if not _is_whole(attempt):
            drops.drop("its record is damaged")
            continue
        if not 1 <= attempt.step <= len(trajectory.plan.steps):
            drops.drop("its step is not in the plan")
            continue
        judgment = attempt.judgment
        by: Labeller = "user" if attempt.overridden else "critic"
        if by == "critic" and judgment is None:
            drops.drop("it was not judged")
            continue
        if by == "critic" and judgment is not None and not judgment.parsed:
            drops.drop("the critic's reply could not be read")
            continue
        if by == "critic" and judgment is not None and judgment.turned:
            drops.drop("strictness turned the critic's verdict")
            continue
        step = trajectory.plan.steps[attempt.step - 1]
        try:
            before = None
            if attempt.reference_key is not None:
                before = images.by_key(run, attempt.reference_key, trajectory.attempts)
            after = images.of(run, attempt)
        except DataError as error:
            drops.drop(str(error))
            continue
        rejected = judgment is not None and judgment.parsed and not judgment.accepted
        if before not in starts[attempt.step]:
            starts[attempt.step].append(before)
        start = starts[attempt.step].index(before) + 1
        numbered = f"{name}/{attempt.step}.{attempt.attempt}"
        ids[numbered] += 1
        yield CriticRecord(
            numbered if ids[numbered] == 1 else f"{numbered}~{ids[numbered]}",
            f"{name}/{attempt.step}" if start == 1 else f"{name}/{attempt.step}~{start}",
            trajectory.plan.request,
            attempt.step,
            attempt.attempt,
            step.instruction or "",
            step.prompt or "",
            attempt.prompt,
            before,
            after,
            attempt.accepted,
            by,
            judgment.refined_prompt if judgment is not None and rejected and by == "critic" else "",
            judgment.reasoning if judgment is not None and by == "critic" else "",
        )


def _add_plan(
    run: Path,
    name: str,
    trajectory: Trajectory,
    edited: bool,
    images: RunImages,
    plans: dict[str, PlannerRecord],
    drops: Drops,
) -> None:
    plan = trajectory.plan
    if not all(isinstance(r.step, int) and isinstance(r.image_key, str | None) for r in trajectory.results):
        return drops.drop("its record is damaged")
    if not plan.request:
        return drops.drop("it has no request")
    if trajectory.status != "done":
        return drops.drop(f"the run is not finished ({trajectory.status})")
    try:
        given = tuple(images.by_key(run, key, trajectory.attempts) for key in _user_images(run))
        chosen = {r.step: r.image_key for r in trajectory.results}
        ended = tuple(
            images.by_key(run, key, trajectory.attempts) if (key := chosen.get(n)) else ""
            for n in range(1, len(plan.steps) + 1)
        )
    except DataError as error:
        return drops.drop(str(error))
    key = json.dumps([plan.to_dict(), given], sort_keys=True)
    if key in plans:
        return drops.drop("the same plan in another run")
    drops.keep()
    plans[key] = PlannerRecord(name, plan.request, given, plan.to_dict(), ended, edited)
    return None


def _trajectory(run: Path) -> Trajectory | None:
    """The run's plan and results, with the attempts that the record on the disk has."""
    state = read_state(run)
    try:
        saved = Trajectory.from_dict((state or {})["trajectory"])
    except (KeyError, TypeError, ValueError, AttributeError, InterleaveError):
        return None
    on_disk = {a.identity: a for a in read_trajectory(run)}
    known = {a.identity: a for a in saved.attempts} | on_disk  # a line on the disk may be cut off
    return Trajectory(saved.plan, tuple(known.values()), saved.results, saved.status)


def _is_whole(attempt: Attempt) -> bool:
    """Whether its values are of their types: older versions wrote records without a seal."""
    judgment = attempt.judgment
    numbers, texts = (attempt.step, attempt.attempt), [attempt.prompt, attempt.image_key, attempt.file]
    flags: list[object] = [attempt.overridden]
    if judgment is not None:
        flags += [judgment.accepted, judgment.parsed]
        texts += [judgment.refined_prompt, judgment.reasoning]
    return (
        all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in numbers)
        and all(isinstance(text, str) for text in texts)
        and all(isinstance(flag, bool) for flag in flags)
        and isinstance(attempt.reference_key, str | None)
    )


def _user_images(run: Path) -> list[str]:
    state = (read_state(run) or {}).get("state")
    keys = state.get("user_images") if isinstance(state, dict) else None
    return [k for k in keys if isinstance(k, str)] if isinstance(keys, list) else []


def _was_edited(run: Path) -> bool:
    """Whether the workflow beside the run has a Planner with an edited plan."""
    try:
        workflow = json.loads((run / "workflow.json").read_bytes().decode("utf-8", "surrogatepass"))
        nodes = [
            *workflow["nodes"],
            *(n for g in workflow.get("definitions", {}).get("subgraphs", []) for n in g["nodes"]),
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return any(_holds_a_plan(n) for n in nodes if isinstance(n, dict))


def _holds_a_plan(node: dict[str, Any]) -> bool:
    if node.get("type") != NODE_IDS.planner:
        return False
    values = node.get("widgets_values")
    texts = values.values() if isinstance(values, dict) else values if isinstance(values, list) else []
    return any(isinstance(v, str) and "execution_plan" in v for v in texts)
