"""Which pictures of a workflow are edited: those whose pixels flow into the result.

A picture's pixels flow through scaling, encoding, latents and the generator's own encoders. They end where another
model looks at the picture (edges, pose, style, a face), where only its size is taken, and where a language model
describes it. A node that gives a picture and takes none is a source, whatever pack it comes from. What is only put on
a finished picture may be a part of it, or a watermark: a person has to say.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from .links import carries_picture, is_link, live_links, typed_value, upstream

MOST_NEAR = 30
"""Nodes before a guide in which a word about inpainting is looked for."""

_LOADS = re.compile(
    r"load|base64|url|fetch|download|webcam|camera|clipboard|upload|receive|input|from.?(disk|path|file)", re.I
)
"""Words in the class of a node that brings a picture from outside."""
_DRAWS = re.compile(
    r"empty|solid|colou?r|noise|gradient|blank|checker|qr|shape|drawtext|text.?(to|on).?image|create", re.I
)
"""Words in the class of a node that draws a picture without one."""
_TRACED = re.compile(
    r"canny|depth|style|pose|lineart|scribble|sketch|normal.?map|segment|preprocessor|getimagesize|tagger", re.I
)
"""Words in the class of a node that gives only edges, a pose or a size of a picture."""
_LOOKS = re.compile(
    r"control_?net|model_patch|clip_vision$|style_model|ip_?adapter|photomaker|pulid|insight|instantid|face_?(analysis|model)"
    r"|eva_clip|redux",
    re.I,
)
"""Names of inputs for a model that looks at a picture. The node takes what that model sees."""
_CLOSED = re.compile(
    r"^(model|clip|vae|noise|sigmas|sampler)$|clip_vision_output|(source|style|face|id|identity)_image|face|text|prompt|string"
    r"|(^|_)mask|size|width|height|length|count|seed|steps|cfg|switch",
    re.I,
)
"""Inputs through which no picture comes that is edited: models, words, numbers, a face or a style."""


_HANDS_ON = re.compile(
    r"^(input|any|anything|value|default_value|source|destination|target|background|on_true|on_false)(_?\d+)?$", re.I
)
"""Names of inputs of a node that hands on whatever comes in. A node with one input does so, whatever it is called."""


_SAMPLES = ("positive", "conditioning", "cond1", "latent_image", "guider")
_ENCODED = re.compile(r"latent|concat|samples|conditioning|positive|negative|guider|pipe|ctx", re.I)
"""Names of inputs for a picture as the VAE encodes it, or in a conditioning. Only so it comes in through a model."""


@dataclass(frozen=True)
class PictureSource:
    """slot: the output that gives the picture. input: what names the picture, "" where nothing is typed.
    known: the class says that it loads a picture; otherwise a person has to say whether it is edited.
    """

    node: str
    input: str
    slot: int
    known: bool = True


def picture_sources(workflow: Mapping[str, Any], output: str) -> list[PictureSource]:
    """The pictures that are edited, the first by number first.

    "Image 1" comes before "image 2": by the numbers of the inputs, and of pictures in a row the one that is taken
    in first, which is the farthest.
    """
    found = _reached(workflow, output, all_noise=False)
    known = {(picture.node, picture.slot) for picture in found}
    more = {p: r for p, r in _reached(workflow, output, all_noise=True).items() if (p.node, p.slot) not in known}
    guides = _guides(workflow, output) if more else set()
    for picture, rank in more.items():
        if picture.node not in guides:
            found[replace(picture, known=False)] = rank  # a person may mean it, and has left denoise at 1
    return sorted(found, key=found.__getitem__)


def _guides(workflow: Mapping[str, Any], output: str) -> set[str]:
    """The nodes whose pictures a ControlNet or the like looks at."""
    looked_at = []
    for node_id in upstream(workflow, output):
        links = live_links(workflow, node_id)
        if any(_LOOKS.search(name) for name, _ in links):
            looked_at += [str(value[0]) for name, value in links if carries_picture(name)]
    return set(upstream(workflow, *looked_at))


def _reached(workflow: Mapping[str, Any], output: str, *, all_noise: bool) -> dict[PictureSource, tuple[int, int]]:
    """The sources and their ranks. all_noise: also through a latent of which the sampler keeps nothing but the size."""
    found: dict[PictureSource, tuple[int, int]] = {}
    sampled = any(_samples(workflow, node_id) for node_id in upstream(workflow, output))
    seen: set[tuple[str, bool, bool]] = set()
    waiting = deque([(output, 0, True, not sampled)])
    while waiting:
        current, number, gives_picture, edited = waiting.popleft()
        if (current, gives_picture, edited) in seen or current not in workflow:
            continue
        seen.add((current, gives_picture, edited))
        edited = edited or _samples(workflow, current)
        links = _open_links(workflow, current, all_noise=all_noise)
        for name, value in links:
            source = str(value[0])
            digits = re.search(r"(?:image|picture)s?[._]?(?:image_?)?(\d+)$", name)
            rank = max(number, int(digits.group(1)) if digits else 0)
            handed_on = gives_picture and not _ENCODED.search(name) and (len(links) == 1 or _HANDS_ON.search(name))
            is_picture = carries_picture(name) or bool(handed_on)
            if is_picture and (picture := _source(workflow, source, value[1])):
                found.setdefault(picture if edited else replace(picture, known=False), (rank, -len(seen)))
            waiting.append((source, rank, is_picture, edited))
    edited_too = {(picture.node, picture.slot) for picture in found if picture.known}
    return {p: rank for p, rank in found.items() if p.known or (p.node, p.slot) not in edited_too}


def _samples(workflow: Mapping[str, Any], node_id: str) -> bool:
    """Whether a node makes or changes a picture by the model: a sampler, or one with a sampler in it."""
    inputs = workflow[node_id]["inputs"]
    has_model = any(is_link(inputs.get(name)) for name in ("model", "pipe", "guider"))
    return is_link(inputs.get("latent_image")) or (has_model and any(is_link(inputs.get(n)) for n in _SAMPLES))


def _open_links(workflow: Mapping[str, Any], node_id: str, *, all_noise: bool) -> list[tuple[str, list[Any]]]:
    """The links that a picture's pixels may come through."""
    node = workflow[node_id]
    links = [(n, v) for n, v in live_links(workflow, node_id) if not _CLOSED.search(n)]
    through_model = is_link(node["inputs"].get("model")) and not any(n in node["inputs"] for n in _SAMPLES)
    if through_model and not (any(_LOOKS.search(n) for n, _ in links) and _paints_into(workflow, node_id)):
        return [(n, v) for n, v in live_links(workflow, node_id) if n == "model" or _ENCODED.search(n)]
    looks = _TRACED.search(str(node["class_type"])) or any(_LOOKS.search(n) for n, _ in links)
    if looks and not _paints_into(workflow, node_id):
        links = [(n, v) for n, v in links if not carries_picture(n) and not _LOOKS.search(n)]
    if not all_noise and _starts_from_noise(workflow, node["inputs"]):
        links = [(n, v) for n, v in links if n != "latent_image" or _masked(workflow, str(v[0]))]
    return links + [(n, v) for n, v in live_links(workflow, node_id) if n == "model"]


def _starts_from_noise(workflow: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    """Whether a sampler keeps nothing of its latent but the size: by its own denoise, its scheduler's, or its steps."""
    if inputs.get("add_noise") == "enable" and "start_at_step" in inputs:
        return typed_value(workflow, inputs["start_at_step"]) == 0
    denoise = inputs.get("denoise")
    sigmas = inputs.get("sigmas")
    if denoise is None and isinstance(sigmas, list) and is_link(sigmas):
        denoise = workflow.get(str(sigmas[0]), {}).get("inputs", {}).get("denoise")
    return typed_value(workflow, denoise) in (1, 1.0)


def _paints_into(workflow: Mapping[str, Any], node_id: str) -> bool:
    """Whether a guide, such as a ControlNet for inpainting, is given the picture that is painted into."""
    guides = [str(v[0]) for n, v in live_links(workflow, node_id) if _LOOKS.search(n) or carries_picture(n)]
    near = [node_id, *islice(upstream(workflow, *guides), MOST_NEAR)]
    texts = [t for i in near for t in (workflow[i]["class_type"], *workflow[i]["inputs"].values())]
    texts += list(workflow[node_id]["inputs"])
    return any(isinstance(text, str) and "inpaint" in text.lower() for text in texts)


def _source(workflow: Mapping[str, Any], node_id: str, slot: int) -> PictureSource | None:
    node = workflow.get(node_id)
    if node is None:
        return None
    inputs, kind = node["inputs"], str(node["class_type"])
    if any(not _CLOSED.search(n) for n, _ in live_links(workflow, node_id)):
        return None  # something comes in that may be a picture
    made = any("mask" in n.lower() or carries_picture(n) for n, _ in live_links(workflow, node_id))
    if (made or _DRAWS.search(kind)) and not _LOADS.search(kind):
        return None
    typed = [n for n, v in inputs.items() if isinstance(v, str)]
    name = next((n for n in ("image", *typed) if n in typed), "")
    return PictureSource(node_id, name, slot, bool(_LOADS.search(kind)))


def _masked(workflow: Mapping[str, Any], node_id: str) -> bool:
    """Whether a latent keeps a part of the picture behind a mask, as for inpainting."""
    return any("mask" in name for i in upstream(workflow, node_id) for name, _ in live_links(workflow, i))
