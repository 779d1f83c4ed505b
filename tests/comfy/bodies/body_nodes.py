"""Custom nodes for the tests of a loop's body: small stand-ins for what popular packs do.

The test server loads this file as a pack. Every node writes down that it ran, under its `label` or, without one, its
kind; the tests read that at /body_tests/calls.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import random
import time
from collections.abc import Callable
from typing import Any

import comfy.model_management
import torch
from aiohttp import web
from comfy_execution.graph_utils import ExecutionBlocker, GraphBuilder, is_link
from server import PromptServer

calls: list[dict[str, Any]] = []
failed: set[str] = set()
named: dict[str, Any] = {}
counted: dict[str, int] = {}

NODE_CLASS_MAPPINGS: dict[str, type] = {}


class AnyType(str):
    """Connects to every socket."""

    def __ne__(self, other: object) -> bool:
        return False


ANY = AnyType("*")
SEED = ("INT", {"default": 0, "max": 2**64 - 1})
LABEL = ("STRING", {"default": ""})
ID = {"unique_id": "UNIQUE_ID"}


class AnyInputs(dict):  # type: ignore[type-arg]
    """Any further optional input is allowed."""

    def __getitem__(self, key: str) -> tuple[Any, ...]:
        return (ANY,)

    def __contains__(self, key: object) -> bool:
        return True


@PromptServer.instance.routes.get("/body_tests/calls")
async def hand_out_calls(request: web.Request) -> web.Response:
    found = list(calls)
    calls.clear()
    return web.json_response(found)


def wrote_down(kind: str, label: str, node_id: Any, **facts: Any) -> None:
    calls.append({"kind": kind, "label": label or kind, "id": str(node_id), **facts})


def registered(kind: type) -> type:
    kind.CATEGORY, kind.FUNCTION = "body tests", "go"  # type: ignore[attr-defined]
    NODE_CLASS_MAPPINGS["Body" + kind.__name__] = kind
    return kind


def described(value: Any) -> dict[str, Any]:
    """What a side node is shown: shape, and whether its numbers are more than 8 bits a channel can say."""
    if isinstance(value, torch.Tensor):
        steps = value.float() * 255
        return {"shape": list(value.shape), "fine": bool(((steps - steps.round()).abs() > 1e-3).any())}
    if isinstance(value, dict) and "samples" in value:
        return {"shape": list(value["samples"].shape)}
    return {"value": str(value)[:80]}


@registered
class Draw:
    """A sampler's stand-in: a colour made of seed and prompt, with values between those of 8 bits."""

    RETURN_TYPES = ("IMAGE", "LATENT", "MASK")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        optional = {
            "prompt": ("STRING", {"forceInput": True}),
            "reference": ("IMAGE",),
            "other": (ANY,),
            "size": ("INT", {"default": 16}),
            "step": ("INT", {"default": 0}),
            "batch": ("INT", {"default": 1}),
            "channels": ("INT", {"default": 3}),
            "label": LABEL,
        }
        return {"required": {"seed": SEED}, "optional": optional, "hidden": ID}

    def go(
        self,
        seed: int,
        unique_id: str,
        prompt: str = "",
        reference: Any = None,
        other: Any = None,
        size: int = 16,
        step: int = 0,
        batch: int = 1,
        channels: int = 3,
        label: str = "",
    ) -> tuple[Any, ...]:
        has_reference = reference is not None
        wrote_down("draw", label, unique_id, seed=seed, prompt=prompt, reference=has_reference)
        side = size + 8 * step
        digest = hashlib.sha256(f"{seed} {prompt} {has_reference}".encode()).digest()
        colour = torch.tensor([(byte + 0.4) / 256 for byte in digest[:3]])
        image = colour.expand(batch, side, side, 3).clone()
        for number in range(batch):
            image[number] *= 1 - 0.2 * number
        if channels == 4:
            alpha = torch.ones(batch, side, side, 1)
            alpha[:, : side // 2] = 0
            image = torch.cat([image, alpha], -1)
        latent = {"samples": torch.full((batch, 4, side // 8, side // 8), float(seed % 97))}
        return image[..., :channels], latent, torch.ones(batch, side, side)


@registered
class Mix:
    """Takes anything, and makes of it a colour and a text that differ if any of it differs."""

    RETURN_TYPES = (ANY, "STRING")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        required = {"label": LABEL, "run": SEED}  # ComfyUI keeps what a prompt before this one made of the same inputs
        return {"required": required, "optional": {"a": (ANY,), "b": (ANY,)}, "hidden": ID}

    def go(self, label: str, run: int, unique_id: str, a: Any = None, b: Any = None) -> tuple[Any, ...]:
        digest = hashlib.sha256(label.encode())
        for value in (a, b):
            is_picture = isinstance(value, torch.Tensor)
            digest.update((value * 255).round().byte().numpy().tobytes() if is_picture else repr(value).encode())
        colour = list(digest.digest()[:3])
        wrote_down("mix", label, unique_id, colour=colour)
        return torch.tensor(colour).expand(1, 8, 8, 3) / 255, digest.hexdigest()


@registered
class MixAndShow(Mix):
    OUTPUT_NODE = True


@registered
class Refine:
    """A second sampler."""

    RETURN_TYPES = ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"latent": ("LATENT",), "seed": SEED}, "hidden": ID}

    def go(self, latent: Any, seed: int, unique_id: str) -> tuple[Any, ...]:
        wrote_down("refine", "", unique_id)
        return ({"samples": latent["samples"] + 1},)


@registered
class Decode:
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"latent": ("LATENT",)}, "optional": {"mask": ("MASK",)}}

    def go(self, latent: Any, mask: Any = None) -> tuple[Any, ...]:
        samples = latent["samples"]
        return (torch.full((1, samples.shape[2] * 8, samples.shape[3] * 8, 3), samples[0, 0, 0, 0].item() / 99),)


@registered
class Show:
    """A preview of anything; `must` is an input that a workflow can hold a wrong value for."""

    OUTPUT_NODE = True
    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        optional = {"must": ("INT", {"default": 0, "max": 5}), "label": LABEL}
        return {"required": {"value": (ANY,)}, "optional": optional, "hidden": ID}

    def go(self, value: Any, unique_id: str, must: int = 0, label: str = "") -> dict[str, Any]:
        wrote_down("show", label, unique_id, **described(value))
        return {"ui": {"text": [str(type(value))]}, "result": (value,)}


@registered
class ShowAll:
    """A preview that takes whole lists."""

    OUTPUT_NODE = True
    INPUT_IS_LIST = True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (ANY,)}, "optional": {"label": LABEL}, "hidden": ID}

    def go(self, value: list[Any], unique_id: list[str], label: list[str] | None = None) -> dict[str, Any]:
        facts = described(value[0]) if value else {}
        wrote_down("show", (label or [""])[0], unique_id[0], count=len(value), **facts)
        return {"ui": {"text": [str(len(value))]}}


@registered
class Pass:
    """A reroute."""

    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (ANY,)}, "optional": {"label": LABEL}, "hidden": ID}

    def go(self, value: Any, unique_id: str, label: str = "") -> tuple[Any, ...]:
        wrote_down("pass", label, unique_id)
        return (value,)


ANSWERS: dict[str, Callable[[], Any]] = {
    "nan": lambda: float("nan"),
    "time": time.time,
    "seconds": lambda: int(time.time()),
    "random": random.random,
    "text": lambda: str(time.time_ns()),
    "file": lambda: os.path.getmtime(__file__),
    "raises": lambda: 1 // 0,
    "minutes": lambda: time.strftime("%Y-%m-%d %H:%M"),
    "minute": lambda: int(time.time()) // 60,
    "list": lambda: ["one", 2, {"three": 3.0}],
    "list with nan": lambda: [1, float("nan")],
    "long": lambda: "abc 123 " * 500_000,
    "digits": lambda: "7" * 2_000_000,
    "object": object,
    "digest": lambda: hashlib.sha256(str(time.time_ns()).encode()).hexdigest(),
}


@registered
class Changed:
    """Says that it changed, as nodes of random seeds and wildcards do; what it hands on is the same."""

    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (ANY,), "how": (list(ANSWERS),)}, "optional": {"label": LABEL}, "hidden": ID}

    @classmethod
    def IS_CHANGED(cls, how: str, **_: Any) -> Any:
        return ANSWERS[how]()

    def go(self, value: Any, how: str, unique_id: str, label: str = "") -> tuple[Any, ...]:
        wrote_down("changed", label, unique_id)
        return (value,)


@registered
class ChangedLater:
    """Asks a server what its file is, as nodes that download do: the answer is the same and takes a moment."""

    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (ANY,)}, "optional": {"label": LABEL}, "hidden": ID}

    @classmethod
    async def IS_CHANGED(cls, **_: Any) -> str:
        await asyncio.sleep(0.01)
        return "version 1"

    def go(self, value: Any, unique_id: str, label: str = "") -> tuple[Any, ...]:
        wrote_down("changed", label, unique_id)
        return (value,)


@registered
class ChangedText:
    """The same with a text of its own, for places outside the loop."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"text": ("STRING", {"default": ""}), "how": (list(ANSWERS),)}, "hidden": ID}

    @classmethod
    def IS_CHANGED(cls, how: str, **_: Any) -> Any:
        return ANSWERS[how]()

    def go(self, text: str, how: str, unique_id: str) -> tuple[Any, ...]:
        wrote_down("changed", "", unique_id)
        return (text,)


@registered
class Noise:
    """Really is another picture each time, and says nothing of it."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",)}}

    def go(self, image: Any) -> tuple[Any, ...]:
        return ((image + torch.rand_like(image)) / 2,)


@registered
class Block:
    """A switch that blocks what is below it."""

    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        required = {"value": (ANY,), "block": ("BOOLEAN", {"default": True})}
        return {"required": required, "optional": {"message": ("STRING", {"default": ""})}}

    def go(self, value: Any, block: bool, message: str = "") -> tuple[Any, ...]:
        return (ExecutionBlocker(message or None) if block else value,)


@registered
class BlockOne:
    """A list node that blocks one of its elements."""

    OUTPUT_IS_LIST = (True,)
    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (ANY,), "which": ("INT", {"default": 0})}}

    def go(self, value: Any, which: int) -> tuple[Any, ...]:
        return ([ExecutionBlocker(None) if i == which else value for i in range(3)],)


@registered
class ExpandBlock:
    """Places a node that blocks."""

    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (ANY,)}}

    def go(self, value: Any) -> dict[str, Any]:
        graph = GraphBuilder()
        inner = graph.node("BodyBlock", value=value, block=True)
        return {"result": (inner.out(0),), "expand": graph.finalize()}


@registered
class ExpandLoop:
    """Places a whole loop, as a node of another pack might."""

    RETURN_TYPES = ("INTERLEAVE_DOCUMENT", ANY)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"text": ("STRING", {"default": ""}), "seed": SEED}, "optional": {"other": (ANY,)}}

    def go(self, text: str, seed: int, other: Any = None) -> dict[str, Any]:
        graph = GraphBuilder()
        plan = graph.node("InterleaveThinkerPlanFromText", text=text, max_steps=10, title="")
        start = graph.node("InterleaveThinkerLoopOpen", plan=plan.out(0), seed=seed)
        draw = graph.node("BodyDraw", seed=start.out(5), prompt=start.out(1), label="placed draw")
        show = graph.node("BodyShow", value=draw.out(0), label="placed side")
        show.set_override_display_id("shown")
        end = graph.node(
            "InterleaveThinkerLoopClose", loop=start.out(0), image=draw.out(0), t_max=2, on_exhausted="last",
            reference_policy="previous", gate="off", run_name="", accept_attempts="",
        )  # fmt: skip
        unpacked = graph.node("InterleaveThinkerUnpackDocument", document=end.out(0))
        return {"result": (end.out(0), unpacked.out(3)), "expand": graph.finalize()}


@registered
class PlainSwitch:
    """Both sides are required and neither is lazy."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"which": ("BOOLEAN", {"default": True}), "on_true": ("IMAGE",), "on_false": ("IMAGE",)}}

    def go(self, which: bool, on_true: Any, on_false: Any) -> tuple[Any, ...]:
        return (on_true if which else on_false,)


@registered
class FirstOf:
    """The first input that is not None."""

    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}, "optional": AnyInputs()}

    def go(self, **inputs: Any) -> tuple[Any, ...]:
        return (next((inputs[name] for name in sorted(inputs) if inputs[name] is not None), None),)


@registered
class Invert:
    """A preprocessor: it cannot do without an image."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",)}, "hidden": ID}

    def go(self, image: Any, unique_id: str) -> tuple[Any, ...]:
        wrote_down("invert", "", unique_id, shape=list(image.shape))
        return (1 - image,)


@registered
class Dot:
    """One pixel in the middle is another one."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",), "number": ("INT", {"default": 0})}}

    def go(self, image: Any, number: int) -> tuple[Any, ...]:
        image = image.clone()
        image[:, image.shape[1] // 2, image.shape[2] // 2] = (number + 1) / 10
        return (image,)


@registered
class Upscale:
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",), "by": ("INT", {"default": 2})}, "hidden": ID}

    def go(self, image: Any, by: int, unique_id: str) -> tuple[Any, ...]:
        wrote_down("upscale", "", unique_id)
        return (image.repeat_interleave(by, 1).repeat_interleave(by, 2),)


@registered
class Many:
    """A list of `count` things out of one; none where `count` is 0."""

    INPUT_IS_LIST = True
    OUTPUT_IS_LIST = (True,)
    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (ANY,), "count": ("INT", {"default": 2})}}

    def go(self, value: list[Any], count: list[int]) -> tuple[Any, ...]:
        return ([value[0]] * count[0],)


@registered
class Late:
    """Waits without holding up the others."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",), "seconds": ("FLOAT", {"default": 0.05})}, "hidden": ID}

    async def go(self, image: Any, seconds: float, unique_id: str) -> tuple[Any, ...]:
        await asyncio.sleep(seconds)
        wrote_down("late", "", unique_id)
        return (image,)


@registered
class Slow:
    """Takes its time. `deaf`: does not look whether it was interrupted."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        required = {
            "image": ("IMAGE",),
            "seconds": ("FLOAT", {"default": 0.1}),
            "deaf": ("BOOLEAN", {"default": False}),
        }
        return {"required": required, "hidden": ID}

    def go(self, image: Any, seconds: float, deaf: bool, unique_id: str) -> tuple[Any, ...]:
        wrote_down("slow", "", unique_id)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not deaf:
                comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.02)
        return (image,)


@registered
class Fail:
    """Fails once in the life of the server for each `token`, at the step and attempt of `at`."""

    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        required = {
            "value": (ANY,),
            "step": ("INT", {"default": 0}),
            "attempt": ("INT", {"default": 0}),
            "at": ("STRING", {"default": ""}),
            "how": (["raise", "interrupt"],),
            "token": ("STRING", {"default": ""}),
        }
        return {"required": required}

    def go(self, value: Any, step: int, attempt: int, at: str, how: str, token: str) -> tuple[Any, ...]:
        if f"{step}:{attempt}" == at and token not in failed:
            failed.add(token)
            if how == "interrupt":
                raise comfy.model_management.InterruptProcessingException
            raise RuntimeError("out of luck")
        return (value,)


GIVEN: dict[str, Callable[[Any], Any]] = {
    "none": lambda value: None,
    "true": lambda value: True,
    "false": lambda value: False,
    "number": lambda value: 1,
    "text": lambda value: "yes",
    "dict": lambda value: {"accepted": True},
    "empty dict": lambda value: {},
    "batch of none": lambda value: value[:0],
    "flat": lambda value: value[0],
    "no height": lambda value: value[:, :0],
    "nan": lambda value: value * float("nan"),
    "two channels": lambda value: value[..., :2],
}


@registered
class Gives:
    """Something else than was asked for."""

    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (ANY,), "what": (list(GIVEN),)}}

    def go(self, value: Any, what: str) -> tuple[Any, ...]:
        return (GIVEN[what](value),)


@registered
class Set:
    """Keeps a value under a name; both required, neither with a value of its own in the prompt."""

    OUTPUT_NODE = True
    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"name": ("STRING", {"default": "n"}), "value": (ANY,)}, "hidden": ID}

    def go(self, name: str, value: Any, unique_id: str) -> tuple[Any, ...]:
        wrote_down("set", "", unique_id)
        named[name] = value
        return (value,)


@registered
class Get:
    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"name": ("STRING", {"default": "n"})}, "hidden": ID}

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        return float("nan")

    def go(self, name: str, unique_id: str) -> tuple[Any, ...]:
        wrote_down("get", "", unique_id)
        return (named.get(name),)


@registered
class Count:
    """Counts in itself and by its id, as "increment" nodes do."""

    RETURN_TYPES = ("INT", "INT")

    def __init__(self) -> None:
        self.count = 0

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"tick": (ANY,)}, "hidden": ID}

    def go(self, tick: Any, unique_id: str) -> tuple[int, int]:
        self.count += 1
        counted[unique_id] = counted.get(unique_id, 0) + 1
        wrote_down("count", "", unique_id)
        return self.count, counted[unique_id]


@registered
class Hidden:
    """Reads its own entry in the prompt that ComfyUI hands it."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        hidden = {"prompt": "PROMPT", "extra": "EXTRA_PNGINFO", "dynprompt": "DYNPROMPT", **ID}
        return {"required": {"image": ("IMAGE",), "title": ("STRING", {"default": "t"})}, "hidden": hidden}

    def go(self, image: Any, title: str, prompt: Any, dynprompt: Any, unique_id: str, extra: Any = None) -> Any:
        known = (prompt or {}).get(unique_id, {}).get("inputs", {}).get("title")
        mine = dynprompt.get_node(unique_id)["inputs"]["title"]
        wrote_down("hidden", "", unique_id, title=mine, known=known, extra=sorted(extra or {}))
        return (image,)


@registered
class Tell:
    """Sends a message of its own and shows a text."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",)}, "hidden": ID}

    def go(self, image: Any, unique_id: str) -> dict[str, Any]:
        PromptServer.instance.send_sync("body_tests.told", {"node": unique_id})
        wrote_down("tell", "", unique_id)
        return {"ui": {"text": [unique_id]}, "result": (image,)}


@registered
class Validated:
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",), "text": ("STRING", {"default": ""}), "mode": (["a", "b"],)}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: Any, mode: str, text: str | None = None) -> bool | str:
        return True if mode == "a" else "mode must be a"

    def go(self, image: Any, text: str, mode: str) -> tuple[Any, ...]:
        return (image,)


@registered
class Expand:
    """Places two nodes, one of them an output node."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",)}}

    def go(self, image: Any) -> dict[str, Any]:
        graph = GraphBuilder()
        upscale = graph.node("BodyUpscale", image=image, by=2)
        show = graph.node("BodyShow", value=upscale.out(0), label="placed")
        return {"result": (show.out(0),), "expand": graph.finalize()}


@registered
class ForOpen:
    RETURN_TYPES = ("FLOW", "INT", ANY)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        optional = {"index": ("INT", {"default": 0}), "value": (ANY,)}
        return {"required": {"total": ("INT", {"default": 2})}, "optional": optional}

    def go(self, total: int, index: int = 0, value: Any = None) -> tuple[Any, ...]:
        return "flow", index, value


@registered
class ForClose:
    """Places the nodes between both ends again until `total` is reached."""

    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        required = {"flow": ("FLOW", {"rawLink": True}), "value": (ANY,), "total": ("INT", {"default": 2})}
        optional = {"index": ("INT", {"forceInput": True})}
        return {"required": required, "optional": optional, "hidden": {"dynprompt": "DYNPROMPT", **ID}}

    def go(self, flow: list[Any], value: Any, total: int, dynprompt: Any, unique_id: str, index: int = 0) -> Any:
        wrote_down("for", "", unique_id, index=index)
        if index + 1 >= total:
            return (value,)
        graph, inside = GraphBuilder(), self.between(dynprompt, flow[0], unique_id)
        names = {node_id: "again" if node_id == unique_id else node_id for node_id in inside}
        copies = {node_id: graph.node(dynprompt.get_node(node_id)["class_type"], names[node_id]) for node_id in inside}
        for node_id, copy in copies.items():
            copy.set_override_display_id(node_id)
            for name, given in dynprompt.get_node(node_id)["inputs"].items():
                copy.set_input(name, copies[given[0]].out(given[1]) if is_link(given) and given[0] in copies else given)
        copies[flow[0]].set_input("index", index + 1)
        copies[flow[0]].set_input("value", value)
        return {"result": (copies[unique_id].out(0),), "expand": graph.finalize()}

    @staticmethod
    def between(dynprompt: Any, start: str, end: str) -> set[str]:
        """Nodes that `end` needs and that need `start`; both ends too."""
        needs: dict[str, set[str]] = {}
        waiting = [end]
        while waiting:
            node_id = waiting.pop()
            if node_id not in needs:
                needs[node_id] = {v[0] for v in dynprompt.get_node(node_id)["inputs"].values() if is_link(v)}
                waiting += needs[node_id]
        inside = {start}
        while grown := {node_id for node_id, above in needs.items() if above & inside and node_id not in inside}:
            inside |= grown
        return inside


@registered
class Noted:
    """Writes down what its entry in the prompt holds beside class and inputs."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",)}, "hidden": {"dynprompt": "DYNPROMPT", **ID}}

    def go(self, image: Any, dynprompt: Any, unique_id: str) -> tuple[Any, ...]:
        wrote_down("noted", "", unique_id, later=dynprompt.get_node(unique_id).get("_later"))
        return (image,)


@registered
class Heard:
    """An agent that writes down which earlier replies it may look into, and what it says."""

    RETURN_TYPES = ("INTERLEAVE_AGENT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"agent": ("INTERLEAVE_AGENT",)}, "hidden": ID}

    def go(self, agent: Any, unique_id: str) -> tuple[Any, ...]:
        return (dataclasses.replace(agent, agent=Listening(agent.agent, unique_id)),)


class Listening:
    def __init__(self, agent: Any, node_id: str):
        self._agent, self._id = agent, node_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def complete(self, messages: Any, sampling: Any, on_text: Any = None) -> Any:
        done = self._agent.complete(messages, sampling, on_text)
        wrote_down("heard", "", self._id, earlier=list(sampling.earlier), said=done.text)
        return done


class StartLoop:
    """ComfyUI's own from 0.36 on, which then replaces this one; so much of it as an older ComfyUI can do.

    Places the nodes that `_loop_body` names, once a round. Those of the prompt itself are blocked meanwhile, and the End
    Loop that `_loop_end` names gives what the rounds made.
    """

    CATEGORY, FUNCTION = "body tests", "go"
    INPUT_IS_LIST = True
    RETURN_TYPES = ("INT", "BOOLEAN", "BOOLEAN", ANY, ANY)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        required = {"mode": (["simple"],), "mode.num_iterations": ("INT", {"default": 4})}
        optional = {
            "cache_iterations": ("BOOLEAN", {"default": False}),
            "parent_iteration": ("INT", {"forceInput": True}),
            "initial_iteration_value": (ANY,),
        }
        return {"required": required, "optional": optional, "hidden": {"dynprompt": "DYNPROMPT", **ID}}

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        return float("nan")

    def go(self, dynprompt: list[Any], unique_id: list[str], **settings: list[Any]) -> dict[str, Any]:
        prompt, graph = dynprompt[0], GraphBuilder()
        start = prompt.get_node(unique_id[0])
        end = prompt.get_node(start["_loop_end"])["inputs"]
        carried = start["inputs"].get("initial_iteration_value")
        rounds, notes, made = settings["mode.num_iterations"][0], {}, {}
        for number in range(rounds):
            first = graph.node("BodyRound", f"round_{number}", number=number, last=rounds - 1, carried=carried)
            copies = {i: graph.node(prompt.get_node(i)["class_type"], f"{number}_{i}") for i in start["_loop_body"]}
            ends = {unique_id[0]: first, **copies}

            def copied(value: Any, ends: dict[str, Any] = ends) -> Any:
                return ends[value[0]].out(value[1]) if is_link(value) and value[0] in ends else value

            for node_id, copy in copies.items():
                original = prompt.get_node(node_id)
                copy.set_override_display_id(node_id)
                for name, value in original["inputs"].items():
                    copy.set_input(name, copied(value))
                if "_loop_end" in original:
                    inner = [copies[i].id for i in original["_loop_body"]]
                    notes[copy.id] = {"_loop_body": inner, "_loop_end": copies[original["_loop_end"]].id}
            carried = copied(end.get("next_iteration_value"))
            made |= {f"{name} {number}": copied(value) for name, value in end.items() if is_link(value)}
        collect = graph.node("BodyCollect", "collect", end=start["_loop_end"], **made)
        placed = graph.finalize()
        for node_id, entry in notes.items():
            placed[node_id].update(entry)
        return {"result": (collect.out(0),) * 5, "expand": placed}


@registered
class Round:
    """What Start Loop gives in one round."""

    RETURN_TYPES = StartLoop.RETURN_TYPES

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"number": ("INT",), "last": ("INT",)}, "optional": {"carried": (ANY,)}}

    def go(self, number: int, last: int, carried: Any = None) -> tuple[Any, ...]:
        return number, number == 0, number == last, None, carried


collected: dict[str, list[Any]] = {}


@registered
class Collect:
    """Keeps what the rounds made for End Loop, and blocks the nodes of the prompt."""

    INPUT_IS_LIST = True
    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"end": ("STRING",)}, "optional": AnyInputs()}

    def go(self, end: list[str], **made: list[Any]) -> tuple[Any, ...]:
        collected[end[0]] = [value for name, values in made.items() if name.startswith("output_") for value in values]
        return (ExecutionBlocker(None),)


class EndLoop:
    """ComfyUI's own from 0.36 on: gives what the last round made, or all of them."""

    CATEGORY, FUNCTION = "body tests", "go"
    OUTPUT_IS_LIST = (True,)
    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = ("output_value", "next_iteration_value", "terminations.termination0")
        optional = {name: (ANY, {"rawLink": True}) for name in names}
        return {"required": {"accumulate": ("BOOLEAN", {"default": False})}, "optional": optional, "hidden": ID}

    def go(self, accumulate: bool, unique_id: str, **_: Any) -> tuple[Any, ...]:
        made = collected.pop(unique_id, [ExecutionBlocker(None)])
        return (made if accumulate else made[-1:],)


NODE_CLASS_MAPPINGS |= {"StartLoop": StartLoop, "EndLoop": EndLoop}
