"""A pool of workers with a real local Ray: no item is done twice or lost, and a dead worker is left out."""

from __future__ import annotations

import os
import time

import pytest

from interleave_thinker.errors import GeneratorError
from interleave_thinker.research.worker_pool import WorkerLost, WorkerPool, WorkerPoolError, WorkerSpec

TWO = (WorkerSpec(server="a"), WorkerSpec(server="b"))


def doubling(worker):
    """What a worker does with an item: a number is doubled, some words are trouble."""

    def work(item):
        if item == "fails":
            raise GeneratorError("no picture")
        if item == "crashes":
            raise ZeroDivisionError("a bug")
        if isinstance(item, int) and item >= 5 and worker.server == "b":
            raise WorkerLost("b does not answer")
        time.sleep(0.02)
        return item, worker.server

    return work


def silent(worker):
    """b does not answer. Each worker gets an item at once, so that b is asked however slowly its worker starts."""

    def work(item):
        if worker.server == "b":
            raise WorkerLost("b does not answer")
        return item, worker.server

    return work


def dying(worker):
    """The process of b ends itself, as one that was killed."""

    def work(item):
        if worker.server == "b":
            os._exit(9)
        return item, worker.server

    return work


def sleeping(worker):
    def work(item):
        time.sleep(item)
        return worker.server

    return work


def slow_to_start(worker):
    time.sleep(3)
    return lambda item: worker.server


def deadly(worker):
    def work(item):
        if item == "poison":
            os._exit(9)
        return "ok"

    return work


def broken(worker):
    raise GeneratorError("no such workflow")


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


def test_each_item_is_done_once_by_whoever_is_free(ray):
    with WorkerPool(doubling, TWO) as pool:
        found = list(pool.map(range(5)))
    assert sorted(item for item, _ in found) == [0, 1, 2, 3, 4]
    assert {result[1] for _, result in found} == {"a", "b"}


@pytest.mark.parametrize("build", [silent, dying])
def test_a_lost_worker_gets_no_more_work_and_loses_none(ray, build):
    with WorkerPool(build, TWO) as pool:
        found = dict(pool.map(range(12)))
        assert pool.lost == ["b"]
        assert sorted(found) == list(range(12))
        assert dict(pool.map([20, 21])).keys() == {20, 21}, "the pool that is left goes on"


def test_an_error_of_one_item_is_its_result(ray):
    with WorkerPool(doubling, TWO) as pool:
        found = dict(pool.map([1, "fails", "crashes", 2]))
    assert isinstance(found["fails"], GeneratorError) and str(found["fails"]) == "no picture"
    assert isinstance(found["crashes"], WorkerPoolError) and "a bug" in str(found["crashes"])
    assert found[1][0] == 1 and found[2][0] == 2


def test_with_all_workers_lost_what_is_left_is_said(ray):
    with (
        WorkerPool(doubling, (WorkerSpec(server="b"),)) as pool,
        pytest.raises(WorkerPoolError, match="2 of 4 are left"),
    ):
        list(pool.map([1, 2, 7, 8]))


def test_an_item_that_takes_too_long_is_given_up_and_its_worker_starts_anew(ray):
    with WorkerPool(sleeping, (WorkerSpec(server="a"),), timeout=2.0) as pool:
        found = dict(pool.map([0, 60, 0.01]))
    assert isinstance(found[60], TimeoutError) and (found[0], found[0.01]) == ("a", "a") and pool.lost == []


def test_loading_a_model_is_not_the_first_items_time(ray):
    with WorkerPool(slow_to_start, (WorkerSpec(server="a"),), timeout=1.5) as pool:
        assert list(pool.map([1])) == [(1, "a")]


def test_an_item_that_ends_every_worker_does_not_end_the_pool(ray):
    with WorkerPool(deadly, [WorkerSpec()] * 4) as pool:
        found = dict(pool.map([1, "poison", 2]))
    assert isinstance(found["poison"], WorkerPoolError) and found[1] == found[2] == "ok"


def test_a_worker_that_cannot_begin_says_why(ray):
    with (
        WorkerPool(broken, [WorkerSpec(), WorkerSpec()]) as pool,
        pytest.raises(WorkerPoolError, match="no such workflow"),
    ):
        list(pool.map([1]))


def test_a_lost_worker_is_tried_again_after_a_while(ray):
    with WorkerPool(doubling, TWO, retry_lost=0.0) as pool:
        assert len(dict(pool.map(range(5, 13)))) == 8 and pool.lost
        assert {result[1] for _, result in pool.map([0, 1, 2, 3])} == {"a", "b"}


def test_gpus_that_are_not_there_are_named(ray):
    with (
        pytest.raises(WorkerPoolError, match="2 GPUs are asked for and Ray sees 0"),
        WorkerPool(doubling, [WorkerSpec(gpu=True)] * 2),
    ):
        pass
