"""A generator in this process: a diffusers pipeline folder, text-to-image or editing.

Works with any pipeline whose call takes `prompt` and, for editing, `image` (Flux2Klein, QwenImageEditPlus,
FluxKontext, the tiny world's own, ...). What a pipeline's call does not know is not passed.
"""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import GeneratorError
from ..files import files_state
from .base import GenerationRequest

BATCH = 64
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass
class DiffusersGenerator:
    """`options` are passed to the pipeline's call where it knows them (steps, guidance_scale, ...)."""

    pipeline: Any
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[], None] | None = field(default=None, repr=False)
    state: str = ""
    """Of the folder's files (`files.files_state`)."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    """A pipeline's scheduler counts its steps: two calls at a time would count together."""

    def generate(self, request: GenerationRequest) -> Image.Image:
        import torch

        known = inspect.signature(self.pipeline.__call__).parameters
        values: dict[str, Any] = {k: v for k, v in self.options.items() if k in known and v is not None}
        if request.references:
            if "image" not in known:
                raise GeneratorError(
                    f"{self.name} draws from text only; this step edits a picture. Choose an edit pipeline."
                )
            images = list(request.references)
            values["image"] = images[0] if len(images) == 1 else images
        elif "image" in known and known["image"].default is inspect.Parameter.empty:
            raise GeneratorError(
                f"{self.name} only edits pictures; the first step has none. Connect a user image to Loop Open."
            )
        if request.size is not None:
            values |= {k: v for k, v in zip(("width", "height"), request.size, strict=True) if k in known}
        if "callback_on_step_end" in known and self.check is not None:
            values["callback_on_step_end"] = self._between_steps
        values["generator"] = torch.Generator("cpu").manual_seed(request.seed % 2**63)
        try:
            with self._lock:
                made = self.pipeline(prompt=request.prompt, **values).images[0]
        except (ValueError, TypeError, RuntimeError, AttributeError) as error:
            text = " ".join(str(error).split())[:300]
            raise GeneratorError(f"{self.name} could not make the picture: {text}") from error
        return made.convert("RGB")  # type: ignore[no-any-return]

    @property
    def batches(self) -> bool:
        """Whether `generate_all` makes many pictures in one go. Elsewhere a list of pictures is one request's.

        The pipeline says so itself (`batches_requests`), as the tiny world's does.
        """
        return bool(getattr(self.pipeline, "batches_requests", False))

    def generate_all(self, requests: Sequence[GenerationRequest]) -> list[Image.Image]:
        """As `generate` for each, in batches of those that start alike, with prompts of about one length.

        The same pictures but for rounding.
        """
        made: dict[int, Image.Image] = {}
        alike: dict[object, list[int]] = {}
        for number, request in enumerate(requests):
            seen = request.references[-1].size if request.references else None
            start = (seen, request.size, self.pipeline.encode_text(request.prompt).shape[1])
            alike.setdefault(start, []).append(number)
        for numbers in alike.values():
            for at in range(0, len(numbers), BATCH):
                some = numbers[at : at + BATCH]
                images = self._batch([requests[n] for n in some])
                made.update(zip(some, images, strict=True))
        return [made[n] for n in range(len(requests))]

    def _batch(self, requests: Sequence[GenerationRequest]) -> list[Image.Image]:
        import torch

        edits = bool(requests[0].references)
        values = {k: v for k, v in self.options.items() if v is not None}
        if requests[0].size is not None:
            values |= dict(zip(("width", "height"), requests[0].size, strict=True))
        with self._lock:
            made = self.pipeline(
                [r.prompt for r in requests],
                [r.references[-1] for r in requests] if edits else None,
                generator=[torch.Generator("cpu").manual_seed(r.seed % 2**63) for r in requests],
                **values,
            ).images
        return [image.convert("RGB") for image in made]

    def _between_steps(self, pipeline: Any, step: int, time: Any, values: Any) -> Any:
        if self.check is not None:
            self.check()
        return values


def load_generator(
    folder: Path, *, dtype: str = "auto", device: str | None = None, pipeline: Any = None, **options: Any
) -> DiffusersGenerator:
    """Load a pipeline folder from disk; nothing is downloaded and no code of the folder is run.

    pipeline: its class, where diffusers does not know it.

    Raises:
        GeneratorError: no such folder, no model_index.json, a pipeline that this diffusers does not know.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise GeneratorError(
            f"{folder.name} has no model_index.json; it is not a diffusers pipeline folder (models/diffusers)."
        )
    try:
        import torch
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise GeneratorError(f"This node needs diffusers: pip install diffusers ({error}).") from error
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = pipeline_class(folder)
    loader: Any = pipeline or DiffusionPipeline
    wanted = getattr(torch, dtype) if dtype != "auto" else torch.float32 if device == "cpu" else torch.bfloat16
    try:
        loaded = loader.from_pretrained(folder, torch_dtype=wanted, local_files_only=True)
    except (OSError, ValueError, RuntimeError, AttributeError, ImportError) as error:
        text = " ".join(str(error).split())[:300]
        raise GeneratorError(f"Pipeline {folder.name} ({kind}) cannot be loaded: {text}") from error
    loaded.set_progress_bar_config(disable=True)
    name = folder.name if dtype == "auto" else f"{folder.name} {dtype}"
    return DiffusersGenerator(loaded.to(device), name, options, state=files_state(folder))


def pipeline_class(folder: Path) -> str | None:
    """The pipeline class that a folder's model_index.json names; None without such a file."""
    index = folder / "model_index.json"
    return json.loads(index.read_text(encoding="utf-8")).get("_class_name") if index.is_file() else None
