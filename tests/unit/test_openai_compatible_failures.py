"""ServerAgent and a server that fails: what is tried again, and what the user is told."""

from __future__ import annotations

import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai
import pytest
from chat_server import SECRET, Reply, Script, Server, ask, cut_off, ends_silently, fails, no_reader_left

from interleave_thinker.errors import AgentError


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
    assert server.gone.wait(10) and len(server.bodies) == 1  # a busy machine may read the request after the timeout


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


@pytest.mark.parametrize("reason", ["stop", "length"])
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
