"""Requests -> run folders: planner, generator and critic over every request (paper, section 4.1, stage 2).

The same loop as everywhere (`driver`), every attempt judged. One run folder a request; a run that is finished is
passed over and one that was cut off goes on, so the same command can be given again at any time. Requests that fail
are written down with the reason, and tried again the next time.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL import Image

from ..agents.base import Agent, Sampling
from ..agents.choose import agent_from
from ..comfy_client import ComfyClient
from ..driver import Loop, carry_out
from ..errors import InterleaveError
from ..farm import Farm, Place, PlaceLost
from ..generators.base import Generator
from ..generators.choose import GeneratorChoice
from ..generators.gathered import Gathered
from ..loop import LoopSettings
from ..plan import Plan
from ..planner import make_plan
from ..runs import RunFolder, read_state, safe_name
from ..store import AttemptStore, open_rgb
from .records import DataError, RequestRecord

RUNS, STORE, FAILURES = "runs", "store", "failures.jsonl"


@dataclass(frozen=True)
class Team:
    """Who makes trajectories, in plain values, so that it can be sent to another process.

    planner, critic: see `agents.choose`; no planner: requests must bring their plans. t_max: generator calls a step.
    temperature: of planner and critic; 0 is greedy. seed: of the first attempt of every run.
    """

    generator: GeneratorChoice
    critic: str
    planner: str | None = None
    endpoints: Path | None = None
    device: str | None = None
    t_max: int = 5
    max_steps: int = 10
    size: tuple[int, int] | None = None
    max_tokens: int = 4096
    temperature: float = 0.0
    seed: int = 0

    def load(self, place: Place | None = None) -> Crew:
        """The models themselves; at a place with a server, its ComfyUI is the generator's."""
        choice = replace(self.generator, server=place.server) if place and place.server else self.generator
        agents: dict[str, Agent] = {}
        for role, spec in (("planner", self.planner), ("critic", self.critic)):
            if spec is not None:
                key = f"{spec} {role}" if spec == "tiny" else spec
                if key not in agents:
                    agents[key] = agent_from(spec, role=role, endpoints=self.endpoints, device=self.device)
                agents[role] = agents[key]
        return Crew(self, choice.load(), agents["critic"], agents.get("planner"), place)


@dataclass
class Crew:
    """A team whose models are loaded."""

    team: Team
    generator: Generator
    critic: Agent
    planner: Agent | None
    place: Place | None = None

    def make(self, request: RequestRecord, images: Path, out: Path) -> None:
        """Carry one request out below `out`.

        images: the folder that the request's pictures are relative to.

        Raises:
            InterleaveError: plan, picture or judgment could not be made; what is finished is kept.
            PlaceLost: the place's server does not answer any more.
        """
        team = self.team
        given = [_picture(images, name) for name in request.images]
        sampling = Sampling(team.max_tokens, temperature=team.temperature, seed=team.seed)
        loop = Loop(self.generator, self.critic, sampling, team.size)
        settings = LoopSettings(t_max=team.t_max, seed=team.seed, judge_all=True)
        folder = RunFolder(out / RUNS, request.id)
        try:
            carry_out(self._plan(request, given, folder, sampling), loop, settings, _store(out), folder, given)
        except InterleaveError:
            if self.place and self.place.server and not ComfyClient(self.place.server).answers():
                raise PlaceLost(f"{self.place.server} does not answer") from None
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
        return make_plan(self.planner, request.request, given, max_steps=self.team.max_steps, sampling=sampling).plan


def is_done(request: RequestRecord, out: Path) -> bool:
    """Whether this request's run is finished."""
    state = read_state(out / RUNS / safe_name(request.id)) or {}
    made = state.get("trajectory") or {}
    told = str((made.get("plan") or {}).get("request") or "").strip()
    return made.get("status") == "done" and told == request.request.strip()


def make_all(
    requests: Sequence[RequestRecord],
    images: Path,
    out: Path,
    team: Team,
    *,
    workers: int = 1,
    places: Sequence[Place] = (),
    said: Callable[[RequestRecord, Exception | None], None] = lambda request, error: None,
) -> int:
    """Carry out every request that is not finished yet. Returns how many failed.

    workers: requests at a time in this process (more than 1 for servers). places: with any, Ray spreads the requests
    over them instead.

    Raises:
        DataError: two requests would share a folder.
        FarmError: see `Farm`.
    """
    names = [safe_name(r.id) for r in requests]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(f"Two requests are named {twice!r}. Every request needs an id of its own.")
    left = [r for r in requests if not is_done(r, out)]
    out.mkdir(parents=True, exist_ok=True)
    log = _FailureLog(out / FAILURES)
    failed = 0
    for request, error in _spread(left, images, out, team, workers, places):
        if error is not None:
            failed += 1
            log.keep(request, error)
        said(request, error)
    return failed


def _spread(
    left: Sequence[RequestRecord], images: Path, out: Path, team: Team, workers: int, places: Sequence[Place]
) -> Iterator[tuple[RequestRecord, Exception | None]]:
    if not left:
        return
    if places:
        with Farm(partial(_build, team, images.resolve(), out.resolve()), places) as farm:
            yield from farm.map(left)
        return
    crew = team.load()
    if workers > 1 and getattr(crew.generator, "batches", False):
        crew.generator = Gathered(crew.generator)  # type: ignore[arg-type]

    def one(request: RequestRecord) -> Exception | None:
        try:
            crew.make(request, images, out)
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


def _build(team: Team, images: Path, out: Path, place: Place) -> Callable[[RequestRecord], None]:
    """Runs in a worker's process."""
    crew = team.load(place)
    return lambda request: crew.make(request, images, out)


def _store(out: Path) -> AttemptStore:
    return AttemptStore(out / STORE)


def _picture(folder: Path, name: str) -> Image.Image:
    path = folder / name
    if folder.resolve() not in path.resolve().parents:
        raise DataError(f"Picture {name[:80]!r} leads out of {folder}.")
    try:
        return open_rgb(path)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"Picture {name[:80]!r} cannot be read: {error}") from None


@dataclass
class _FailureLog:
    """What failed and why, a line each."""

    path: Path

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def keep(self, request: RequestRecord, error: Exception) -> None:
        line = json.dumps({"id": request.id, "error": str(error)[:2000]}, ensure_ascii=False)
        with self._lock, self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
