"""Work spread over several places: GPUs of a Ray cluster, or ComfyUI servers.

Ray starts the workers, places them and notices dead ones; this hands each idle worker the next item. A place that is
lost (`PlaceLost`, a process that died) gets no more work, and what it had begun is done elsewhere: no item is done
twice, none is left out. Knows nothing of what the work is.
"""

from __future__ import annotations

from collections import deque
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


Build = Callable[[Place], Callable[[T], R]]
"""Called once in each worker's process; what it returns does one item. Both are pickled."""


@dataclass
class Farm(Generic[T, R]):
    """Workers that stay until `close`, or as a context.

    Raises:
        FarmError: on entering, where Ray is missing or cannot give the GPUs that are asked for.
    """

    build: Build[T, R]
    places: Sequence[Place]
    lost: list[str] = field(default_factory=list)
    """Labels of places that were lost so far."""
    _idle: deque[tuple[Any, Place]] = field(default_factory=deque, repr=False)
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
        actor = ray.remote(_Worker)
        for place in self.places:
            options = {"num_gpus": 1 if place.gpu else 0, "num_cpus": 0 if place.server else 1}
            self._idle.append((actor.options(**options).remote(self.build, place), place))
        return self

    def __exit__(self, *_: object) -> None:
        ray = _ray()
        for worker, _place in self._idle:
            ray.kill(worker)
        self._idle.clear()
        if self._started:
            ray.shutdown()

    def map(self, items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
        """Each item with what came of it, in the order of ending; an error of the work itself is its result.

        Raises:
            FarmError: all places are lost; what was yielded before is done, the rest is not.
        """
        ray = _ray()
        waiting = deque(items)
        running: dict[Any, tuple[Any, Place, T]] = {}
        while waiting or running:
            while waiting and self._idle:
                worker, place = self._idle.popleft()
                item = waiting.popleft()
                running[worker.do.remote(item)] = (worker, place, item)
            if not running:
                raise FarmError(
                    f"All {len(self.lost)} places are lost ({', '.join(self.lost[:4])}); {len(waiting)} of "
                    f"{len(items)} are left. Start them again and go on with --resume."
                )
            ready, _ = ray.wait(list(running))
            worker, place, item = running.pop(ready[0])
            try:
                outcome: R | Exception = ray.get(ready[0])
            except ray.exceptions.RayActorError:
                outcome = PlaceLost("the process died")
            except ray.exceptions.RayError as error:
                outcome = FarmError(" ".join(str(error).split())[-300:])
            if isinstance(outcome, PlaceLost):
                self.lost.append(place.label)
                waiting.appendleft(item)
                continue
            self._idle.append((worker, place))
            yield item, outcome


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
