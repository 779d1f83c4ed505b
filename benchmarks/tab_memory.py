"""What the live view of a long run costs the browser: memory of the tab, and how long it keeps the editor busy.

    python benchmarks/tab_memory.py [--attempts 60] [--size 512] [--json F]

Starts a real ComfyUI and a real Chromium, opens the sidebar tab, runs a plan whose steps take two attempts each, and
reads, before and after: the memory that is the tab's own (unique set size of its renderer process, after a
garbage collection), its JavaScript heap, and the longest gap between two frames while the run went on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "tests" / "comfy"), str(REPO / "tests" / "browser")]

from comfy_server import Comfy  # noqa: E402
from comfy_test_graphs import loop, plan_text  # noqa: E402
from editor_page import finished, look_at, open_editor, open_sidebar, queue, show_api, wait_until  # noqa: E402

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FRAMES = """() => { let last = performance.now(); window.longest = 0; window.frames_seen = 0; const tick = (now) => {
  window.longest = Math.max(window.longest, now - last); window.frames_seen++; last = now;
  requestAnimationFrame(tick) };
  requestAnimationFrame((now) => { last = now; tick(now) }) }"""


def measure(page: Any, session: Any) -> dict[str, float]:
    session.send("HeapProfiler.collectGarbage")
    page.wait_for_timeout(1000)
    heap = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
    renderers = [p for p in psutil.process_iter(["cmdline"]) if "--type=renderer" in (p.info["cmdline"] or [])]
    own = max((p.memory_full_info().uss for p in renderers), default=0)
    return {
        "tab_mb": round(own / 2**20, 1),
        "js_heap_mb": round(heap["JSHeapUsedSize"] / 2**20, 1),
        "nodes": heap["Nodes"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=60)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chromium = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if chromium is None:
        parser.error("no Chromium is installed (on Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as base, sync_playwright() as playwright:
        server = Comfy(Path(base)).start()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page(viewport={"width": 1600, "height": 950})
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            open_editor(page, server)
            graph = loop(plan_text(options.attempts // 2), accept="b > 1", size=options.size, seed=9100)
            show_api(page, graph, "long")
            look_at(page, 30)
            open_sidebar(page)
            before = measure(page, session)
            page.evaluate(FRAMES)
            queue(page)
            wait_until(page, lambda: len(finished(server)) > 0, 600)
            page.wait_for_timeout(2000)
            frames = page.evaluate("() => [window.longest, window.frames_seen]")
            shown = page.locator(".itk-side .itk-thumb").count()
            after = measure(page, session)
        finally:
            browser.close()
            server.stop()
    report = {"attempts_shown": shown, "before": before, "after": after, "longest_frame_ms": round(frames[0])}
    print(json.dumps(report, indent=2))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
