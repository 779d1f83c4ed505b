"""Where the pack keeps and looks for things, by ComfyUI's own folder rules."""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folder_paths

from ..interleave_thinker.agents.adapter_file import SUFFIXES
from ..interleave_thinker.errors import AgentError, ConfigError
from ..interleave_thinker.files import files_state, is_plain_path
from ..interleave_thinker.storage.attempt_store import AttemptStore
from .users import current_user

MODEL_FOLDERS = ("VLM", "LLM")
RUNS = "interleave"
USERS = "@"


_first_states: dict[str, str] = {}
_SESSION = str(uuid.uuid4())
"""Another one in each process."""


def model_state(value: Any) -> list[str]:
    """The state of each model file that an input's value names, in ComfyUI's folders or by its whole path.

    A LoRA that was trained anew under its old name makes other images, and stock loaders do not report that. When a
    file changes while ComfyUI runs, a loader may still use the old one from memory. Images made after the change are
    therefore recalled until ComfyUI ends, and not later. One case is missed: a loader has the file in memory, and the
    file changes before this function sees it for the first time.
    """
    if isinstance(value, Mapping):
        return [state for part in value.values() for state in model_state(part)]
    if isinstance(value, (list, tuple)):
        return [state for part in value for state in model_state(part)]
    endings = folder_paths.supported_pt_extensions | {".gguf"}
    if not isinstance(value, str) or Path(value).suffix.lower() not in endings:
        return []
    now = files_state(*_files_named(value))
    first = _first_states.setdefault(value, now)
    return [now] if now == first else [now, _SESSION]


def _files_named(value: str) -> list[Path]:
    if Path(value).is_absolute():
        return [Path(value)]
    found = []
    for kind in sorted(folder_paths.folder_names_and_paths):
        with contextlib.suppress(ValueError):  # Windows: a name on another drive
            path = folder_paths.get_full_path(kind, value)
            found += [Path(path)] if path else []
    return found


def add_model_folders() -> None:
    """Make models/VLM and models/LLM known; folders that a user's yaml names stay in front."""
    for name in MODEL_FOLDERS:
        folder_paths.add_model_folder_path(name, str(Path(folder_paths.models_dir) / name))


def shared_folder() -> Path:
    """What the administrator keeps for all users: endpoints.toml with its keys, and prompt texts."""
    return Path(folder_paths.get_user_directory()) / "interleave_thinker"


def user_folder() -> Path:
    """What belongs to the user whose prompt runs: the attempt store, and prompt texts of the user's own."""
    user = current_user()
    return Path(folder_paths.get_user_directory()) / user / "interleave_thinker" if user else shared_folder()


def prompt_folders() -> list[Path]:
    """Where prompt texts of users lie, used where they exist: the user's own go before the shared ones."""
    return list(dict.fromkeys(folder / "prompts" for folder in (user_folder(), shared_folder())))


def runs_root(user: str | None = None) -> Path:
    """The folder of a user's runs; without a name, of the user whose prompt runs.

    The sign "@" keeps users' folders apart from runs: `safe_name` lets no run have it.
    """
    root = Path(folder_paths.get_output_directory()) / RUNS
    owner = user_prefix(user)
    return root / owner if owner else root


def user_prefix(user: str | None = None) -> str:
    """What stands before a run's name below output/interleave; "" with a single user."""
    name = current_user() if user is None else user
    return f"{USERS}{name}" if name else ""


def run_path(name: str, user: str | None = None) -> str:
    """A run, or a file of it, as the page names it: its path below output/interleave."""
    owner = user_prefix(user)
    return f"{owner}/{name}" if owner else name


def saved_file(path: Path) -> dict[str, str]:
    """A file below the output folder as ComfyUI names it in its history and as its /view takes it."""
    subfolder = path.parent.relative_to(folder_paths.get_output_directory()).as_posix()
    return {"filename": path.name, "subfolder": subfolder, "type": "output"}


def attempt_store() -> AttemptStore:
    return _store(user_folder() / "store")


@functools.lru_cache(maxsize=4)
def _store(root: Path) -> AttemptStore:
    """Few at a time, for each has pictures in memory."""
    return AttemptStore(root)


def agent_folders() -> list[str]:
    """Names of model folders below models/VLM and models/LLM that hold a config.json, at most two deep."""
    found = set()
    for kind in MODEL_FOLDERS:
        for root in folder_paths.get_folder_paths(kind):
            for config in [*Path(root).glob("*/config.json"), *Path(root).glob("*/*/config.json")]:
                found.add(config.parent.relative_to(root).as_posix())
    return sorted(found)


def adapter_folders() -> list[str]:
    """Names of LoRA adapter folders (adapter_config.json) below models/VLM and models/LLM."""
    found = set()
    for kind in MODEL_FOLDERS:
        for root in folder_paths.get_folder_paths(kind):
            for config in [
                *Path(root).glob("*/adapter_config.json"),
                *Path(root).glob("*/*/adapter_config.json"),
            ]:
                found.add(config.parent.relative_to(root).as_posix())
    return sorted(found)


def lora_files() -> list[str]:
    """Names of the LoRA files in models/loras that can be an adapter."""
    return [name for name in folder_paths.get_filename_list("loras") if name.endswith(SUFFIXES)]


def lora_file(name: str) -> Path:
    """Raises:
    AgentError: there is no such file in models/loras.
    """
    path = folder_paths.get_full_path("loras", name)
    if path is None:
        raise AgentError(f"There is no adapter {name!r} in models/loras. Put the file there, or choose another.")
    return Path(path)


def model_folder(name: str) -> Path:
    """The folder of a name from one of the lists above.

    Raises:
        AgentError: there is no such folder below models/VLM or models/LLM.
    """
    for kind in MODEL_FOLDERS:
        for root in folder_paths.get_folder_paths(kind):
            path = Path(root) / name
            if is_plain_path(name) and path.is_dir():
                return path
    raise AgentError(
        f"There is no model folder {name!r}. Put the model's Hugging Face folder into models/VLM "
        "(or models/LLM) and refresh the node list."
    )


def pipeline_folders() -> list[str]:
    """Names of diffusers pipeline folders (model_index.json) below models/diffusers."""
    found = set()
    for root in folder_paths.get_folder_paths("diffusers"):
        for index in Path(root).glob("*/model_index.json"):
            found.add(index.parent.name)
    return sorted(found)


def pipeline_folder(name: str) -> Path:
    for root in folder_paths.get_folder_paths("diffusers"):
        path = Path(root) / name
        if is_plain_path(name) and (path / "model_index.json").is_file():
            return path
    raise ConfigError(
        f"There is no pipeline folder {name!r} in models/diffusers. Put the whole folder with its "
        "model_index.json there and refresh the node list."
    )
