"""Whose turn it is in SFT: nothing is left out, batches are of a kind, and the order is the seed's alone."""

from __future__ import annotations

import pytest

from interleave_thinker.research.train.batch_order import order_rows

PICTURES = [2] * 50 + [3] * 9 + [6] * 7


def batches(order, size):
    return [order[at : at + size] for at in range(0, len(order), size)]


def test_every_row_comes_once_in_each_pass():
    steps, order = order_rows(PICTURES, 4, epochs=2.0)
    assert steps == 33 and len(order) == steps * 4
    everything = set(range(len(PICTURES)))
    assert set(order[: len(PICTURES)]) == everything == set(order[len(PICTURES) : 2 * len(PICTURES)])


def test_a_batch_is_of_one_kind_but_for_what_is_left_of_each():
    _, order = order_rows(PICTURES, 4, epochs=0.97)  # 16 whole batches: the short one ends the pass
    mixed = [b for b in batches(order, 4) if len({PICTURES[i] for i in b}) > 1]
    assert len(mixed) <= 2, "2 + 1 + 3 rows are left over"


def test_kinds_and_rows_are_shuffled():
    _, order = order_rows(PICTURES, 4)
    kinds = [PICTURES[i] for i in order]
    assert kinds != sorted(kinds) and order != sorted(order)
    assert order != order_rows(PICTURES, 4, seed=1)[1]
    assert order == order_rows(PICTURES, 4)[1]
    _, twice = order_rows(PICTURES, 4, epochs=2.0)
    assert twice[: len(PICTURES)] != twice[len(PICTURES) : 2 * len(PICTURES)], "each pass has an order of its own"


@pytest.mark.parametrize("rows", [1, 3, 4, 5])
def test_steps_are_as_many_as_asked_however_few_the_rows(rows):
    steps, order = order_rows([2] * rows, 4, steps=7)
    assert steps == 7 and len(order) == 28 and set(order) == set(range(rows))


def test_a_longer_training_begins_as_the_shorter_one():
    """--steps may be raised, and the training goes on from its checkpoint."""
    assert order_rows(PICTURES, 4, steps=9)[1] == order_rows(PICTURES, 4, steps=30)[1][:36]
