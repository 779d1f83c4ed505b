"""ServerAgent asks a real HTTP server: what is sent, what comes back, and how a reply is ended early."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path
from typing import Any

import pytest
from chat_server import ASK, SECRET, Reply, Server, ask, fails, no_reader_left
from PIL import Image

from interleave_thinker.agents import openai_compatible
from interleave_thinker.agents.base import Message, Sampling
from interleave_thinker.errors import ConfigError


class Interrupted(BaseException):
    """As ComfyUI's InterruptProcessingException or KeyboardInterrupt."""


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
@pytest.mark.parametrize("text", ['{"a": 1}', "whole"])
def test_no_proper_end_after_the_finish_reason_is_fine_where_the_text_is_whole(
    server: Server, monkeypatch: pytest.MonkeyPatch, after: str, text: str
) -> None:
    """Neither a broken connection nor silence after an exact object is an error; after other text it is a cut."""
    monkeypatch.setattr(openai_compatible, "LINGER", 0.2)

    def script(r: Reply) -> None:
        r.start()
        r.delta(text, finish="stop")
        if after == "broken":
            r.handler.wfile.write(b"zz")
        else:
            r.hang()

    if text == "whole":
        fails(server.agent(script), "cut off")
        assert len(server.bodies) == 2
    else:
        assert ask(server.agent(script)).text == text
        assert len(server.bodies) == 1


# --- ending early -------------------------------------------------------------------------------


def test_on_text_false_ends_early_and_closes_the_connection(server: Server) -> None:
    def script(r: Reply) -> None:
        r.start()
        r.delta("<answer>")
        r.delta("yes")
        r.hang()

    agent = server.agent(lambda r: r.say("the first reply, which is read to its end"), script)
    ask(agent)
    completion = ask(agent, lambda text: "yes" not in text)
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
