"""Run inside ComfyUI's folder by test_hidden_internals.py: a CLIP that writes by `clip.generate`, several times."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPO = Path(sys.argv[1])
sys.argv = sys.argv[:1] + ["--cpu"]
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_prefetch as prefetch  # noqa: E402
from pack_inside import load_pack  # noqa: E402

load_pack(REPO)

from interleave_pack.interleave_thinker.agents.base import Message, Sampling  # noqa: E402
from interleave_pack.nodes.native_agent import NativeAgent  # noqa: E402

done: list[str] = []
original = prefetch.cleanup_prefetch_queues


class Clip:
    """Has nothing but the official way to write."""

    def tokenize(self, text: str, **_: Any) -> dict[str, Any]:
        return {"failing": "fail" in text}

    def generate(self, tokens: dict[str, Any], **_: Any) -> list[int]:
        done.append("failing" if tokens["failing"] else "reply")
        if tokens["failing"]:
            raise RuntimeError("out of memory")
        return [1]

    def decode(self, ids: list[int], **_: Any) -> str:
        return "yes"


def released() -> None:
    original()
    done.append("released")


def of_another_form(device: Any) -> None:
    done.append("released")


def replies() -> list[str]:
    """Two, and one that fails."""
    done.clear()
    agent = NativeAgent(Clip(), "clip", lambda: None)
    for text in ("a", "b", "fail"):
        try:
            agent.complete([Message("user", (text,))], Sampling(4))
        except RuntimeError as error:
            assert "out of memory" in str(error)
    return list(done)


found = {}
prefetch.cleanup_prefetch_queues = released
found["with it"] = replies()
prefetch.cleanup_prefetch_queues = of_another_form
found["of another form"] = replies()
del prefetch.cleanup_prefetch_queues
found["renamed"] = replies()
print("RESULT " + json.dumps(found))
