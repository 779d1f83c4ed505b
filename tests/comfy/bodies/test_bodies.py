"""Loops around bodies of every shape, in a real ComfyUI: the shapes stand in the `*_shapes.py` beside this file."""

from __future__ import annotations

import time
from typing import Any

import common_shapes
import pytest
from shape import Shape, check_outcome, names_of
from watched_server import DEADLINE, WatchedServer

SHAPES = [*common_shapes.SHAPES]


@pytest.mark.parametrize("shape", SHAPES, ids=names_of(SHAPES))
def test_body(bodies: WatchedServer, shape: Shape) -> None:
    run_shape(bodies, shape)


def run_shape(server: WatchedServer, shape: Shape) -> None:
    """Queue what the shape queues, one after the other; all of it has `DEADLINE` seconds."""
    until = time.monotonic() + DEADLINE
    outcomes: list[Any] = []
    for number, queue in enumerate(shape.queues, 1):
        time.sleep(queue.wait)
        watch = queue.watch(server) if queue.watch is not None else None
        left = max(until - time.monotonic(), 1.0)
        outcomes.append(
            server.queue(shape.prompt(queue), targets=queue.targets, extra=queue.extra, watch=watch, deadline=left)
        )
        try:
            check_outcome(queue, outcomes)
        except AssertionError as error:
            found = outcomes[-1]
            raise AssertionError(
                f"queue {number} of {shape.name!r} ({shape.why}): {error}\nmade {found.made}, recalled "
                f"{found.recalled}, errors {found.errors}, calls {[(c['label'], c['id']) for c in found.calls][:30]}"
            ) from error
