"""Run inside ComfyUI's folder by test_agents.py: Load Agent's model obeys ComfyUI's memory manager.

Only as far as a CPU allows: whether the manager lists the model, drops it when asked for room, and takes it
back for the next reply. That VRAM is really given back needs a GPU.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

REPO, MODEL, FOLDER = (Path(argument) for argument in sys.argv[1:4])
sys.argv = sys.argv[:1] + ["--cpu"]
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_management as memory  # noqa: E402
import torch  # noqa: E402
from pack_inside import load_pack  # noqa: E402
from PIL import Image  # noqa: E402

load_pack(REPO)

from interleave_pack.interleave_thinker.agents import adapter_file  # noqa: E402
from interleave_pack.interleave_thinker.agents.base import Message, Sampling  # noqa: E402
from interleave_pack.nodes import managed_agent  # noqa: E402

agent = managed_agent.load_managed_agent(MODEL, None, "auto", lambda: None)
white = Image.new("RGB", (64, 64), "white")
question = [Message("user", (white, white, "want a big red circle\ngot a big red circle"))]


def loaded() -> bool:
    return any(entry.model is agent.patcher for entry in memory.current_loaded_models)


found = {}
found["reply"] = agent.complete(question, Sampling(40)).text
found["loaded after a reply"] = loaded()
memory.free_memory(1e30, memory.text_encoder_device())
found["loaded after free_memory"] = loaded()
found["reply after coming back"] = agent.complete(question, Sampling(40)).text

bare = agent.patcher.model_size()
linears = {name: m.weight for name, m in agent.model.named_modules() if isinstance(m, torch.nn.Linear)}
torch.manual_seed(1)
pairs = {
    adapter_file.layer_of(name): adapter_file.Pair(torch.randn(weight.shape[0], 2), torch.randn(2, weight.shape[1]))
    for name, weight in linears.items()
}
rows = {adapter_file.layer_of(name): weight.detach()[0] for name, weight in linears.items()}
file = FOLDER / "adapter.safetensors"
adapter_file.write_adapter(file, pairs, base="tiny", sample=adapter_file.BaseSample.of(rows, rows.__getitem__))
adapted = managed_agent.load_managed_agent(MODEL, file, "auto", lambda: None)
found["one patcher"] = adapted.patcher is agent.patcher
found["reply with an adapter"] = adapted.complete(question, Sampling(40)).text
found["bytes beside"] = [agent.patcher.model_size() - bare, sum(pair.bytes for pair in pairs.values())]
del adapted
gc.collect()
found["reply after the adapter"] = agent.complete(question, Sampling(40)).text
found["bytes left"] = agent.patcher.model_size() - bare


class Noting:
    """A model that notes where it is moved to."""

    def __init__(self) -> None:
        self.moves: list[str] = []
        self.model = self

    def to(self, device: object) -> None:
        self.moves.append(str(device))

    def complete(self, *_: object) -> str:
        self.moves.append("reply")
        return "written"


noting = Noting()
managed_agent.memory.free_memory = lambda size, device: noting.moves.append(f"{size - managed_agent._ROOM} bytes free")
by_hand = managed_agent.UnmanagedAgent(noting, 10, torch.device("meta"), torch.device("cpu"))
found["unmanaged"] = [by_hand.complete(question, Sampling(40)), *noting.moves]
print("RESULT " + json.dumps(found))
