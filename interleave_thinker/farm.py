"""Work spread over several places: GPUs of a Ray cluster, or ComfyUI servers.

Ray starts the workers, places them and notices dead ones; this hands each idle worker the next item. A place that is
lost (`PlaceLost`, a process that died) gets no more work, and what it had begun is done elsewhere: no item is done
twice, none is left out. Knows nothing of what the work is.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .errors import InterleaveError

T = TypeVar("T")
R = TypeVar("R")


class PlaceLost(InterleaveError):
    """Raised by work whose place cannot be used any more (a server that does not answer)."""


class FarmError(InterleaveError):
    """No place is left, or Ray cannot be used."""


@dataclass(frozen=True)
class Place:
    """Where a worker works: a ComfyUI server's address, or a GPU of its own; with neither, the CPU."""

    server: str = ""
    gpu: bool = False

    @property
    def label(self) -> str:
        return self.server or ("one GPU" if self.gpu else "the CPU")


DEADLY = 3
"""Workers that an item may end before it is given up."""

Build = Callable[[Place], Callable[[T], R]]
"""Called once in each worker's process; what it returns does one item. Both are pickled."""


@dataclass
class Farm(Generic[T, R]):
    """Workers that stay until `close`, or as a context.

    timeout: seconds for one item; a worker that takes longer is started anew. Places that were lost are tried again
    with the first `map` after `retry_lost` seconds.

    Raises:
        FarmError: on entering, where Ray is missing or cannot give the GPUs that are asked for.
    """

    build: Build[T, R]
    places: Sequence[Place]
    timeout: float | None = None
    retry_lost: float = 120.0
    lost: list[str] = field(default_factory=list)
    """Labels of places that were lost so far."""
    _idle: deque[_Hand] = field(default_factory=deque, repr=False)
    _gone: list[tuple[float, Place]] = field(default_factory=list, repr=False)
    _why: str = ""
    _started: bool = False

    def __enter__(self) -> Farm[T, R]:
        ray = _ray()
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
            self._started = True
        gpus = sum(p.gpu for p in self.places)
        have = int(ray.cluster_resources().get("GPU", 0))
        if gpus > have:
            raise FarmError(f"{gpus} GPUs are asked for and Ray sees {have}. Ask for fewer, or name servers.")
        self._idle.extend(self._start(place) for place in self.places)
        return self

    def __exit__(self, *_: object) -> None:
        ray = _ray()
        for hand in self._idle:
            ray.kill(hand.worker)
        self._idle.clear()
        if self._started:
            ray.shutdown()

    def map(self, items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
        """Each item with what came of it, in the order of ending; an error of the work itself is its result.

        Raises:
            FarmError: all places are lost; what was yielded before is done, the rest is not.
        """
        ray = _ray()
        self._try_lost_again()
        waiting: deque[tuple[int, T]] = deque(enumerate(items))
        running: dict[Any, tuple[_Hand, int, T]] = {}
        deaths: Counter[int] = Counter()
        while waiting or running:
            while waiting and self._idle:
                hand = self._idle.popleft()
                number, item = waiting.popleft()
                hand.begun = time.monotonic()
                running[hand.worker.do.remote(item)] = (hand, number, item)
            if not running:
                raise FarmError(
                    f"All places are lost ({', '.join(sorted(set(self.lost))[:4])}: {self._why}); {len(waiting)} of "
                    f"{len(items)} are left. Start them again and go on with --resume."
                )
            ready, _ = ray.wait(list(running), timeout=None if self.timeout is None else 1.0)
            late = [call for call, (hand, *_) in running.items() if not ready and hand.is_late(ray, self.timeout)]
            for call in late:
                hand, _number, item = running.pop(call)
                ray.kill(hand.worker)
                self._idle.append(self._start(hand.place))
                yield item, TimeoutError(f"it took longer than {self.timeout:g} s")
            if not ready:
                continue
            hand, number, item = running.pop(ready[0])
            outcome = _outcome(ray, ready[0])
            if isinstance(outcome, PlaceLost):
                self._lose(hand.place, str(outcome))
                deaths[number] += isinstance(outcome, _ProcessDied)
                if deaths[number] < DEADLY:
                    waiting.appendleft((number, item))
                else:
                    yield item, FarmError(f"it ended {DEADLY} workers: {outcome}")
                continue
            self._idle.append(hand)
            yield item, outcome

    def _start(self, place: Place) -> _Hand:
        actor = _ray().remote(_Worker)
        worker = actor.options(num_gpus=1 if place.gpu else 0, num_cpus=0).remote(self.build, place)
        return _Hand(worker, place, worker.__ray_ready__.remote())

    def _lose(self, place: Place, why: str) -> None:
        self.lost.append(place.label)
        self._gone.append((time.monotonic(), place))
        self._why = why

    def _try_lost_again(self) -> None:
        now = time.monotonic()
        back = [place for since, place in self._gone if now - since >= self.retry_lost]
        self._gone = [(since, place) for since, place in self._gone if now - since < self.retry_lost]
        self._idle.extend(self._start(place) for place in back)


@dataclass
class _Hand:
    """A worker and where it works.

    ready: Ray's word that it has started, asked for before any item, for a worker does one thing at a time.
    begun: when its item began, in seconds of the monotonic clock.
    """

    worker: Any
    place: Place
    ready: Any
    begun: float = 0.0
    up: bool = False

    def is_late(self, ray: Any, limit: float | None) -> bool:
        """What a new worker needs to start and to load its models is not its first item's time."""
        if limit is None:
            return False
        if not self.up:
            self.up = bool(ray.wait([self.ready], timeout=0)[0])
            self.begun = time.monotonic()
            return False
        return time.monotonic() - self.begun > limit


def _outcome(ray: Any, call: Any) -> Any:
    """What a call came to; an error as a value."""
    try:
        return ray.get(call)
    except ray.exceptions.RayActorError as error:
        return _ProcessDied(" ".join(str(error).split())[-300:] or "the process died")
    except ray.exceptions.RayError as error:
        return FarmError(" ".join(str(error).split())[-300:])


class _ProcessDied(PlaceLost):
    """The worker's process ended, or could not begin."""


class _Worker:
    """Runs in a process of its own."""

    def __init__(self, build: Build[Any, Any], place: Place):
        self.work = build(place)

    def do(self, item: Any) -> Any:
        try:
            return self.work(item)
        except InterleaveError as error:  # meant for the user: a result, not a crash
            return error


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise FarmError("Several machines need Ray: pip install ray.") from None
    return ray
