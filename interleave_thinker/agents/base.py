"""The Agent protocol: a chat model that reads text and pictures and streams text.

Three real backends implement it (`transformers_agent`, `openai_compatible`, and ComfyUI's own models in
the node package) and one scripted (`scripted`), which is for unit tests.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from PIL import Image

from ..contract import MAX_TOKENS, TEMPERATURE
from ..errors import AgentError
from .reply_form import ReplyForm

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Part = str | Image.Image

OnText = Callable[[str], bool]
"""Called with all text so far after each token or chunk. Return False to end the reply there; raise
to interrupt: the exception leaves `complete` as it is."""


@dataclass(frozen=True)
class Message:
    """One turn: texts and pictures in any order and number; pictures may differ in size."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        """Half a character (a lone surrogate, as JSON can hold one) becomes a question mark: no tokenizer takes it."""
        whole = tuple(p.encode("utf-8", "replace").decode("utf-8") if isinstance(p, str) else p for p in self.parts)
        object.__setattr__(self, "parts", whole)

    @property
    def images(self) -> tuple[Image.Image, ...]:
        return tuple(p for p in self.parts if isinstance(p, Image.Image))

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(p for p in self.parts if isinstance(p, str))


@dataclass(frozen=True)
class Sampling:
    """How a reply is written.

    max_tokens: hard bound on the reply. temperature: 0 is greedy. seed: of the sampling.
    max_pixels: a larger picture is scaled down to it before the model sees it (width x height).
    keep_form: whether the decoder is held to `form`, where the backend can. form: what the answer's object begins with
    (planner and critic set it). strictness: what is taken from the log-odds of the form's strict word at the choice,
    before the temperature; 0 is the model's own verdict. earlier: replies that this one may repeat in parts, the newest
    first; an agent may look ahead in them, which changes no token.
    """

    max_tokens: int = MAX_TOKENS
    temperature: float = TEMPERATURE
    top_p: float = 0.8
    top_k: int = 20
    seed: int = 0
    max_pixels: int = 1024 * 1024
    keep_form: bool = True
    form: ReplyForm | None = None
    strictness: float = 0.0
    earlier: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Keys of stored replies are made of it: later fields are left out at their default."""
        later = {"keep_form", "form", "strictness"}
        shown = [
            f
            for f in fields(self)
            if f.name != "earlier" and (f.name not in later or getattr(self, f.name) != f.default)
        ]
        return f"Sampling({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in shown)})"


@dataclass(frozen=True)
class Completion:
    """`finish`: "stop" (the model ended), "early" (the caller had enough) or "length" (cut off).

    log_odds: of true against false at the verdict's token, in the model's own logits, before temperature and
    strictness; None where the backend tells no logits, or no verdict was met.
    """

    text: str
    finish: Literal["stop", "early", "length"]
    tokens: int = 0
    seconds: float = 0.0
    log_odds: float | None = None


class Agent(Protocol):
    """A chat model."""

    @property
    def name(self) -> str:
        """What identifies model and settings in cache keys and records; no secrets, no paths."""
        ...

    @property
    def prompts(self) -> str | None:
        """Folder with prompt texts that this model was trained on, if it brings any."""
        ...

    def complete(self, messages: Sequence[Message], sampling: Sampling, on_text: OnText | None = None) -> Completion:
        """Write one reply.

        Raises:
            AgentError: the model cannot be reached or used; the message says what to do.
        """
        ...


def identity(agent: Agent) -> str:
    """A key for answers that are kept: the agent's name, and the state of its files where it has any.

    The name is not enough. All trainings write a folder called `model`, and a folder may hold another model later.
    """
    state = getattr(agent, "state", "")
    return f"{agent.name} {state}" if isinstance(state, str) and state else agent.name


def shifts_verdicts(agent: Agent) -> bool:
    """Whether it follows `Sampling.strictness`: its backend knows how likely each token is, and says so by
    `shifts_verdicts`.
    """
    return bool(getattr(agent, "shifts_verdicts", False))


def kept_loaded(agent: Agent) -> AbstractContextManager[object]:
    """Replies with nothing between them are asked for within this.

    An agent whose model leaves the memory after each reply (`ServerAgent` with `free_memory`) has `kept_loaded`,
    and unloads the model where this ends.
    """
    hold = getattr(agent, "kept_loaded", None)
    return nullcontext() if hold is None else hold()


def chat_content(parts: Sequence[T | str]) -> tuple[list[dict[str, Any]], list[T]]:
    """A turn's parts as chat templates take them ({"type": "text" | "image"}), and its images in their order.

    An image may be anything that stands for one: a picture, a path.
    """
    content: list[dict[str, Any]] = []
    images: list[T] = []
    for part in parts:
        if isinstance(part, str):
            content.append({"type": "text", "text": part})
        else:
            content.append({"type": "image"})
            images.append(part)
    return content, images


def shrink(image: Image.Image, max_pixels: int) -> Image.Image:
    """The picture, scaled down (never up) to at most `max_pixels`, aspect ratio kept."""
    area = image.width * image.height
    if area <= max_pixels:
        return image
    scale = math.sqrt(max_pixels / area)
    width, height = (max(1, min(int(side * scale), max_pixels)) for side in image.size)
    size = (width, height)
    return image.resize(size, Image.Resampling.LANCZOS)


def check_logits(logits: torch.Tensor, name: str) -> None:
    """name: of the agent.

    Raises:
        AgentError: they are no numbers; what would be chosen of them is noise.
    """
    if bool(logits.isnan().any()):
        raise AgentError(
            f"{name} computes no numbers (NaN): a file of it is damaged, its adapter is too strong, or its weights do "
            "not work in this number format. Load it in bfloat16 or float32, or use another file."
        )


@dataclass
class TextStream:
    """Collects a reply piece by piece for a backend and tells it when to stop.

    Keeps `on_text`'s word: False ends the reply, an exception passes through.
    """

    on_text: OnText | None
    text: str = ""
    tokens: int = 0
    early: bool = False
    begun: float = field(default_factory=time.monotonic)

    def push(self, piece: str, tokens: int = 1) -> bool:
        """Add a piece; returns False where the reply should end."""
        self.text += piece
        self.tokens += tokens
        if self.on_text is not None and not self.on_text(self.text):
            self.early = True
        return not self.early

    def count(self, tokens: int = 1) -> None:
        """Tokens that complete no character yet."""
        self.tokens += tokens

    def completion(self, *, cut_off: bool, log_odds: float | None = None) -> Completion:
        finish: Literal["stop", "early", "length"] = "early" if self.early else "length" if cut_off else "stop"
        return Completion(self.text, finish, self.tokens, time.monotonic() - self.begun, log_odds)
