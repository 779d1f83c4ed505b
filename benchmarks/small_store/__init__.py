"""A custom node package for `benchmarks/kills.py`: the pack's attempt store holds a few pictures only."""

import sys
from pathlib import Path

from server import PromptServer

LIMIT = int(Path(__file__).with_name("limit").read_text())
NODE_CLASS_MAPPINGS = {}


def make_small(json_data):
    """Before the first prompt runs, when the pack is surely loaded and has not opened its store."""
    for name, module in list(sys.modules.items()):
        if name.endswith("interleave_thinker.storage.attempt_store"):
            module.AttemptStore.__init__.__defaults__ = (LIMIT,)
    return json_data


PromptServer.instance.add_on_prompt_handler(make_small)
