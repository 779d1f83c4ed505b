"""An agent behind an OpenAI-compatible chat endpoint: vLLM, SGLang, llama.cpp, Ollama, a hosted model.

A thread of its own reads each reply into a queue (`chat_connection`), so that the caller notices an
interrupt also while the server is silent. Ending a reply shuts its connection, at which servers stop
generating. The `openai` package is imported with the first reply.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import queue
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from ..errors import AgentError
from .base import Completion, Message, OnText, Sampling, TextStream, chat_content, shrink
from .chat_connection import AGAIN, CONNECT_TIMEOUT, DELAYS, SAID, Failure, Reader, openai_package
from .chat_stream import Delta, Wording, is_whole, tags
from .endpoints import Endpoint
from .kept_pictures import KeptPictures, picture_key
from .server_form import form_fields
from .server_memory import in_use

__all__ = ["AGAIN", "CONNECT_TIMEOUT", "DELAYS", "LINGER", "POLL", "SAID", "ServerAgent"]

_log = logging.getLogger(__name__)

POLL = 0.1
"""Seconds between two looks at `check` while waiting."""
LINGER = 30.0
"""Seconds of silence after a finish_reason (or after `on_text` had enough) that end the reading."""

_OPENED: dict[tuple[str, str, str], bool] = {}
"""By address, model and extra_body: whether the chat template opens a thought before the reply begins.

Such a reply has "</think>" and no "<think>". An endpoint has no entry until one reply was read to its end.
"""


@dataclass
class ServerAgent:
    """Asks `endpoint` for replies; see `base.Agent`.

    check: called about ten times a second while waiting, raises to interrupt; what it raises leaves
    `complete` as it is. make_room: takes other models from the card before the server loads its own; called
    for an endpoint with `free_memory`. sleep: waits some seconds (at most POLL at once) between tries.
    """

    endpoint: Endpoint
    check: Callable[[], None] | None = None
    make_room: Callable[[], None] | None = None
    sleep: Callable[[float], None] = time.sleep
    _limit: str = field(default="max_tokens", init=False, repr=False)
    _refused: frozenset[str] = field(default=frozenset(), init=False, repr=False)

    @property
    def name(self) -> str:
        """Endpoint, model and a digest of what the endpoint says of the request, where it says something."""
        model = self.endpoint.model
        if model.startswith((".", "/", "~")) or "\\" in model:
            model = re.split(r"[\\/]", model)[-1]
        extra = self._extra()
        if self.endpoint.leave_out:
            extra += "-" + ",".join(sorted(set(self.endpoint.leave_out)))
        if self.endpoint.reply_form != "none":
            extra += f"-{self.endpoint.reply_form}"
        digest = "" if extra == "{}" else "+" + hashlib.sha256(extra.encode()).hexdigest()[:8]
        return f"server:{self.endpoint.name}:{model}{digest}"

    def _extra(self) -> str:
        return json.dumps(dict(self.endpoint.extra_body), sort_keys=True, default=str)

    @property
    def prompts(self) -> str | None:
        return self.endpoint.prompts

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        """Write one reply; reasoning that the server splits off comes back as `<think>…</think>`.

        A busy server is asked up to three times, a reply that breaks off twice, and a field that the
        server refuses by name (the reply's form too) is left out; each try starts `on_text` again from the
        beginning.
        `Completion.tokens` counts the pieces received unless the server says. `sampling.top_k` is not
        sent: it is no part of the protocol (`extra_body` is).

        Raises:
            AgentError: the server cannot be reached or used, or the reply is empty or breaks off.
            ConfigError: the endpoint's key file cannot be used.
        """
        with self.kept_loaded():
            return self._complete(messages, sampling, on_text)

    def kept_loaded(self) -> AbstractContextManager[None]:
        """Where the last of these ends, a server with `free_memory` unloads the model."""
        return in_use(self.endpoint, self.check, self.make_room)

    def _complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None) -> Completion:
        key = self.endpoint.key()
        openai = openai_package()
        request = {
            "model": self.endpoint.model,
            "messages": [_message(m, sampling.max_pixels) for m in messages],
        }
        fields = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "max_tokens": sampling.max_tokens,
        }
        form = form_fields(sampling.form if sampling.keep_form else None, self.endpoint.reply_form)
        limit, refused = self._limit, self._refused
        delays = list(DELAYS)
        cut = False
        while True:
            left_out = refused | set(self.endpoint.leave_out)
            sent = {limit if k == "max_tokens" else k: v for k, v in fields.items() if k not in left_out}
            kept = {k: v for k, v in form.items() if k not in refused}
            reader = Reader(openai, self.endpoint, key, {**request, **sent}, sampling.max_tokens, kept)
            try:
                completion = self._read(reader, TextStream(on_text), key)
            except Failure as failure:
                # What stands in extra_body is the user's own choice.
                named = {n for n in failure.named if n in {*sent, *kept} and n not in self.endpoint.extra_body}
                if failure.again == "busy" and delays:
                    self._pause(delays.pop(0))
                elif failure.again == "cut" and not cut:
                    cut = True
                elif "max_tokens" in named:
                    limit = "max_completion_tokens"
                elif named:
                    if unheld := sorted(named & set(form)):
                        _log.warning(
                            "Endpoint %r refuses the field %s: its replies are no longer held to their form. Another "
                            "reply_form in the endpoints file may suit the server.",
                            self.endpoint.name,
                            ", ".join(unheld),
                        )
                    # Some models take one of these two; temperature is the one that matters more.
                    refused |= named - {"temperature"} if "top_p" in named else named
                else:
                    raise AgentError(str(failure)) from None
            else:
                self._limit, self._refused = limit, refused
                return completion

    def _read(self, reader: Reader, stream: TextStream, key: str | None) -> Completion:
        """One try."""
        id_ = (self.endpoint.base_url, self.endpoint.model, self._extra())
        wording = Wording(key, opened=_OPENED.get(id_, False))
        timeout = self.endpoint.timeout
        finish = ""
        failure: Failure | None = None
        early: Completion | None = None
        reader.start()
        try:
            while True:
                seconds = min(LINGER, timeout) if finish or early else timeout
                try:
                    item = self._next(reader, seconds)
                except queue.Empty:
                    failure = reader.broken_off() if finish else reader.silent(seconds)
                    break
                if isinstance(item, Exception):
                    failure = reader.failure(item)
                    break
                if item is None:
                    break
                stream.tokens = item.tokens or stream.tokens
                finish = item.finish or finish
                piece = wording.add(item)
                if piece and not stream.push(piece) and early is None:
                    early = self._had_enough(stream, id_)
                    if id_ in _OPENED:
                        return early
        finally:
            reader.stop()
        if (piece := wording.end()) and not stream.push(piece) and early is None:
            early = self._had_enough(stream, id_)
        failure = _verdict(reader, stream.text, finish, failure, wording.thinking)
        return self._whole(stream, id_, finish, failure, early, wording)

    def _had_enough(self, stream: TextStream, id_: tuple[str, str, str]) -> Completion:
        """The reply as it is where `on_text` said False; `on_text` is not called again.

        The first reply of an endpoint is read on: only its end tells whether the text so far was a
        thought that the chat template opened. An opening tag tells it at once.
        """
        stream.on_text = None
        if tags(stream.text)[:1] == ["open"]:
            _OPENED.setdefault(id_, False)
        return stream.completion(cut_off=False)

    def _whole(
        self,
        stream: TextStream,
        id_: tuple[str, str, str],
        finish: str,
        failure: Failure | None,
        early: Completion | None,
        wording: Wording,
    ) -> Completion:
        """The reply at its end."""
        unopened = tags(stream.text)[:1] == ["close"]
        if unopened:
            _OPENED[id_] = True
        elif wording.tagged and finish != "length" and "close" not in tags(stream.text):
            # Ended inside the thought, or no thought after all: the next reply is read like a first one.
            _OPENED.pop(id_, None)
        elif failure is None:
            _OPENED.setdefault(id_, False)
        if early is not None and not unopened:
            return early
        if failure is not None:
            raise failure
        if unopened:
            stream.text = "<think>" + stream.text
        stream.early = False
        if wording.thinking and finish != "length":
            stream.push("</think>", tokens=0)
        return stream.completion(cut_off=finish == "length")

    def _next(self, reader: Reader, seconds: float) -> Delta | Exception | None:
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


def _verdict(reader: Reader, text: str, finish: str, failure: Failure | None, thinking: bool) -> Failure | None:
    """Why the reply is of no use; None where it is whole, or cut off by max_tokens.

    failure: what ended the stream, if that was not its proper end.
    """
    if finish == "content_filter" or (finish == "error" and (failure is None or failure.again == "cut")):
        return reader.finished_badly(finish)
    if finish == "error":
        return failure
    if not text.strip():
        return failure or (reader.empty(finish) if finish else reader.broken_off())
    if finish == "length" or (finish and failure is None):
        return None
    if (finish or failure is None) and not thinking and is_whole(text):
        return None
    return failure or reader.broken_off()


def _message(message: Message, max_pixels: int) -> dict[str, Any]:
    """Text alone stays a string: not every server takes a list for every role."""
    if not message.images:
        return {"role": message.role, "content": "".join(message.texts)}
    content, images = chat_content(message.parts)
    urls = iter([_data_url(image, max_pixels) for image in images])
    content = [p if p["type"] == "text" else {"type": "image_url", "image_url": {"url": next(urls)}} for p in content]
    return {"role": message.role, "content": content}


_URLS: KeptPictures[str] = KeptPictures(64 * 2**20, len)


def _data_url(image: Image.Image, max_pixels: int) -> str:
    return _URLS.of((picture_key(image), max_pixels), lambda: _new_data_url(image, max_pixels))


def _new_data_url(image: Image.Image, max_pixels: int) -> str:
    out = io.BytesIO()
    shrink(image.convert("RGB"), max_pixels).save(out, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def agent_for(
    endpoint: Endpoint, check: Callable[[], None] | None = None, make_room: Callable[[], None] | None = None
) -> ServerAgent:
    """The agent of an endpoint; nothing is sent yet. `check` and `make_room`: see `ServerAgent`.

    Raises:
        ConfigError: the endpoint's key file cannot be used.
    """
    endpoint.key()
    return ServerAgent(endpoint, check, make_room)
