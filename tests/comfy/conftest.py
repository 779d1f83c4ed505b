"""Fixtures: real ComfyUI servers. Bodies of the loops are stock nodes; judges are stock math, a tiny
Qwen3-VL, or a chat server of this process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from comfy_server import Comfy


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    """One server with ComfyUI's defaults, shared by the tests that leave it running."""
    server = Comfy(tmp_path_factory.mktemp("comfy")).start()
    yield server
    server.stop()


@pytest.fixture
def new_comfy(tmp_path: Path) -> Iterator[Callable[..., Comfy]]:
    """Start servers of a test's own, with other arguments; they end with the test."""
    begun: list[Comfy] = []

    def start(*arguments: str) -> Comfy:
        base = tmp_path / f"comfy{len(begun)}"
        base.mkdir(exist_ok=True)
        begun.append(Comfy(base, arguments).start())
        return begun[-1]

    yield start
    for server in begun:
        server.stop()
