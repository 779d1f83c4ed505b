"""Pictures that several runs ask for at a time are made in few batches, and an error is only its own request's."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from interleave_thinker.errors import GeneratorError
from interleave_thinker.generators.base import GenerationRequest
from interleave_thinker.generators.batching import BatchingGenerator

COUNT = 12


class Painter:
    """Paints the seed as a grey. The first call waits until all others ask, so that what follows is one batch."""

    name, state = "painter", "files"

    def __init__(self, bad=()):
        self.bad, self.batches, self.single = set(bad), [], []
        self.begun, self.all_here = threading.Event(), threading.Event()

    def generate(self, request):
        if not self.single:
            self.begun.set()
            self.all_here.wait(10)
        self.single.append(request.seed)
        if request.seed in self.bad:
            raise GeneratorError(f"no {request.seed}")
        return Image.new("L", (4, 4), request.seed)

    def generate_all(self, requests):
        self.batches.append([r.seed for r in requests])
        if self.bad & {r.seed for r in requests}:
            raise GeneratorError("one of them is at fault")
        return [Image.new("L", (4, 4), r.seed) for r in requests]


def ask_at_once(painter):
    """The grey, or the error, that each of COUNT threads got."""
    gathered = BatchingGenerator(painter)

    def one(seed):
        try:
            return gathered.generate(GenerationRequest("p", seed=seed)).getpixel((0, 0))
        except GeneratorError as error:
            return str(error)

    with ThreadPoolExecutor(COUNT) as pool:
        asked = [pool.submit(one, 0)]
        assert painter.begun.wait(10), "the first one is made alone"
        asked += [pool.submit(one, seed) for seed in range(1, COUNT)]
        ends = time.monotonic() + 10
        while len(gathered._waiting) < COUNT - 1 and time.monotonic() < ends:
            time.sleep(0.01)
        painter.all_here.set()
        return [a.result() for a in asked]


def test_everyone_gets_the_picture_that_was_asked_for_and_most_share_a_batch():
    painter = Painter()
    assert ask_at_once(painter) == list(range(COUNT))
    assert len(painter.single) == 1 and [len(b) for b in painter.batches] == [COUNT - 1]


def test_an_error_is_only_its_own_requests():
    painter = Painter(bad={5, 7})
    assert ask_at_once(painter) == [f"no {n}" if n in (5, 7) else n for n in range(COUNT)]


def test_an_error_of_no_kind_that_is_expected_still_reaches_the_one_who_waits():
    class Broken(Painter):
        def generate(self, request):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BatchingGenerator(Broken()).generate(GenerationRequest("p"))


def test_it_stands_for_the_generator_in_keys():
    gathered = BatchingGenerator(Painter())
    assert (gathered.name, gathered.state) == ("painter", "files"), "else the store would not recall its pictures"
