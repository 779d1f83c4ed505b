"""One request to a chat server: its connection, the thread that reads the reply, and what a failure means.

The `openai` package sends the request. Its own reader of the stream is not used: that one has no bound,
reads no error that comes with HTTP 200, and breaks at forms of a chunk that it does not know.
"""

from __future__ import annotations

import ipaddress
import itertools
import queue
import threading
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from ..errors import AgentError
from .chat_stream import Delta, TooLong, delta_of, error_in, events, hide, inflated, values, words_in
from .endpoints import FIELDS, Endpoint
from .server_form import FORM_FIELDS

CONNECT_TIMEOUT = 10.0
DELAYS = (1.0, 3.0)
"""Seconds before another try where the server is busy or broken."""
AGAIN = (429, 500, 502, 503, 504)
SAID = 300
"""Longest excerpt of a server's message, in characters."""

_ERROR_BYTES = 2**16
"""Read of the body of an error."""
_EVENT_BYTES = 2**23
_BY_PROXY = (403, 407, 502, 503, 504)
_BLANK = b"\xef\xbb\xbf \t\r\n"
_DIRECT = dict.fromkeys(("http://", "https://", "all://"))
"""The HTTP client's way to say: through no proxy, whatever the environment names."""


class Failure(AgentError):
    """A try that failed.

    again: what could help, if anything; "cut" is simply another try. named: those of FIELDS and FORM_FIELDS that the
    server refuses by name.
    """

    def __init__(self, message: str, again: Literal["", "busy", "cut"] = "", named: frozenset[str] = frozenset()):
        super().__init__(message)
        self.again = again
        self.named = named


class _Answer(Exception):
    """An HTTP status other than success, with the beginning of the body."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


class _TooMuch(TooLong):
    """A reply has more bytes than its tokens can need."""


def openai_package() -> Any:
    try:
        import openai
    except ImportError:
        raise AgentError(
            "The package for chat servers is missing. Run: pip install 'interleave-thinker[server]'"
        ) from None
    return openai


def http_client(openai: Any, url: str, **more: Any) -> Any:
    """The HTTP client for a server.

    A server on this machine is never asked through a proxy. A redirect is not followed: the key must not
    reach another host.
    """
    here = is_this_machine(url)
    return openai.DefaultHttpxClient(
        follow_redirects=False,
        mounts=_DIRECT if here else None,
        # Without the environment a proxy in it that cannot be used does no harm; https needs its certificates.
        trust_env=not here or url.lower().startswith("https"),
        **more,
    )


class Reader:
    """Reads one reply in a daemon thread: `items` gets deltas, then None (the end) or an exception.

    A reply is ended as too long after 40 characters per token plus 10,000 (an empty piece counts as
    one), and after 2,000 bytes per token plus 1 MiB, before and after decompression.
    """

    def __init__(
        self,
        openai: Any,
        endpoint: Endpoint,
        key: str | None,
        request: dict[str, Any],
        max_tokens: int,
        form: Mapping[str, Any],
    ) -> None:
        self.items: queue.SimpleQueue[Delta | Exception | None] = queue.SimpleQueue()
        self._openai = openai
        self._endpoint = endpoint
        self._who = f"Endpoint {endpoint.name!r}"
        self._key = key
        self._request = request
        self._extra = {**form, **endpoint.extra_body}
        self._characters = 40 * max_tokens + 10_000
        self._bytes = 2_000 * max_tokens + 2**20
        self._event = min(self._bytes, _EVENT_BYTES)
        self._sockets: list[Any] = []
        self._stopped = False
        self._begun = False
        self._streams = True
        self._target = ("", 0)
        self._connected = ("", 0)
        self._socks = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="interleave-server-agent", daemon=True).start()

    def stop(self) -> None:
        """Shut the connection, whatever the thread waits for; it then ends by itself."""
        self._stopped = True
        for sock in list(self._sockets):
            _shut(sock)

    # -- the thread

    def _run(self) -> None:
        try:
            with (
                self._client() as client,
                client.chat.completions.create(stream=True, extra_body=self._extra, **self._request) as chunks,
            ):
                self._begun = True
                self._read(chunks.response)
        except Exception as error:
            self.items.put(error)
        else:
            self.items.put(None)

    def _read(self, response: Any) -> None:
        kind = response.headers.get("content-type", "").lower()
        self._streams = not kind or "event-stream" in kind
        body = self._bounded(self._decoded(response))
        head = next((begun for data in body if (begun := data.lstrip(_BLANK))), b"")
        body = itertools.chain([head], body)
        if head[:1] in (b"{", b"[", b"<", b'"'):
            self._read_body(body)
            return
        received, text = 0, ""
        try:
            for event, data in events(body, self._event):
                self._streams = True
                for chunk in values(data):
                    if chunk is None or self._stopped:
                        return
                    error = error_in(chunk, kind=event)
                    if error is not None:
                        raise self._complaint(error)
                    delta = delta_of(chunk, text)
                    text += delta.content
                    received += len(delta.reasoning) + len(delta.content) or 1
                    self.items.put(delta)
                    if received > self._characters:
                        self.items.put(Delta(finish="length"))
                        return
            if not _has_declared_end(response):
                raise self.broken_off()  # without [DONE] nobody can tell the end from a crash
        except _TooMuch:
            if not received:
                raise
            self.items.put(Delta(finish="length"))

    def _read_body(self, chunks: Iterator[bytes]) -> None:
        """A body that is no event stream: an error, a whole completion, or a page."""
        body = bytearray()
        for chunk in chunks:
            body += chunk
            if len(body) > self._event:
                raise TooLong
        value = _json(bytes(body))
        error = error_in(value, whole=True)
        if error is not None:
            raise self._complaint(error)
        delta = delta_of(value)
        self._streams = bool(delta.finish or delta.content or delta.reasoning)
        if not self._streams:
            raise self._no_stream(bytes(body))
        self.items.put(delta)

    def _bounded(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        total = 0
        for chunk in chunks:
            total += len(chunk)
            if total > self._bytes:
                raise _TooMuch
            yield chunk

    def _decoded(self, response: Any) -> Iterator[bytes]:
        """The body's bytes. A server that compresses though it was asked not to is bounded too."""
        coding = response.headers.get("content-encoding", "").strip().lower()
        raw: Iterator[bytes] = response.iter_raw()
        if coding in ("", "identity"):
            return raw
        if coding in ("gzip", "x-gzip", "deflate"):
            return inflated(self._bounded(raw))
        raise Failure(f"{self._who} compresses its reply ({self._clean(coding, 20)!r}). Turn that off in the server.")

    def _client(self) -> Any:
        """A client for one reply: then the connection to shut is known.

        Without a key the package would send the one it finds in the environment, to whatever server this
        is; likewise the organization.
        """
        url = self._endpoint.base_url
        client = self._openai.OpenAI(
            api_key=self._key or "none",
            base_url=url,
            max_retries=0,
            timeout=self._openai.Timeout(self._endpoint.timeout + CONNECT_TIMEOUT, connect=CONNECT_TIMEOUT),
            http_client=http_client(
                self._openai, url, event_hooks={"request": [self._ask], "response": [self._answered]}
            ),
        )
        client.organization = client.project = None
        return client

    def _ask(self, request: Any) -> None:
        url = request.url
        self._target = (url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80))
        request.headers["accept-encoding"] = "identity"
        request.extensions["trace"] = self._trace

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """Keep each socket that this request opens: closing a response does not wake its reader."""
        if event.endswith(".connect_tcp.started"):
            self._connected = (str(info.get("host")), int(info.get("port") or 0))
        if "socks" in event:
            self._socks = True
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            sock = info["return_value"].get_extra_info("socket")
            self._sockets.append(sock)
            if self._stopped:
                _shut(sock)

    def _answered(self, response: Any) -> None:
        """Called before the package reads the body of an error, which it would read without a bound."""
        if 200 <= response.status_code < 300:
            return
        body = bytearray()
        try:
            for chunk in self._decoded(response):
                body += chunk
                if len(body) > _ERROR_BYTES:
                    break
        except Exception:
            pass  # The status says enough.
        raise _Answer(response.status_code, response.headers, bytes(body[:_ERROR_BYTES]))

    # -- what a failure means to the user

    def broken_off(self) -> Failure:
        if not self._streams:
            return self._no_stream()
        if not self._begun:
            return Failure(
                f"{self._who} closed the connection without a reply, twice. "
                f"Check base_url (https?) and the server's log.{self._through()}",
                "cut",
            )
        return Failure(
            f"{self._who}: the reply was cut off, twice. "
            "See the server's log: it may have crashed or run out of memory.",
            "cut",
        )

    def failure(self, error: Exception) -> Failure:
        """The failure, in words for the user, behind an exception of the thread."""
        who, proxy = self._who, self._proxy()
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, Failure):
                return cause
            if isinstance(cause, _Answer):
                return self._refused(cause)
        if isinstance(error, TooLong):
            return self._too_long()
        if isinstance(error, zlib.error):
            return Failure(f"{who} sent a compressed reply that cannot be read. Turn compression off in the server.")
        if self._begun:
            return self.broken_off()
        kinds = [type(cause).__name__ for cause in causes]
        if "ProxyError" in kinds:
            said = next(str(cause) for cause in causes if type(cause).__name__ == "ProxyError")
            return Failure(f"{who}: the proxy {proxy} refuses the connection. {_BYPASS}{self._says(said)}")
        if not self._connected[0] and {"ImportError", "ValueError", "InvalidURL"} & set(kinds):
            return Failure(
                f"{who}: the proxy in the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) cannot be used. "
                f"Correct it, or add the endpoint's host to NO_PROXY.{self._says(str(causes[-1]))}"
            )
        if proxy and {"ConnectionRefusedError", "gaierror", "ConnectTimeout"} & set(kinds):
            return Failure(f"{who}: the proxy {proxy} cannot be reached. {_BYPASS}")
        if "ConnectionRefusedError" in kinds:
            return Failure(f"{who}: nothing listens there. Start the server, or correct base_url.")
        if "gaierror" in kinds:
            return Failure(f"{who}: its host name is unknown. Correct base_url, or check the network.")
        if any(kind.startswith("SSL") for kind in kinds):
            return Failure(f"{who}: no secure connection. Is it https, with a valid certificate?")
        if "ConnectTimeout" in kinds:
            return Failure(
                f"{who}: no connection within {CONNECT_TIMEOUT:g} s. Correct base_url, or check the "
                "network and the server's firewall."
            )
        if {"RemoteProtocolError", "ReadError", "WriteError"} & set(kinds):
            return self.broken_off()
        return Failure(f"{who} cannot be reached ({kinds[-1]}). Check base_url and the network.{self._through()}")

    def finished_badly(self, reason: str) -> Failure:
        """The failure that finish_reason "error" or "content_filter" stands for."""
        if reason == "content_filter":
            return Failure(
                f"{self._who}: the server's content filter withheld the reply (finish_reason 'content_filter'). "
                "Change the request's words or pictures, or use another model."
            )
        return Failure(
            f"{self._who} ended the reply with an error (finish_reason 'error'), twice. See the server's log.", "cut"
        )

    def empty(self, reason: str) -> Failure:
        return Failure(
            f"{self._who} sent an empty reply (finish_reason {self._clean(reason, 40)!r}). Try another seed, a "
            "larger max_tokens, or another model."
        )

    def silent(self, seconds: float) -> Failure:
        return Failure(
            f"{self._who} sent nothing for {seconds:g} s. Is it overloaded, or still loading its "
            f"model? Wait, or raise the endpoint's timeout.{self._through()}"
        )

    def _refused(self, answer: _Answer) -> Failure:
        who, status = self._who, answer.status
        words = words_in(answer.body)
        said = self._says(words)
        if 300 <= status < 400:
            return self._redirected(answer)
        page = _is_page(answer.headers, answer.body)
        if self._proxy() and not self._tunnels():
            told = error_in(_json(answer.body), whole=True) is not None
            if status == 407 or page or (status in _BY_PROXY and not told):
                return Failure(
                    f"{who}: the proxy {self._proxy()} answered (HTTP {status}), not the endpoint. {_BYPASS}{said}",
                    "busy" if status in AGAIN else "",
                )
        through = self._through()
        if status == 401 or status == 403:
            return Failure(f"{who} refuses the key (HTTP {status}). Correct its api_key or api_key_file.{through}")
        if status == 404:
            return Failure(
                f"{who} does not know the model {self._endpoint.model!r}, or base_url is not right "
                f"(it usually ends with /v1).{said}"
            )
        if status in AGAIN:
            why = "is asked too often" if status == 429 else "is overloaded or broken"
            return Failure(
                f"{who} {why} (HTTP {status}, {1 + len(DELAYS)} tries). Wait, or see its log.{said}{through}", "busy"
            )
        named = _named(answer.body, words) if status in (400, 422) else frozenset()
        return Failure(f"{who} refuses the request (HTTP {status}).{said}", named=named)

    def _redirected(self, answer: _Answer) -> Failure:
        here = urlsplit(self._endpoint.base_url)
        try:
            there = urlsplit(urljoin(self._endpoint.base_url, answer.headers.get("location", "")))
            host = there.hostname or ""
            place = f"{host}:{there.port}" if there.port else host
            if host == here.hostname:  # Then the path tells what differs; another host's may hold a secret.
                place += there.path
        except ValueError:
            place, there = "", here
        where = f" to {self._clean(place, 100)} ({self._clean(there.scheme, 10)})" if place else ""
        return Failure(
            f"{self._who} answers with a redirect (HTTP {answer.status}){where}. Redirects are not followed, so "
            "that no other host gets the key. Write the final address into base_url."
        )

    def _complaint(self, error: Any) -> Failure:
        """An error that came with HTTP 200, alone or in mid-reply."""
        code = error.get("code") if isinstance(error, dict) else None
        busy = str(code) in map(str, AGAIN)
        when = "failed while it replied" if self._streams else "answered with an error"
        return Failure(f"{self._who} {when}.{self._says(words_in(error))}", "busy" if busy else "")

    def _no_stream(self, body: bytes = b"") -> Failure:
        if body.lstrip(_BLANK).startswith(b"<") and self._proxy() and not self._tunnels():
            said = self._says(words_in(body))
            return Failure(f"{self._who}: the proxy {self._proxy()} answered, not the endpoint. {_BYPASS}{said}")
        return Failure(f"{self._who} does not stream chat completions. Correct base_url: it usually ends with /v1.")

    def _too_long(self) -> Failure:
        return Failure(
            f"{self._who} sent over {self._event / 1e6:.1f} MB without an end of line, or without any text. "
            "Correct base_url, or see the server's log."
        )

    def _proxy(self) -> str:
        """HOST:PORT of the proxy that the request goes through, or ""."""
        host, port = self._connected
        if not host or self._connected == self._target:
            return ""
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _tunnels(self) -> bool:
        """Through a tunnel (https, SOCKS) the endpoint itself answers."""
        return self._socks or self._endpoint.base_url.lower().startswith("https")

    def _through(self) -> str:
        return f" It was asked through the proxy {self._proxy()} (see NO_PROXY)." if self._proxy() else ""

    def _says(self, words: str) -> str:
        words = self._clean(words, SAID)
        return f" It says: {words}" if words else ""

    def _clean(self, words: str, limit: int) -> str:
        """The server's words on one line, bounded, without the key."""
        words = " ".join(hide(words, self._key).split())
        return words if len(words) <= limit else words[: limit - 1] + "…"


_BYPASS = (
    "The proxy comes from the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY). If the endpoint needs none, add "
    "its host to NO_PROXY."
)


def _has_declared_end(response: Any) -> bool:
    """Whether the body says where it ends, so that a connection that breaks is known from one that is closed."""
    if response.http_version.startswith(("HTTP/2", "HTTP/3")):
        return True
    return "chunked" in response.headers.get("transfer-encoding", "").lower() or "content-length" in response.headers


def is_this_machine(url: str) -> bool:
    """Whether the address is localhost, a loopback address, or 0.0.0.0 or [::], which mean the same here."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    if host.startswith("127.") and host.replace(".", "").isdigit():
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped if mapped is not None else address
    return address.is_loopback or address.is_unspecified


def _json(body: bytes) -> Any:
    try:
        return values(body.decode("utf-8", "replace"))[0]
    except (ValueError, IndexError):
        return None


def _is_page(headers: Any, body: bytes) -> bool:
    return "html" in headers.get("content-type", "").lower() or body.lstrip(_BLANK).startswith(b"<")


def _named(body: bytes, words: str) -> frozenset[str]:
    """The fields of ours that a refusal names: in `param`, else in its words."""
    value = _json(body)
    inner = value.get("error") if isinstance(value, dict) else None
    for thing in (inner, value):
        param = thing.get("param") if isinstance(thing, dict) else None
        if isinstance(param, str) and param in (*FIELDS, *FORM_FIELDS):
            return frozenset([param])
    return _fields(words)


def _fields(words: str) -> frozenset[str]:
    parts = "".join(c if c.isalnum() or c == "_" else " " for c in words).split()
    return frozenset(part for part in parts if part in (*FIELDS, *FORM_FIELDS))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and its causes. They are told apart by class name: the HTTP package differs between versions."""
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
