"""A real HTTP server on 127.0.0.1 that streams what each test scripts, for tests of ServerAgent."""

from __future__ import annotations

import json
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from interleave_thinker.agents import openai_compatible
from interleave_thinker.agents.base import Completion, Message, OnText, Sampling
from interleave_thinker.agents.endpoints import Endpoint
from interleave_thinker.agents.openai_compatible import ServerAgent, agent_for
from interleave_thinker.errors import AgentError

SECRET = "sk-secret-0123456789"
ASK = [Message("user", ("Say something.",))]


class Reply:
    """What a script does with one request."""

    def __init__(self, handler: BaseHTTPRequestHandler, server: Server) -> None:
        self.handler = handler
        self.server = server

    def start(self, status: int = 200, kind: str = "text/event-stream") -> None:
        self.handler.send_response(status)
        self.handler.send_header("Content-Type", kind)
        self.handler.send_header("Transfer-Encoding", "chunked")
        self.handler.send_header("Connection", "close")
        self.handler.end_headers()

    def raw(self, data: bytes) -> None:
        self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.handler.wfile.flush()

    def event(self, thing: object) -> None:
        self.raw(b"data: " + json.dumps(thing).encode() + b"\n\n")

    def delta(self, text: str | None = None, finish: str | None = None, **delta: object) -> None:
        if text is not None:
            delta["content"] = text
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.event({"id": "1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})

    def done(self) -> None:
        self.raw(b"data: [DONE]\n\n")
        self.end()

    def end(self) -> None:
        self.raw(b"")

    def say(self, *pieces: str, finish: str = "stop") -> None:
        self.start()
        self.delta(role="assistant", text="")
        for piece in pieces:
            self.delta(piece)
        self.delta(finish=finish)
        self.done()

    def error(self, status: int, body: object) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.handler.send_response(status)
        self.handler.send_header("Content-Type", "application/json")
        self.handler.send_header("Content-Length", str(len(data)))
        self.handler.end_headers()
        self.handler.wfile.write(data)

    def hang(self) -> None:
        """Say nothing until the client goes away (noted) or the test is over."""
        while not self.server.over.is_set():
            if select.select([self.handler.connection], [], [], 0.02)[0]:
                self.server.gone.set()
                return

    def forever(self, send: Callable[[], None]) -> None:
        try:
            while not self.server.over.is_set():
                send()
        except OSError:
            self.server.gone.set()


Script = Callable[[Reply], None]


@dataclass
class Server:
    """Answers requests with `scripts` in order (the last repeats) and keeps what it was sent."""

    scripts: list[Script] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    beside: Callable[[str, dict[str, Any], Reply], None] | None = None
    """Answers what is no chat completion: "GET /models", the request's body."""
    port: int = 0

    def endpoint(self, **more: Any) -> Endpoint:
        return Endpoint("lab", f"http://127.0.0.1:{self.port}/v1", "the-model", **more)

    def agent(self, *scripts: Script, **more: Any) -> ServerAgent:
        self.scripts = list(scripts)
        agent = agent_for(self.endpoint(**more))
        agent.sleep = lambda seconds: None
        return agent


@contextmanager
def serving() -> Iterator[Server]:
    state = Server()
    openai_compatible._OPENED.clear()  # a port of an earlier test may come again

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.close_connection = True
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                self._beside(body)
                return
            script = state.scripts[min(len(state.bodies), len(state.scripts) - 1)]
            state.bodies.append(body)
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            try:
                script(Reply(self, state))
            except (BrokenPipeError, ConnectionResetError):
                state.gone.set()

        def do_GET(self) -> None:
            self.close_connection = True
            self._beside({})

        def _beside(self, body: dict[str, Any]) -> None:
            assert state.beside is not None, self.path
            try:
                state.beside(f"{self.command} {self.path}", body, Reply(self, state))
            except (BrokenPipeError, ConnectionResetError):
                state.gone.set()

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.over.set()
        http.shutdown()
        http.server_close()


def ask(agent: ServerAgent, on_text: OnText | None = None, max_tokens: int = 100) -> Completion:
    return agent.complete(ASK, Sampling(max_tokens=max_tokens), on_text)


def fails(agent: ServerAgent, *words: str) -> str:
    """The error's text; it names the endpoint, and no address."""
    with pytest.raises(AgentError) as caught:
        ask(agent)
    assert type(caught.value) is AgentError
    message = str(caught.value)
    for word in ("'lab'", *words):
        assert word in message
    assert "http://" not in message and SECRET not in message
    assert len(message) < 600
    return message


def readers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "interleave-server-agent"]


def no_reader_left() -> bool:
    for _ in range(100):
        if not readers():
            return True
        time.sleep(0.01)
    return False


def cut_off(reply: Reply) -> None:
    """Half a reply, then the connection breaks inside of the chunked body."""
    reply.start()
    reply.delta("Half a re")
    reply.handler.wfile.write(b"40\r\ndata: {")


def ends_silently(reply: Reply) -> None:
    """Half a reply and a regular end of the body, but no finish_reason."""
    reply.start()
    reply.delta("Half a re")
    reply.end()
