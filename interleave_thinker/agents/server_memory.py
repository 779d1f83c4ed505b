"""Has a chat server on the image generator's card unload its model while nobody waits for a reply.

Ollama unloads at POST /api/generate with keep_alive 0 (its chat endpoint knows no keep_alive). A llama-server
without `-m` is a router and unloads at POST /models/unload; one with a single model can only fall asleep by itself
(--sleep-idle-seconds). All of them answer before the memory is free, so they are asked until it is.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..printable import printable
from .chat_connection import SAID, http_client, openai_package
from .chat_stream import hide, words_in
from .endpoints import Endpoint

UNLOADED_WITHIN = 15.0
"""Seconds that a server gets to unload a model; llama.cpp stops one by force after 10."""
ASLEEP_WITHIN = 5.0

_LOOK = 0.2
"""Seconds between two looks at what is loaded."""
_TIMEOUT = 5.0
_BYTES = 2**20

_log = logging.getLogger(__name__)


class _NotFreed(Exception):
    """Why, and what the user can do."""


class _Users:
    """Who in this process needs one model of one server."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.count = 0
        self.unloading = False


_USERS: dict[tuple[str, str], _Users] = {}
_WARNED: set[str] = set()
"""Names of endpoints that could not free their memory the last time."""


def _server_of(endpoint: Endpoint) -> tuple[str, str]:
    """Server and model, however the endpoint spells them."""
    address = urlsplit(endpoint.base_url.lower())
    host = (address.hostname or "").replace("localhost", "127.0.0.1")
    place = f"{host}:{address.port}{address.path.rstrip('/')}"
    return place, endpoint.model.lower().removesuffix(":latest")


@contextmanager
def in_use(
    endpoint: Endpoint, check: Callable[[], None] | None = None, make_room: Callable[[], None] | None = None
) -> Iterator[None]:
    """While one of these is open the model stays loaded; an endpoint with `free_memory` unloads it behind the last.

    After a block that raises, the server is told and not waited for. Where it does not free its memory, the log
    says so once. check: raises to interrupt the waiting. make_room: takes other models from the card before the
    first, where the endpoint has `free_memory`.
    """
    users = _USERS.setdefault(_server_of(endpoint), _Users())
    with users.changed:
        while users.unloading:
            if check is not None:
                check()
            users.changed.wait(_LOOK)
        users.count += 1
        first = users.count == 1
    whole = False
    try:
        if first and make_room is not None and endpoint.free_memory is not None:
            make_room()
        yield
        whole = True
    finally:
        with users.changed:
            users.count -= 1
            users.unloading = last = endpoint.free_memory is not None and not users.count
        if last:
            try:
                _free(endpoint, check, wait=whole)
            finally:
                with users.changed:
                    users.unloading = False
                    users.changed.notify_all()


def _free(endpoint: Endpoint, check: Callable[[], None] | None, *, wait: bool) -> None:
    server = _Server(endpoint, check)
    try:
        (server.free_ollama if endpoint.free_memory == "ollama" else server.free_llama_cpp)(wait)
    except _NotFreed as error:
        if endpoint.name not in _WARNED:
            _WARNED.add(endpoint.name)
            why = printable(str(error))
            _log.warning("Endpoint %r did not free its memory: %s The run goes on.", endpoint.name, why)
    else:
        if wait:
            _WARNED.discard(endpoint.name)
    finally:
        server.close()


class _Server:
    """Requests to an endpoint's server that are no chat completions. Their paths begin at the root of its address."""

    def __init__(self, endpoint: Endpoint, check: Callable[[], None] | None) -> None:
        self._endpoint = endpoint
        self._check = check
        self._key: str | None = None
        self._client: Any = None
        self._root = endpoint.base_url.rstrip("/").removesuffix("/v1")

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def free_ollama(self, wait: bool) -> None:
        model = self._endpoint.model
        status, body = self._ask("POST", "/api/generate", {"model": model, "keep_alive": 0})
        if status != 200:
            raise self._refusal(status, body, "Is it Ollama, and does base_url end with /v1 behind HOST:PORT?")
        names = {model.lower(), f"{model.lower()}:latest"}

        def unloaded() -> bool:
            loaded = self._table("/api/ps", "models")
            return not any(str(m.get(key)).lower() in names for m in loaded for key in ("name", "model"))

        if wait:
            self._until(unloaded, UNLOADED_WITHIN)

    def free_llama_cpp(self, wait: bool) -> None:
        model = self._endpoint.model
        status, body = self._ask("POST", "/models/unload", {"model": model})
        if status == 404:
            if wait:
                self._until_asleep()
            return
        if status not in (200, 400):  # 400 also means that it is not loaded
            raise self._refusal(status, body)

        def unloaded() -> bool:
            for known in self._table("/models", "data"):
                aliases = known.get("aliases")
                if known.get("id") == model or (isinstance(aliases, list) and model in aliases):
                    state = known.get("status")
                    return isinstance(state, dict) and state.get("value") in ("unloaded", "sleeping")
            raise self._refusal(status, body, "Correct the endpoint's model.")

        if wait:
            self._until(unloaded, UNLOADED_WITHIN)

    def _until_asleep(self) -> None:
        """A llama-server with one model frees its memory by itself, if it is told to at its start."""
        awake = _NotFreed(
            "Start llama-server without -m (then it is a router: see --models-dir), or with --sleep-idle-seconds 1."
        )

        def asleep() -> bool:
            status, body = self._ask("GET", "/props")
            state = _json(body)
            if status != 200 or not isinstance(state, dict) or "is_sleeping" not in state:
                raise awake
            return state["is_sleeping"] is True

        seconds = ASLEEP_WITHIN if self._endpoint.name not in _WARNED else 0.0
        try:
            self._until(asleep, seconds)
        except _NotFreed:
            raise awake from None

    def _until(self, free: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not free():
            if time.monotonic() >= end:
                raise _NotFreed(f"The model {self._endpoint.model!r} is still loaded after {seconds:g} s.")
            if self._check is not None:
                self._check()
            time.sleep(_LOOK)

    def _table(self, path: str, name: str) -> list[dict[str, Any]]:
        """The rows of the list `name` in the reply to GET `path`."""
        status, body = self._ask("GET", path)
        value = _json(body)
        rows = value.get(name) if isinstance(value, dict) else None
        if status != 200 or not isinstance(rows, list):
            raise self._refusal(status, b"", "It does not list its models. Is free_memory right?")
        return [row for row in rows if isinstance(row, dict)]

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and the body's first megabyte."""
        end = time.monotonic() + _TIMEOUT
        headers = {"accept-encoding": "identity", "connection": "close"}
        try:
            if self._client is None:
                openai, self._key = openai_package(), self._endpoint.key()
                self._client = http_client(openai, self._root, timeout=openai.Timeout(_TIMEOUT))
            if self._key:
                headers["authorization"] = f"Bearer {self._key}"
            with self._client.stream(method, self._root + path, json=body, headers=headers) as response:
                received = b""
                for chunk in response.iter_raw():
                    received += chunk
                    if len(received) > _BYTES or time.monotonic() > end:
                        break
                return response.status_code, received
        except ConfigError as error:
            raise _NotFreed(str(error)) from None
        except Exception as error:
            raise _NotFreed(f"It cannot be asked ({type(error).__name__}).") from None

    def _refusal(self, status: int, body: bytes, fix: str = "See the server's log.") -> _NotFreed:
        words = " ".join(hide(words_in(body), self._key).split())[:SAID]
        return _NotFreed(f"HTTP {status}. {fix}" + (f" It says: {words}" if words else ""))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
