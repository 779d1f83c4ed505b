"""Work over several places with a real local Ray: nothing done twice, nothing lost, and a dead place is left out."""

from __future__ import annotations

import os
import time

import pytest

from interleave_thinker.errors import GeneratorError
from interleave_thinker.farm import Farm, FarmError, Place, PlaceLost

TWO = (Place(server="a"), Place(server="b"))


def doubling(place):
    """What a worker does with an item: a number is doubled, some words are trouble."""

    def work(item):
        if item == "fails":
            raise GeneratorError("no picture")
        if item == "crashes":
            raise ZeroDivisionError("a bug")
        if isinstance(item, int) and item >= 5 and place.server == "b":
            raise PlaceLost("b does not answer")
        time.sleep(0.02)
        return item, place.server

    return work


def silent(place):
    """b does not answer. Each place gets an item at once, so that b is asked however slowly its worker starts."""

    def work(item):
        if place.server == "b":
            raise PlaceLost("b does not answer")
        return item, place.server

    return work


def dying(place):
    """The process of b ends itself, as one that was killed."""

    def work(item):
        if place.server == "b":
            os._exit(9)
        return item, place.server

    return work


def sleeping(place):
    def work(item):
        time.sleep(item)
        return place.server

    return work


def slow_to_start(place):
    time.sleep(3)
    return lambda item: place.server


def deadly(place):
    def work(item):
        if item == "poison":
            os._exit(9)
        return "ok"

    return work


def broken(place):
    raise GeneratorError("no such workflow")


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


def test_each_item_is_done_once_by_whoever_is_free(ray):
    with Farm(doubling, TWO) as farm:
        found = list(farm.map(range(5)))
    assert sorted(item for item, _ in found) == [0, 1, 2, 3, 4]
    assert {result[1] for _, result in found} == {"a", "b"}


@pytest.mark.parametrize("build", [silent, dying])
def test_a_lost_place_gets_no_more_work_and_loses_none(ray, build):
    with Farm(build, TWO) as farm:
        found = dict(farm.map(range(12)))
        assert farm.lost == ["b"]
        assert sorted(found) == list(range(12))
        assert dict(farm.map([20, 21])).keys() == {20, 21}, "the farm that is left goes on"


def test_an_error_of_one_item_is_its_result(ray):
    with Farm(doubling, TWO) as farm:
        found = dict(farm.map([1, "fails", "crashes", 2]))
    assert isinstance(found["fails"], GeneratorError) and str(found["fails"]) == "no picture"
    assert isinstance(found["crashes"], FarmError) and "a bug" in str(found["crashes"])
    assert found[1][0] == 1 and found[2][0] == 2


def test_with_all_places_lost_what_is_left_is_said(ray):
    with Farm(doubling, (Place(server="b"),)) as farm, pytest.raises(FarmError, match="2 of 4 are left"):
        list(farm.map([1, 2, 7, 8]))


def test_an_item_that_takes_too_long_is_given_up_and_its_worker_starts_anew(ray):
    with Farm(sleeping, (Place(server="a"),), timeout=2.0) as farm:
        found = dict(farm.map([0, 60, 0.01]))
    assert isinstance(found[60], TimeoutError) and (found[0], found[0.01]) == ("a", "a") and farm.lost == []


def test_loading_a_model_is_not_the_first_items_time(ray):
    with Farm(slow_to_start, (Place(server="a"),), timeout=1.5) as farm:
        assert list(farm.map([1])) == [(1, "a")]


def test_an_item_that_ends_every_worker_does_not_end_the_farm(ray):
    with Farm(deadly, [Place()] * 4) as farm:
        found = dict(farm.map([1, "poison", 2]))
    assert isinstance(found["poison"], FarmError) and found[1] == found[2] == "ok"


def test_a_worker_that_cannot_begin_says_why(ray):
    with Farm(broken, [Place(), Place()]) as farm, pytest.raises(FarmError, match="no such workflow"):
        list(farm.map([1]))


def test_a_lost_place_is_tried_again_after_a_while(ray):
    with Farm(doubling, TWO, retry_lost=0.0) as farm:
        assert len(dict(farm.map(range(5, 13)))) == 8 and farm.lost
        assert {result[1] for _, result in farm.map([0, 1, 2, 3])} == {"a", "b"}


def test_gpus_that_are_not_there_are_named(ray):
    with pytest.raises(FarmError, match="2 GPUs are asked for and Ray sees 0"), Farm(doubling, [Place(gpu=True)] * 2):
        pass
