"""Loops around bodies of every shape, in a real ComfyUI: the shapes stand in the `*_shapes.py` beside this file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import blocked_shapes
import changed_shapes
import common_shapes
import mixed_shapes
import nested_shapes
import pytest
import region_shapes
import side_shapes
import start_loop_shapes
import wiring_shapes
import wrong_value_shapes
from comfy_test_graphs import node
from common_shapes import through
from shape import ACCEPT_FIRST, ALL, FIRSTS, Change, Queue, Shape, body, check_outcome, names_of, says
from watched_server import DEADLINE, Hung, Watch, WatchedServer

FILES: list[ModuleType] = [
    common_shapes,
    changed_shapes,
    blocked_shapes,
    side_shapes,
    region_shapes,
    wrong_value_shapes,
    nested_shapes,
    start_loop_shapes,
    wiring_shapes,
    mixed_shapes,
]
SHAPES = [
    pytest.param(shape, id=f"{file.__name__.removesuffix('_shapes')}: {name}")
    for file in FILES
    for shape, name in zip(file.SHAPES, names_of(file.SHAPES), strict=True)
]
MODES = [("--cache-none",), ("--cache-classic",), ("--cache-lru", "10")]


@pytest.mark.parametrize("shape", SHAPES)
def test_body(bodies: WatchedServer, shape: Shape) -> None:
    run_shape(bodies, shape)


@pytest.fixture(scope="module")
def other_mode(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedServer]:
    server = WatchedServer(tmp_path_factory.mktemp("mode"), request.param)
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("other_mode", MODES, indirect=True, ids=lambda words: words[0][2:])
@pytest.mark.parametrize("shape", SHAPES)
def test_body_in_other_modes_of_the_cache(other_mode: WatchedServer, shape: Shape) -> None:
    if shape.needs_cache and "--cache-none" in other_mode.arguments:
        pytest.skip("ComfyUI keeps nothing")
    run_shape(other_mode, shape)


def run_shape(server: WatchedServer, shape: Shape) -> None:
    """Queue what the shape queues, one after the other; all of it has `DEADLINE` seconds."""
    until = time.monotonic() + DEADLINE
    outcomes: list[Any] = []
    for number, queue in enumerate(shape.queues, 1):
        time.sleep(queue.wait)
        if queue.before is not None:
            queue.before(server)
        watch = queue.watch(server) if queue.watch is not None else None
        left = max(until - time.monotonic(), 1.0)
        place = f"queue {number} of {shape.name!r} ({shape.why})"
        try:
            found = server.queue(
                shape.prompt(queue), targets=queue.targets, extra=queue.extra, watch=watch, deadline=left
            )
        except Hung as hung:
            raise Hung(f"{place}: {hung}") from None
        outcomes.append(found)
        try:
            check_outcome(queue, outcomes)
        except AssertionError as error:
            raise AssertionError(
                f"{place}: {error}\nmade {found.made}, recalled {found.recalled}, errors {found.errors}, "
                f"calls {[(call['label'], call['id']) for call in found.calls][:30]}"
            ) from error


SLOW: Change = through(body("Slow", image=["12", 0], seconds=0.15, deaf=False))


def at_step_two(act: str) -> Any:
    """Interrupts once, when the second step begins."""

    def watch(server: WatchedServer) -> Watch:
        done: list[bool] = []

        def look(kind: str, facts: Mapping[str, Any]) -> None:
            if kind == "interleave_thinker" and facts.get("event") == "trying" and facts["step"] == 2 and not done:
                done.append(True)
                running = server.server.get("/queue")["queue_running"][0][1]
                server.server.post("/interrupt" if act == "interrupt" else f"/api/jobs/{running}/cancel", {})

        return look

    return watch


@pytest.mark.parametrize("act", ["interrupt", "cancel"])
def test_a_run_that_the_user_ends_goes_on_when_it_is_queued_again(bodies: WatchedServer, act: str) -> None:
    """The page has two ways to end a run: /interrupt, and the job's own cancel."""
    first = Queue(made=ALL[:2], error=says("Interrupted at Step 2, attempt 1"), watch=at_step_two(act))
    second = Queue(made=ALL[2:], recalled=ALL[:2])
    run_shape(bodies, Shape(f"ended by {act}", "a person may stop and go on", SLOW, [first, second]))


def test_a_picture_is_kept_before_slow_outputs_beside_it_run(bodies: WatchedServer) -> None:
    """ComfyUI runs output nodes first. Whoever interrupts a slow upscaler does not want the picture drawn again."""
    slow = {
        "13": body("Slow", image=["12", 0], seconds=5.0, deaf=False),
        "14": node("SaveImage", images=["13", 0], filename_prefix="slow"),
    }

    def watch(server: WatchedServer) -> Watch:
        def look(kind: str, facts: Mapping[str, Any]) -> None:
            if kind == "executing" and facts.get("node") == "30.s1a1.b13":
                server.server.post("/interrupt", {})

        return look

    first = Queue(slow, made=[(1, 1)], error=says("Interrupted at Step 1, attempt 1, node 13"), watch=watch)
    second = Queue(made=FIRSTS[1:], recalled=FIRSTS[:1])
    shape = Shape("slow output", "the picture is finished", {**ACCEPT_FIRST}, [first, second])
    run_shape(bodies, shape)


def test_a_run_whose_page_is_closed_runs_to_its_end(bodies: WatchedServer) -> None:
    """Nobody listens, but the document is there when the page comes back."""
    shape = Shape("page closed", "the run does not need a listener", SLOW, [Queue()])
    prompt_id = bodies.server.post("/prompt", {"prompt": shape.prompt(Queue()), "client_id": "gone"})["prompt_id"]
    until = time.monotonic() + DEADLINE
    history: dict[str, Any] = {}
    while prompt_id not in history and time.monotonic() < until:
        time.sleep(0.05)
        history = bodies.server.get(f"/history/{prompt_id}")
    assert "interleave_document" in history[prompt_id]["outputs"]["31"]
    bodies.server.get(bodies.calls)


def test_the_same_prompt_twice_in_the_queue_is_made_once(bodies: WatchedServer) -> None:
    """The second waits for the first and finds all of it."""
    shape = Shape("back to back", "an impatient user queues twice", SLOW, [Queue(made=[])])
    bodies.server.post("/prompt", {"prompt": shape.prompt(Queue())})
    run_shape(bodies, shape)


def test_the_watch_interrupts_a_body_that_takes_too_long(bodies: WatchedServer) -> None:
    """Otherwise one shape that hangs would cost all those after it."""
    hanging = Shape(
        "hanging", "ends by an interrupt", through(body("Slow", image=["12", 0], seconds=60.0, deaf=False)), []
    )
    process = bodies.server.process
    with pytest.raises(Hung, match=r"did not end in 1\.5 s; interrupted"):
        bodies.queue(hanging.prompt(Queue()), deadline=1.5)
    assert bodies.server.process is process
    run_shape(
        bodies, Shape("after a hanging one", "the server works", {"20": {"expression": "1"}}, [Queue(made=FIRSTS)])
    )


@pytest.mark.slow
def test_the_watch_kills_a_server_that_does_not_heed_an_interrupt(bodies: WatchedServer) -> None:
    """Slow, for a new server must start."""
    deaf = Shape("deaf", "ends with its server", through(body("Slow", image=["12", 0], seconds=60.0, deaf=True)), [])
    with pytest.raises(Hung, match=r"did not end in 1\.5 s; the server did not heed an interrupt and was killed"):
        bodies.queue(deaf.prompt(Queue()), deadline=1.5)
    run_shape(
        bodies, Shape("after a deaf one", "a new server works", {"20": {"expression": "1"}}, [Queue(made=FIRSTS)])
    )
