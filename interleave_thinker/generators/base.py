"""The Generator protocol: a prompt and maybe a picture in, one picture out.

In ComfyUI the generator is the user's own graph; the command line, data construction and benchmarks
use this protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image


@dataclass(frozen=True)
class GenerationRequest:
    """One call. `references` empty: from text alone. `size` None: the reference's, or the model's own."""

    prompt: str
    references: tuple[Image.Image, ...] = ()
    seed: int = 0
    size: tuple[int, int] | None = None


class Generator(Protocol):
    """An image generator. `generate` may be called from several threads at a time.

    A generator whose weights lie in files can have `state: str`, which changes when they do: attempts are then not
    recalled from the old weights.
    """

    @property
    def name(self) -> str:
        """What identifies model and settings in cache keys and records; no secrets, no addresses."""
        ...

    def generate(self, request: GenerationRequest) -> Image.Image:
        """Make one picture.

        Raises:
            GeneratorError: the picture cannot be made; the message says why.
        """
        ...


class BatchGenerator(Generator, Protocol):
    """A Generator that can make many pictures in one go (`DiffusersGenerator` with the tiny pipeline)."""

    def generate_all(self, requests: Sequence[GenerationRequest]) -> list[Image.Image]:
        """One picture for each request, in their order; errors as of `generate`."""
        ...
