"""Named chat endpoints, read from a file of the user's: no URL and no key ever stands in a workflow.

The file is TOML with one table per endpoint (or JSON with the same shape); docs/agents-server.md has
examples. Every table is a chat server; an unknown key in one refuses the file.
Knows nothing of HTTP: `openai_compatible` speaks to the endpoint.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError

EXAMPLE = """\
[local]
base_url = "http://127.0.0.1:8000/v1"
model = "Qwen/Qwen3-VL-8B-Instruct"
timeout = 120
"""

FIELDS = ("temperature", "top_p", "seed", "max_tokens")
"""Fields of a request that the agent sets itself, and that `leave_out` can name."""

REPLY_FORMS = ("none", "structural_tag", "llama.cpp", "json_schema")
"""Ways to have a server hold replies to their form (`server_form`)."""

FREES = ("ollama", "llama.cpp")
"""Servers that can be asked to free their memory (`free_memory`)."""

_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?", re.I)
_OURS = ("messages", "model", "n", "stream")
"""What `extra_body` must not replace: the reply could not be read any more."""


@dataclass(frozen=True)
class Endpoint:
    """One chat server and the model on it.

    name: what the user picks it by. base_url: http(s), up to and with "/v1"; no key in it.
    model: as the server calls it. api_key, api_key_file: at most one; neither for a server without
    keys. timeout: longest silence in seconds, before the first piece of a reply and between two
    pieces, over 0 to 86400. prompts: folder with prompt texts that this model was trained on.
    extra_body: further fields of the request, as the server documents them (`top_k`, ...); they win
    over the agent's own temperature, top_p and seed. leave_out: fields of the agent's own that are not
    sent (FIELDS), for a server that refuses them. free_memory: what kind of server it is (FREES), if it
    is to unload the model when nobody waits for a reply (`server_memory`). reply_form: how the server is asked to hold
    replies to their form (REPLY_FORMS).

    Raises:
        ConfigError: a value that cannot be used; the message never shows the key.
    """

    name: str
    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    api_key_file: str | None = None
    timeout: float = 120.0
    prompts: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    leave_out: Sequence[str] = ()
    free_memory: str | None = None
    reply_form: str = "none"

    def __post_init__(self) -> None:
        for key in ("name", "base_url", "model"):
            self._need(_is_text(getattr(self, key)), f"{key} must be a text that is not empty.")
        for key in ("api_key", "api_key_file", "prompts"):
            value = getattr(self, key)
            self._need(value is None or _is_text(value), f"{key} must be a text that is not empty.")
        # The value is not shown: what is wrong with it may be that the key is in it.
        self._need(
            _URL.fullmatch(self.base_url) is not None,
            "base_url must be http://HOST/v1 or https://HOST/v1, without user, key, '?' or '#'.",
        )
        self._need(
            not self.base_url.rstrip("/").endswith("/completions"),
            "base_url must end before /chat/completions, usually with /v1.",
        )
        self._need(
            self.api_key is None or self.api_key_file is None,
            "api_key and api_key_file are both given; keep one.",
        )
        plain = self.api_key is None or _is_key(self.api_key)
        self._need(plain, "api_key must hold ASCII letters, digits and signs only, without spaces.")
        self._need(
            isinstance(self.timeout, (int, float))
            and not isinstance(self.timeout, bool)
            and 0 < self.timeout <= 86_400,
            "timeout must be a number of seconds over 0, at most a day.",
        )
        self._need(isinstance(self.extra_body, Mapping), "extra_body must be a table.")
        for key in _OURS:
            self._need(key not in self.extra_body, f"extra_body must not contain {key!r}.")
        self._need(
            isinstance(self.leave_out, (list, tuple)),
            f'leave_out must be a list of field names, for example ["top_p"], not {_shown(self.leave_out)}.',
        )
        for name in self.leave_out:
            self._need(
                isinstance(name, str) and name in FIELDS,
                f"leave_out cannot contain {_shown(name)}. Allowed names: {', '.join(FIELDS)}.",
            )
        object.__setattr__(self, "leave_out", tuple(self.leave_out))
        self._need(
            self.free_memory is None or self.free_memory in FREES,
            f"free_memory must be {' or '.join(map(repr, FREES))}, not {_shown(self.free_memory)}.",
        )
        self._need(
            self.reply_form in REPLY_FORMS,
            f"reply_form must be {', '.join(map(repr, REPLY_FORMS[:-1]))} or {REPLY_FORMS[-1]!r}, not "
            f"{_shown(self.reply_form)}.",
        )

    def _need(self, holds: bool, message: str) -> None:
        if not holds:
            raise ConfigError(f"Endpoint {str(self.name)!r}: {message}")

    def key(self) -> str | None:
        """The key as it is now, read from `api_key_file` where one is named; None: the server has none.

        Raises:
            ConfigError: the file cannot be read or holds no key.
        """
        if self.api_key_file is None:
            return self.api_key
        try:
            text = Path(self.api_key_file).read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"Endpoint {self.name!r}: api_key_file {self.api_key_file} cannot be read "
                f"({type(error).__name__}). Put the key into that file, alone."
            ) from None
        self._need(_is_key(text), f"api_key_file {self.api_key_file} must hold the key, and only it.")
        return text


def load_endpoints(path: str | Path) -> dict[str, Endpoint]:
    """All endpoints of a `.toml` or `.json` file by name, in the file's order; at least one.

    Where the `.toml` is missing and a `.json` of the same name is there, that is read. Relative
    `api_key_file` and `prompts` start at the file's folder; `~` is the home folder.

    Raises:
        ConfigError: no file, an unreadable one, an unknown key or a value that cannot be used.
    """
    path = Path(path).expanduser()
    if not path.is_file() and path.with_suffix(".json").is_file():
        path = path.with_suffix(".json")
    if not path.is_file():
        raise ConfigError(f"There is no endpoints file. Create {path}, for example with:\n{EXAMPLE}")
    tables = _read(path)
    if not tables:
        raise ConfigError(f"{path} names no endpoint. Write into it, for example:\n{EXAMPLE}")
    return {name: _endpoint(name, table, path) for name, table in tables.items()}


def _endpoint(name: str, table: object, path: Path) -> Endpoint:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name!r} is not in a table. An endpoint is a table [its-name].")
    known = [f.name for f in fields(Endpoint) if f.name != "name"]
    for key in table:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key!r} in [{name}]. Known keys: {', '.join(known)}.")
    for key in ("base_url", "model"):
        if key not in table:
            raise ConfigError(f"{path}: [{name}] has no {key}.")
    try:
        endpoint = Endpoint(name=name, **table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return replace(
        endpoint,
        base_url=endpoint.base_url.rstrip("/"),
        api_key_file=_beside(path, endpoint.api_key_file),
        prompts=_beside(path, endpoint.prompts),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        tables = json.loads(text) if path.suffix.lower() == ".json" else _toml(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        # Both parsers name line and column and do not repeat the text, in which a key may stand.
        where = type(error).__name__ if isinstance(error, UnicodeDecodeError) else error
        raise ConfigError(f"{path} cannot be read: {where}. Correct it, or begin with:\n{EXAMPLE}") from None
    if not isinstance(tables, dict):
        raise ConfigError(f"{path} must hold one object with endpoints by name.")
    return tables


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise ConfigError(
                "TOML needs Python 3.11 or the package tomli. Install it, or write the endpoints as endpoints.json."
            ) from None
    tables: dict[str, Any] = tomllib.loads(text)
    return tables


def _beside(path: Path, name: str | None) -> str | None:
    return None if name is None else str(path.parent.resolve() / Path(name).expanduser())


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_key(text: str) -> bool:
    """Fits into an HTTP header."""
    return re.fullmatch(r"[\x21-\x7e]+", text) is not None
