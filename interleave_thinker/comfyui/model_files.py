"""Which model files a workflow loads, what each is for, and how much memory it takes.

Loaders are not known by name alone: every input whose value is a model's file name counts. What a switch leaves out,
and a loader that nothing reads, is not loaded.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..contract import NODE_IDS, PREFIX
from .agent_clip import is_clip_loader
from .client import WorkflowError
from .known_sizes import KNOWN_SIZES
from .links import is_link, live_inputs, live_links, upstream

Role = Literal[
    "agent", "adapter", "text encoder", "vision encoder", "diffusion model", "checkpoint", "control", "LoRA", "VAE",
    "upscaler", "other",
]  # fmt: skip

SUFFIXES = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")
FOLDER_LOADERS = {NODE_IDS.load_agent: ("model", "adapter"), f"{PREFIX}GenerateOrEdit": ("pipeline",)}
"""Our nodes that load a folder, and their inputs that name one."""
AGENTS = (NODE_IDS.agent_from_clip, NODE_IDS.load_agent, NODE_IDS.agent_from_server)
MOST_FILES = 200_000
"""Files of a models folder that are looked at."""
LONGEST_HEADER = 100 * 1024 * 1024

_SEES = re.compile(r"clip_?vision|image_encoder", re.IGNORECASE)
_ROLES: tuple[tuple[str, Role], ...] = (
    (r"lora|lycoris", "LoRA"),
    (r"controlnet|control_net|patch|style_model|ip_?adapter|gligen|hypernetwork", "control"),
    (r"upscale", "upscaler"),
    (r"vae", "VAE"),
    (r"ckpt|checkpoint", "checkpoint"),
    (r"clip|text_?encoder|t5|llm", "text encoder"),
    (r"unet|diffusion|transformer|(^|_)dit(_|$)", "diffusion model"),
)
_CHECKPOINT_PARTS: tuple[tuple[str, Role], ...] = (
    (r"^(cond_stage_model|conditioner|text_encoders)\.", "text encoder"),
    (r"^(first_stage_model|vae)\.", "VAE"),
)
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_CLIPS: tuple[Role, ...] = ("text encoder", "agent")
_BITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class ModelFile:
    """A file and the memory that its weights take.

    bytes: None where it is not known. source: where that number is from.
    """

    name: str
    bytes: int | None
    source: str


@dataclass(frozen=True)
class Model:
    """What one loader puts into memory as one piece.

    nodes: ids of the loaders. kind: `type` of a CLIP loader. config: the text model of a folder, where it is at hand.
    """

    role: Role
    files: tuple[ModelFile, ...]
    nodes: tuple[str, ...] = ()
    kind: str = ""
    config: tuple[tuple[str, int], ...] = ()

    @property
    def bytes(self) -> int:
        """Of the files whose size is known."""
        return sum(f.bytes or 0 for f in self.files)

    @property
    def name(self) -> str:
        return " + ".join(f.name for f in self.files)

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.files if f.bytes is None)


class SizeLookup:
    """Sizes of model files: as typed, else of ComfyUI's models folders, else of the table."""

    def __init__(self, folders: Sequence[Path] = (), typed: Mapping[str, int] | None = None) -> None:
        """Raises:
        WorkflowError: a folder is none.
        """
        self._typed = {_base(name): size for name, size in (typed or {}).items()}
        self._used: set[str] = set()
        self._paths: dict[str, list[Path]] = {}
        self._folders = [Path(f) for f in folders]
        for folder in self._folders:
            if not folder.is_dir():
                raise WorkflowError(f"{folder} is no folder. Name ComfyUI's models folder with --models.")
            for number, path in enumerate(_files_below(folder)):
                if number >= MOST_FILES:
                    break
                self._paths.setdefault(path.name.lower(), []).append(path)

    def unused(self) -> list[str]:
        """Names that were typed and that no model has."""
        return sorted(set(self._typed) - self._used)

    def file(self, name: str, *, dtype: str = "") -> ModelFile:
        """dtype: what the loader casts weights to, such as fp8_e4m3fn; empty or "default" for as they are."""
        if (size := self._as_typed(name)) is not None:
            return ModelFile(name, size, "typed")
        path = self.path(name)
        if path is not None:
            if _is_not_fetched(path):
                return ModelFile(name, None, f"{path} holds no model: fetch it anew")
            return ModelFile(name, loaded_bytes(path, dtype), str(path))
        known = KNOWN_SIZES.get(_base(name))
        return ModelFile(name, known.bytes, f"table ({known.read})") if known else ModelFile(name, None, "unknown")

    def folder(self, name: str) -> ModelFile:
        if (size := self._as_typed(name)) is not None:
            return ModelFile(name, size, "typed")
        place = self.folder_path(name)
        if place is None:
            return ModelFile(name, None, "unknown")
        weights = [p for p in _files_below(place) if p.suffix.lower() in SUFFIXES]
        whole = [p for p in weights if p.suffix.lower() in (".safetensors", ".sft")] or weights
        return ModelFile(name, sum(loaded_bytes(p) for p in whole), str(place))

    def folder_path(self, name: str) -> Path | None:
        tail = _tail(name)
        for root in self._folders:
            for kind in ("VLM", "LLM", "diffusers", "loras", ""):
                place = root.joinpath(kind, *tail)
                if tail and ".." not in tail and place.is_dir():
                    return place
        return None

    def path(self, name: str) -> Path | None:
        """The largest file of that name, with the folders that the name has."""
        tail = _tail(name)
        found = [
            p
            for p in self._paths.get(_base(name), [])
            if [x.lower() for x in p.parts[-len(tail) :]] == [x.lower() for x in tail]
        ]
        return max(found, key=_size, default=None)

    def _as_typed(self, name: str) -> int | None:
        size = self._typed.get(_base(name))
        if size is not None:
            self._used.add(_base(name))
        return size


def read_size(text: str) -> int:
    """Bytes of "9.4GB" (10^9), "8 GiB" (2^30), "340MB" or "1234".

    Raises:
        WorkflowError: it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text, re.IGNORECASE | re.ASCII)
    if not found or found[2].lower() not in _UNITS or len(found[1]) > 30:
        raise WorkflowError(f"{text!r} is no size; write it as 9.4GB.")
    return round(float(found[1]) * _UNITS[found[2].lower()])


def tensors(path: Path) -> dict[str, tuple[str, int]]:
    """Type and stored bytes of each tensor of a safetensors file, from its header alone; empty where it is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= LONGEST_HEADER:
                return {}
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError):
        return {}
    found: dict[str, tuple[str, int]] = {}
    for name, facts in header.items() if isinstance(header, dict) else ():
        ends = facts.get("data_offsets") if isinstance(facts, dict) else None
        if name != "__metadata__" and isinstance(ends, list) and len(ends) == 2 and all(type(e) is int for e in ends):
            found[name] = (str(facts.get("dtype")), max(0, ends[1] - ends[0]))
    return found


def loaded_bytes(path: Path, dtype: str = "") -> int:
    """Bytes that the weights of a file take in memory: ComfyUI loads 32-bit weights as 16-bit ones.

    dtype: what the loader casts to; fp8 makes one byte of each weight of 16 or 32 bits.
    """
    found = tensors(path)
    return sum(_in_memory(*t, dtype) for t in found.values()) if found else _size(path)


def live_nodes(workflow: Mapping[str, Any]) -> set[str]:
    """Nodes that ComfyUI would run: what the ends of the graph depend on, through the side a switch takes."""
    ends = ends_of(workflow)
    return set(upstream(workflow, *ends)) if ends else set(workflow)


def ends_of(workflow: Mapping[str, Any]) -> list[str]:
    """Nodes that read others and that none reads."""
    read = {str(v[0]) for i in workflow for v in workflow[i]["inputs"].values() if is_link(v)}
    return [i for i in workflow if i not in read and any(is_link(v) for v in workflow[i]["inputs"].values())]


def models_of(workflow: Mapping[str, Any], sizes: SizeLookup) -> list[Model]:
    """Every model that the workflow loads, loaders of equal inputs once. Agents' models have the role "agent" only
    where nothing else uses them.
    """
    live = live_nodes(workflow)
    for_agents = set(agent_clips(workflow, live).values())
    for_pictures = _read_by_others(workflow, live)
    found: dict[str, Model] = {}
    for node_id in (i for i in workflow if i in live):
        for model in _loaded_by(workflow, live, node_id, sizes):
            if model.role == "text encoder" and node_id in for_agents and node_id not in for_pictures:
                model = Model("agent", model.files, model.nodes, model.kind, model.config)
            inputs = {k: v for k, v in workflow[node_id]["inputs"].items() if not is_link(v)}
            key = json.dumps([workflow[node_id]["class_type"], model.role, model.name, inputs], default=str)
            known = found.get(key)
            found[key] = Model(
                model.role, model.files, (*known.nodes, node_id) if known else (node_id,), model.kind, model.config
            )
    return list(found.values())


def agent_clips(workflow: Mapping[str, Any], live: set[str]) -> dict[str, str]:
    """By id of an Agent from CLIP: the loader that its `clip` comes from."""
    found: dict[str, str] = {}
    for node_id in live:
        node = workflow[node_id]
        clip = node["inputs"].get("clip")
        if node["class_type"] != NODE_IDS.agent_from_clip or not is_link(clip):
            continue
        for source in upstream(workflow, str(clip[0])):
            kind = str(workflow[source]["class_type"]).lower()
            if "lora" not in kind and any(True for _ in _file_names(workflow[source]["inputs"])):
                found[node_id] = source
                break
    return found


def clip_named(workflow: Mapping[str, Any], node_id: str, sizes: SizeLookup) -> Model:
    """What the Load CLIP of this id loads.

    Raises:
        WorkflowError: it is none, or the workflow does not use it; those that it uses are named.
    """
    clips = [
        (i, m) for m in models_of(workflow, sizes) for i in m.nodes if is_clip_loader(workflow[i]) and m.role in _CLIPS
    ]
    found = next((m for i, m in clips if i == node_id), None)
    if found is None:
        known = ", ".join(f"node:{i}" for i, _ in clips[:20])
        fix = f"it uses {known}" if known else "it uses none: name a file, clip:FILE"
        raise WorkflowError(f"node:{node_id[:40]} is no Load CLIP that the workflow uses; {fix}.")
    return found


def agents_read_by(workflow: Mapping[str, Any], live: set[str], *kinds: str) -> set[str]:
    """Ids of the agent nodes that nodes of these kinds read."""
    found: set[str] = set()
    for node_id in live:
        link = workflow[node_id]["inputs"].get("agent")
        if workflow[node_id]["class_type"] in kinds and is_link(link):
            found |= {i for i in upstream(workflow, str(link[0])) if workflow[i]["class_type"] in AGENTS}
    return found


def _read_by_others(workflow: Mapping[str, Any], live: set[str]) -> set[str]:
    """Loaders that something else than an agent depends on."""
    found: set[str] = set()
    for node_id in live:
        if workflow[node_id]["class_type"] not in AGENTS and not _hands_on(workflow, node_id):
            for _, link in live_links(workflow, node_id):
                found |= _model_sources(workflow, str(link[0]))
    return found


def _hands_on(workflow: Mapping[str, Any], node_id: str) -> bool:
    """Whether a node only hands a model on, such as a reroute or a LoRA loader: what reads it counts, not itself."""
    kind = str(workflow[node_id]["class_type"]).lower()
    return "reroute" in kind or "lora" in kind or "clipsetlastlayer" in kind


def _model_sources(workflow: Mapping[str, Any], node_id: str) -> set[str]:
    found: set[str] = set()
    waiting, seen = [node_id], set()
    while waiting:
        current = waiting.pop()
        if current in seen or current not in workflow:
            continue
        seen.add(current)
        if any(True for _ in _file_names(workflow[current]["inputs"])):
            found.add(current)
        if _hands_on(workflow, current):
            waiting += [str(v[0]) for v in workflow[current]["inputs"].values() if is_link(v)]
    return found


def _loaded_by(workflow: Mapping[str, Any], live: set[str], node_id: str, sizes: SizeLookup) -> Iterator[Model]:
    node = workflow[node_id]
    kind, inputs = str(node["class_type"]), live_inputs(workflow, node_id)
    if kind in FOLDER_LOADERS:
        names = [inputs.get(name) for name in FOLDER_LOADERS[kind]]
        folders = tuple(sizes.folder(n) for n in names if isinstance(n, str) and n and n.lower() != "none")
        if folders:
            role: Role = "agent" if kind == NODE_IDS.load_agent else "diffusion model"
            place = sizes.folder_path(folders[0].name)
            yield Model(role, folders, config=_text_config(place) if place else ())
        return
    if kind == NODE_IDS.agent_from_clip:
        for _, file in _file_names(inputs):
            yield Model("adapter", (sizes.file(file),))
        return
    dtype = str(inputs.get("weight_dtype", ""))
    by_role: dict[Role, list[ModelFile]] = {}
    for name, file in _file_names(inputs):
        role = role_of(kind, name)
        path = sizes.path(file) if role == "checkpoint" else None
        parts = _checkpoint_parts(path) if path and sizes.file(file).source != "typed" else {}
        taken = {v[1] for i in live for v in workflow[i]["inputs"].values() if is_link(v) and str(v[0]) == node_id}
        for part, size in parts.items():
            if kind != "CheckpointLoaderSimple" or {"diffusion model": 0, "text encoder": 1, "VAE": 2}[part] in taken:
                by_role.setdefault(part, []).append(ModelFile(file, size, str(path)))
        if not parts:
            by_role.setdefault(role, []).append(sizes.file(file, dtype=dtype))
    for role, files in by_role.items():
        if role in _CLIPS and inputs.get("device") == "cpu":
            files = [ModelFile(file.name, 0, "on the CPU, as its loader says") for file in files]
        yield Model(role, tuple(files), kind=str(inputs.get("type", "")))


def role_of(class_type: str, input_name: str) -> Role:
    """What a file is for, by the names of its input and, where that says nothing, of its node."""
    if _SEES.search(f"{class_type} {input_name}"):
        return "vision encoder"  # its input is called as that of a text encoder
    for text in (input_name, class_type):
        for pattern, role in _ROLES:
            if re.search(pattern, text, re.IGNORECASE):
                return role
    return "other"


def _file_names(held: object, name: str = "", level: int = 0) -> Iterator[tuple[str, str]]:
    """Input and file name of each model that inputs name; not of entries that are switched off."""
    if isinstance(held, str):
        if held.lower().endswith(SUFFIXES) and _base(held) and "\n" not in held:
            yield name, held
    elif isinstance(held, Mapping) and level < 4 and held.get("on") is not False:
        for key, value in held.items():
            yield from _file_names(value, name if level else str(key), level + 1)


def _checkpoint_parts(path: Path) -> dict[Role, int]:
    parts: dict[Role, int] = {}
    for name, (kind, size) in tensors(path).items():
        role: Role = next((r for p, r in _CHECKPOINT_PARTS if re.search(p, name)), "diffusion model")
        parts[role] = parts.get(role, 0) + _in_memory(kind, size, "")
    return parts


def _in_memory(kind: str, size: int, dtype: str) -> int:
    bits = 8 if kind.startswith("F8") else int(found[1]) if (found := _BITS.search(kind)) else 8
    if not kind.startswith(("F", "BF")) or bits <= 8:
        return size
    return math.ceil(size * (8 if dtype.startswith("fp8") else 16) / bits)


def _text_config(folder: Path) -> tuple[tuple[str, int], ...]:
    """Numbers of a folder's config.json, of its text model where it has one."""
    try:
        held = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return ()
    text = held.get("text_config", held) if isinstance(held, dict) else None
    return tuple(sorted((k, v) for k, v in text.items() if type(v) is int)) if isinstance(text, dict) else ()


def _files_below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


def _is_not_fetched(path: Path) -> bool:
    """Whether a file is empty, or the pointer that git-lfs leaves in its place."""
    try:
        with path.open("rb") as file:
            begins = file.read(40)
    except OSError:
        return False
    return not begins or begins.startswith(b"version https://git-lfs")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _tail(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def _base(name: str) -> str:
    return (_tail(name) or [""])[-1].lower()
