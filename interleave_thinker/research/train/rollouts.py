"""The generator's and the judge's part of GRPO: a refined prompt is tried once, and the picture is scored.

The calls of a step run together: in one batch where the generator can, in threads, or over Ray's workers. A trial
that fails is repeated and then given up; one that takes too long is given up at once. A trial that was given up has no
score, and the trainer masks its response: no response is rewarded or punished for a server that was down. The same
prompt in the same state is tried once, by all processes together (`SharedRollouts`) and by resumed trainings
(`reward_cache`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from ...errors import InterleaveError, RunError
from ...generators.base import GenerationRequest, Generator
from ...resolve import GeneratorChoice
from ...roles.scorer import Score, Scorer
from ...storage.images import open_rgb
from ..worker_generator import check_server, generator_of
from ..worker_pool import WorkerPool, WorkerPoolError, WorkerSpec
from .models import TrainError
from .reward_cache import RewardCache, picture_digest

T = TypeVar("T")
R = TypeVar("R")
TRIES = 3
REMEMBERED = 20_000
HOPELESS = 20


@dataclass(frozen=True)
class Trial:
    """A refined prompt of a state. before: path of I_{i-1}, None for a picture from text alone. after: path of the
    attempt that was judged, whose size an image from text alone gets. instruction: p_i, which the judge compares with.
    """

    instruction: str
    prompt: str
    before: str | None
    after: str

    @property
    def state(self) -> tuple[str, str | None, tuple[int, int]]:
        """Instruction, digest of the picture before, and size: with the prompt they decide picture and score."""
        with Image.open(self.after) as image:
            size = image.size
        return self.instruction, picture_digest(Path(self.before)) if self.before else None, size

    def request(self, seed: int) -> GenerationRequest:
        before = open_rgb(Path(self.before)) if self.before else None
        with Image.open(self.after) as image:
            size = image.size
        return GenerationRequest(self.prompt, (before,) if before else (), seed, before.size if before else size)


@dataclass
class Tally:
    """Counts of all trials so far, by result."""

    made: int = 0
    repeated: int = 0
    cached: int = 0
    failed: int = 0
    late: int = 0
    unscored: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def note(self, error: Exception) -> None:
        reason = str(error)[:200] or type(error).__name__
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


@dataclass
class Rollouts:
    """seed: of every picture (the paper: 0). timeout: seconds for one try of one trial. workers: trials at a time.
    cache: scores of earlier trials on disk.
    """

    generator: Generator | None
    scorer: Scorer
    seed: int = 0
    workers: int = 8
    timeout: float = 120.0
    pool: WorkerPool[GenerationRequest, Image.Image] | None = None
    pause: float = 1.0
    cache: RewardCache | None = None
    tally: Tally = field(default_factory=Tally)
    known: dict[Trial, Score] = field(default_factory=dict)
    in_vain: int = 0
    """Calls of `score` in a row in which no trial got a score."""

    def score(self, trials: Sequence[Trial]) -> list[Score | None]:
        """The score of each trial's picture, in order; None where there is none.

        Raises:
            TrainError: nothing worked `HOPELESS` times in a row: masking all responses would only hide the fault.
        """
        unknown = [t for t in dict.fromkeys(trials) if t not in self.known]
        self.tally.repeated += len(trials) - len(unknown)
        new = [t for t in unknown if not self._is_cached(t)]
        self.tally.cached += len(unknown) - len(new)
        made = [(t, p) for t, p in zip(new, self._images(new), strict=True) if p is not None]
        before = self.tally.unscored
        for (trial, _), found in zip(made, self._together(self._judge, made), strict=True):
            if isinstance(found, Score):
                self._keep(trial, found)
            else:
                self.tally.unscored += 1
                self.tally.note(found)
        if new:
            worked = len(made) > self.tally.unscored - before
            self.in_vain = 0 if worked else self.in_vain + 1
        if self.in_vain >= HOPELESS:
            reason = next(reversed(self.tally.reasons), "each took too long")
            raise TrainError(
                f"No refined prompt could be tried for {HOPELESS} steps in a row: {reason}. "
                "Mend generator or judge and go on with --resume."
            )
        found_scores = [self.known.get(t) for t in trials]
        while len(self.known) > REMEMBERED:
            self.known.pop(next(iter(self.known)))
        return found_scores

    def _keep(self, trial: Trial, score: Score) -> None:
        """In memory and on disk; a full disk costs the cache, not the training."""
        self.known[trial] = score
        if self.cache is not None:
            try:
                self.cache.put(trial.state, trial.prompt, score)
            except RunError as error:
                self.tally.note(error)

    def _is_cached(self, trial: Trial) -> bool:
        """Whether an earlier training, or another process, has tried it; then it is known from now on."""
        kept = self.cache.get(trial.state, trial.prompt) if self.cache is not None else None
        if kept is not None:
            self.known[trial] = kept
        return kept is not None

    def _judge(self, made: tuple[Trial, Image.Image]) -> Score:
        trial, image = made
        before = open_rgb(Path(trial.before)) if trial.before else None
        return self.scorer.score(before, image, trial.instruction)

    def _together(self, work: Callable[[T], R], items: Sequence[T]) -> list[R | Exception]:
        """`work` on each item, `workers` at a time; an error, or a timeout, is a result."""
        if not items:
            return []
        pool = ThreadPoolExecutor(max(1, min(self.workers, len(items))))
        try:
            waiting = [pool.submit(work, item) for item in items]
            ends = time.monotonic() + self.timeout * -(-len(items) // self.workers)
            outcomes: list[R | Exception] = []
            for future in waiting:
                outcomes.append(_outcome(future, ends - time.monotonic()))
            return outcomes
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _images(self, trials: Sequence[Trial]) -> list[Image.Image | None]:
        found: dict[int, Image.Image] = {}
        left = list(range(len(trials)))
        for again in range(TRIES):
            if not left:
                break
            if again:
                time.sleep(self.pause * again)
            outcomes = self._once([trials[n].request(self.seed) for n in left])
            for number, outcome in zip(list(left), outcomes, strict=True):
                if isinstance(outcome, Image.Image):
                    found[number] = outcome
                    left.remove(number)
                elif isinstance(outcome, (TooLate, TimeoutError)):
                    self.tally.late += 1
                    left.remove(number)  # a second try would take as long
                else:
                    self.tally.note(outcome)
        self.tally.failed += len(left)
        self.tally.made += len(found)
        return [found.get(n) for n in range(len(trials))]

    def _once(self, requests: Sequence[GenerationRequest]) -> list[Image.Image | Exception]:
        if self.pool is not None:
            return self._by_pool(requests)
        generator = self.generator
        assert generator is not None
        if getattr(generator, "batches", False):
            try:
                return list(generator.generate_all(requests))  # type: ignore[attr-defined]
            except Exception:
                pass  # one of them is at fault: find out which, one by one
        return self._together(generator.generate, requests)

    def _by_pool(self, requests: Sequence[GenerationRequest]) -> list[Image.Image | Exception]:
        assert self.pool is not None
        numbers = {id(request): n for n, request in enumerate(requests)}
        found: dict[int, Image.Image | Exception] = {}
        try:
            for request, outcome in self.pool.map(list(requests)):
                found[numbers[id(request)]] = outcome
        except WorkerPoolError as error:  # all servers are down: masked, until one of them is back
            return [found.get(n, error) for n in range(len(requests))]
        return [found[n] for n in range(len(requests))]


@dataclass
class SharedRollouts:
    """One set of generators and one judge for all processes of a training: the first process makes all calls.

    Eight processes would else start eight sets of Ray workers, and ask a ComfyUI server from eight sides.

    Every process calls `score` at the same time, as TRL does with its reward functions. rollouts: those of the first
    process, None in the others.
    """

    rollouts: Rollouts | None

    def score(self, trials: Sequence[Trial]) -> list[Score | None]:
        """As `Rollouts.score`; raises the same in all processes."""
        from accelerate.utils import broadcast_object_list, gather_object

        all_trials = gather_object([list(trials)])
        message: list[Any] = [None, ""]
        if self.rollouts is not None:
            try:
                message[0] = self.rollouts.score([t for of_process in all_trials for t in of_process])
            except Exception as error:  # the others wait for a word
                message[1] = str(error) or type(error).__name__
        scores, problem = broadcast_object_list(message)
        if problem:
            raise TrainError(problem)
        place = sum(len(of_process) for of_process in all_trials[: _process_number()])
        return list(scores[place : place + len(trials)])


def _process_number() -> int:
    from accelerate import PartialState

    return int(PartialState().process_index)


def _outcome(future: Future[Any], seconds: float) -> Any:
    try:
        return future.result(timeout=max(0.0, seconds))
    except Exception as error:  # whatever a generator raises costs this one trial, not the training
        return error


def build_generator(choice: GeneratorChoice, worker: WorkerSpec) -> Callable[[GenerationRequest], Image.Image]:
    """For `WorkerPool`: a worker's own generator, on its server if it has one."""
    generator = generator_of(worker, choice).load()

    def work(request: GenerationRequest) -> Image.Image:
        try:
            return generator.generate(request)
        except InterleaveError:
            check_server(worker)
            raise

    return work


def trial_of(state: Mapping[str, Any], prompt: str) -> Trial:
    return Trial(str(state["prompt"]), prompt, state["before"], str(state["after"]))
