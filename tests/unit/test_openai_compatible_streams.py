"""Chat servers as they are: where a reply ends, in which forms text and errors come, and what may not get through."""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from chat_server import ASK, SECRET, Reply, Script, Server, ask, fails, no_reader_left

from interleave_thinker.agents import openai_compatible
from interleave_thinker.agents.base import Sampling
from interleave_thinker.agents.chat_connection import is_this_machine
from interleave_thinker.agents.chat_stream import is_whole
from interleave_thinker.agents.endpoints import Endpoint
from interleave_thinker.agents.openai_compatible import agent_for

PLAN = json.dumps({"execution_plan": [{"step_number": n, "prompt": f"picture {n}"} for n in range(1, 6)]})
THIRDS = (PLAN[:60], PLAN[60:120], PLAN[120:])


def streamed(*steps: Any) -> Script:
    """A reply of `steps`: a dict is an event, bytes are sent as they are, a number is a pause in seconds."""

    def script(r: Reply) -> None:
        r.start()
        for step in steps:
            if isinstance(step, dict):
                r.event(step)
            elif isinstance(step, bytes):
                r.raw(step)
            else:
                time.sleep(step)
        r.end()

    return script


def chunk(content: Any = None, finish: str | None = None, key: str = "delta", **more: Any) -> dict[str, Any]:
    delta = more if content is None else {"content": content, **more}
    return {"choices": [{"index": 0, key: delta, "finish_reason": finish}]}


DONE = b"data: [DONE]\n\n"


# --- the end of a reply -------------------------------------------------------------------------


@pytest.mark.parametrize("pause", [0, 2.5], ids=["at once", "after a pause"])
@pytest.mark.parametrize(
    "finishes",
    [("stop", "stop", "stop"), ("stop", None, None), (None, "stop", None), ("stop", None, "stop"), ("eos", "", "tool_calls")],
)  # fmt: skip
def test_text_after_a_finish_reason_is_read(server: Server, finishes: tuple[str | None, ...], pause: float) -> None:
    first, second, third = map(chunk, THIRDS, finishes)
    completion = ask(server.agent(streamed(first, second, pause, third, DONE)))
    assert (completion.text, completion.finish, len(server.bodies)) == (PLAN, "stop", 1)


def test_a_finish_reason_on_an_empty_first_chunk_ends_nothing(server: Server) -> None:
    assert ask(server.agent(streamed(chunk("", "stop"), chunk(PLAN), chunk("", "stop"), DONE))).text == PLAN


def test_the_last_finish_reason_counts(server: Server) -> None:
    steps = (chunk("a", "stop"), chunk("b", "length"), DONE)
    assert ask(server.agent(streamed(*steps))).finish == "length"


def test_done_ends_a_reply_at_once_though_the_connection_stays_open(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.delta("not JSON", finish="stop")
        r.raw(DONE)
        r.hang()

    begun = time.monotonic()
    assert ask(server.agent(script)).text == "not JSON"
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_silence_after_a_finish_reason_ends_only_a_whole_or_a_cut_off_reply(
    server: Server, monkeypatch: pytest.MonkeyPatch, finish: str
) -> None:
    monkeypatch.setattr(openai_compatible, "LINGER", 0.3)

    def script(r: Reply) -> None:
        r.start()
        r.delta(PLAN[:-9], finish=finish)
        r.hang()

    if finish == "length":
        assert ask(server.agent(script)).finish == "length"
    else:
        fails(server.agent(script), "cut off")
        assert len(server.bodies) == 2


@pytest.mark.parametrize("after", ["", "</answer>", "\n```\n", "\n</tool_call>", "```</answer> \n"])
@pytest.mark.parametrize("value", [PLAN, '[{"a": "}"}]', 'Sure: {"a": "line\nbreak"}', "[see below {x}\n" + PLAN])
@pytest.mark.parametrize("end", ["done", "end of the body"])
def test_an_exact_object_and_a_proper_end_are_whole_without_a_finish_reason(
    server: Server, value: str, after: str, end: str
) -> None:
    steps = [chunk(value + after)] + ([DONE] if end == "done" else [])
    completion = ask(server.agent(streamed(*steps)))
    assert (completion.text, completion.finish, len(server.bodies)) == (value + after, "stop", 1)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [{"b": 1}, {"b": 2}',
        '{"a": [{"b": 1}]',
        '{"a": "x}',
        '[{"b": 1}',
        '{"a": 1} and then',
        '<think>as in {"a": 1}',
        "{'a': 1}",
        "plain",
    ],
)
def test_a_proper_end_alone_makes_no_text_whole(server: Server, text: str) -> None:
    fails(server.agent(streamed(chunk(text), DONE)), "cut off")
    assert len(server.bodies) == 2


def test_reasoning_alone_is_not_whole_without_a_finish_reason(server: Server) -> None:
    fails(server.agent(streamed(chunk(reasoning='{"a": 1}'), DONE)), "cut off")


def test_a_connection_that_dies_is_a_cut_whatever_was_written(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.delta(PLAN)
        r.handler.wfile.write(b"40\r\ndata: {")

    fails(server.agent(script), "cut off")


@pytest.mark.parametrize("text", ["[" * 90_000 + "]", '{"a":' * 15_000 + "}", "{" * 90_000 + "}", "<" * 90_000 + "}"])
def test_whether_a_hostile_text_is_whole_is_known_soon(text: str) -> None:
    begun = time.monotonic()
    assert not is_whole(text)
    assert time.monotonic() - begun < 10


def test_the_reply_that_ends_with_an_error_is_asked_for_again(server: Server) -> None:
    failed = streamed(chunk(PLAN[:50]), chunk("", "error"), DONE)
    assert ask(server.agent(failed, lambda r: r.say(PLAN))).text == PLAN
    server.bodies.clear()
    fails(server.agent(failed), "finish_reason 'error'", "log")
    assert len(server.bodies) == 2


@pytest.mark.parametrize("text", ["", "Half a re", PLAN])
def test_a_filtered_reply_is_a_failure_that_says_so(server: Server, text: str) -> None:
    fails(server.agent(streamed(chunk(text), chunk("", "content_filter"), DONE)), "content filter withheld", "Change")
    assert len(server.bodies) == 1


def test_a_thought_that_max_tokens_cut_off_stays_open(server: Server) -> None:
    steps = (chunk(reasoning_content='Perhaps {"success": true}'), chunk(None, "length"), DONE)
    completion = ask(server.agent(streamed(*steps)))
    assert (completion.text, completion.finish) == ('<think>Perhaps {"success": true}', "length")


# --- forms of text ------------------------------------------------------------------------------

TEXT = {"type": "text", "text": "ok"}


@pytest.mark.parametrize("key", ["delta", "message"])
@pytest.mark.parametrize(
    ("delta", "text"),
    [
        ({"content": [TEXT]}, "ok"),
        ({"content": [{"type": "output_text", "text": "o"}, {"type": "text", "text": "k"}]}, "ok"),
        ({"content": ["o", "k"]}, "ok"),
        ({"content": TEXT}, "ok"),
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}, TEXT]}, "ok"),
        ({"content": [{"type": "thinking", "thinking": "hm"}, TEXT]}, "<think>hm</think>ok"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, TEXT]}, "<think>hm</think>ok"),
        ({"content": [{"type": "reasoning", "text": "hm"}, TEXT]}, "<think>hm</think>ok"),
        ({"content": "ok", "thinking": "hm"}, "<think>hm</think>ok"),
        ({"content": "ok", "reasoning": {"content": "hm"}}, "<think>hm</think>ok"),
        ({"content": "ok", "reasoning": [{"type": "summary_text", "text": "hm"}]}, "<think>hm</think>ok"),
        ({"content": "ok", "reasoning": "hm", "reasoning_content": "hm"}, "<think>hm</think>ok"),
        ({"content": "ok", "reasoning": "hm", "reasoning_details": [{"text": "hm"}]}, "<think>hm</think>ok"),
    ],
)  # fmt: skip
def test_text_is_read_in_every_form(server: Server, key: str, delta: dict[str, Any], text: str) -> None:
    event = {"choices": [{key: delta, "finish_reason": None}]}
    assert ask(server.agent(streamed(event, chunk("", "stop"), DONE))).text == text


def test_a_last_message_that_repeats_the_reply_adds_nothing(server: Server) -> None:
    steps = (*map(chunk, THIRDS), chunk(PLAN, "stop", key="message"), DONE)
    assert ask(server.agent(streamed(*steps))).text == PLAN


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("gap", [1, 2], ids=["no empty line", "empty line"])
def test_events_are_found_whatever_ends_a_line_and_wherever_a_packet_ends(
    server: Server, newline: str, gap: int
) -> None:
    data = "".join(
        f"data:{json.dumps(thing, ensure_ascii=False)}{newline * gap}" for thing in (chunk("schön"), chunk("", "stop"))
    )
    sent = ("\ufeff: hello\n\n" + data + "data: [DONE]").encode()
    assert ask(server.agent(streamed(*(sent[n : n + 1] for n in range(len(sent)))))).text == "schön"


# --- errors with HTTP 200 -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain"])
@pytest.mark.parametrize(
    "body",
    [
        {"object": "error", "code": 404, "message": "it is not loaded"},
        {"error": "it is not loaded"},
        {"error": {"message": "it is not loaded", "code": None}},
        {"detail": "it is not loaded"},
        {"message": "it is not loaded"},
        {"errors": [{"message": "it is not loaded"}], "success": False},
        [{"error": {"message": "it is not loaded"}}],
    ],
)
def test_an_error_with_http_200_shows_the_servers_words(server: Server, kind: str, body: Any) -> None:
    def script(r: Reply) -> None:
        r.start(kind=kind)
        r.raw(json.dumps(body, indent=1).encode())
        r.end()

    fails(server.agent(script), "It says: ", "it is not loaded")
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error": "out of memory"}\n\n',
        b'data: {"error": {"message": "out of memory"}}\n\n',
        b'event: error\ndata: {"message": "out of memory"}\n\n',
        b'data: {"object": "error", "message": "out of memory", "code": 40303}\n\n',
        b'data: {"type": "error", "error": {"message": "out of memory"}}\n\n',
        b'data: {"choices": [{"delta": {}, "error": {"message": "out of memory"}, "finish_reason": "error"}]}\n\n',
    ],
)
def test_an_error_in_mid_reply_shows_the_servers_words(server: Server, event: bytes) -> None:
    fails(server.agent(streamed(chunk("Half"), event, DONE)), "It says: ", "out of memory")


def test_a_whole_completion_that_was_not_streamed_is_the_reply(server: Server) -> None:
    body = {**chunk(PLAN, "stop", key="message"), "usage": {"completion_tokens": 77}, "object": "chat.completion"}

    def script(r: Reply) -> None:
        r.start(kind="application/json")
        r.raw(json.dumps(body).encode())
        r.end()

    completion = ask(server.agent(script))
    assert (completion.text, completion.finish) == (PLAN, "stop")


@pytest.mark.parametrize("body", ["<!DOCTYPE html><p>Welcome", "{}", '{"status": "ok"}', '"x"', "Ollama is running"])
def test_any_other_body_points_to_base_url(server: Server, body: str) -> None:
    def script(r: Reply) -> None:
        r.start(kind="text/plain")
        r.raw(body.encode())
        r.end()

    fails(server.agent(script), "does not stream chat completions", "base_url")


# --- fields left out ----------------------------------------------------------------------------


def refuses(server: Server, names: set[str], status: int, body: Callable[[str], object], *, all_of: bool) -> Script:
    """A server that refuses requests with any (or all) of `names`."""

    def script(r: Reply) -> None:
        sent = sorted(names & set(server.bodies[-1]))
        if len(sent) == len(names) if all_of else sent:
            r.error(status, body(" and ".join(sent) if all_of else sent[0]))
        else:
            r.say("ok")

    return script


def sent(server: Server) -> list[set[str]]:
    return [set(body) & {"temperature", "top_p", "seed", "max_tokens"} for body in server.bodies]


ALL = {"temperature", "top_p", "seed", "max_tokens"}


def test_fields_of_leave_out_are_not_sent(server: Server) -> None:
    for names in (["top_p"], ["seed", "max_tokens"], ("temperature",), []):
        server.bodies.clear()
        ask(server.agent(lambda r: r.say("ok"), leave_out=names))
        assert sent(server) == [ALL - set(names)]


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "body",
    [
        lambda name: {"error": {"message": f"Unsupported parameter: '{name}'", "code": "x"}},
        lambda name: {"error": {"message": "This field is not supported.", "param": name}},
        lambda name: {"detail": [{"loc": ["body", name], "msg": "extra fields not permitted"}]},
        lambda name: {"error": f"{name}: unknown field"},
        lambda name: f"unknown field {name}.",
    ],
)
def test_each_field_that_a_server_refuses_by_name_is_left_out_from_then_on(
    server: Server, status: int, body: Callable[[str], object]
) -> None:
    agent = server.agent(refuses(server, {"top_p", "seed", "temperature"}, status, body, all_of=False))
    assert ask(agent).text == "ok" and ask(agent).text == "ok"
    assert sent(server)[0] == ALL and sent(server)[-2:] == [{"max_tokens"}] * 2 and len(server.bodies) == 5


def test_of_temperature_and_top_p_the_temperature_is_kept(server: Server) -> None:
    body = {"error": {"message": "temperature and top_p may not both be set for this model"}}
    agent = server.agent(refuses(server, {"temperature", "top_p"}, 400, lambda name: body, all_of=True))
    assert ask(agent).text == "ok" and ask(agent).text == "ok"
    assert sent(server) == [ALL, ALL - {"top_p"}, ALL - {"top_p"}]


def test_a_field_of_extra_body_is_the_users_and_stays(server: Server) -> None:
    agent = server.agent(lambda r: r.error(400, {"message": "top_p must be 1"}), extra_body={"top_p": 0.5})
    fails(agent, "top_p must be 1")
    assert len(server.bodies) == 1


def test_a_server_that_refuses_whatever_is_sent_is_asked_a_few_times_and_nothing_is_kept(server: Server) -> None:
    message = {"message": "allowed are temperature, top_p, seed"}
    agent = server.agent(lambda r: r.error(400, message))
    fails(agent, "allowed are")
    first = len(server.bodies)
    assert first <= 4
    fails(agent, "allowed are")
    assert sent(server)[first] == ALL


# --- redirects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_named_and_not_followed(server: Server, status: int) -> None:
    def script(r: Reply) -> None:
        r.handler.send_response(status)
        place = f"https://user:{SECRET}@else.example:8443/{SECRET}?token={SECRET}"
        r.handler.send_header("Location", place)
        r.handler.send_header("Content-Length", "0")
        r.handler.end_headers()

    message = fails(server.agent(script, api_key=SECRET), str(status), "else.example:8443", "final address", "base_url")
    assert "token" not in message and "user" not in message and len(server.bodies) == 1


@pytest.mark.parametrize("location", ["/api/v1/chat/completions", None, "http://[", "?x=1"])
def test_a_redirect_on_the_same_host_shows_its_path(server: Server, location: str | None) -> None:
    def script(r: Reply) -> None:
        r.handler.send_response(308)
        if location is not None:
            r.handler.send_header("Location", location)
        r.handler.send_header("Content-Length", "0")
        r.handler.end_headers()

    message = fails(server.agent(script), "redirect (HTTP 308)", "base_url")
    assert ("/api/v1/chat/completions" in message) == (location is not None and location.startswith("/api"))


# --- bounds -------------------------------------------------------------------------------------


def flood(r: Reply, data: bytes, status: int = 200, coding: str = "") -> None:
    r.handler.send_response(status)
    r.handler.send_header("Content-Type", "text/event-stream")
    if coding:
        r.handler.send_header("Content-Encoding", coding)
    r.handler.send_header("Transfer-Encoding", "chunked")
    r.handler.end_headers()
    r.forever(lambda: r.raw(data))


FLOODS: dict[str, Script] = {
    "an endless line": lambda r: flood(r, b"data: " + b"x" * 2**20),
    "an endless line without a field": lambda r: flood(r, b"x" * 2**20),
    "an endless event": lambda r: flood(r, b"data: " + b"x" * 1000 + b"\n"),
    "an endless body": lambda r: flood(r, b"[" * 2**20),
    "endless blanks": lambda r: flood(r, b" " * 2**20),
    "endless comments": lambda r: flood(r, b": hello\n\n" * 10_000),
    "a gzip bomb": lambda r: flood(r, gzip.compress(b"data: " + bytes(2**27), 1), coding="gzip"),
    "a deflate bomb": lambda r: flood(r, zlib.compress(bytes(2**27), 1), coding="deflate"),
    "gzip without any content": lambda r: flood(r, gzip.compress(b"") * 1000, coding="gzip"),
    "an endless error": lambda r: flood(r, b"x" * 2**20, status=400),
    "a bomb as an error": lambda r: flood(r, gzip.compress(bytes(2**27), 1), status=400, coding="gzip"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_refused_in_bounded_memory(name: str) -> None:
    """In a process of its own: the peak is told by the system, and grows by 64 MB at most."""
    code = f"""
import sys, resource
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}
import openai, interleave_thinker.agents.endpoints as e, interleave_thinker.agents.openai_compatible as o
from interleave_thinker.agents.base import Message, Sampling
from interleave_thinker.errors import AgentError
agent = o.agent_for(e.Endpoint("lab", sys.argv[1], "m", timeout=60))
for n in range(2):
    try:
        agent.complete([Message("user", ("x",))], Sampling(max_tokens=100))
    except AgentError as error:
        print(error)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print("peak", peak)
"""
    from chat_server import serving

    with serving() as quick:
        quick.scripts = [lambda r: r.error(400, "no"), FLOODS[name]]
        url = f"http://127.0.0.1:{quick.port}/v1"
        done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        assert quick.gone.wait(10)
    lines = done.stdout.splitlines()
    before, after = (int(line.split()[1]) for line in lines if line.startswith("peak"))
    assert "'lab'" in lines[2] and ("MB" in lines[2] or "refuses" in lines[2] or "cut off" in lines[2])
    assert after - before < 64


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw deflate", "two members"])
def test_a_server_that_compresses_all_the_same_is_read(server: Server, coding: str) -> None:
    text = b"".join(b"data: " + json.dumps(c).encode() + b"\n\n" for c in (chunk(PLAN), chunk("", "stop"))) + DONE
    raw = zlib.compressobj(wbits=-15)
    body = {
        "gzip": gzip.compress(text),
        "deflate": zlib.compress(text),
        "raw deflate": raw.compress(text) + raw.flush(),
        "two members": gzip.compress(text[:100]) + gzip.compress(text[100:]),
    }[coding]

    def script(r: Reply) -> None:
        r.handler.send_response(200)
        r.handler.send_header("Content-Type", "text/event-stream")
        r.handler.send_header("Content-Encoding", "deflate" if "deflate" in coding else "gzip")
        r.handler.send_header("Content-Length", str(len(body)))
        r.handler.end_headers()
        r.handler.wfile.write(body)

    assert ask(server.agent(script)).text == PLAN
    assert server.headers[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize(("coding", "words"), [("br", "'br'"), ("gzip", "compress")])
def test_compression_that_cannot_be_read_is_named(server: Server, coding: str, words: str) -> None:
    def script(r: Reply) -> None:
        r.handler.send_response(200)
        r.handler.send_header("Content-Encoding", coding)
        r.handler.send_header("Content-Length", "8")
        r.handler.end_headers()
        r.handler.wfile.write(b"\x1f\x8bnoise!")

    fails(server.agent(script), words, "Turn")


def test_a_verbose_server_is_not_too_long(server: Server) -> None:
    """300 bytes around each token are usual; here 1,500."""
    pad = {"logprobs": "x" * 1500}
    steps = [{**chunk("ab "), **pad} for _ in range(100)]
    assert ask(server.agent(streamed(*steps, chunk("", "stop"), DONE)), max_tokens=100).text == "ab " * 100


# --- proxies ------------------------------------------------------------------------------------


@contextmanager
def proxying(status: int, body: bytes, kind: str = "text/html") -> Iterator[tuple[int, list[str]]]:
    """A proxy on this machine that answers everything itself; its port, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_CONNECT = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield http.server_address[1], asked
    finally:
        http.shutdown()
        http.server_close()


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


def away(scheme: str = "http", **more: Any) -> openai_compatible.ServerAgent:
    agent = agent_for(Endpoint("lab", f"{scheme}://192.168.77.5:11434/v1", "m", timeout=20, **more))
    agent.sleep = lambda seconds: None
    return agent


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("status", [200, 400, 403, 404, 407, 502, 503, 504])
def test_a_page_of_a_proxy_is_named_as_the_proxys(no_proxy: pytest.MonkeyPatch, status: int, variable: str) -> None:
    with proxying(status, b"<html><title>Blocked</title> by policy</html>") as (port, asked):
        no_proxy.setenv(variable, f"http://me:{SECRET}@127.0.0.1:{port}")
        message = fails(away(), f"the proxy 127.0.0.1:{port} answered", "not the endpoint", "NO_PROXY", "Blocked")
        assert "refuses the key" not in message and "me:" not in message
        assert asked[0] == "POST http://192.168.77.5:11434/v1/chat/completions"


@pytest.mark.parametrize("status", [403, 407, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", b"Denied", b"{}"])
def test_a_refusal_without_the_form_of_an_api_is_named_as_the_proxys(
    no_proxy: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    with proxying(status, body, "text/plain") as (port, _):
        no_proxy.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        fails(away(), f"the proxy 127.0.0.1:{port} answered", str(status))


@pytest.mark.parametrize("status", [403, 502])
def test_an_endpoints_own_error_through_a_proxy_names_both(no_proxy: pytest.MonkeyPatch, status: int) -> None:
    with proxying(status, b'{"error": {"message": "no"}}', "application/json") as (port, _):
        no_proxy.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        message = fails(away(), f"through the proxy 127.0.0.1:{port}", str(status))
        assert "not the endpoint" not in message


@pytest.mark.parametrize("status", [403, 407, 503])
def test_a_tunnel_that_the_proxy_refuses_is_named_as_the_proxys(no_proxy: pytest.MonkeyPatch, status: int) -> None:
    with proxying(status, b"<html>no</html>") as (port, asked):
        no_proxy.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        fails(away("https"), f"the proxy 127.0.0.1:{port} refuses", str(status), "NO_PROXY")
        assert asked == ["CONNECT 192.168.77.5:11434"]


def test_a_proxy_that_does_not_run_is_named(no_proxy: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    no_proxy.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    fails(away(), f"the proxy 127.0.0.1:{port} cannot be reached", "NO_PROXY")


def test_a_proxy_that_cannot_be_used_is_said(no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("ALL_PROXY", "carrier-pigeon://127.0.0.1:9")
    fails(away(), "proxy in the environment", "ALL_PROXY", "NO_PROXY")


HERE = ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "LOCALHOST", "a.localhost"]  # fmt: skip


@pytest.mark.parametrize("host", HERE)
def test_this_machine_is_known_by_all_its_addresses(host: str) -> None:
    for url in (f"http://{host}/v1", f"https://{host}:8000/v1", f"http://{host}:8000"):
        assert is_this_machine(url)


@pytest.mark.parametrize(
    "host", ["127.example.com", "10.0.0.1", "[::2]", "localhost.example.com", "0.0.0.1", "[fe80::1]"]
)
def test_other_machines_are_not_taken_for_this_one(host: str) -> None:
    assert not is_this_machine(f"http://{host}:8000/v1")


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "carrier-pigeon://x", "socks5://127.0.0.1:9"])
@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "127.0.0.1"])
def test_this_machine_is_asked_directly_whatever_the_environment_names(
    server: Server, no_proxy: pytest.MonkeyPatch, host: str, proxy: str
) -> None:
    no_proxy.setenv("HTTP_PROXY", proxy)
    no_proxy.setenv("ALL_PROXY", proxy)
    server.scripts = [lambda r: r.say("ok")]
    assert ask(agent_for(Endpoint("lab", f"http://{host}:{server.port}/v1", "m"))).text == "ok"


# --- the key ------------------------------------------------------------------------------------

KEY = "sk-a/b+c=0123456789"
FORMS = [KEY, quote(KEY), quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode()]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["content", "reasoning"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_key_in_a_reply_is_replaced_however_it_is_split(server: Server, form: str, where: str, size: int) -> None:
    text = f"sk- your key is {form}, and sk-a"
    pieces = [text[n : n + size] for n in range(0, len(text), size)]
    script = streamed(*(chunk(**{where: piece}) for piece in pieces), chunk("", "stop"), DONE)
    seen: list[str] = []
    completion = ask(server.agent(script, api_key=KEY), lambda text: not seen.append(text))  # type: ignore[func-returns-value]
    written = completion.text.replace("<think>", "").replace("</think>", "")
    assert re.sub(r"\[key\]=+", "[key]", written) == "sk- your key is [key], and sk-a"
    assert not any(form in text for text in seen)


def test_a_beginning_of_the_key_is_shown_as_soon_as_it_is_none(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.delta("a sk-secr")
        r.delta("et!")
        r.hang()

    agent = server.agent(lambda r: r.say("first"), script, api_key=SECRET)
    ask(agent)
    assert ask(agent, lambda text: "et!" not in text).text == "a sk-secret!"


def test_a_short_key_stays_in_a_reply_and_not_in_an_error(server: Server) -> None:
    assert ask(server.agent(lambda r: r.say("a local one"), api_key="local")).text == "a local one"
    server.bodies.clear()
    assert "wrong [key]" in fails(server.agent(lambda r: r.error(400, "wrong local"), api_key="local"))


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_in_no_message(server: Server, form: str) -> None:
    scripts: list[Script] = [
        lambda r: r.error(400, {"message": f"x{form}x"}),
        streamed({"error": f"x{form}x"}),
        lambda r: r.say("", finish=form),
        streamed({"error": {"message": f"x{form}x", "code": 9}}),
    ]
    for script in scripts:
        server.bodies.clear()
        message = fails(server.agent(script, api_key=KEY), "[key]")
        assert form not in message and KEY not in message


# --- thoughts that the template opens -----------------------------------------------------------

DRAFT = 'Maybe <answer>{"success": true}</answer>?'
OPENED = (DRAFT, " No.</think>", '<answer>{"success": false}</answer>')


def enough(text: str) -> bool:
    """Has enough at the first answer outside of thoughts, as a critic does."""
    if text.startswith("<think>"):
        text = text.partition("</think>")[2]
    return "</answer>" not in text


@pytest.mark.parametrize("close", ["</think>", "</thinking>", "[/THINK]", "</THINK>"])
def test_a_thought_that_the_template_opened_is_known_by_its_end(server: Server, close: str) -> None:
    script = streamed(*(chunk(t.replace("</think>", close)) for t in OPENED), chunk("", "stop"), DONE)
    calls: list[str] = []

    def on_text(text: str) -> bool:
        calls.append(text)
        return enough(text)

    completion = ask(server.agent(script), on_text)
    assert completion.text == "<think>" + "".join(OPENED).replace("</think>", close) and completion.finish == "stop"
    assert calls == [DRAFT]


def test_later_replies_of_such_an_endpoint_begin_inside_the_thought(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        for text in OPENED:
            r.delta(text)
        r.hang()

    ask(server.agent(lambda r: r.say(*OPENED)))
    seen: list[str] = []
    agent = server.agent(script)
    server.bodies.clear()
    completion = ask(agent, lambda text: seen.append(text) or enough(text))  # type: ignore[func-returns-value]
    assert seen[0] == "<think>" + DRAFT
    assert (completion.text, completion.finish) == ("<think>" + "".join(OPENED), "early")
    assert server.gone.wait(5) and no_reader_left()


def test_a_first_reply_without_such_a_thought_ends_where_on_text_said(server: Server) -> None:
    calls: list[str] = []
    agent = server.agent(lambda r: r.say("<answer>{}</answer>", " and more", " and more"))
    completion = ask(agent, lambda text: bool(calls.append(text)))  # type: ignore[func-returns-value]
    assert (completion.text, completion.finish, len(calls)) == ("<answer>{}</answer>", "early", 1)


@pytest.mark.parametrize("opening", ["<think>", "<thinking>", "[THINK]", "reasoning"])
def test_an_opening_tag_tells_at_once(server: Server, opening: str) -> None:
    def script(r: Reply) -> None:
        r.start()
        if opening == "reasoning":
            r.delta(reasoning="hm")
        else:
            r.delta(opening + "hm</think>")
        r.delta("<answer>{}</answer>")
        r.hang()

    begun = time.monotonic()
    assert ask(server.agent(script), lambda text: "</answer>" not in text).finish == "early"
    assert time.monotonic() - begun < 5 and server.gone.wait(5)


@pytest.mark.parametrize("after", ["silence", "broken", "error", "content_filter"])
def test_what_goes_wrong_after_on_text_had_enough_does_no_harm(
    server: Server, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    monkeypatch.setattr(openai_compatible, "LINGER", 0.3)

    def script(r: Reply) -> None:
        r.start()
        r.delta("<answer>{}</answer>")
        if after == "silence":
            r.hang()
        elif after == "broken":
            r.handler.wfile.write(b"zz")
        else:
            r.delta(finish=after)
            r.done()

    completion = ask(server.agent(script), lambda text: "</answer>" not in text)
    assert (completion.text, completion.finish) == ("<answer>{}</answer>", "early")
    assert len(server.bodies) == 1


def test_a_thought_whose_reply_broke_off_is_no_reply(server: Server) -> None:
    """The draft had been enough, and its thought was closed before the break: the reply is asked for again."""

    def script(r: Reply) -> None:
        r.start()
        r.delta(DRAFT)
        r.delta("No.</think>")
        r.handler.wfile.write(b"zz")

    completion = ask(server.agent(script, lambda r: r.say(*OPENED)), enough)
    assert completion.text == "<think>" + "".join(OPENED) and len(server.bodies) == 2


def test_check_interrupts_a_first_reply_that_is_read_on(server: Server) -> None:
    class Interrupted(BaseException):
        pass

    def script(r: Reply) -> None:
        r.start()
        r.delta("<answer>{}</answer>")
        r.hang()

    agent = server.agent(script)
    enough_at: list[float] = []

    def check() -> None:
        if enough_at and time.monotonic() - enough_at[0] > 0.3:
            raise Interrupted

    agent.check = check
    with pytest.raises(Interrupted):
        ask(agent, lambda text: bool(enough_at.append(time.monotonic())))  # type: ignore[func-returns-value]
    assert server.gone.wait(5) and no_reader_left()


def test_an_endpoint_that_stops_to_think_is_read_anew(server: Server) -> None:
    """Ended without a closing tag: this reply stays an open thought, the next one is read like a first."""
    agent = server.agent(lambda r: r.say(*OPENED), lambda r: r.say("<answer>{}</answer>"))
    texts = [ask(agent).text for _ in range(3)]
    assert texts == ["<think>" + "".join(OPENED), "<think><answer>{}</answer>", "<answer>{}</answer>"]


def test_endpoints_and_models_are_told_apart(server: Server) -> None:
    ask(server.agent(lambda r: r.say(*OPENED)))
    server.bodies.clear()
    other = Endpoint("lab", f"http://127.0.0.1:{server.port}/v1", "another-model")
    server.scripts = [lambda r: r.say("ok")]
    assert agent_for(other).complete(ASK, Sampling()).text == "ok"
