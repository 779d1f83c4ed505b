"""An endpoint with `free_memory`: its model is not loaded while nobody waits for a reply.

The server counts as real servers do: a chat loads the model, an unload is answered at once and takes a while.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from chat_server import SECRET, Reply, Server, ask, cut_off, fails, serving
from PIL import Image

from interleave_thinker.agents import server_memory
from interleave_thinker.agents.openai_compatible import ServerAgent
from interleave_thinker.agents.server_memory import in_use
from interleave_thinker.errors import AgentError
from interleave_thinker.roles.critic import compare, judge
from interleave_thinker.roles.scorer import AgentScorer

KINDS = ("ollama", "llama.cpp")
IMAGE = Image.new("RGB", (8, 8))


class Interrupted(BaseException):
    """As ComfyUI's InterruptProcessingException or KeyboardInterrupt."""


@dataclass
class Memory:
    """What a server has in memory, and what happened: "chat", "unload" and "freed", in order.

    slow: how often it still lists the model after an unload.
    """

    server: Server
    slow: int = 2
    loaded: bool = False
    left: int = 0
    aliases: Any = ("the-model",)
    events: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.server.beside = self.answer

    def chat(self, script: Callable[[Reply], None]) -> Callable[[Reply], None]:
        def chatting(reply: Reply) -> None:
            with self.lock:
                self.loaded = True
                self.events.append("chat")
            script(reply)

        return chatting

    def agent(self, kind: str | None, *scripts: Callable[[Reply], None], **more: Any) -> ServerAgent:
        return self.server.agent(*map(self.chat, scripts), free_memory=kind, **more)

    def answer(self, path: str, body: dict[str, Any], reply: Reply) -> None:
        self.headers.append({name.lower(): value for name, value in reply.handler.headers.items()})
        model = "the-model"
        with self.lock:
            if path in ("POST /api/generate", "POST /models/unload"):
                whole = {"model": model, "keep_alive": 0} if "api" in path else {"model": model}
                assert body == whole
                self.events.append("unload")
                if "api" not in path and not self.loaded:
                    return reply.error(400, {"error": {"message": "model is not running"}})
                self.left = self.slow if self.loaded else 0
                self._settle()
                return reply.error(200, {"success": True})
            if self.left:
                self.left -= 1
                self._settle()
            rows: dict[str, Any] = {
                "GET /api/ps": {"models": [{"name": model + ":latest", "model": model}] if self.loaded else []},
                "GET /models": {
                    "data": [
                        {"id": "another", "status": {"value": "loaded"}},
                        {
                            "id": "x",
                            "aliases": self.aliases,
                            "status": {"value": "loaded" if self.loaded else "unloaded"},
                        },
                    ]
                },
            }
        reply.error(200, rows[path])

    def _settle(self) -> None:
        if self.loaded and not self.left:
            self.loaded = False
            self.events.append("freed")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_memory, "_LOOK", 0.005)
    monkeypatch.setattr(server_memory, "_WARNED", set())
    monkeypatch.setattr(server_memory, "_USERS", {})


@pytest.fixture
def memory(server: Server) -> Memory:
    return Memory(server)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What was warned of; every warning names the endpoint, and neither address nor key."""
    with caplog.at_level(logging.WARNING, server_memory.__name__):
        yield lambda: [r.getMessage() for r in caplog.records]
    for record in caplog.get_records("call"):  # `records` is empty again by now
        said = record.getMessage()
        assert "'lab'" in said and "http://" not in said and SECRET not in said and len(said) < 700
        assert said.isprintable(), "the log is read in a terminal, which obeys escape sequences"


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_comes_back_when_the_memory_is_free(memory: Memory, kind: str, warnings: Any) -> None:
    """Both servers answer an unload before it is done; a generator that starts then finds the card full."""
    agent = memory.agent(kind, lambda r: r.say("ok"))
    for _ in range(2):
        assert ask(agent).text == "ok" and not memory.loaded
    assert memory.events == ["chat", "unload", "freed"] * 2
    assert warnings() == []


def test_without_the_key_nothing_but_the_reply_is_asked_for(memory: Memory) -> None:
    assert ask(memory.agent(None, lambda r: r.say("ok"))).text == "ok"
    assert memory.events == ["chat"] and memory.headers == []


@pytest.mark.parametrize("other", ["{}/", "HTTP://127.0.0.1:{port}/v1", "http://localhost:{port}/v1"])
def test_endpoints_that_spell_one_server_differently_share_its_model(memory: Memory, other: str) -> None:
    first = memory.agent("ollama", lambda r: r.say("ok")).endpoint
    url = other.format(first.base_url, port=first.base_url.rsplit(":", 1)[1].split("/")[0])
    second = dataclasses.replace(first, name="other", base_url=url, model=first.model + ":latest")
    with in_use(first):
        with in_use(second):
            pass
        assert memory.events == [], "the first still needs it"
    assert memory.events == ["unload"]


@pytest.mark.parametrize("aliases", [3, None, {"the-model": 1}, ["the-model"]])
def test_aliases_of_any_kind_end_no_run(memory: Memory, aliases: Any) -> None:
    memory.aliases = aliases
    assert ask(memory.agent("llama.cpp", lambda r: r.say("ok"))).text == "ok"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["judge", "compare", "score"])
def test_what_is_asked_in_a_row_is_followed_by_one_unload(memory: Memory, kind: str, what: str) -> None:
    """A reply that is asked for again, a comparison in both orders, the two marks of a score."""
    no, first, last = (lambda r, say=say: r.say(say) for say in ("no", '{"best": 1}', '{"best": 2}'))
    if what == "judge":
        judge(memory.agent(kind, no), IMAGE, IMAGE, "a cat", "a cat")
        asked = 2
    elif what == "compare":
        assert compare(memory.agent(kind, first, first, last), IMAGE, [IMAGE] * 3, "a cat") == 1
        asked = 3
    else:
        AgentScorer(memory.agent(kind, lambda r: r.say('{"score": [5, 5]}'))).score(IMAGE, IMAGE, "a cat")
        asked = 2
    assert memory.events == ["chat"] * asked + ["unload", "freed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [cut_off, lambda r: r.error(500, "broken"), lambda r: r.error(400, "no")])
def test_a_reply_that_fails_is_followed_by_an_unload_and_keeps_its_error(
    memory: Memory, kind: str, how: Callable[[Reply], None], warnings: Any
) -> None:
    fails(memory.agent(kind, how))
    assert memory.events[-1] == "unload" and memory.events.count("unload") == 1
    assert warnings() == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_is_followed_by_an_unload_that_nobody_waits_for(memory: Memory, kind: str) -> None:
    memory.slow = 10**9
    agent = memory.agent(kind, lambda r: (r.start(), r.delta("Hel"), r.hang()))  # type: ignore[func-returns-value]

    def stop(text: str) -> bool:
        raise Interrupted

    with pytest.raises(Interrupted):
        ask(agent, stop)
    assert memory.events == ["chat", "unload"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_ends_the_waiting_for_free_memory(memory: Memory, kind: str) -> None:
    memory.slow = 10**9
    agent = memory.agent(kind, lambda r: r.say("ok"))

    def check() -> None:
        if "unload" in memory.events:
            raise Interrupted

    agent.check = check
    with pytest.raises(Interrupted):
        ask(agent)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_not_unloaded_while_another_loop_waits_for_its_reply(memory: Memory, kind: str) -> None:
    """llama.cpp would stop in mid-reply."""
    begun, over = threading.Event(), threading.Event()

    def long(reply: Reply) -> None:
        begun.set()
        assert over.wait(20)
        reply.say("long")

    agent = memory.agent(kind, long, lambda r: r.say("short"))
    said: list[str] = []
    other = threading.Thread(target=lambda: said.append(ask(agent).text))
    other.start()
    assert begun.wait(20)
    assert ask(agent).text == "short"
    assert memory.events == ["chat", "chat"] and memory.loaded
    over.set()
    other.join(20)
    assert said == ["long"] and memory.events == ["chat", "chat", "unload", "freed"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_is_not_asked_for_in_the_middle_of_an_unload(memory: Memory, kind: str) -> None:
    """llama.cpp would hand the question to a model that is about to stop."""
    memory.slow = 10**9
    looks: list[int] = []
    first, second = (memory.agent(kind, lambda r: r.say("ok")) for _ in range(2))
    second.check = lambda: looks.append(1)
    threads = [threading.Thread(target=ask, args=(agent,)) for agent in (first, second)]
    threads[0].start()
    while "unload" not in memory.events:
        time.sleep(0.005)
    threads[1].start()
    while len(looks) < 5:  # time enough to ask
        time.sleep(0.005)
    memory.left = memory.slow = 1
    for thread in threads:
        thread.join(20)
    assert memory.events == ["chat", "unload", "freed"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_many_loops_at_one_endpoint_never_meet_an_unload(memory: Memory, kind: str) -> None:
    said: list[str] = []
    agents = [memory.agent(kind, lambda r: r.say("ok")) for _ in range(6)]
    threads = [threading.Thread(target=lambda a=a: said.extend(ask(a).text for _ in range(4))) for a in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert said == ["ok"] * 24
    assert memory.events.count("chat") == 24 and memory.events[-1] == "freed" and not memory.loaded
    assert all(after == "freed" for at, after in zip(memory.events, memory.events[1:], strict=False) if at == "unload")


def test_room_is_made_before_the_server_loads_its_model(memory: Memory) -> None:
    """Once for what is asked in a row, and only where the card is shared."""
    for kind, expected in (("ollama", ["room", "chat", "chat", "unload", "freed"]), (None, ["chat", "chat"])):
        memory.events.clear()
        agent = memory.agent(kind, lambda r: r.say("no"))
        agent.make_room = lambda: memory.events.append("room")
        judge(agent, IMAGE, IMAGE, "a cat", "a cat")
        assert memory.events == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_goes_along_and_to_no_other_host(memory: Memory, kind: str, warnings: Any) -> None:
    ask(memory.agent(kind, lambda r: r.say("ok"), api_key=SECRET))
    assert {h.get("authorization") for h in memory.headers} == {f"Bearer {SECRET}"}
    with serving() as elsewhere:
        asked: list[str] = []
        elsewhere.beside = lambda path, body, reply: (asked.append(path), reply.error(200, {}))[1]

        def away(path: str, body: dict[str, Any], reply: Reply) -> None:
            reply.handler.send_response(307)
            reply.handler.send_header("Location", f"http://127.0.0.1:{elsewhere.port}/api/generate")
            reply.handler.send_header("Content-Length", "0")
            reply.handler.end_headers()

        memory.server.beside = away
        assert ask(memory.agent(kind, lambda r: r.say("ok"), api_key=SECRET)).text == "ok"
        assert asked == []
    assert len(warnings()) == 1


def _breaks_off(reply: Reply) -> None:
    reply.handler.connection.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (lambda r: r.error(404, {"error": "not found"}), {"ollama": "Is it Ollama", "llama.cpp": "--sleep-idle-s"}),
        (lambda r: r.error(500, {"error": f"broken {SECRET}"}), "broken [key]"),
        (lambda r: r.error(500, {"error": "gone\x1b[2J\x9b1A\u202e"}), "says: gone"),
        (lambda r: r.error(401, "x" * 10_000), "HTTP 401"),
        (lambda r: r.error(200, "[" * 100_000), "does not list its models"),
        (lambda r: r.error(200, {"models": None, "data": 7}), "does not list its models"),
        (_breaks_off, "cannot be asked"),
    ],
)
def test_a_server_that_cannot_free_its_memory_costs_one_warning_and_no_reply(
    memory: Memory, kind: str, refusal: Callable[[Reply], None], told: Any, warnings: Any
) -> None:
    memory.server.beside = lambda path, body, reply: refusal(reply)
    agent = memory.agent(kind, lambda r: r.say("ok"), api_key=SECRET)
    for _ in range(3):
        assert ask(agent).text == "ok"
    (said,) = warnings()
    assert (told if isinstance(told, str) else told[kind]) in said


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_stays_loaded_is_waited_for_up_to_a_bound(
    memory: Memory, kind: str, warnings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warned of again after it has worked."""
    monkeypatch.setattr(server_memory, "UNLOADED_WITHIN", 0.02)
    agent = memory.agent(kind, lambda r: r.say("ok"))
    for slow in (10**9, 10**9, 0, 10**9):
        memory.slow, memory.left = slow, 0
        assert ask(agent).text == "ok"
        assert memory.loaded == (slow > 0)
        memory.left = 0
    assert [("is still loaded" in said) for said in warnings()] == [True, True]


def test_a_llama_server_with_one_model_is_waited_for_until_it_sleeps(server: Server, warnings: Any) -> None:
    states = [False, False, True]

    def single(path: str, body: dict[str, Any], reply: Reply) -> None:
        if path == "GET /props":
            reply.error(200, {"is_sleeping": states.pop(0)})
        else:
            reply.error(404, {"error": {"message": "File Not Found"}})

    server.beside = single
    assert ask(server.agent(lambda r: r.say("ok"), free_memory="llama.cpp")).text == "ok"
    assert states == [] and warnings() == []


def test_a_llama_server_that_never_sleeps_is_waited_for_once(
    server: Server, warnings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_memory, "ASLEEP_WITHIN", 0.5)
    looks: list[int] = []

    def single(path: str, body: dict[str, Any], reply: Reply) -> None:
        if path == "GET /props":
            looks[-1] += 1
            reply.error(200, {"is_sleeping": False})
        else:
            reply.error(404, {})

    server.beside = single
    agent = server.agent(lambda r: r.say("ok"), free_memory="llama.cpp")
    for _ in range(3):
        looks.append(0)
        assert ask(agent).text == "ok"
    assert looks[0] > 1 and looks[1:] == [1, 1]
    assert len(warnings()) == 1 and "--sleep-idle-seconds 1" in warnings()[0]


def test_a_server_that_is_gone_keeps_the_error_of_its_reply(warnings: Any) -> None:
    with serving() as gone:
        agent = gone.agent(free_memory="ollama")
    with pytest.raises(AgentError, match="nothing listens there"):
        ask(agent)
    assert len(warnings()) == 1 and "cannot be asked" in warnings()[0]


@pytest.mark.parametrize("prefix", ["", "/behind/a/proxy"])
def test_the_address_is_that_of_base_url_without_v1(server: Server, prefix: str) -> None:
    paths: list[str] = []
    server.beside = lambda path, body, reply: (paths.append(path), reply.error(200, {"models": []}))[1]
    endpoint = server.endpoint(free_memory="ollama")
    object.__setattr__(endpoint, "base_url", f"http://127.0.0.1:{server.port}{prefix}/v1")
    with server_memory.in_use(endpoint):
        pass
    assert paths == [f"POST {prefix}/api/generate", f"GET {prefix}/api/ps"]
