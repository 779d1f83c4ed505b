"""How good the tiny planner, critic and loop are on requests no training saw, by the checker.

    interleave-thinker tinyworld eval --requests 200 --seed S --t-max 1,3,5

Every row drives the product's own loop (`Session`, `advance`) with the product's own agents; only the
ground truth comes from the world. Rows share one attempt store, so an attempt that two rows have in
common is made once. Intervals: 95%, bootstrap over requests.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ...agents.base import Agent, Sampling
from ...agents.transformers_agent import load_agent
from ...contract import OnExhausted
from ...driver import LoopModels, drive_all, start_run
from ...errors import PlanError
from ...generators.base import BatchGenerator, GenerationRequest
from ...loop.plan import Plan, PlanStep
from ...loop.state import LoopSettings
from ...resolve import load_pipeline
from ...roles.planner import make_plan
from ...session import Session
from ...storage.attempt_store import AttemptStore
from ...storage.run_folder import RunFolder
from ...tinyworld import checker
from ...tinyworld.requests import Request, held_out, plan_is_right
from ...tinyworld.scene import SIDE
from ..intervals import bootstrap, interval_by_rank

AT_A_TIME = 64
"""Runs whose pictures are made in one batch."""


@dataclass
class Tally:
    """Results of a row. shares: of each request, the share of steps that the checker calls right."""

    shares: list[float] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    verdicts: dict[str, tuple[bool, bool]] = field(default_factory=dict)
    undecided: int = 0


def evaluate(weights: Path, count: int, seed: int, limits: Sequence[int]) -> dict[str, Any]:
    """The figures of the table, as JSON-serialisable values; shares are in [0, 1]."""
    planner = load_agent(weights / "planner", device="cpu")
    critic = load_agent(weights / "critic", device="cpu")
    generator = load_pipeline(weights / "generator", device="cpu")
    requests = held_out(count, seed)
    begun = time.monotonic()
    plans = [plan_of(planner, r) for r in requests]
    _log(f"planned {count} requests", begun)
    rows: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = AttemptStore(Path(folder) / "store")
        rows["no_planner"] = row_without_planner(requests, generator)
        _log("no_planner", begun)
        wanted: list[tuple[str, int, OnExhausted]] = [(f"t{t}", t, "last") for t in limits]
        wanted.append((f"t{max(limits)}_best", max(limits), "best"))
        for name, t_max, policy in wanted:
            settings = LoopSettings(t_max=t_max, on_exhausted=policy)
            rows[name] = run_plans(requests, plans, generator, critic, settings, store, Path(folder) / name)
            _log(name, begun)
    valid = [p is not None for p in plans]
    right = [p is not None and plan_is_right(r, p) for r, p in zip(requests, plans, strict=True)]
    verdicts = {k: v for row in rows.values() for k, v in row.verdicts.items()}
    names = [f"t{t}" for t in sorted(set(limits))]
    last = names[-1]
    pairs = [(last, name) for name in names[:-1]]
    return {
        "n": count,
        "seed": seed,
        "plan_valid": statistics.mean(valid),
        "plan_right": statistics.mean(right),
        "critic_balanced_accuracy": balanced_accuracy(list(verdicts.values())),
        "critic_verdicts": len(verdicts),
        "critic_recall": recalls(list(verdicts.values())),
        "undecided": sum(row.undecided for row in rows.values()),
        "step_success": {name: interval(row.shares, seed) for name, row in rows.items()},
        "gain": {
            f"{better}-{other}": interval(difference(rows[better], rows[other]), seed)
            for better, other in [*pairs, (f"{last}_best", last)]
        },
        "attempts_per_step": {n: statistics.mean(r.attempts) for n, r in rows.items() if r.attempts},
    }


def balanced_accuracy(verdicts: Sequence[tuple[bool, bool]]) -> float:
    """Mean of the shares of right and of wrong attempts that were judged so; (judged, truth) pairs."""
    sides = list(recalls(verdicts).values())
    return statistics.mean(sides) if sides else 0.0


def recalls(verdicts: Sequence[tuple[bool, bool]]) -> dict[str, float]:
    """Share of the right attempts that were accepted, and of the wrong ones that were rejected."""
    sides = {}
    for truth, name in ((True, "right_accepted"), (False, "wrong_rejected")):
        judged = [j == t for j, t in verdicts if t is truth]
        if judged:
            sides[name] = statistics.mean(judged)
    return sides


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"{figures['n']} held-out requests, seed {figures['seed']}",
        "",
        "| | |",
        "|---|---|",
        f"| plan valid | {figures['plan_valid']:.1%} |",
        f"| plan right | {figures['plan_right']:.1%} |",
        f"| critic, balanced accuracy ({figures['critic_verdicts']} verdicts) | "
        f"{figures['critic_balanced_accuracy']:.1%} |",
        *(f"| of that, {name.replace('_', ' ')} | {share:.1%} |" for name, share in figures["critic_recall"].items()),
        f"| attempts after a picture that shows nothing of this world, left out of it | {figures['undecided']} |",
        "",
        "| row | step success | 95% interval | attempts per step |",
        "|---|---|---|---|",
    ]
    for name, entry in figures["step_success"].items():
        low, high = entry["ci95"]
        tries = figures["attempts_per_step"].get(name)
        lines.append(f"| {name} | {entry['mean']:.1%} | {low:.1%} to {high:.1%} | {f'{tries:.2f}' if tries else ''} |")
    for name, entry in figures["gain"].items():
        low, high = entry["ci95"]
        lines.append(f"| {name} | {entry['mean']:+.1%} | {low:+.1%} to {high:+.1%} | |")
    return "\n".join(lines)


def plan_of(planner: Agent, request: Request) -> Plan | None:
    try:
        return make_plan(planner, request.text, request.images(), sampling=Sampling(1024)).plan
    except PlanError:
        return None


def row_without_planner(requests: Sequence[Request], generator: BatchGenerator) -> Tally:
    """A row in which the raw request is the prompt of every step, as without a planner."""
    before: dict[int, Image.Image] = {}
    hits: list[list[bool]] = [[] for _ in requests]
    for step in range(max(len(r.scenes) for r in requests)):
        left = [n for n, r in enumerate(requests) if step < len(r.scenes)]
        asked = [_raw(requests[n], before.get(n), step) for n in left]
        for n, image in zip(left, generator.generate_all(asked), strict=True):
            before[n] = image
            hits[n].append(checker.shows(image, requests[n].scenes[step]))
    return Tally([statistics.mean(h) for h in hits])


def _raw(request: Request, before: Image.Image | None, step: int) -> GenerationRequest:
    return GenerationRequest(request.text, (before,) if before else (), 1000 * step, None if before else (SIDE, SIDE))


def run_plans(
    requests: Sequence[Request],
    plans: Sequence[Plan | None],
    generator: BatchGenerator,
    critic: Agent,
    settings: LoopSettings,
    store: AttemptStore,
    folder: Path,
) -> Tally:
    """A row: each request's plan in the loop; a request without a plan has failed."""
    loop = LoopModels(generator, critic, Sampling(512))
    runs: list[Session | None] = [
        start_run(plan, loop, settings, store, RunFolder(folder, f"run {number}")) if plan else None
        for number, plan in enumerate(plans)
    ]
    sessions = [s for s in runs if s]
    for at in range(0, len(sessions), AT_A_TIME):
        drive_all(sessions[at : at + AT_A_TIME], loop, generator)
    tally = Tally()
    for request, session in zip(requests, runs, strict=True):
        if session is None:
            tally.shares.append(0.0)
        else:
            _count(tally, session, request)
    return tally


def _count(tally: Tally, session: Session, request: Request) -> None:
    """A step succeeds if its image shows the scene that the request asks for there, whatever the plan asks for."""
    chosen = [r.image_key for r in session.state.results]
    hits = [
        position < len(chosen) and checker.shows(session.image(str(chosen[position])), scene)
        for position, scene in enumerate(request.scenes)
    ]
    tally.shares.append(statistics.mean(hits))
    for attempt in session.attempts:
        if attempt.judgment is not None and attempt.judgment.parsed:
            before = session.image(attempt.reference_key) if attempt.reference_key else None
            step: PlanStep = session.state.plan.steps[attempt.step - 1]
            if before is not None and checker.read(before).scene is None:
                tally.undecided += 1  # the edit of such an image has no right result
                continue
            truth = checker.step_succeeded(step.prompt or "", before, session.image(attempt.image_key))
            tally.verdicts[f"{attempt.key} {step.prompt}"] = (attempt.judgment.accepted, truth)
    for step_result in session.state.results:
        tally.attempts.append(sum(a.step == step_result.step for a in session.attempts))


def difference(a: Tally, b: Tally) -> list[float]:
    return [x - y for x, y in zip(a.shares, b.shares, strict=True)]


def interval(values: Sequence[float], seed: int) -> dict[str, Any]:
    """Mean and its 95% bootstrap interval over requests."""
    rng = random.Random(seed)
    means = bootstrap(lambda: statistics.mean(rng.choices(values, k=len(values))))
    return {"mean": statistics.mean(values), "ci95": list(interval_by_rank(means))}


def _log(what: str, begun: float) -> None:
    print(f"[{time.monotonic() - begun:6.0f} s] {what}", flush=True)
