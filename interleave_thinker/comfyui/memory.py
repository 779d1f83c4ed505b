"""What a workflow needs in the graphics card's memory at once, by arithmetic; `docs/memory.md` says how it is counted.

Nothing is measured and no model is opened. All sizes are bytes; "GB" in texts is 10^9 bytes, but a card's own "8 GB"
are 8 x 2^30.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ..contract import MAX_MEGAPIXELS, MAX_TOKENS, NODE_IDS, PACKAGED_CLIP, loop_open_output
from .agent_clip import chat_model, find_agent_clip
from .links import is_link, live_inputs, live_links, typed_value
from .model_files import (
    AGENTS,
    Model,
    SizeLookup,
    agent_clips,
    agents_read_by,
    ends_of,
    live_nodes,
    models_of,
)

CARDS: Final = (8, 12, 16, 24)
"""Sizes of cards, in their makers' GB of 2^30 bytes."""
RESERVE: Final = 1_000_000_000
"""Bytes of a card that no model gets: the desktop, the CUDA context, and the 0.4 to 0.7 GB that ComfyUI leaves free."""
LEAST_WORKING: Final = 859_000_000
"""Bytes that ComfyUI keeps free beside any model for its work (0.8 x 2^30)."""
SAMPLING: Final = 1_700_000_000
"""Bytes a megapixel while sampling: ComfyUI's estimate for FLUX.2 Klein 9B. Lighter models take less."""
DECODING: Final = 4_356
"""Bytes a pixel that ComfyUI asks for to decode with a VAE (2178 values of 16 bits)."""
PIXELS: Final = 1024 * 1024
"""Of a picture whose size the workflow does not say; also what a megapixel is in a node's settings."""
PROMPT_TOKENS: Final = 1_000
"""Tokens of an agent's prompt, beside its pictures."""
PIXELS_A_TOKEN: Final = 32 * 32
"""Qwen3-VL: patches of 16 x 16, merged by twos."""
ATTEMPTS: Final = 12
"""The simulation runs this many attempts; the last one is reported."""

Word = Literal["encode", "sample", "decode", "judge", "plan"]


@dataclass(frozen=True)
class Shape:
    """The numbers of a chat model that its memory depends on. vision: hidden and MLP size of its eyes."""

    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    mlp: int
    vision: tuple[int, int] = (1152, 4304)

    @property
    def cache_a_token(self) -> int:
        """Bytes of the key-value cache for one token, in 16 bits."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2


SHAPES: Final[Mapping[tuple[str, str], Shape]] = {
    ("Qwen3-VL", "2b"): Shape(28, 8, 128, 2048, 6144, (1024, 4096)),
    ("Qwen3-VL", "4b"): Shape(36, 8, 128, 2560, 9728, (1024, 4096)),
    ("Qwen3-VL", "8b"): Shape(36, 8, 128, 4096, 12288),
    ("Qwen3.5", "0.8b"): Shape(6, 2, 256, 1024, 3584, (768, 3072)),
    ("Qwen3.5", "2b"): Shape(6, 2, 256, 2048, 6144, (1024, 4096)),
    ("Qwen3.5", "4b"): Shape(8, 4, 256, 2560, 9216, (1024, 4096)),
    ("Qwen3.5", "9b"): Shape(8, 4, 256, 4096, 12288),
    ("Qwen3.5", "27b"): Shape(16, 4, 256, 5120, 17408),
    ("Gemma 4", "e2b"): Shape(35, 1, 512, 1536, 12288, (768, 3072)),
    ("Gemma 4", "e4b"): Shape(42, 2, 512, 2560, 10240, (768, 3072)),
    ("Gemma 4", "12b"): Shape(48, 8, 512, 3840, 15360, (3840, 3840)),
    ("Gemma 4", "31b"): Shape(60, 16, 512, 5376, 21504),
}
"""As ComfyUI has them. Of a Qwen3.5 only each fourth layer keeps what it has read; of a Gemma 4 most keep less than is
counted here. Other models are counted as the Qwen3-VL 8B unless their folder has a config.json.
"""


@dataclass(frozen=True)
class Use:
    """An agent's settings. pictures: how many it is shown at most."""

    max_tokens: int = MAX_TOKENS
    megapixels: float = MAX_MEGAPIXELS
    pictures: int = 2


@dataclass(frozen=True)
class Phase:
    """A part of an attempt: the models that it needs at once and what it needs beside their weights."""

    word: Word
    models: tuple[Model, ...]
    working: int

    @property
    def weights(self) -> int:
        return sum(m.bytes for m in self.models)

    @property
    def together(self) -> int:
        return self.weights + self.working


@dataclass(frozen=True)
class Fit:
    """How a card copes.

    verdict: "fits": everything stays. "swaps": each phase fits, the models change places at every attempt. "offloads":
    a model does not fit beside its work; a part stays in RAM and is read again at each pass. "unknown": all that is
    known fits, but a size is missing.
    moved: bytes read into the card at every attempt, by model. again: bytes read at each further pass, by phase.
    """

    verdict: Literal["fits", "swaps", "offloads", "unknown"]
    usable: int
    moved: Mapping[str, int] = field(default_factory=dict)
    again: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """The workflow with one choice of agent. agents: their models; none for a server."""

    agents: tuple[Model, ...]
    phases: tuple[Phase, ...]

    @property
    def models(self) -> list[Model]:
        return _distinct(m for p in self.phases for m in p.models)

    @property
    def unknown(self) -> list[str]:
        return list(dict.fromkeys(n for m in self.models for n in m.unknown))

    @property
    def peak(self) -> int:
        """Bytes of the phase that needs most."""
        return max((p.together for p in self.phases), default=0)

    @property
    def all_at_once(self) -> int:
        """Bytes with which nothing ever moves."""
        return sum(m.bytes for m in self.models) + max((p.working for p in self.phases), default=0)


@dataclass(frozen=True)
class Needs:
    """own: with the agents that the workflow has, or one beside it. shared: with the generator's text encoder as agent;
    None where no Load CLIP of it holds a whole Qwen3-VL, Qwen3.5 or Gemma 4. pixels: of a picture. has_agent: whether
    the workflow has one already. shares: whether that is the one of `shared`; `own` then has a second model in its
    place.
    """

    models: tuple[Model, ...]
    pixels: int
    has_agent: bool
    shares: bool
    own: Scenario
    shared: Scenario | None


def needs_of(
    workflow: Mapping[str, Any], sizes: SizeLookup, *, agent: Model | None = None, pixels: int | None = None
) -> Needs:
    """agent: instead of the workflow's own (default: that, or the one that wrap adds); without files it stands for a
    server. pixels: of a picture, instead of what the workflow says.
    """
    live = live_nodes(workflow)
    models = models_of(workflow, sizes)
    size = pixels or picture_pixels(workflow, live)
    drawing = _drawing([m for m in models if m.role != "agent"], size, _edits(workflow, live))
    uses = {i: _use(workflow, live, i) for i in live if workflow[i]["class_type"] in AGENTS}
    widest = _widest(list(uses.values()))
    asked = _agents(workflow, live, models)
    encoder = _shared_encoder(workflow, models, [m for _, m, _ in asked])
    shares = encoder is not None and any(m == encoder for _, m, _ in asked)
    packaged = agent or Model("agent", (sizes.file(PACKAGED_CLIP),))
    adapters = {node_id: m for m in models if m.role == "adapter" for node_id in m.nodes}
    beside = {word: adapters[i] for word, _, i in asked if i in adapters}
    if agent is None and asked and not shares:
        talking = [_talk(word, m, uses[i], adapters.get(i)) for word, m, i in asked]
    elif agent is None and uses and not asked:  # servers
        talking = []
    else:
        talking = [_talk(word, packaged, widest) for word in ("judge", "plan")] if packaged.files else []
    shared = None
    if encoder is not None:
        both = [_talk(word, encoder, widest, beside.get(word)) for word in ("judge", "plan")]
        shared = Scenario((encoder,), (*drawing, *both))
    agents = tuple(_distinct(m for p in talking for m in p.models))
    return Needs(tuple(models), size, bool(uses), shares, Scenario(agents, (*drawing, *talking)), shared)


def fit(scenario: Scenario, card: int, reserve: int = RESERVE) -> Fit:
    """How a card of `card` x 2^30 bytes, less `reserve`, copes with attempt after attempt.

    Counted as ComfyUI frees memory: what is in the way leaves, first what has left in part, then the smaller model,
    and only as much as is missing.
    """
    usable = max(0, card * 2**30 - reserve)
    again: dict[str, int] = {}
    for phase in scenario.phases:
        if phase.together > usable and phase.weights:
            again[phase.word] = max(again.get(phase.word, 0), min(phase.weights, phase.together - usable))
    there: dict[Model, int] = {}
    moved: dict[str, int] = {}
    for phase in [p for p in scenario.phases if p.word == "plan"]:
        _load(phase, there, usable)
    for _ in range(ATTEMPTS):
        moved = {}
        for phase in [p for p in scenario.phases if p.word != "plan"]:
            for name, size in _load(phase, there, usable).items():
                moved[name] = moved.get(name, 0) + size
    if again:
        return Fit("offloads", usable, moved, again)
    if moved:
        return Fit("swaps", usable, moved)
    return Fit("unknown" if scenario.unknown else "fits", usable)


def _load(phase: Phase, there: dict[Model, int], usable: int) -> dict[str, int]:
    """Make room for a phase and load what is missing of its models; returns the bytes loaded, by model's name."""
    needed = set(phase.models)
    room = max(0, usable - phase.working)
    over = phase.weights + sum(size for m, size in there.items() if m not in needed) - room
    for model in sorted((m for m in there if m not in needed), key=lambda m: (there[m] - m.bytes, m.bytes, m.name)):
        leaves = min(there[model], max(0, over))
        there[model] -= leaves
        over -= leaves
    loaded: dict[str, int] = {}
    for model in phase.models:
        here = there.get(model, 0)
        keep = min(model.bytes, room)
        room -= keep
        there[model] = keep
        # The part that does not fit is read too, once for the first pass.
        if model.bytes > min(here, keep):
            loaded[model.name] = loaded.get(model.name, 0) + model.bytes - min(here, keep)
    return loaded


def shape_of(model: Model) -> Shape:
    """By the folder's config.json, else by family and size in the name (qwen3vl_4b), else the Qwen3-VL 8B."""
    config = dict(model.config)
    wanted = ("num_hidden_layers", "num_key_value_heads", "hidden_size", "intermediate_size")
    if all(config.get(k, 0) > 0 for k in wanted):
        heads = max(1, config.get("num_attention_heads", 1))
        dim = config.get("head_dim", 0)
        return Shape(
            config[wanted[0]],
            config[wanted[1]],
            dim if dim > 0 else config["hidden_size"] // heads,
            config["hidden_size"],
            config["intermediate_size"],
        )
    known = SHAPES.get(chat_model(model.files[0].name if model.files else "") or ("", ""))
    return known or SHAPES["Qwen3-VL", "8b"]


def working_of(shape: Shape, use: Use) -> int:
    """Bytes that a reply needs beside the weights: the key-value cache, and activations of its longest pass.

    The pass over the prompt holds a layer's values (16 bits), that over the pictures those of the eyes (32 bits, as
    ComfyUI feeds them), and never both at once.
    """
    seen = math.ceil(use.pictures * use.megapixels * PIXELS / PIXELS_A_TOKEN)
    prompt = PROMPT_TOKENS + seen
    cache = shape.cache_a_token * (prompt + use.max_tokens)
    reading = prompt * (4 * shape.hidden + 3 * shape.mlp) * 2
    looking = 4 * seen * (4 * shape.vision[0] + 2 * shape.vision[1]) * 4
    return cache + max(reading, looking, LEAST_WORKING)


def _shared_encoder(workflow: Mapping[str, Any], models: Sequence[Model], asked: Sequence[Model]) -> Model | None:
    """The generator's text encoder that is the agent, else the one that wrap would take for it."""
    encoders = [m for m in models if m.role == "text encoder"]
    loaders = {node_id for m in encoders for node_id in m.nodes}
    used = {node_id for m in asked for node_id in m.nodes} & loaders
    for among in filter(None, (used, loaders)):
        node = find_agent_clip(workflow, *(ends_of(workflow) or workflow), among=among).node
        if found := next((m for m in encoders if node in m.nodes), None):
            return found
    return None


def picture_pixels(workflow: Mapping[str, Any], live: set[str]) -> int:
    """Pixels of the largest picture that the workflow says it makes."""
    found = []
    for node_id in live:
        inputs = live_inputs(workflow, node_id)
        width, height = (_number(typed_value(workflow, inputs.get(n))) for n in ("width", "height"))
        if width and height and re.search(r"latent|empty|generate|size|resolution", _kind(workflow, node_id)):
            found.append(round(width * height * max(1, _number(inputs.get("batch_size")))))
        megapixels = _number(inputs.get("megapixels"))
        if 0 < megapixels <= 64 and "resolution" in _kind(workflow, node_id):
            found.append(round(megapixels * PIXELS))
    return max((f for f in found if 16 * 16 <= f <= 16384 * 16384), default=PIXELS)


def _edits(workflow: Mapping[str, Any], live: set[str]) -> bool:
    """Whether a picture is drawn from another one: a loaded one, or a loop's reference."""
    if any(workflow[i]["class_type"] == "LoadImage" or "reference" in _kind(workflow, i) for i in live):
        return True
    number = loop_open_output("reference")
    opens = {i for i in live if workflow[i]["class_type"] == NODE_IDS.loop_open}
    taking = (i for i in live if workflow[i]["class_type"] != NODE_IDS.critic_refine)
    return any(str(link[0]) in opens and link[1] == number for i in taking for _, link in live_links(workflow, i))


def _drawing(models: Sequence[Model], pixels: int, edits: bool) -> list[Phase]:
    """The phases of one picture: each text encoder for itself, all that samples together, each VAE for itself."""
    whole = [m for m in models if m.role == "checkpoint"]
    seeing = [m for m in models if m.role == "vision encoder"]
    encoders = [m for m in models if m.role == "text encoder"] or ([whole[0]] if whole else [])
    sampling = [m for m in models if m.role in ("checkpoint", "diffusion model", "control", "LoRA", "other")]
    decoders = [m for m in models if m.role == "VAE"] or ([whole[0]] if whole else [])
    at_work = max(LEAST_WORKING, round(SAMPLING * pixels / PIXELS) * (2 if edits else 1))
    return [
        *(Phase("encode", (m,), LEAST_WORKING) for m in (*encoders, *seeing)),
        *([Phase("sample", tuple(sampling), at_work)] if sampling else []),
        *(Phase("decode", (m,), max(LEAST_WORKING, DECODING * pixels)) for m in decoders),
        *(Phase("decode", (m,), LEAST_WORKING) for m in models if m.role == "upscaler"),
    ]


def _talk(word: str, model: Model, use: Use, adapter: Model | None = None) -> Phase:
    """adapter: beside the model while it writes; it comes and goes with each reply, so it counts as working memory."""
    beside = adapter.bytes if adapter is not None else 0
    return Phase("plan" if word == "plan" else "judge", (model,), working_of(shape_of(model), use) + beside)


def _agents(workflow: Mapping[str, Any], live: set[str], models: Sequence[Model]) -> list[tuple[str, Model, str]]:
    """Of each agent that runs here: "judge" or "plan", its model and its node's id."""
    clips = agent_clips(workflow, live)
    loaded = {node_id: m for m in models if m.role in ("agent", "text encoder", "checkpoint") for node_id in m.nodes}
    judges = agents_read_by(workflow, live, NODE_IDS.critic_refine, NODE_IDS.loop_close)
    planners = agents_read_by(workflow, live, NODE_IDS.planner)
    found = []
    for node_id in (i for i in workflow if i in live and workflow[i]["class_type"] in AGENTS):
        model = loaded.get(clips.get(node_id, node_id))
        words = [w for w, ids in (("judge", judges), ("plan", planners)) if node_id in ids] or ["judge"]
        found += [(word, model, node_id) for word in words if model is not None]
    return found


def _use(workflow: Mapping[str, Any], live: set[str], agent: str) -> Use:
    inputs = workflow[agent]["inputs"]
    tokens = _number(typed_value(workflow, inputs.get("max_tokens")))
    megapixels = _number(typed_value(workflow, inputs.get("max_megapixels")))
    shown = [sum(name.startswith("images.") for name in workflow[i]["inputs"]) for i in live]
    return Use(
        int(tokens) if 0 < tokens <= 10**6 else MAX_TOKENS,
        megapixels if 0 < megapixels <= 1000 else MAX_MEGAPIXELS,
        max(2, *shown, 0),
    )


def _widest(uses: Sequence[Use]) -> Use:
    if not uses:
        return Use()
    return Use(max(u.max_tokens for u in uses), max(u.megapixels for u in uses), max(u.pictures for u in uses))


def _number(value: object) -> float:
    """A typed number that is finite, else 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or is_link(value):
        return 0
    return value if abs(value) < 10**9 else 0


def _kind(workflow: Mapping[str, Any], node_id: str) -> str:
    return str(workflow[node_id]["class_type"]).lower()


def _distinct(models: Any) -> list[Model]:
    return list(dict.fromkeys(models))
