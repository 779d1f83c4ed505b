"""A real Chromium on a real ComfyUI. Skipped where no Chromium is installed (`dev.py test` installs it on Debian)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("comfy", "unit", "browser")]

from comfy_server import REPO, Comfy  # noqa: E402
from comfy_test_graphs import install_newer_nodes  # noqa: E402
from editor_page import new_page, open_editor  # noqa: E402

NEWER = REPO / ".dev" / "frontend" / "comfyui_frontend_package" / "static"
"""The second editor, which `dev.py test` fetches."""
OWN = ".".join(version("comfyui-frontend-package").split(".")[:2])
"""The editor that this ComfyUI brings."""
SECOND = OWN if os.environ.get("INTERLEAVE_OWN_FRONTEND") else "1.58"
"""`dev.py test --comfyui PATH` tries no other in another ComfyUI."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    base = tmp_path_factory.mktemp("comfy")
    shutil.copytree(Path(__file__).parent / "slow_node", base / "custom_nodes" / "slow_node")
    install_newer_nodes(base)
    server = Comfy(base).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def newer_comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    if not NEWER.is_dir():
        pytest.skip("no second editor; `dev.py test` fetches it")
    base = tmp_path_factory.mktemp("newer")
    shutil.copytree(Path(__file__).parent / "slow_node", base / "custom_nodes" / "slow_node")
    install_newer_nodes(base)
    server = Comfy(base, ("--front-end-root", str(NEWER))).start()
    yield server
    server.stop()


def slow(editor: str):
    return pytest.param(editor, marks=pytest.mark.slow)


OTHERS = [f"{number} {way}" for number, way in ((OWN, "nodes 2.0"), (SECOND, "canvas"))]


@pytest.fixture(params=[f"{OWN} canvas", f"{SECOND} nodes 2.0", *map(slow, OTHERS)])
def editor(request: pytest.FixtureRequest, page):
    """(page, server) with the editor open: each editor that we support, each way of drawing nodes; two with --slow."""
    return opened(request, page)


@pytest.fixture(params=[f"{OWN} canvas", slow(f"{SECOND} nodes 2.0")])
def own_editor(request: pytest.FixtureRequest, page):
    """(page, server) with ComfyUI's own editor; with --slow the second one too."""
    return opened(request, page)


def opened(request: pytest.FixtureRequest, page):
    server = request.getfixturevalue("comfy" if request.param.startswith(f"{OWN} ") else "newer_comfy")
    open_editor(page, server, nodes2=request.param.endswith("2.0"))
    assert page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__").startswith(request.param.split()[0])
    return page, server


@pytest.fixture(scope="session")
def chromium():
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    opened = new_page(chromium)
    yield opened
    opened.close()
