"""Requests -> run folders: planner, generator and critic over every request (paper, section 4.1, stage 2).

The loop is `driver`'s, and every attempt is judged. Each request has a run folder. A finished run is skipped and one
that was cut off goes on, so the same command can be given again at any time. Requests that fail are logged with the
reason, and tried again the next time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL import Image

from ...agents.base import Agent, Sampling
from ...contract import MAX_STEPS, PAPER_T_MAX
from ...driver import LoopModels, drive, start_run
from ...errors import InterleaveError
from ...files import append_synced, is_below
from ...generators.base import Generator
from ...generators.batching import BatchingGenerator
from ...loop.plan import Plan
from ...loop.state import LoopSettings
from ...resolve import TINY, GeneratorChoice, agent_from
from ...roles.planner import make_plan
from ...storage.attempt_store import AttemptStore
from ...storage.images import open_rgb
from ...storage.run_folder import RunFolder, read_state, safe_name
from ..worker_generator import check_server, generator_of
from ..worker_pool import WorkerPool, WorkerSpec
from .records import DataError, RequestRecord

RUNS, STORE, FAILURES = "runs", "store", "failures.jsonl"


@dataclass(frozen=True)
class TrajectoryOptions:
    """Models and settings as plain values, so that they can be sent to another process.

    planner, critic: see `resolve.agent_from`; without a planner, requests must bring their plans. t_max: generator
    calls a step. temperature: of planner and critic; 0 is greedy. seed: of the first attempt of every run.
    """

    generator: GeneratorChoice
    critic: str
    planner: str | None = None
    endpoints: Path | None = None
    device: str | None = None
    t_max: int = PAPER_T_MAX
    max_steps: int = MAX_STEPS
    size: tuple[int, int] | None = None
    max_tokens: int = 4096
    temperature: float = 0.0
    seed: int = 0

    def load(self, worker: WorkerSpec | None = None) -> TrajectoryMaker:
        """Load the models. The generator of a worker with a server is that ComfyUI."""
        generator = generator_of(worker, self.generator)
        agents: dict[str, Agent] = {}
        for role, spec in (("planner", self.planner), ("critic", self.critic)):
            if spec is not None:
                key = f"{spec} {role}" if spec == TINY else spec
                if key not in agents:
                    agents[key] = agent_from(spec, role=role, endpoints=self.endpoints, device=self.device)
                agents[role] = agents[key]
        return TrajectoryMaker(self, generator.load(), agents["critic"], agents.get("planner"), worker)


@dataclass
class TrajectoryMaker:
    """Makes trajectories with models that are loaded."""

    options: TrajectoryOptions
    generator: Generator
    critic: Agent
    planner: Agent | None
    worker: WorkerSpec | None = None

    def run(self, request: RequestRecord, images: Path, out: Path) -> None:
        """Carry one request out below `out`.

        images: the folder that the request's pictures are relative to.

        Raises:
            InterleaveError: plan, picture or judgment could not be made; what is finished is kept.
            WorkerLost: the worker's server does not answer any more.
        """
        options = self.options
        given = [_user_image(images, name) for name in request.images]
        sampling = Sampling(options.max_tokens, temperature=options.temperature, seed=options.seed)
        loop = LoopModels(self.generator, self.critic, sampling, options.size)
        settings = LoopSettings(t_max=options.t_max, seed=options.seed, judge_all=True)
        folder = RunFolder(out / RUNS, request.id)
        try:
            drive(
                start_run(self._plan(request, given, folder, sampling), loop, settings, _store(out), folder, given),
                loop,
            )
        except InterleaveError:
            check_server(self.worker)
            raise

    def _plan(self, request: RequestRecord, given: list[Image.Image], folder: RunFolder, sampling: Sampling) -> Plan:
        begun = (folder.read_state() or {}).get("trajectory") or {}
        if begun.get("plan"):
            known = Plan.from_dict(begun["plan"])  # of a run that was cut off
            if known.request.strip() != request.request.strip():
                raise DataError(f"The run folder {folder.name} is of another request. Give this one an id of its own.")
            return known
        if request.plan is not None:
            return replace(Plan.from_dict(request.plan), request=request.request)
        if self.planner is None:
            raise DataError(f"Request {request.id} brings no plan; name a planner (--planner).")
        return make_plan(self.planner, request.request, given, max_steps=self.options.max_steps, sampling=sampling).plan


def is_done(request: RequestRecord, out: Path) -> bool:
    """Whether this request's run is finished."""
    state = read_state(out / RUNS / safe_name(request.id)) or {}
    trajectory = state.get("trajectory") or {}
    saved = str((trajectory.get("plan") or {}).get("request") or "").strip()
    return trajectory.get("status") == "done" and saved == request.request.strip()


def make_trajectories(
    requests: Sequence[RequestRecord],
    images: Path,
    out: Path,
    options: TrajectoryOptions,
    *,
    workers: int = 1,
    ray_workers: Sequence[WorkerSpec] = (),
    on_result: Callable[[RequestRecord, Exception | None], None] = lambda request, error: None,
) -> int:
    """Carry out every request that is not finished yet. Returns how many failed.

    workers: requests at a time in this process (more than 1 for servers). ray_workers: where there are any, Ray spreads
    the requests over them instead. on_result: called for each request that ended, with its error if it failed.

    Raises:
        DataError: two requests would share a folder.
        WorkerPoolError: see `WorkerPool`.
    """
    names = [safe_name(r.id) for r in requests]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(f"Two requests are named {twice!r}. Every request needs an id of its own.")
    left = [r for r in requests if not is_done(r, out)]
    out.mkdir(parents=True, exist_ok=True)
    log = _FailureLog(out / FAILURES)
    failed = 0
    for request, error in _spread(left, images, out, options, workers, ray_workers):
        if error is not None:
            failed += 1
            log.keep(request, error)
        on_result(request, error)
    return failed


def _spread(
    left: Sequence[RequestRecord],
    images: Path,
    out: Path,
    options: TrajectoryOptions,
    workers: int,
    ray_workers: Sequence[WorkerSpec],
) -> Iterator[tuple[RequestRecord, Exception | None]]:
    if not left:
        return
    if ray_workers:
        with WorkerPool(partial(_build, options, images.resolve(), out.resolve()), ray_workers) as ray_pool:
            yield from ray_pool.map(left)
        return
    maker = options.load()
    if workers > 1 and getattr(maker.generator, "batches", False):
        maker.generator = BatchingGenerator(maker.generator)  # type: ignore[arg-type]

    def one(request: RequestRecord) -> Exception | None:
        try:
            maker.run(request, images, out)
        except InterleaveError as error:
            return error
        return None

    with ThreadPoolExecutor(workers) as pool:
        waiting = {pool.submit(one, request): request for request in left}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _build(options: TrajectoryOptions, images: Path, out: Path, worker: WorkerSpec) -> Callable[[RequestRecord], None]:
    """Runs in a worker's process."""
    maker = options.load(worker)
    return lambda request: maker.run(request, images, out)


def _store(out: Path) -> AttemptStore:
    return AttemptStore(out / STORE)


def _user_image(folder: Path, name: str) -> Image.Image:
    path = folder / name
    if not is_below(folder, path):
        raise DataError(f"Picture {name[:80]!r} leads out of {folder}.")
    try:
        return open_rgb(path)
    except OSError as error:
        raise DataError(f"Picture {name[:80]!r} cannot be read: {error}") from None


@dataclass
class _FailureLog:
    """One line for each request that failed, with the reason."""

    path: Path

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def keep(self, request: RequestRecord, error: Exception) -> None:
        line = json.dumps({"id": request.id, "error": str(error)[:2000]}, ensure_ascii=False) + "\n"
        with self._lock:
            append_synced(self.path, line.encode("utf-8", "backslashreplace"))
