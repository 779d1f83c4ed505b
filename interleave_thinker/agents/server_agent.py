"""An agent behind an OpenAI-compatible chat endpoint: vLLM, SGLang, llama.cpp, Ollama, a hosted model.

A thread of its own reads each reply into a queue, so that the caller notices an interrupt also while
the server is silent. Ending a reply shuts its connection, at which servers stop generating.
The `openai` package is imported with the first reply.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from ..errors import AgentError
from .base import Completion, Message, OnText, Sampling, TextStream, shrink

if TYPE_CHECKING:
    from .endpoints import Endpoint

CONNECT_TIMEOUT = 10.0
POLL = 0.1
"""Seconds between two looks at `check` while waiting."""
DELAYS = (1.0, 3.0)
"""Seconds before another try where the server is busy or broken."""
AGAIN = (429, 500, 502, 503, 504)
LINGER = 2.0
"""Seconds to wait for the end of a stream (token counts) after the reply's last piece."""
SAID = 300
"""Characters shown of what the server says."""

_LOOPBACK = re.compile(r"https?://(localhost|127\.[\d.]+|\[::1\])(:|/|$)", re.I)
_DIRECT = dict.fromkeys(("http://", "https://", "all://"))
"""The HTTP client's way to say: through no proxy, whatever the environment names."""


@dataclass
class ServerAgent:
    """Asks `endpoint` for replies; see `base.Agent`.

    check: called about ten times a second while waiting, raises to interrupt; what it raises leaves
    `complete` as it is. sleep: waits some seconds (at most POLL at once) between tries.
    """

    endpoint: Endpoint
    check: Callable[[], None] | None = None
    sleep: Callable[[float], None] = time.sleep
    _limit: str = field(default="max_tokens", init=False, repr=False)

    @property
    def name(self) -> str:
        """Endpoint, model and a digest of the endpoint's `extra_body`, where it has one."""
        model = self.endpoint.model
        if model.startswith((".", "/", "~")) or "\\" in model:
            model = re.split(r"[\\/]", model)[-1]
        extra = json.dumps(dict(self.endpoint.extra_body), sort_keys=True, default=str)
        digest = "" if extra == "{}" else "+" + hashlib.sha256(extra.encode()).hexdigest()[:8]
        return f"server:{self.endpoint.name}:{model}{digest}"

    @property
    def prompts(self) -> str | None:
        return self.endpoint.prompts

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        """Write one reply; reasoning that the server splits off comes back as `<think>…</think>`.

        A busy server is asked up to three times and a reply that breaks off twice; each try starts
        `on_text` again from the beginning. `Completion.tokens` counts the pieces received unless the
        server says. `sampling.top_k` is not sent: it is no part of the protocol (`extra_body` is).

        Raises:
            AgentError: the server cannot be reached or used, or the reply is empty or breaks off.
            ConfigError: the endpoint's key file cannot be used.
        """
        key = self.endpoint.key()
        openai = _openai()
        request = {
            "model": self.endpoint.model,
            "messages": [_message(m, sampling.max_pixels) for m in messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
        }
        limit = self._limit
        delays = list(DELAYS)
        cut = False
        while True:
            sent = {**request, limit: sampling.max_tokens}
            reader = _Reader(openai, self.endpoint, key, sent, 40 * sampling.max_tokens + 10_000)
            try:
                completion = self._read(reader, TextStream(on_text))
            except _Failure as failure:
                if failure.again == "busy" and delays:
                    self._pause(delays.pop(0))
                elif failure.again == "cut" and not cut:
                    cut = True
                elif failure.again == "max_tokens" and limit == "max_tokens":
                    limit = "max_completion_tokens"
                else:
                    raise AgentError(str(failure)) from None
            else:
                self._limit = limit
                return completion

    def _read(self, reader: _Reader, stream: TextStream) -> Completion:
        """One try."""
        who = f"Endpoint {self.endpoint.name!r}"
        think = _Think()
        finish = ""
        reader.start()
        try:
            while True:
                seconds = LINGER if finish else self.endpoint.timeout
                try:
                    item = self._next(reader, seconds)
                except queue.Empty:
                    if finish:
                        break
                    raise _Failure(
                        f"{who} sent nothing for {seconds:g} s. Is it overloaded, or still loading its "
                        "model? Wait, or raise the endpoint's timeout."
                    ) from None
                if isinstance(item, Exception):
                    if finish:
                        break
                    raise reader.failure(item)
                if item is None:
                    break
                stream.tokens = item.tokens or stream.tokens
                finish = item.finish or finish
                piece = think.wrap(item)
                if piece and not stream.push(piece):
                    return stream.completion(cut_off=False)
        finally:
            reader.stop()
        if not finish:
            raise reader.broken_off()
        if not stream.text.strip():
            raise _Failure(
                f"{who} sent an empty reply (finish_reason {finish[:40]!r}). Try another seed, a larger "
                "max_tokens, or another model."
            )
        if think.open and finish != "length":
            stream.push("</think>", tokens=0)
        return stream.completion(cut_off=finish == "length")

    def _next(self, reader: _Reader, seconds: float) -> _Delta | Exception | None:
        """What the reader got next; queue.Empty after `seconds` without anything."""
        until = time.monotonic() + seconds
        while True:
            if self.check is not None:
                self.check()
            left = until - time.monotonic()
            try:
                return reader.items.get(timeout=max(0.0, min(POLL, left)))
            except queue.Empty:
                if left <= POLL:
                    raise

    def _pause(self, seconds: float) -> None:
        for _ in range(round(seconds / POLL)):
            if self.check is not None:
                self.check()
            self.sleep(POLL)


class _Failure(AgentError):
    """`again`: what could help, if anything; "cut" is simply another try."""

    def __init__(self, message: str, again: Literal["", "busy", "cut", "max_tokens"] = "") -> None:
        super().__init__(message)
        self.again = again


@dataclass(frozen=True)
class _Delta:
    """What one chunk adds. `tokens`: the server's count so far, 0 where it does not say."""

    reasoning: str = ""
    content: str = ""
    finish: str = ""
    tokens: int = 0


@dataclass
class _Think:
    """Puts reasoning that a server sends apart back in front of the content."""

    open: bool = False

    def wrap(self, delta: _Delta) -> str:
        text = ""
        if delta.reasoning:
            text += delta.reasoning if self.open else "<think>" + delta.reasoning
            self.open = True
        if delta.content:
            text += "</think>" + delta.content if self.open else delta.content
            self.open = False
        return text


class _Reader:
    """Reads one reply in a daemon thread: `items` gets deltas, then None (the end) or an exception.

    `bound`: characters (an empty piece counts as one) after which the reply is ended as too long.
    """

    def __init__(self, openai: Any, endpoint: Endpoint, key: str | None, request: dict[str, Any], bound: int) -> None:
        self.items: queue.SimpleQueue[_Delta | Exception | None] = queue.SimpleQueue()
        self._openai = openai
        self._endpoint = endpoint
        self._key = key
        self._request = request
        self._bound = bound
        self._sockets: list[Any] = []
        self._stopped = False
        self._begun = False
        self._streams = True

    def start(self) -> None:
        threading.Thread(target=self._run, name="interleave-server-agent", daemon=True).start()

    def stop(self) -> None:
        """Shut the connection, whatever the thread waits for; it then ends by itself."""
        self._stopped = True
        for sock in list(self._sockets):
            _shut(sock)

    def _run(self) -> None:
        try:
            with (
                self._client() as client,
                client.chat.completions.create(
                    stream=True, extra_body=dict(self._endpoint.extra_body), **self._request
                ) as chunks,
            ):
                kind = chunks.response.headers.get("content-type", "")
                self._streams = "json" not in kind and "html" not in kind
                self._begun = True
                self._read(chunks)
        except Exception as error:
            self.items.put(error)
        else:
            self.items.put(None)

    def _read(self, chunks: Iterator[Any]) -> None:
        received = 0
        for chunk in chunks:
            if self._stopped:
                return
            delta = _delta(chunk)
            received += len(delta.reasoning) + len(delta.content) or 1
            self.items.put(delta)
            if received > self._bound:
                self.items.put(_Delta(finish="length"))
                return

    def _client(self) -> Any:
        """A client for one reply: then the connection to shut is known.

        A server on this machine is never asked through a proxy. Without a key the package would send
        the one it finds in the environment, to whatever server this is; likewise the organization.
        """
        client = self._openai.OpenAI(
            api_key=self._key or "none",
            base_url=self._endpoint.base_url,
            max_retries=0,
            timeout=self._openai.Timeout(self._endpoint.timeout + LINGER, connect=CONNECT_TIMEOUT),
            http_client=self._openai.DefaultHttpxClient(
                event_hooks={"request": [self._hook]},
                mounts=_DIRECT if _LOOPBACK.match(self._endpoint.base_url) else None,
            ),
        )
        client.organization = client.project = None
        return client

    def _hook(self, request: Any) -> None:
        request.extensions["trace"] = self._trace

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """Keep each socket that this request opens: closing a response does not wake its reader."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            sock = info["return_value"].get_extra_info("socket")
            self._sockets.append(sock)
            if self._stopped:
                _shut(sock)

    def broken_off(self) -> _Failure:
        who = f"Endpoint {self._endpoint.name!r}"
        if not self._streams:
            return _Failure(f"{who} does not stream chat completions. Correct base_url: it usually ends with /v1.")
        if not self._begun:
            return _Failure(
                f"{who} closed the connection without a reply, twice. Check base_url (https?) and the server's log.",
                "cut",
            )
        return _Failure(
            f"{who}: the reply was cut off, twice. See the server's log: it may have crashed or run out of memory.",
            "cut",
        )

    def failure(self, error: Exception) -> _Failure:
        """What an exception of the package means to the user."""
        who = f"Endpoint {self._endpoint.name!r}"
        if isinstance(error, self._openai.APIStatusError):
            return self._refused(error.status_code, error)
        if isinstance(error, self._openai.APIError) and not isinstance(error, self._openai.APIConnectionError):
            busy = str(getattr(error, "code", "")) in map(str, AGAIN)
            return _Failure(f"{who} failed while it replied. {self._said(error)}", "busy" if busy else "")
        if self._begun:
            return self.broken_off()
        kinds = [type(cause).__name__ for cause in _causes(error)]
        if "ConnectionRefusedError" in kinds:
            return _Failure(f"{who}: nothing listens there. Start the server, or correct base_url.")
        if "gaierror" in kinds:
            return _Failure(f"{who}: its host name is unknown. Correct base_url, or check the network.")
        if any(kind.startswith("SSL") for kind in kinds):
            return _Failure(f"{who}: no secure connection. Is it https, with a valid certificate?")
        if "ConnectTimeout" in kinds:
            return _Failure(
                f"{who}: no connection within {CONNECT_TIMEOUT:g} s. Correct base_url, or check the "
                "network and the server's firewall."
            )
        if {"RemoteProtocolError", "ReadError", "WriteError"} & set(kinds):
            return self.broken_off()
        return _Failure(f"{who} cannot be reached ({kinds[-1]}). Check base_url and the network.")

    def _refused(self, status: int, error: Any) -> _Failure:
        who = f"Endpoint {self._endpoint.name!r}"
        said = self._said(error)
        if status == 401 or status == 403:
            return _Failure(f"{who} refuses the key (HTTP {status}). Correct its api_key or api_key_file.")
        if status == 404:
            return _Failure(
                f"{who} does not know the model {self._endpoint.model!r}, or base_url is not right "
                f"(it usually ends with /v1). {said}"
            )
        if status in AGAIN:
            why = "is asked too often" if status == 429 else "is overloaded or broken"
            return _Failure(
                f"{who} {why} (HTTP {status}, {1 + len(DELAYS)} tries). Wait, or see its log. {said}",
                "busy",
            )
        named = status == 400 and "max_tokens" in f"{error.param} {said}"
        return _Failure(f"{who} refuses the request (HTTP {status}). {said}", "max_tokens" if named else "")

    def _said(self, error: Any) -> str:
        """The server's own words, bounded, without the key."""
        body = error.body
        if isinstance(body, dict):
            body = body.get("message") or body.get("detail") or body
        text = str(body or error.message)
        if self._key:
            text = text.replace(self._key, "[key]")
        text = " ".join(text.split())
        return "It says: " + (text if len(text) <= SAID else text[: SAID - 1] + "…")


def _openai() -> Any:
    try:
        import openai
    except ImportError:
        raise AgentError(
            "The package for chat servers is missing. Run: pip install 'interleave-thinker[server]'"
        ) from None
    return openai


def _message(message: Message, max_pixels: int) -> dict[str, Any]:
    """Text alone stays a string: not every server takes a list for every role."""
    if not message.images:
        return {"role": message.role, "content": "".join(str(part) for part in message.parts)}
    content: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, str):
            content.append({"type": "text", "text": part})
        else:
            content.append({"type": "image_url", "image_url": {"url": _data_url(part, max_pixels)}})
    return {"role": message.role, "content": content}


def _data_url(image: Image.Image, max_pixels: int) -> str:
    out = io.BytesIO()
    shrink(image.convert("RGB"), max_pixels).save(out, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def _delta(chunk: Any) -> _Delta:
    """Read a chunk liberally: the package does not check what servers send."""
    usage = getattr(getattr(chunk, "usage", None), "completion_tokens", None)
    tokens = usage if isinstance(usage, int) else 0
    choices = getattr(chunk, "choices", None)
    if not isinstance(choices, list) or not choices:
        return _Delta(tokens=tokens)
    delta = getattr(choices[0], "delta", None)
    return _Delta(
        reasoning=_text(delta, "reasoning_content") or _text(delta, "reasoning"),
        content=_text(delta, "content"),
        finish=_text(choices[0], "finish_reason"),
        tokens=tokens,
    )


def _text(thing: Any, key: str) -> str:
    value = getattr(thing, key, None)
    return value if isinstance(value, str) else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it came from; the packages below may change, these names do not."""
    for _ in range(20):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _shut(sock: Any) -> None:
    try:
        sock.shutdown(2)  # both ways: SHUT_RDWR everywhere
    except (OSError, AttributeError):
        pass  # closed already
