"""The stages that every benchmark goes through: generate, judge, score; each resumes where it was stopped.

A run folder holds everything that repeats it:

    run.json        benchmark, system, judge, data files with their SHA-256, settings, versions
    outputs/        the system's outputs, in the benchmark's official layout
    generated.jsonl one line an item: generator calls, seconds, or why it failed
    work/           plans and attempts, so that a crash in the middle of an item loses one call at most
    judge.jsonl     every raw reply of the judge
    scores/         the benchmark's official score files, and which items had no output
    report.*        tables and plot (`report.py`)
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ...agents.base import Agent
from ...errors import InterleaveError
from ...files import append_synced, write_atomically
from .base import HALVES, BenchError, Benchmark, Item, dump, number_in, read_json
from .judging import JUDGE_TOKENS, TRIES, Judge, ReplyLog, calls_left, judge_all
from .progress import Progress
from .systems import System, most_calls

ASK_ABOVE = 500
"""Calls, of generator or judge, above which a command wants `--yes`."""
COVERAGE = "coverage.json"
OPTIONS = {"tasks": str, "protocol": str, "requests": int, "request_seed": int}
"""Options that must be the same in every stage of a run, with their kinds."""
PACKAGES = ("interleave-thinker", "torch", "transformers", "diffusers", "openai", "pillow", "numpy")


@dataclass(frozen=True)
class Cost:
    """The most calls that a stage can take. `items` are those that are left."""

    items: int
    planner_calls: int = 0
    generator_calls: int = 0
    critic_calls: int = 0
    judge_calls: int = 0

    def __str__(self) -> str:
        parts = [f"{self.items} items"]
        if self.planner_calls:
            parts.append(f"{self.planner_calls} planner calls")
        if self.generator_calls:
            parts.append(f"at most {self.generator_calls} generator calls and as many pictures")
        if self.critic_calls:
            parts.append(f"at most {self.critic_calls} critic calls")
        if self.judge_calls:
            most = f", at most {TRIES * self.judge_calls} if replies cannot be read"
            parts.append(f"{self.judge_calls} judge calls{most}")
        return ", ".join(parts)

    def check(self, yes: bool) -> None:
        """Raises BenchError if it is much and `yes` is not given."""
        if not yes and max(self.planner_calls, self.generator_calls, self.judge_calls) > ASK_ABOVE:
            raise BenchError(f"This run takes {self}. Add --yes to start it, or --limit N for a part of it.")


def generation_cost(bench: Benchmark, run: Path, items: Sequence[Item], kind: str, t_max: int, max_steps: int) -> Cost:
    """Of the items that have no output yet. Known before any model is loaded."""
    left = [i for i in items if not bench.has_output(run / "outputs", i)]
    calls = sum(most_calls(kind, i, t_max, max_steps) for i in left)
    judged = kind in ("full", "no-planner", "workflow") and t_max > 1
    planned = len(left) if kind in ("full", "no-critic", "workflow") else 0
    return Cost(len(left), planned, calls, calls if judged else 0)


@dataclass(frozen=True)
class Coverage:
    """Ids of the items that a run's scores are about, and of those that had no output and are left out."""

    judged: tuple[str, ...]
    no_output: tuple[str, ...] = ()

    @property
    def items(self) -> int:
        return len(self.judged) + len(self.no_output)


def with_output(bench: Benchmark, run: Path, items: Sequence[Item]) -> list[Item]:
    """The items that a judge can be asked about.

    Raises:
        BenchError: there is none. A judge would be paid for nothing.
    """
    outputs = run / "outputs"
    if not outputs.is_dir():
        raise BenchError(
            f"{run} has no folder `outputs`, so there is nothing to judge. Run `generate --out {run}` first, or give "
            "the --out of the run that you mean."
        )
    found = [item for item in items if bench.has_output(outputs, item)]
    if not found:
        raise BenchError(
            f"{outputs} has no output of any of the {len(items)} items, so there is nothing to judge. Run `generate` "
            "with the same options first, or check --out and --data."
        )
    return found


def coverage(run: Path) -> Coverage | None:
    """Of the last `judge` of a run folder; None where the scores come from elsewhere.

    run: the folder, its folder of scores, or a file in that.

    Raises:
        BenchError: the file is damaged.
    """
    path = next((p for p in (run / "scores" / COVERAGE, run / COVERAGE, run.parent / COVERAGE) if p.is_file()), None)
    if path is None:
        return None
    saved = read_json(path)
    listed = [saved.get(name) if isinstance(saved, Mapping) else None for name in ("judged", "no_output")]
    if not all(isinstance(of, list) and all(isinstance(i, (str, int)) for i in of) for of in listed):
        raise BenchError(f"{path} is damaged. Run `judge` again, which asks for nothing that is there.")
    judged, no_output = (tuple(map(str, of or ())) for of in listed)
    return Coverage(judged, no_output)


def judge_cost(bench: Benchmark, run: Path, items: Sequence[Item], judge: str, retry_failed: bool = False) -> Cost:
    """Of the criteria that no kept reply of this judge answers: about the outputs as they are now.

    Raises:
        BenchError: the items have no criteria at all.
    """
    if not any(bench.judge_calls(item) for item in items):
        raise BenchError(f"The data names nothing to judge about these {len(items)} items; see {bench.where}.")
    log = ReplyLog(run / "judge.jsonl")
    known = log.items()
    left = [
        calls_left(bench, run / "outputs", i, log, judge, retry_failed) if i.id in known else bench.judge_calls(i)
        for i in items
    ]
    return Cost(sum(n > 0 for n in left), judge_calls=sum(left))


def generate(bench: Benchmark, run: Path, items: Sequence[Item], system: System, *, workers: int = 1) -> dict[str, str]:
    """Make every item that has no output yet. Returns why items failed, by id; they are tried again next time."""
    outputs, work = run / "outputs", run / "work"
    left = [i for i in items if not bench.has_output(outputs, i)]
    failed: dict[str, str] = {}

    def one(item: Item) -> None:
        try:
            output = system.answer(item, work)
            bench.save(outputs, item, output)
            entry: dict[str, Any] = {"id": item.id, "generator_calls": output.generator_calls}
            entry["seconds"] = round(output.seconds, 3)
        except Exception as error:  # one item's trouble must not cost the others; it is counted and tried again
            named = str(error) if isinstance(error, InterleaveError) else f"{type(error).__name__}: {error}"
            failed[item.id] = " ".join(named.split())[:1000]
            entry = {"id": item.id, "error": failed[item.id]}
        append_synced(run / "generated.jsonl", _line(entry))

    pool = ThreadPoolExecutor(max(1, workers))
    try:
        with Progress("generate", len(left)) as progress:
            for _ in pool.map(one, left):
                progress.advance()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    bench.finish(outputs, items)
    return failed


def judge(
    bench: Benchmark,
    run: Path,
    items: Sequence[Item],
    agent: Agent,
    *,
    workers: int = 1,
    retry_failed: bool = False,
    max_tokens: int = JUDGE_TOKENS,
) -> tuple[Path, Judge]:
    """Ask the judge all that is not in its log yet, and write the score files. Returns their path and the counts.

    Items without an output are left out, and named in scores/coverage.json.

    Raises:
        BenchError: no item has an output.
    """
    found = with_output(bench, run, items)
    there = {item.id for item in found}
    about = Coverage(tuple(i.id for i in found), tuple(i.id for i in items if i.id not in there))
    items = found
    asked = Judge(agent, ReplyLog(run / "judge.jsonl"), retry_failed, max_tokens)
    with Progress("judge", len(items)) as progress:
        verdicts = judge_all(bench, run / "outputs", items, asked, workers, progress)
    scores = run / "scores"
    scores.mkdir(parents=True, exist_ok=True)
    write_atomically(scores / COVERAGE, dump({"judged": list(about.judged), "no_output": list(about.no_output)}))
    return bench.write_scores(scores, verdicts, items), asked


def begun_with(run: Path) -> Mapping[str, Any]:
    """The settings that the outputs of a run folder were begun with; none in a new one."""
    settings = _stage(run, "generate").get("settings")
    return settings if isinstance(settings, Mapping) else {}


def remembered(run: Path) -> dict[str, Any]:
    """Options that every stage of a run folder shares; none in a new folder.

    Raises:
        BenchError: run.json is damaged.
    """
    found: dict[str, Any] = {}
    for name in ("judge", "generate"):
        options = _stage(run, name).get("options")
        found |= dict(options) if isinstance(options, Mapping) else {}
    for name, value in found.items():
        kind = OPTIONS.get(name)
        if kind is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            wanted = "a whole number" if kind is int else "a text"
            raise BenchError(f"{run / 'run.json'}: {name} is {str(value)[:60]!r}; it must be {wanted}.")
    return {name: value for name, value in found.items() if name in OPTIONS}


def made_for(run: Path) -> str | None:
    """The benchmark that a run folder is of; None in a new one."""
    return next((str(bench) for stage in ("generate", "judge") if (bench := _stage(run, stage).get("bench"))), None)


def made_by(run: Path) -> tuple[str, str]:
    """Names of the system and of the judge of a run folder."""
    system, judge = _stage(run, "generate").get("system"), _stage(run, "judge").get("judge")
    return str(system or "outputs from elsewhere"), str(judge or "unknown")


def generated_limit(run: Path) -> int | None:
    """The --limit that a run folder's outputs were made with."""
    limit = _stage(run, "generate").get("limit")
    return limit if isinstance(limit, int) else None


def _stage(run: Path, name: str) -> Mapping[str, Any]:
    """What run.json says of a stage; empty where it says nothing."""
    path = run / "run.json"
    saved = read_json(path) if path.is_file() else {}
    stage = saved.get(name) if isinstance(saved, Mapping) else None
    return stage if isinstance(stage, Mapping) else {}


def describe(run: Path, stage: str, facts: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
    """Write the settings, data files and versions of a stage into run.json.

    Raises:
        BenchError: the folder holds a run of another benchmark, data file or system.
    """
    path = run / "run.json"
    saved = read_json(path) if path.is_file() else {}
    known: dict[str, Any] = dict(saved) if isinstance(saved, Mapping) else {}
    entry = {**facts, "data": {f.name: _digest(f) for f in files}}
    for other, before in known.items():
        if not isinstance(before, Mapping):
            continue
        for name in ("bench", "data", "options", *(("system",) if other == stage else ())):
            if name in before and name in entry and _told_apart(before[name]) != _told_apart(entry[name]):
                raise BenchError(
                    f"{run} holds a run with {name} {_shown(before[name])}, not {_shown(entry[name])}. Choose another "
                    "--out."
                )
    known[stage] = entry
    known["versions"] = {p: _version(p) for p in PACKAGES} | {"python": platform.python_version()}
    write_atomically(path, dump(known))


def generated(run: Path) -> dict[str, Any]:
    """Totals of generation: items, generator calls, seconds, failures (the last line of an item counts)."""
    entries: dict[str, Mapping[str, Any]] = {}
    path = run / "generated.jsonl"
    for line in path.read_bytes().split(b"\n") if path.is_file() else []:
        try:
            entry = json.loads(line)
            entries[str(entry["id"])] = entry
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    done = [e for e in entries.values() if "error" not in e]
    return {
        "items": len(done),
        "generator_calls": sum(int(number_in(e.get("generator_calls"), 0, 1e9) or 0) for e in done),
        "seconds": round(sum(number_in(e.get("seconds"), 0, 1e12) or 0.0 for e in done), 1),
        "failed": {i: e["error"] for i, e in entries.items() if "error" in e},
    }


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", HALVES) + b"\n"


def _told_apart(value: object) -> object:
    """Data files count by what they hold, not by their names."""
    return sorted(map(str, value.values())) if isinstance(value, Mapping) and _is_data(value) else value


def _shown(value: object) -> str:
    if isinstance(value, Mapping) and _is_data(value):
        return ", ".join(f"{name} (SHA-256 {str(digest)[:8]})" for name, digest in value.items())
    return repr(value)


def _is_data(value: Mapping[str, Any]) -> bool:
    """Whether these are digests by the name of a data file."""
    return bool(value) and all(re.fullmatch(r"[0-9a-f]{64}", str(digest)) for digest in value.values())


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BenchError(f"Cannot read {path}: {error.strerror}.") from None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
