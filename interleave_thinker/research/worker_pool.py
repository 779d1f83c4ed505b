"""A pool of Ray workers, each with a ComfyUI server or a GPU of its own.

Ray starts the workers and notices dead ones; the pool hands each idle worker the next item. A worker is lost when its
process dies or its server does not answer (`WorkerLost`). A lost worker gets no more items, and another worker does
the item that it had begun. So every item has one result. The pool knows nothing of the work.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..errors import InterleaveError

T = TypeVar("T")
R = TypeVar("R")


class WorkerLost(InterleaveError):
    """The work raises it where its worker cannot be used any more, because its server does not answer."""


class WorkerPoolError(InterleaveError):
    """No worker is left, or Ray cannot be used."""


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker has: the address of a ComfyUI server, or a GPU of its own; with neither, the CPU."""

    server: str = ""
    gpu: bool = False

    @property
    def label(self) -> str:
        return self.server or ("one GPU" if self.gpu else "the CPU")


MAX_DEATHS = 3
"""An item is given up after it ended this many workers."""

Build = Callable[[WorkerSpec], Callable[[T], R]]
"""Called once in each worker's process; the function that it returns does one item. Both are pickled."""


@dataclass
class WorkerPool(Generic[T, R]):
    """A context; its workers live until it ends.

    timeout: seconds for one item; a worker that takes longer is started anew. retry_lost: lost workers are started
    again by the first `map` after this many seconds.

    Raises:
        WorkerPoolError: on entering, where Ray is missing or cannot give the GPUs that are asked for.
    """

    build: Build[T, R]
    specs: Sequence[WorkerSpec]
    timeout: float | None = None
    retry_lost: float = 120.0
    lost: list[str] = field(default_factory=list)
    """Labels of the workers that were lost so far."""
    _idle: deque[_Worker] = field(default_factory=deque, repr=False)
    _lost_since: list[tuple[float, WorkerSpec]] = field(default_factory=list, repr=False)
    _last_reason: str = ""
    _started: bool = False

    def __enter__(self) -> WorkerPool[T, R]:
        ray = _ray()
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
            self._started = True
        gpus = sum(spec.gpu for spec in self.specs)
        have = int(ray.cluster_resources().get("GPU", 0))
        if gpus > have:
            raise WorkerPoolError(f"{gpus} GPUs are asked for and Ray sees {have}. Ask for fewer, or name servers.")
        self._idle.extend(self._start(spec) for spec in self.specs)
        return self

    def __exit__(self, *_: object) -> None:
        ray = _ray()
        for worker in self._idle:
            ray.kill(worker.actor)
        self._idle.clear()
        if self._started:
            ray.shutdown()

    def map(self, items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
        """Each item with its result, in the order in which they end; an error that the work raises is a result.

        Raises:
            WorkerPoolError: all workers are lost. The items that were yielded before are done, the others are not.
        """
        ray = _ray()
        self._try_lost_again()
        waiting: deque[tuple[int, T]] = deque(enumerate(items))
        running: dict[Any, tuple[_Worker, int, T]] = {}
        deaths: Counter[int] = Counter()
        while waiting or running:
            while waiting and self._idle:
                worker = self._idle.popleft()
                number, item = waiting.popleft()
                worker.begun = time.monotonic()
                running[worker.actor.do.remote(item)] = (worker, number, item)
            if not running:
                lost = ", ".join(sorted(set(self.lost))[:4])
                raise WorkerPoolError(
                    f"All places are lost ({lost}: {self._last_reason}); {len(waiting)} of {len(items)} are left. "
                    "Start them again and go on with --resume."
                )
            ready, _ = ray.wait(list(running), timeout=None if self.timeout is None else 1.0)
            late = [call for call, (worker, *_) in running.items() if not ready and worker.is_late(ray, self.timeout)]
            for call in late:
                worker, _number, item = running.pop(call)
                ray.kill(worker.actor)
                self._idle.append(self._start(worker.spec))
                yield item, TimeoutError(f"it took longer than {self.timeout:g} s")
            if not ready:
                continue
            worker, number, item = running.pop(ready[0])
            outcome = _outcome(ray, ready[0])
            if isinstance(outcome, WorkerLost):
                self._lose(worker.spec, str(outcome))
                deaths[number] += isinstance(outcome, _ProcessDied)
                if deaths[number] < MAX_DEATHS:
                    waiting.appendleft((number, item))
                else:
                    yield item, WorkerPoolError(f"it ended {MAX_DEATHS} workers: {outcome}")
                continue
            self._idle.append(worker)
            yield item, outcome

    def _start(self, spec: WorkerSpec) -> _Worker:
        remote = _ray().remote(_Actor)
        actor = remote.options(num_gpus=1 if spec.gpu else 0, num_cpus=0).remote(self.build, spec)
        return _Worker(actor, spec, actor.__ray_ready__.remote())

    def _lose(self, spec: WorkerSpec, reason: str) -> None:
        self.lost.append(spec.label)
        self._lost_since.append((time.monotonic(), spec))
        self._last_reason = reason

    def _try_lost_again(self) -> None:
        now = time.monotonic()
        again = [spec for since, spec in self._lost_since if now - since >= self.retry_lost]
        self._lost_since = [(since, spec) for since, spec in self._lost_since if now - since < self.retry_lost]
        self._idle.extend(self._start(spec) for spec in again)


@dataclass
class _Worker:
    """A worker as the pool sees it.

    ready: a call that Ray answers when the worker has started. A worker does one thing at a time, so this call is made
    before the first item. begun: when its item began, in seconds of the monotonic clock.
    """

    actor: Any
    spec: WorkerSpec
    ready: Any
    begun: float = 0.0
    up: bool = False

    def is_late(self, ray: Any, limit: float | None) -> bool:
        """The time limit of the first item begins after the worker has started and loaded its models."""
        if limit is None:
            return False
        if not self.up:
            self.up = bool(ray.wait([self.ready], timeout=0)[0])
            self.begun = time.monotonic()
            return False
        return time.monotonic() - self.begun > limit


def _outcome(ray: Any, call: Any) -> Any:
    """The result of a call; an error is a result too."""
    try:
        return ray.get(call)
    except ray.exceptions.RayActorError as error:
        return _ProcessDied(" ".join(str(error).split())[-300:] or "the process died")
    except ray.exceptions.RayError as error:
        return WorkerPoolError(" ".join(str(error).split())[-300:])


class _ProcessDied(WorkerLost):
    """The worker's process ended, or could not start."""


class _Actor:
    """Runs in a process of its own."""

    def __init__(self, build: Build[Any, Any], spec: WorkerSpec):
        self.work = build(spec)

    def do(self, item: Any) -> Any:
        try:
            return self.work(item)
        except InterleaveError as error:  # meant for the user: a result, not a crash
            return error


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise WorkerPoolError("Several machines need Ray: pip install ray.") from None
    return ray
