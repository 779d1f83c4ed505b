"""The version, whose prompt runs, what a client can read, and text on a node."""

from __future__ import annotations

from typing import Any

from .missing import say_missing


def comfyui_version() -> str | None:
    try:
        from comfyui_version import __version__
    except ImportError:
        say_missing("comfyui_version.__version__")
        return None
    return str(__version__)


def executing_prompt_id() -> str | None:
    """Id of the prompt that runs in this context; None outside of one."""
    try:
        from comfy_execution.utils import get_executing_context
    except ImportError:
        say_missing("comfy_execution.utils.get_executing_context")
        last = getattr(_server(), "last_prompt_id", None)
        return None if last is None else str(last)
    context = get_executing_context()
    return None if context is None else str(context.prompt_id)


def running_prompts() -> list[tuple[str, dict[str, Any]]]:
    """(id, extra_data) of each prompt that is being executed."""
    return [(str(item[1]), item[3] if isinstance(item[3], dict) else {}) for item in _running_items()]


def prompt_and_targets(prompt_id: str) -> tuple[dict[str, Any], frozenset[str]] | None:
    """A running prompt as it was queued, and the output nodes that it is to run: asked for, and valid.

    None where that is not known.
    """
    found = next((item for item in _running_items() if str(item[1]) == prompt_id), None)
    return None if found is None else (dict(found[2]), frozenset(str(i) for i in found[4]))


def _running_items() -> list[Any]:
    """(number, prompt id, prompt, extra_data, output nodes to run, ...) of each prompt that is being executed."""
    try:
        items = list(_server().prompt_queue.get_current_queue_volatile()[0])
        for item in items:
            _, _, prompt, _, targets, *_ = item
            dict(prompt), list(targets)
        return items
    except (AttributeError, LookupError, TypeError, ValueError):
        say_missing("prompt_queue.get_current_queue_volatile")
        return []


def user_of_request(request: Any) -> str:
    """Raises:
    KeyError: ComfyUI does not know the user, or names none.
    """
    ask = getattr(getattr(_server(), "user_manager", None), "get_request_user_id", None)
    if ask is None:
        say_missing("user_manager.get_request_user_id")
        raise KeyError("This ComfyUI names no users.")
    return str(ask(request))


def send_progress_text(text: str, node_id: str, client: str) -> None:
    """Text on a node of a page, replaced by the next one.

    ComfyUI sends it in a binary frame, and API clients take such a frame for a picture. A page says what it can read
    when it connects, and API clients do not; so only who said so is sent the text.
    """
    send, is_page = getattr(_server(), "send_progress_text", None), _announced_features(client)
    if send is None:
        say_missing("PromptServer.send_progress_text")
    elif is_page:
        send(text.encode("utf-8", "replace"), node_id, client)


def _announced_features(client: str) -> bool:
    """Whether a client said what it can read. True where ComfyUI does not keep it."""
    known = getattr(_server(), "sockets_metadata", None)
    if not isinstance(known, dict):
        say_missing("PromptServer.sockets_metadata")
        return True
    about = known.get(client)
    return isinstance(about, dict) and bool(about.get("feature_flags"))


def _server() -> Any:
    from server import PromptServer

    return getattr(PromptServer, "instance", None)  # there is none where only the nodes are imported
