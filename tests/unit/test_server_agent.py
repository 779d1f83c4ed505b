"""ServerAgent against a real HTTP server on 127.0.0.1 that streams what each test scripts."""

from __future__ import annotations

import base64
import io
import json
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from interleave_thinker.agents import server_agent
from interleave_thinker.agents.base import Completion, Message, OnText, Sampling
from interleave_thinker.agents.endpoints import Endpoint, agent_for
from interleave_thinker.agents.server_agent import ServerAgent
from interleave_thinker.errors import AgentError, ConfigError

SECRET = "sk-secret-0123456789"
ASK = [Message("user", ("Say something.",))]


class Interrupted(BaseException):
    """As ComfyUI's InterruptProcessingException or KeyboardInterrupt."""


# --- the server ---------------------------------------------------------------------------------


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
    port: int = 0

    def endpoint(self, **more: Any) -> Endpoint:
        return Endpoint("lab", f"http://127.0.0.1:{self.port}/v1", "the-model", **more)

    def agent(self, *scripts: Script, **more: Any) -> ServerAgent:
        self.scripts = list(scripts)
        agent = agent_for(self.endpoint(**more))
        agent.sleep = lambda seconds: None
        return agent


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.close_connection = True
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/chat/completions"
            script = state.scripts[min(len(state.bodies), len(state.scripts) - 1)]
            state.bodies.append(body)
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            try:
                script(Reply(self, state))
            except (BrokenPipeError, ConnectionResetError):
                state.gone.set()

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
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


# --- replies ------------------------------------------------------------------------------------


def test_a_reply_streams_piece_by_piece(server: Server) -> None:
    agent = server.agent(lambda r: r.say("Hel", "lo ", "you"))
    seen: list[str] = []
    completion = ask(agent, lambda text: not seen.append(text))  # type: ignore[func-returns-value]
    assert (completion.text, completion.finish, completion.tokens) == ("Hello you", "stop", 3)
    assert seen == ["Hel", "Hello ", "Hello you"]
    assert 0 < completion.seconds < 3


def test_texts_and_pictures_reach_the_server_in_order_and_in_their_sizes(server: Server) -> None:
    """Data-URL PNGs, shrunk to max_pixels and never enlarged; text alone is a plain string."""
    agent = server.agent(lambda r: r.say("ok"), api_key=SECRET)
    big, small = Image.new("RGB", (400, 200), (255, 0, 0)), Image.new("RGBA", (30, 50), (0, 0, 255, 255))
    messages = [
        Message("system", ("Be ", "brief.")),
        Message("user", ("Before:", big, "after:", small, "Well?")),
        Message("assistant", ("Hm.",)),
        Message("user", (small, "Sure?")),
    ]
    agent.complete(messages, Sampling(max_pixels=20_000))
    sent = server.bodies[0]["messages"]
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "user"]
    assert sent[0]["content"] == "Be brief." and sent[2]["content"] == "Hm."

    def shown(part: dict[str, Any]) -> object:
        if part["type"] == "text":
            return part["text"]
        head, data = part["image_url"]["url"].split(",")
        assert head == "data:image/png;base64"
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert (image.format, image.mode) == ("PNG", "RGB")
        return image.size, image.getpixel((0, 0))

    assert [shown(p) for p in sent[1]["content"]] == [
        "Before:", ((200, 100), (255, 0, 0)), "after:", ((30, 50), (0, 0, 255)), "Well?",
    ]  # fmt: skip
    assert [shown(p) for p in sent[3]["content"]] == [((30, 50), (0, 0, 255)), "Sure?"]


def test_sampling_model_and_extra_body_are_sent(server: Server) -> None:
    agent = server.agent(lambda r: r.say("ok"), extra_body={"top_k": 7, "top_p": 0.5})
    agent.complete(ASK, Sampling(max_tokens=11, temperature=0.3, top_p=0.9, seed=5))
    body = server.bodies[0]
    body.pop("messages")
    assert body == {
        "model": "the-model",
        "stream": True,
        "max_tokens": 11,
        "temperature": 0.3,
        "top_p": 0.5,
        "seed": 5,
        "top_k": 7,
    }


def test_the_endpoints_key_is_sent_and_never_one_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "from-the-environment")
    ask(server.agent(lambda r: r.say("ok"), api_key=SECRET))
    ask(server.agent(lambda r: r.say("ok")))
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"
    assert "from-the-environment" not in str(server.headers)


def test_a_server_on_this_machine_is_not_asked_through_a_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert ask(server.agent(lambda r: r.say("ok"))).text == "ok"


def test_a_key_file_that_vanished_is_a_config_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    agent = server.agent(lambda r: r.say("ok"), api_key_file=str(tmp_path / "key"))
    (tmp_path / "key").unlink()
    with pytest.raises(ConfigError):
        ask(agent)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_sent_apart_comes_back_in_think_tags_before_the_content(server: Server, name: str) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.delta(**{name: "It is "}, content=None)
        r.delta(**{name: "red."})
        r.delta("<answer>")
        r.delta("{}</answer>", finish="stop")
        r.done()

    completion = ask(server.agent(script))
    assert completion.text == "<think>It is red.</think><answer>{}</answer>"
    assert completion.finish == "stop"


def test_reasoning_alone_is_a_reply_with_closed_tags(server: Server) -> None:
    """Some servers count the whole reply as reasoning; the answer in it can still be read."""

    def script(r: Reply) -> None:
        r.start()
        r.delta(reasoning_content="<answer>{}</answer>", finish="stop")
        r.done()

    assert ask(server.agent(script)).text == "<think><answer>{}</answer></think>"


def test_finish_reason_length_is_a_cut_off_completion(server: Server) -> None:
    completion = ask(server.agent(lambda r: r.say("Half a", finish="length")))
    assert (completion.text, completion.finish) == ("Half a", "length")


def test_the_servers_token_count_is_used_where_it_sends_one(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.delta("many words in one piece", finish="stop")
        r.event({"choices": [], "usage": {"completion_tokens": 6, "prompt_tokens": 1}})
        r.done()

    assert ask(server.agent(script)).tokens == 6


def test_chunks_that_make_no_sense_are_passed_over(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        things: list[object] = [5, [], {}, "x", {"choices": "abc"}]
        for thing in [*things, {"choices": [{"delta": {"content": [1]}}]}]:
            r.event(thing)
        r.raw(b": a comment\n\n")
        r.delta("ok", finish="stop")
        r.done()

    assert ask(server.agent(script)).text == "ok"


@pytest.mark.parametrize("after", ["broken", "silence"])
def test_no_proper_end_after_the_finish_reason_is_fine(
    server: Server, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """The reply is whole: neither a broken connection nor silence after it is an error."""
    monkeypatch.setattr(server_agent, "LINGER", 0.2)

    def script(r: Reply) -> None:
        r.start()
        r.delta("whole", finish="stop")
        if after == "broken":
            r.handler.wfile.write(b"zz")
        else:
            r.hang()

    assert ask(server.agent(script)).text == "whole"
    assert len(server.bodies) == 1


# --- ending early -------------------------------------------------------------------------------


def test_on_text_false_ends_early_and_closes_the_connection(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.delta("<answer>")
        r.delta("yes")
        r.hang()

    completion = ask(server.agent(script), lambda text: "yes" not in text)
    assert (completion.text, completion.finish) == ("<answer>yes", "early")
    assert server.gone.wait(1) and no_reader_left()


def test_an_exception_of_on_text_passes_through_and_closes_the_connection(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.delta("a")
        r.hang()

    def interrupt(text: str) -> bool:
        raise Interrupted

    with pytest.raises(Interrupted):
        ask(server.agent(script), interrupt)
    assert server.gone.wait(1) and no_reader_left()
    assert len(server.bodies) == 1


@pytest.mark.parametrize("when", ["before the headers", "between two pieces"])
def test_check_interrupts_within_a_second_while_the_server_hangs(server: Server, when: str) -> None:
    """And the server sees the connection close, so that it stops generating."""

    def script(r: Reply) -> None:
        if when == "between two pieces":
            r.start()
            r.delta("a")
        r.hang()

    agent = server.agent(script)
    begun = time.monotonic()

    def check() -> None:
        if server.bodies and time.monotonic() - begun > 0.3:
            raise Interrupted

    agent.check = check
    with pytest.raises(Interrupted):
        ask(agent)
    assert time.monotonic() - begun < 10, "the server hangs for ever"
    assert server.gone.wait(10) and no_reader_left()


def test_check_is_also_asked_while_pieces_flow(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.forever(lambda: r.delta("a"))

    agent = server.agent(script)
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 20:
            raise Interrupted

    agent.check = check
    with pytest.raises(Interrupted):
        ask(agent, max_tokens=100_000)
    assert server.gone.wait(1)


def test_check_interrupts_the_pause_between_two_tries(server: Server) -> None:
    agent = server.agent(lambda r: r.error(503, "busy"))
    slept: list[float] = []
    agent.sleep = slept.append

    def check() -> None:
        if len(slept) == 5:
            raise Interrupted

    agent.check = check
    with pytest.raises(Interrupted):
        ask(agent)
    assert len(server.bodies) == 1


def test_a_server_that_never_stops_is_cut_off(server: Server) -> None:
    """Max_tokens ignored: ended at 40 characters per token + 10,000, whatever the pieces' size."""

    def script(r: Reply) -> None:
        r.start()
        r.forever(lambda: r.delta("x" * 500))

    completion = ask(server.agent(script), max_tokens=50)
    assert completion.finish == "length"
    assert 12_000 < len(completion.text) <= 12_500
    assert server.gone.wait(1) and no_reader_left()


def test_a_server_that_sends_empty_pieces_forever_is_cut_off(server: Server) -> None:
    piece = b'data: {"choices": [{"index": 0, "delta": {"content": ""}}]}\n\n' * 500

    def script(r: Reply) -> None:
        r.start()
        r.forever(lambda: r.raw(piece))

    fails(server.agent(script), "empty reply", "length")
    assert server.gone.wait(1)


# --- failures -----------------------------------------------------------------------------------


def test_a_missing_package_names_the_command_that_installs_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(AgentError, match=r"pip install 'interleave-thinker\[server\]'"):
        ask(server.agent(lambda r: r.say("ok")))


def test_importing_the_agent_does_not_import_the_package() -> None:
    root = Path(__file__).resolve().parents[2]
    code = (
        f"import sys; sys.path.append({str(root)!r}); import interleave_thinker.agents.endpoints; "
        "print([m for m in ('openai', 'httpx', 'httpx2', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_refused_port_says_that_nothing_listens(server: Server) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        server.port = closed.server_address[1]
    fails(server.agent(lambda r: None), "nothing listens", "base_url")


@pytest.mark.parametrize("when", ["before the headers", "between two pieces", "only comments"])
def test_a_server_slower_than_the_timeout_is_given_up(server: Server, when: str) -> None:
    def script(r: Reply) -> None:
        def comment() -> None:
            r.raw(b": still here\n\n")
            time.sleep(0.05)

        if when != "before the headers":
            r.start()
            r.delta("a")
        if when == "only comments":
            r.forever(comment)
        r.hang()

    begun = time.monotonic()
    fails(server.agent(script, timeout=0.4), "0.4 s", "timeout")
    assert time.monotonic() - begun < 10, "the server hangs for ever"
    assert len(server.bodies) == 1 and server.gone.wait(10)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    agent = server.agent(lambda r: r.error(status, "busy"), lambda r: r.say("ok"))
    slept: list[float] = []
    agent.sleep = slept.append
    assert ask(agent).text == "ok"
    assert len(server.bodies) == 2 and sum(slept) == pytest.approx(1)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_that_stays_busy_is_asked_three_times(server: Server, status: int) -> None:
    agent = server.agent(lambda r: r.error(status, {"error": {"message": "out of memory"}}))
    slept: list[float] = []
    agent.sleep = slept.append
    fails(agent, str(status), "3 tries", "out of memory")
    assert len(server.bodies) == 3 and sum(slept) == pytest.approx(1 + 3)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_names_the_settings_to_correct(server: Server, status: int) -> None:
    body = {"error": {"message": f"Incorrect API key provided: {SECRET}"}}
    agent = server.agent(lambda r: r.error(status, body), api_key=SECRET)
    fails(agent, str(status), "api_key", "api_key_file")
    assert len(server.bodies) == 1


def test_404_names_the_model_and_the_address_setting(server: Server) -> None:
    agent = server.agent(lambda r: r.error(404, {"error": {"message": "no such model"}}))
    fails(agent, "'the-model'", "base_url", "no such model")
    assert len(server.bodies) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_shows_the_servers_words_bounded_and_without_the_key(server: Server, status: int) -> None:
    body = {"error": {"message": f"the key {SECRET} {'is long ' * 500}"}}
    agent = server.agent(lambda r: r.error(status, body), api_key=SECRET)
    message = fails(agent, str(status), "is long is long", "[key]")
    assert len(message.split("It says: ")[1]) <= 300
    assert len(server.bodies) == 1


@pytest.mark.parametrize("body", ["", "plain", "<html>no</html>", "[1, 2]", {"detail": "x"}, {}])
def test_any_body_of_a_refusal_is_survived(server: Server, body: object) -> None:
    fails(server.agent(lambda r: r.error(400, body)), "400")


def test_max_tokens_refused_by_name_is_sent_under_its_new_name_and_that_is_kept(
    server: Server,
) -> None:
    def script(r: Reply) -> None:
        if "max_tokens" in server.bodies[-1]:
            text = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            r.error(400, {"error": {"message": text, "param": "max_tokens"}})
        else:
            r.say("ok")

    agent = server.agent(script)
    assert ask(agent).text == "ok" and ask(agent).text == "ok"
    sent = [{k: v for k, v in b.items() if k.startswith("max_")} for b in server.bodies]
    assert sent == [{"max_tokens": 100}, {"max_completion_tokens": 100}, {"max_completion_tokens": 100}]


def test_max_tokens_refused_under_both_names_is_an_error_and_not_kept(server: Server) -> None:
    agent = server.agent(lambda r: r.error(400, {"message": "max_tokens is too large: 100"}))
    fails(agent, "too large")
    assert ["max_tokens" in body for body in server.bodies] == [True, False]
    fails(agent, "too large")
    assert ["max_tokens" in body for body in server.bodies] == [True, False] * 2


@pytest.mark.parametrize("cut", [cut_off, ends_silently])
def test_a_reply_that_breaks_off_once_is_asked_for_again_from_scratch(server: Server, cut: Script) -> None:
    seen: list[str] = []
    agent = server.agent(cut, lambda r: r.say("Who", "le"))
    completion = ask(agent, lambda text: not seen.append(text))  # type: ignore[func-returns-value]
    assert (completion.text, completion.finish, len(server.bodies)) == ("Whole", "stop", 2)
    assert seen == ["Half a re", "Who", "Whole"]


@pytest.mark.parametrize("cut", [cut_off, ends_silently])
def test_a_reply_that_breaks_off_twice_is_an_error(server: Server, cut: Script) -> None:
    fails(server.agent(cut), "cut off")
    assert len(server.bodies) == 2 and no_reader_left()


def test_done_without_a_finish_reason_counts_as_cut_off(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.delta("Half a re")
        r.done()

    fails(server.agent(script), "cut off")
    assert len(server.bodies) == 2


def test_a_connection_closed_without_any_answer_is_tried_once_more(server: Server) -> None:
    agent = server.agent(lambda r: None, lambda r: r.say("ok"))
    assert ask(agent).text == "ok"
    fails(server.agent(lambda r: None), "without a reply", "base_url")
    assert len(server.bodies) == 4


def test_a_line_that_is_no_json_counts_as_cut_off(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.raw(b'data: {"choices": [{"del\n\n')
        r.end()

    fails(server.agent(script), "cut off")


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_a_page_instead_of_a_stream_points_to_base_url(server: Server, kind: str) -> None:
    def script(r: Reply) -> None:
        r.start(kind=kind)
        r.raw(b"<html>welcome</html>\n\n")
        r.end()

    fails(server.agent(script), "base_url", "/v1")


def test_an_error_inside_of_the_stream_shows_the_servers_words(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.delta("a")
        r.event({"error": {"message": f"image too large {SECRET}", "code": 400}})
        r.end()

    fails(server.agent(script, api_key=SECRET), "image too large")
    assert len(server.bodies) == 1


def test_a_busy_error_inside_of_the_stream_is_tried_again(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.event({"error": {"message": "provider disconnected", "code": 502}})
        r.end()

    assert ask(server.agent(script, lambda r: r.say("ok"))).text == "ok"


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
def test_a_reply_without_any_text_is_an_error_with_the_reason(server: Server, reason: str) -> None:
    fails(server.agent(lambda r: r.say("", " ", finish=reason)), "empty reply", reason)


class gaierror(OSError):
    """Stands for socket.gaierror: no name server is asked in a unit test."""


class ConnectTimeout(Exception):
    pass


class SSLCertVerificationError(OSError):
    pass


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (gaierror(-2, f"Name or service not known {SECRET}"), "host name"),
        (ConnectTimeout(SECRET), "no connection within 10 s"),
        (SSLCertVerificationError(1, SECRET), "certificate"),
        (OSError(101, SECRET), "cannot be reached"),
    ],
)
def test_connections_that_fail_are_told_apart_by_their_cause(
    server: Server, monkeypatch: pytest.MonkeyPatch, cause: Exception, words: str
) -> None:
    def create(self: object, **kwargs: object) -> None:
        raise openai.APIConnectionError(request=None) from cause

    monkeypatch.setattr("openai.resources.chat.completions.Completions.create", create)
    fails(server.agent(lambda r: None, api_key=SECRET), words)


def test_no_failure_shows_the_key_in_its_traceback(server: Server) -> None:
    """Neither the message nor any exception it came from."""
    body = {"error": {"message": f"wrong key {SECRET}"}}
    agent = server.agent(lambda r: r.error(400, body), api_key=SECRET)
    with pytest.raises(AgentError) as caught:
        ask(agent)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error) + repr(error)
        error = error.__cause__ or error.__context__
    assert SECRET not in repr(agent) + agent.name
