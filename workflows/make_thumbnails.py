"""Make the gallery's thumbnails: each workflow as the editor draws it; those that can run here, after a run.

    python workflows/make_thumbnails.py --url http://127.0.0.1:8188 [--run tiny_story]

Needs Playwright, a Chromium on the PATH, and a running ComfyUI with this pack.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

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


def photograph(page: Page, url: str, path: Path, run: bool) -> None:
    page.goto(url)
    page.wait_for_function("() => window.app?.graph && window.app?.extensionManager", timeout=120_000)
    page.wait_for_timeout(2000)
    page.evaluate("graph => window.app.loadGraphData(graph)", json.loads(path.read_text(encoding="utf-8")))
    page.wait_for_timeout(1500)
    if run:
        page.evaluate("async () => await window.app.queuePrompt(0)")
        done = "async () => Object.values(await (await fetch('/history')).json()).some(h => h.status?.completed)"
        page.wait_for_function(done, timeout=300_000)
        page.wait_for_timeout(1500)
    page.evaluate(FIT)
    page.wait_for_timeout(1000)
    canvas = page.query_selector("#graph-canvas") or page.query_selector("canvas")
    assert canvas is not None
    shot = Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")
    shot.thumbnail(SIZE, Image.Resampling.LANCZOS)
    shot.save(path.with_suffix(".jpg"), quality=82, optimize=True)
    print(f"{path.with_suffix('.jpg').name}: {shot.width} x {shot.height}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--run", action="append", default=[], help="workflow to run first; repeatable")
    options = parser.parse_args()
    chromium = next((found for name in NAMES if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for path in sorted(HERE.glob("*.json")):
            page = browser.new_page(viewport={"width": 1920, "height": 1080})
            photograph(page, options.url, path, path.stem in options.run)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
