"""Whatever is sent to the server, it goes on answering: how long others wait is measured from outside."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from comfy_server import Comfy
from comfy_test_graphs import loop, node

MOST = 2.0
"""Seconds; what is usual stands in each test's property `longest`."""
EVERY = 0.02
TIMEOUT = 30
TEXTS = {
    "braces": "{1}" * 300_000,
    "nested": "{" * 450_000 + "}" * 450_000,
    "nested lists": '{"execution_plan": ' + "[" * 900_000,
    "half objects": '{"a": ' * 150_000,
    "quotes": '"' * 900_000,
    "escaped quotes": '{"a": "' + '\\"' * 450_000,
    "latex": r"\frac{a_{1}}{b^{2}} \begin{cases} x & y \end{cases} $" * 17_000,
    "fences": "```json\n{" * 100_000,
    "thoughts": "<think>" * 130_000,
    "plans": '{"execution_plan": [{"step_number": 1}]} ' * 22_000,
    "lines": "1. a\n" * 180_000,
    "blanks": " \t" * 450_000 + "x",
    "one word": "a" * 900_000,
}


class Heart:
    """Asks for a trivial route again and again, on one connection."""

    def __init__(self, port: int):
        self.port, self.longest, self.beats = port, 0.0, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        while not self._ended.is_set():
            start = time.perf_counter()
            try:
                line.request("GET", "/prompt")
                line.getresponse().read()
            except OSError:
                self.longest = float("inf")
                break
            self.longest = max(self.longest, time.perf_counter() - start)
            self.beats += 1
            self._ended.wait(EVERY)
        line.close()


def post(comfy: Any, path: str, data: bytes) -> int:
    request = urllib.request.Request(comfy.url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
            reply.read()
            return int(reply.status)
    except urllib.error.HTTPError as error:
        error.read()
        return error.code


def clear(comfy: Any) -> None:
    post(comfy, "/queue", b'{"clear": true}')
    post(comfy, "/interrupt", b"{}")


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    """A server of this file's own: it may come to harm."""
    server = Comfy(tmp_path_factory.mktemp("attacked")).start()
    yield server
    server.stop()


@pytest.fixture
def attack(comfy: Any, record_property: Callable[[str, object], None]) -> Callable[..., list[int]]:
    """Send bodies to a route, one after the other, while the pulse is taken; returns the statuses."""

    def send(path: str, *bodies: Any) -> list[int]:
        ready = [json.dumps(body).encode() for body in bodies]  # in this process it would hold up the pulse
        with Heart(comfy.port) as heart:
            time.sleep(5 * EVERY)
            try:
                found = [post(comfy, path, body) for body in ready]
            except OSError as error:
                comfy.kill()  # it may be busy for hours, and the next test needs one
                comfy.start()
                pytest.fail(f"no answer in {TIMEOUT} s ({error}); longest wait until then {heart.longest:.3f} s")
            time.sleep(5 * EVERY)
        record_property("longest", round(heart.longest, 3))
        print(f"longest wait {heart.longest:.3f} s in {heart.beats} requests")
        assert heart.beats > 1 and heart.longest < MOST
        return found

    return send


@pytest.mark.parametrize("kind", TEXTS)
def test_the_plan_route(attack: Any, kind: str) -> None:
    assert attack("/interleave_thinker/plan", {"text": TEXTS[kind]}) == [200]


@pytest.mark.parametrize("kind", TEXTS)
def test_a_prompt_with_a_typed_plan(comfy: Any, attack: Any, kind: str) -> None:
    """ComfyUI checks a prompt's nodes on its event loop. Some texts are plans of one step, most are none."""
    assert set(attack("/prompt", {"prompt": loop(TEXTS[kind], seed=8200, run_name="hostile text")})) <= {200, 400}
    clear(comfy)


@pytest.mark.parametrize("name", ["run_name", "accept_attempts"])
def test_a_prompt_with_other_long_texts(comfy: Any, attack: Any, name: str) -> None:
    texts = ("a" * 900_000, "1:1," * 225_000, " " * 900_000 + "x")
    prompts = [{"prompt": loop("1. a", seed=8201, **{"run_name": "hostile text", name: text})} for text in texts]
    assert set(attack("/prompt", *prompts)) <= {200, 400}
    clear(comfy)


def chain(length: int) -> dict[str, Any]:
    """Switches in a row, each with both sides from the one before."""
    graph = {
        str(i): node("ComfySwitchNode", on_false=[str(i + 1), 0], on_true=[str(i + 1), 0], latent_image=[str(i + 1), 0])
        for i in range(2, length)
    }
    return graph | {"1": node("SaveImage", images=["2", 0]), str(length): node("LoadImage", image="a.png")}


GRAPHS: dict[str, Callable[[], dict[str, Any]]] = {
    "samplers": lambda: (
        {
            str(i): node(
                "KSampler", model=["1", 0], positive=[str(i + 1), 0], latent_image=["2", 0], denoise=1, seed=["3", 0]
            )
            for i in range(4998)
        }
        | {"s": node("SaveImage", images=["0", 0])}
    ),
    "switches": lambda: chain(5000),
    "few switches": lambda: chain(600),
    "outputs": lambda: {str(i): node("SaveImage", images=[str(i + 1), 0]) for i in range(5000)},
    "wide": lambda: {
        "1": node("SaveImage", images=["2", 0]),
        "2": node("X", **{f"i{i}": ["1", 0] for i in range(400_000)}),
    },
    "texts": lambda: (
        {
            str(i): node("CLIPTextEncode", text="a" * 1500, clip=["1", 0], conditioning=[str(i + 1), 0])
            for i in range(4990)
        }
        | {"s": node("SaveImage", images=["0", 0])}
    ),
    "rings": lambda: {str(i): node("SaveImage", images=[str((i + 1) % 49), 0]) for i in range(49)},
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_choose_route(attack: Any, kind: str) -> None:
    start = time.perf_counter()
    assert set(attack("/interleave_thinker/choose", {"workflow": GRAPHS[kind]()})) <= {200, 400}
    assert time.perf_counter() - start < 20


def test_many_requests_at_a_time(comfy: Any, record_property: Callable[[str, object], None]) -> None:
    """A page that sends a hundred plans waits for itself; the list of runs does not wait for it."""
    data = json.dumps({"text": "{1}" * 30_000}).encode()
    pages = [threading.Thread(target=post, args=(comfy, "/interleave_thinker/plan", data)) for _ in range(100)]
    with Heart(comfy.port) as heart:
        for page in pages:
            page.start()
        start = time.perf_counter()
        comfy.get("/interleave_thinker/runs")
        listed = time.perf_counter() - start
        for page in pages:
            page.join()
    record_property("longest", round(heart.longest, 3))
    print(f"longest wait {heart.longest:.3f} s, listed in {listed:.3f} s")
    assert heart.longest < MOST and listed < MOST


def test_a_thousand_large_runs_are_listed_quickly(
    new_comfy: Any, record_property: Callable[[str, object], None]
) -> None:
    comfy = new_comfy()
    filling = "x" * 100_000
    for number in range(1000):
        folder = comfy.output / "interleave" / f"run {number}"
        folder.mkdir(parents=True)
        state = {"title": f"t{number}", "origin": {}, "state": {}, "trajectory": {"plan": filling, "status": "done"}}
        (folder / "run.json").write_text(json.dumps(state, indent=1))
    with Heart(comfy.port) as heart:
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            found = comfy.get("/interleave_thinker/runs")
            seconds.append(time.perf_counter() - start)
            assert len(found) == 200 and all(e["title"] and e["status"] == "done" for e in found)
    print(f"listed in {seconds} s, longest wait {heart.longest:.3f} s")
    record_property("longest", round(heart.longest, 3))
    record_property("listed", [round(s, 3) for s in seconds])
    assert heart.longest < MOST and max(seconds) < MOST and max(seconds[1:]) < 1
