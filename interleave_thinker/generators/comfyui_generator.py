"""A generator on a ComfyUI server: the user's own text-to-image or edit workflow, one prompt a picture.

The workflow (API format) stays as it is but for four inputs: the prompt's text, the seed, the reference
picture, and the node whose picture is taken. `find_inputs` finds them; a user can name them. The seed of a further
sampler is set only where the workflow has none there that can be drawn with, such as -1 or a placeholder.
"""

from __future__ import annotations

import copy
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..comfyui.client import ComfyClient, WorkflowError
from ..comfyui.find_inputs import WorkflowInputs
from ..comfyui.links import is_link
from ..comfyui.wrap import loop_seed
from ..errors import GeneratorError
from ..files import hash_of
from .base import GenerationRequest


@dataclass
class ComfyGenerator:
    """`edit`: another workflow for steps that start from a picture, where `draw` has no place for one."""

    client: ComfyClient
    draw: tuple[dict[str, Any], WorkflowInputs] | None
    edit: tuple[dict[str, Any], WorkflowInputs] | None = None

    @property
    def name(self) -> str:
        return f"comfyui {hash_of('workflow', [w for w, _ in filter(None, (self.draw, self.edit))])[:12]}"

    def generate(self, request: GenerationRequest) -> Image.Image:
        workflow, found = self._choose(request)
        prompt = copy.deepcopy(workflow)
        for ref in (found.prompt, *found.also):
            _set(prompt, ref, request.prompt)
        for ref in (found.seed, *found.seeds) if found.seed else ():
            if ref == found.seed or loop_seed(prompt[ref[0]]["inputs"][ref[1]]) is None:
                _set(prompt, ref, request.seed)
        try:
            if request.references and found.image:
                _load_picture(prompt, found, self._upload(request.references[-1]))
            outputs = self.client.run(prompt)
            images = outputs.get(found.output, {}).get("images") or []
            if not images:
                raise GeneratorError(f"Node {found.output} of the workflow gave no picture.")
            with Image.open(io.BytesIO(self.client.fetch(images[0]))) as image:
                picture: Image.Image = image.convert("RGB")
                return picture
        except WorkflowError as error:
            raise GeneratorError(str(error)) from error
        except OSError as error:  # what came is no picture
            raise GeneratorError(f"Node {found.output} of the workflow gave no picture: {error}") from error

    def _choose(self, request: GenerationRequest) -> tuple[dict[str, Any], WorkflowInputs]:
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


def _load_picture(prompt: dict[str, Any], found: WorkflowInputs, name: str) -> None:
    """Put an uploaded picture in the place of the reference, whatever node brings it."""
    assert found.image is not None
    source = prompt[found.image[0]]
    if source["class_type"] == "LoadImage":
        source["inputs"]["image"] = name
        return
    loader = "interleave_reference"
    for node in prompt.values():
        for field, value in node["inputs"].items():
            if is_link(value) and [str(value[0]), value[1]] == [found.image[0], found.image_slot]:
                node["inputs"][field] = [loader, 0]
    prompt[loader] = {"class_type": "LoadImage", "inputs": {"image": name}}


def _set(prompt: dict[str, Any], ref: tuple[str, str], value: object) -> None:
    node, name = ref
    prompt[node]["inputs"][name] = value
