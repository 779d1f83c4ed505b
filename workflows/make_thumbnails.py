"""Make the gallery's thumbnails: the pictures of a real run where it can run here, else the graph in the editor.

    python workflows/make_thumbnails.py --url http://127.0.0.1:8188 [--run tiny_story]

Needs Playwright, a Chromium on the PATH, and a running ComfyUI with this pack.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from interleave_thinker.comfyui.client import ComfyClient

HERE = Path(__file__).resolve().parent
SIZE = (960, 540)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

FIT = """() => {
  const boxes = window.app.graph._nodes.map(n => n.getBounding());
  const left = Math.min(...boxes.map(b => b[0])), top = Math.min(...boxes.map(b => b[1]));
  const right = Math.max(...boxes.map(b => b[0] + b[2])), bottom = Math.max(...boxes.map(b => b[1] + b[3]));
  const c = window.app.canvas, w = c.canvas.clientWidth, h = c.canvas.clientHeight;
  const scale = Math.min(w / (right - left + 120), h / (bottom - top + 160));
  c.ds.scale = scale;
  c.ds.offset = [-left + (w / scale - (right - left)) / 2, -top + (h / scale - (bottom - top)) / 2];
  c.setDirty(true, true);
}"""


def strip_of_a_run(url: str, path: Path) -> None:
    """Queue the API file and put the document's pictures side by side."""
    prompt = json.loads((HERE / "api" / path.name).read_text(encoding="utf-8"))
    outputs = ComfyClient(url).run(prompt)
    documents = [d for output in outputs.values() for d in output.get("interleave_document", [])]
    pictures = sorted(Path(documents[0]["path"]).parent.glob("image_*.png"))
    edge, gap = 220, 16
    strip = Image.new("RGB", (gap + (edge + gap) * len(pictures), edge + 2 * gap), "white")
    for i, picture in enumerate(pictures):
        with Image.open(picture) as image:
            method = Image.Resampling.NEAREST if image.width <= 128 else Image.Resampling.LANCZOS
            strip.paste(image.convert("RGB").resize((edge, edge), method), (gap + i * (edge + gap), gap))
    strip.save(path.with_suffix(".jpg"), quality=85, optimize=True)
    print(f"{path.with_suffix('.jpg').name}: {len(pictures)} pictures of a run")


def photograph(page: Page, url: str, path: Path) -> None:
    page.goto(url)
    page.wait_for_function("() => window.app?.graph && window.app?.extensionManager", timeout=120_000)
    page.wait_for_timeout(2000)
    page.keyboard.press("Escape")  # the gallery, which a new profile is shown
    page.evaluate("graph => window.app.loadGraphData(graph)", json.loads(path.read_text(encoding="utf-8")))
    page.wait_for_timeout(1500)
    page.evaluate(FIT)
    page.wait_for_timeout(1000)
    canvas = page.query_selector("#graph-canvas") or page.query_selector("canvas")
    assert canvas is not None
    shot = Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")
    shot.thumbnail(SIZE, Image.Resampling.LANCZOS)
    shot.save(path.with_suffix(".jpg"), quality=82, optimize=True)
    print(f"{path.with_suffix('.jpg').name}: {shot.width} x {shot.height}")


@contextmanager
def chromium(playwright: Playwright) -> Iterator[Browser]:
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
    try:
        yield browser
    finally:
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--run", action="append", default=[], help="workflow that can run here; repeatable")
    options = parser.parse_args()
    paths = sorted(HERE.glob("*.json"))
    for path in paths:
        if path.stem in options.run:
            strip_of_a_run(options.url, path)  # before Playwright, whose event loop the client cannot share
    with sync_playwright() as playwright, chromium(playwright) as browser:
        for path in paths:
            if path.stem in options.run:
                continue
            page = browser.new_page(viewport={"width": 1920, "height": 1080})
            photograph(page, options.url, path)
            page.close()


if __name__ == "__main__":
    main()
