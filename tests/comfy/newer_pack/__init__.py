"""A custom node pack: nodes that the server may lack, as nodes.json beside this file describes them.

They work with any small model in the way that Loop Open's graph needs: a picture that is absent is left out where the
real node does so, and the latent has the first picture's size. The server prefers nodes of its own; under the names
that begin with Tiny these are there too.
"""

import json
from pathlib import Path

import node_helpers
import torch
from comfy_api.latest import ComfyExtension, io

DESCRIBED = json.loads((Path(__file__).parent / "nodes.json").read_text(encoding="utf-8"))["nodes"]
WIDGETS = {"STRING": io.String, "INT": io.Int, "FLOAT": io.Float}
EDGE = 64
"""Of a picture that has no reference."""


def made(name, spec, optional):
    kind, options = spec
    if kind == "COMFY_AUTOGROW_V3":
        template = dict(options["template"])
        of = made("image", template.pop("input")["required"]["image"], False)
        kinds = {True: io.Autogrow.TemplateNames, False: io.Autogrow.TemplatePrefix}
        return io.Autogrow.Input(name, kinds["names" in template](of, **template), optional=optional)
    if kind == "COMFY_DYNAMICCOMBO_V3":
        return io.DynamicCombo.Input(name, [io.DynamicCombo.Option(**chosen(o)) for o in options["options"]])
    return WIDGETS.get(kind, io.Custom(kind)).Input(name, optional=optional, **options)


def chosen(option):
    inputs = option["inputs"].get("required", {})
    return {"key": option["key"], "inputs": [made(name, spec, False) for name, spec in inputs.items()]}


def with_references(conditioning, vae, pictures):
    latents = [vae.encode(picture[:, :, :, :3]) for picture in pictures]
    return node_helpers.conditioning_set_values(conditioning, {"reference_latents": latents}, append=True)


def empty_latent(pictures):
    height, width = pictures[0].shape[1:3] if pictures else (EDGE, EDGE)
    return {"samples": torch.zeros(1, 16, height // 8, width // 8)}


def text_encode_qwen_image_2_1(clip, prompt, negative_prompt, resolution, vae=None, images=None):
    pictures = [picture for picture in (images or {}).values() if picture is not None]
    texts = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, negative_prompt)]
    if vae is not None and pictures:
        texts = [with_references(text, vae, pictures) for text in texts]
    return io.NodeOutput(*texts, empty_latent(pictures))


def reference_multi_latent(positive, resolution, negative=None, vae=None, images=None):
    pictures = list(images.values())
    if any(picture is None for picture in pictures):
        raise ValueError("no picture came for a reference that is connected")
    positive = with_references(positive, vae, pictures)
    return io.NodeOutput(positive, negative or positive, empty_latent(pictures))


WORK = {"TextEncodeQwenImage21": text_encode_qwen_image_2_1, "ReferenceMultiLatent": reference_multi_latent}


def node(kind, name):
    facts = DESCRIBED[kind]

    class Node(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            inputs = facts["input"]
            return io.Schema(
                node_id=name,
                display_name=facts["display_name"],
                category="test",
                inputs=[
                    *(made(n, spec, False) for n, spec in inputs["required"].items()),
                    *(made(n, spec, True) for n, spec in inputs["optional"].items()),
                ],
                outputs=[
                    io.Custom(k).Output(display_name=n)
                    for k, n in zip(facts["output"], facts["output_name"], strict=True)
                ],
            )

        @classmethod
        def execute(cls, **inputs):
            return WORK[kind](**inputs)

    Node.__name__ = name
    return Node


class Newer(ComfyExtension):
    async def get_node_list(self):
        return [node(kind, name) for kind in DESCRIBED for name in (kind, f"Tiny{kind}")]


async def comfy_entrypoint():
    return Newer()
