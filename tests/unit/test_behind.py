"""What is written and told behind the loop: in order, not too far behind, and a failure is heard."""

from __future__ import annotations

import contextvars
import threading

import pytest

from interleave_thinker.behind import WAITING, Behind, written

CALLER = contextvars.ContextVar("CALLER", default="nobody")


def test_jobs_are_done_in_order_and_in_their_callers_context() -> None:
    """ComfyUI says in a context variable whose prompt runs; messages need it."""
    done: list[tuple[int, str, bool]] = []
    here = threading.get_ident()
    line = Behind()
    CALLER.set("a prompt")
    for number in range(50):
        line.put(lambda n=number: done.append((n, CALLER.get(), threading.get_ident() == here)))
    line.settle()
    assert done == [(n, "a prompt", False) for n in range(50)]


def test_the_caller_does_not_wait_until_too_much_waits() -> None:
    line, slow = Behind(), threading.Event()
    for _ in range(WAITING):
        line.put(lambda: slow.wait(30) and None)
    late = threading.Thread(target=line.put, args=(lambda: None,))
    late.start()
    late.join(0.2)
    assert late.is_alive(), "a disk that never catches up must hold the loop, not fill the memory"
    slow.set()
    late.join(30)
    assert not late.is_alive()
    line.settle()


def test_a_failure_ends_that_run_and_is_raised_once_where_it_is_asked_for() -> None:
    """What follows a picture that could not be written must not be told as if it had been."""
    told: list[str] = []
    line, other = Behind(), Behind()

    def fail() -> None:
        raise OSError("disk full")

    line.put(lambda: told.append("before"))
    line.put(fail)
    line.put(lambda: told.append("after"))
    other.put(lambda: told.append("other"))
    written()
    assert told == ["before", "other"]
    with pytest.raises(OSError, match="disk full"):
        line.check()
    line.settle()
    other.settle()


def test_whoever_waits_for_all_waits_for_interrupted_runs_too() -> None:
    """Their folder is read next, and nobody holds their line any more."""
    done = threading.Event()
    Behind().put(lambda: threading.Event().wait(0.2) or done.set())
    written()
    assert done.is_set()
