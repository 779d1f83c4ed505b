"""Pictures that several runs ask for at the same time, made in one batch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from PIL import Image

from ..errors import InterleaveError
from .base import BatchGenerator, GenerationRequest


class BatchingGenerator:
    """A Generator for many threads. One thread at a time makes a batch of all requests that wait.

    If a batch fails, its requests are made one by one, so that an error reaches only its own request.
    """

    def __init__(self, generator: BatchGenerator):
        self.generator = generator
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._waiting: list[tuple[GenerationRequest, Future[Image.Image]]] = []

    @property
    def name(self) -> str:
        return self.generator.name

    @property
    def state(self) -> str:
        return getattr(self.generator, "state", "")

    def generate(self, request: GenerationRequest) -> Image.Image:
        mine: Future[Image.Image] = Future()
        with self._lock:
            self._waiting.append((request, mine))
        with self._turn:
            if not mine.done():
                with self._lock:
                    batch, self._waiting = self._waiting, []
                self._make(batch)
        return mine.result()

    def _make(self, batch: Sequence[tuple[GenerationRequest, Future[Image.Image]]]) -> None:
        if len(batch) > 1:
            try:
                made = self.generator.generate_all([request for request, _ in batch])
            except (InterleaveError, RuntimeError, ValueError):
                pass  # one of them is at fault: find out which
            else:
                for (_, future), image in zip(batch, made, strict=True):
                    future.set_result(image)
                return
        for request, future in batch:
            try:
                future.set_result(self.generator.generate(request))
            except BaseException as error:  # the one who waits for it raises it
                future.set_exception(error)
