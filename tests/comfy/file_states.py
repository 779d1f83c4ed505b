"""Run inside ComfyUI's folder by test_hidden_internals.py: what nodes say of their files, by ComfyUI and without it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

REPO = Path(sys.argv[1])
sys.argv = sys.argv[:1] + ["--cpu"]
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import execution  # noqa: E402
from comfy_api.latest import io  # noqa: E402
from comfy_execution.graph import DynamicPrompt  # noqa: E402
from pack_inside import load_pack  # noqa: E402

import nodes  # noqa: E402

load_pack(REPO)

from interleave_pack.nodes.agents import LoadAgent  # noqa: E402
from interleave_pack.nodes.comfy_internals.file_states import FileStates  # noqa: E402
from interleave_pack.nodes.folders import add_model_folders  # noqa: E402

add_model_folders()


class Lists:
    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"names": ("STRING", {}), "image": ("IMAGE",)}}

    @classmethod
    def IS_CHANGED(cls, names: list[str], image: Any) -> str:
        return f"{names} {image}"


class Asynchronous(Lists):
    INPUT_IS_LIST = False

    @classmethod
    async def IS_CHANGED(cls, names: str, image: Any) -> str:
        return f"{names} {image}"


class Failing(Lists):
    @classmethod
    def IS_CHANGED(cls, **_: Any) -> str:
        raise OSError("gone")


class Silent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(node_id="Silent", inputs=[io.String.Input("names")], outputs=[])


kinds = {"Lists": Lists, "Asynchronous": Asynchronous, "Failing": Failing, "Silent": Silent, "LoadAgent": LoadAgent}
nodes.NODE_CLASS_MAPPINGS |= kinds
nodes.folder_paths.set_input_directory(tempfile.mkdtemp())
picture = Path(nodes.folder_paths.get_input_directory()) / "example.png"
picture.write_bytes(b"what LoadImage hashes")
graph: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": picture.name, "upload": "image"}},
    "2": {"class_type": "Lists", "inputs": {"names": "a", "image": ["1", 0]}},
    "3": {"class_type": "Asynchronous", "inputs": {"names": "a", "image": ["1", 0]}},
    "4": {"class_type": "Failing", "inputs": {"names": "a", "image": ["1", 0]}},
    "5": {"class_type": "Silent", "inputs": {"names": "a"}},
    "6": {"class_type": "EmptyImage", "inputs": {"width": 8}},
    "7": {"class_type": "LoadAgent", "inputs": {"model": "tiny-critic", "adapter": "none"}},
}


def said() -> dict[str, Any]:
    prompt = json.loads(json.dumps(graph))  # ComfyUI notes in the nodes what they said
    states = FileStates(DynamicPrompt(prompt))
    answers = {entry["class_type"]: states.get(node_id) for node_id, entry in prompt.items()}
    return {k: "changed" if v is None else v for k, v in answers.items()}


by_comfyui = said()
del execution.IsChangedCache
print("RESULT " + json.dumps({"by ComfyUI": by_comfyui, "without it": said()}))
