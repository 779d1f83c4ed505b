"""Whose prompt runs, where ComfyUI serves several users (`--multi-user`).

ComfyUI names the user in each request (header `comfy-user`) but not in the queued prompt. A middleware notes the user
of the request, and a prompt handler writes the user into the prompt's `extra_data`, over whatever the client sent. A
node finds its prompt by the executing context. With a single user nothing is installed and every name is "".

This keeps users' runs apart. It does not protect them: ComfyUI asks for no password, and its own /view, /queue and
/history answer everybody.
"""

from __future__ import annotations

import contextvars
import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiohttp import web
from comfy.cli_args import args

from .comfy_internals.server import executing_prompt_id, running_prompts, user_of_request

KEY = "interleave_user"
"""Where the user's name stands in a prompt's `extra_data`."""
UNKNOWN = "__unknown"
"""Owner of prompts that were queued without a known user. No request can name it: ComfyUI refuses names with "__"."""
MAX_RECENT = 64
"""Prompts whose owner is still known after they ended."""
PLAIN = re.compile(r"[A-Za-z0-9_-]{1,128}")

_log = logging.getLogger(__name__)


class Owner(NamedTuple):
    """Who queued a prompt: the user's folder name, and the id of the page or client."""

    prompt_id: str
    user: str
    client: str | None


_NOBODY = Owner("", UNKNOWN, None)
_request_user: contextvars.ContextVar[str | None] = contextvars.ContextVar("interleave_asking", default=None)
"""The user of the request that is being answered."""
_context_owner: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("interleave_owner", default=None)
"""The owner of the prompt that runs in this context."""
_recent_owners: OrderedDict[str, Owner] = OrderedDict()


def multi_user() -> bool:
    return bool(getattr(args, "multi_user", False))


def follow_requests(server: Any) -> None:
    """Let prompts carry the user who queues them. Call it before ComfyUI's application starts."""
    if not multi_user():
        return
    try:
        server.app.middlewares.append(_remember_request_user)
        server.add_on_prompt_handler(_write_owner)
    except (AttributeError, RuntimeError) as error:
        _log.warning("InterleaveThinker cannot tell users apart in this ComfyUI; all share one folder: %s", error)


def request_user(request: web.Request) -> str:
    """The folder name of the user who sends a request; "" with a single user.

    Raises:
        KeyError: ComfyUI does not know the user.
    """
    if not multi_user():
        return ""
    return _folder_name(user_of_request(request))


def current_user() -> str:
    """The folder name of the user whose prompt runs, or whose request is answered; "" with a single user."""
    if not multi_user():
        return ""
    user = _request_user.get()
    return _current_owner().user if user is None else user


def current_client() -> str | None:
    """The id of the page or client that queued the running prompt, where there are several users."""
    return _current_owner().client


def _folder_name(user: str) -> str:
    """ComfyUI's "default" is the user of a single-user server. Names edited by hand may not be fit for a folder."""
    if user == "default":
        return ""
    return user if PLAIN.fullmatch(user) else "_" + hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()[:24]


@web.middleware
async def _remember_request_user(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        user = request_user(request)
    except KeyError:
        user = UNKNOWN
    token = _request_user.set(user)
    try:
        return await handler(request)
    finally:
        _request_user.reset(token)  # the next request of this connection has the same context


def _write_owner(prompt: Any) -> Any:
    """Write the user into a prompt that is being queued. Must not raise: ComfyUI would queue it as it came."""
    if isinstance(prompt, dict):
        extra = prompt.get("extra_data") or {}
        if isinstance(extra, dict):
            user = _request_user.get()
            prompt["extra_data"] = {**extra, KEY: UNKNOWN if user is None else user}
    return prompt


def _current_owner() -> Owner:
    prompt_id = executing_prompt_id()
    if prompt_id is None:
        return _owner_of_running("") or _NOBODY
    known = _context_owner.get()
    if known is not None and prompt_id in ("", known.prompt_id):
        return known
    found = _owner_of_running(prompt_id) or _recent_owners.get(prompt_id)
    if found is None:
        return _NOBODY
    _recent_owners[found.prompt_id] = found
    while len(_recent_owners) > MAX_RECENT:
        _recent_owners.popitem(last=False)
    _context_owner.set(found)  # a copy of this context still knows it when the prompt has ended
    return found


def _owner_of_running(prompt_id: str) -> Owner | None:
    """The owner of the running prompt with this id; of the only one that runs, where there is no id."""
    prompts = running_prompts()
    if not prompt_id:
        return _owner_from(*prompts[0]) if len(prompts) == 1 else None
    return next((_owner_from(running, extra) for running, extra in prompts if running == prompt_id), None)


def _owner_from(prompt_id: str, extra: dict[str, Any]) -> Owner:
    """extra: the prompt's `extra_data`."""
    user, client = extra.get(KEY), extra.get("client_id")
    return Owner(prompt_id, user if isinstance(user, str) else UNKNOWN, client if isinstance(client, str) else None)
