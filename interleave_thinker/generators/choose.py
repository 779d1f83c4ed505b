"""A generator from the words of a command line: `tiny`, a diffusers folder, or the user's ComfyUI workflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError
from .base import Generator

HELP = "a diffusers pipeline folder, tiny (the tiny world's own), or comfyui (with --workflow)"
DTYPES = ("auto", "float32", "bfloat16", "float16")
LOCAL = "http://127.0.0.1:8188"


@dataclass(frozen=True)
class GeneratorChoice:
    """What names a generator; plain values, so that it can be sent to another process.

    spec: see `HELP`. workflow, edit_workflow: ComfyUI workflows in API format. places: names of "prompt", "seed",
    "image" and "output" in it, where they are not to be found. server: address of the ComfyUI. dtype: of a pipeline's
    weights in memory; "auto" is float32 on a CPU and bfloat16 elsewhere.
    """

    spec: str
    workflow: Path | None = None
    edit_workflow: Path | None = None
    places: Mapping[str, str | None] = field(default_factory=dict)
    server: str = LOCAL
    device: str | None = None
    dtype: str = "auto"

    def load(self) -> Generator:
        """The generator itself.

        Raises:
            ConfigError: a workflow is missing or has no place for the prompt.
            GeneratorError: the folder cannot be loaded.
        """
        if self.spec == "comfyui":
            return self._comfyui()
        from .diffusers_generator import load_generator

        if self.spec == "tiny":
            from ..tinyworld.convert import WEIGHTS

            return load_generator(WEIGHTS / "generator", device="cpu", dtype=self.dtype)
        return load_generator(Path(self.spec), device=self.device, dtype=self.dtype)

    def _comfyui(self) -> Generator:
        from ..comfy_choice import find_places
        from ..comfy_client import ComfyClient
        from ..comfy_workflow import load_workflow
        from .comfy_generator import ComfyGenerator

        if self.workflow is None:
            raise ConfigError("--generator comfyui needs --workflow FILE, your own text-to-image or edit workflow.")
        draw = load_workflow(self.workflow)
        edit = load_workflow(self.edit_workflow) if self.edit_workflow else None
        return ComfyGenerator(
            ComfyClient(self.server.rstrip("/")),
            (draw, find_places(draw, **self.places)),
            (edit, find_places(edit)) if edit is not None else None,
        )


def size_from(text: str | None) -> tuple[int, int] | None:
    """Width and height from "1024x1024".

    Raises:
        ConfigError: it is written otherwise, or outside 16 to 8192.
    """
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and 16 <= int(width) <= 8192 and 16 <= int(height) <= 8192):
        raise ConfigError(f"--size is {text!r}; write it as 1024x1024.")
    return int(width), int(height)
