"""A generator on a ComfyUI server: the user's own text-to-image or edit workflow, one prompt a picture.

The workflow (API format) stays as it is but for four places: the prompt's text, the seed, the reference
picture, and the node whose picture is taken. `comfy_choice` finds them; a user can name them.
"""

from __future__ import annotations

import copy
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..comfy_choice import Places
from ..comfy_client import ComfyClient, WorkflowError
from ..errors import GeneratorError
from ..store import hash_of
from .base import GenerationRequest


@dataclass
class ComfyGenerator:
    """`edit`: another workflow for steps that start from a picture, where `draw` has no place for one."""

    client: ComfyClient
    draw: tuple[dict[str, Any], Places] | None
    edit: tuple[dict[str, Any], Places] | None = None

    @property
    def name(self) -> str:
        return f"comfyui {hash_of('workflow', [w for w, _ in filter(None, (self.draw, self.edit))])[:12]}"

    def generate(self, request: GenerationRequest) -> Image.Image:
        workflow, places = self._choose(request)
        prompt = copy.deepcopy(workflow)
        for place in (places.prompt, *places.also):
            _set(prompt, place, request.prompt)
        if places.seed:
            _set(prompt, places.seed, request.seed)
        try:
            if request.references and places.image:
                _set(prompt, places.image, self._upload(request.references[-1]))
            outputs = self.client.run(prompt)
            pictures = outputs.get(places.output, {}).get("images") or []
            if not pictures:
                raise GeneratorError(f"Node {places.output} of the workflow gave no picture.")
            with Image.open(io.BytesIO(self.client.fetch(pictures[0]))) as image:
                picture: Image.Image = image.convert("RGB")
                return picture
        except WorkflowError as error:
            raise GeneratorError(str(error)) from error
        except OSError as error:  # what came is no picture
            raise GeneratorError(f"Node {places.output} of the workflow gave no picture: {error}") from error

    def _choose(self, request: GenerationRequest) -> tuple[dict[str, Any], Places]:
        if request.references:
            chosen = self.edit or (self.draw if self.draw and self.draw[1].image else None)
            if chosen is None:
                raise GeneratorError(
                    "This step edits a picture; the workflow has no place for one. Give an edit workflow as well."
                )
            return chosen
        if self.draw is None or (self.draw[1].image and self.edit is None):
            raise GeneratorError(
                "This step starts from text alone; the workflow edits. Give a text-to-image workflow as well."
            )
        return self.draw

    def _upload(self, image: Image.Image) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"interleave_{hash_of('reference', image.size, image.tobytes().hex())[:24]}.png"
            image.save(path)
            return self.client.upload(path)


def _set(prompt: dict[str, Any], place: tuple[str, str], value: object) -> None:
    node, name = place
    prompt[node]["inputs"][name] = value
