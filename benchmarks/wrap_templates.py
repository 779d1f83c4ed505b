"""Wrap every local image template of ComfyUI in the real editor, queue it, and say what came of it.

    python benchmarks/wrap_templates.py [--templates DIR] [--json F] [--markdown F] [--only NAME ...]

Needs `python dev.py setup` and a Chromium. For each workflow: open it, wrap it (a question is answered with
its first option), undo, wrap again, queue it, unwrap. Counted are: wrapped without a question, wrapped after
one, refused with the reason; accepted by the server, which may miss model files but nothing else; undo and
unwrap give the graph back.

Without --templates the workflows are those of the installed `comfyui-workflow-templates` that are
(1) about pictures, tagged "Text to Image" or "Image Edit", and in a category of pictures, and
(2) local: not tagged "API", open source, no node of ComfyUI's paid services in them.
With --templates, every *.json of the folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import urllib.error
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "comfy"))

from comfy_server import Comfy

TAGS = {"Text to Image", "Image Edit"}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OURS = "InterleaveThinker"


def official(out: Counter[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The templates that the rule takes; what it leaves out is counted."""
    import comfyui_workflow_templates_json as package

    folder = Path(package.__file__).parent / "templates"
    seen: set[str] = set()
    for category in json.loads((folder / "index.json").read_text(encoding="utf-8")):
        for entry in category["templates"]:
            name, tags = entry["name"], set(entry.get("tags", []))
            if name in seen:
                continue
            seen.add(name)
            if entry.get("mediaType") != "image" or not TAGS & tags or category.get("type") in ("video", "audio", "3d"):
                out["other than text-to-image or image edit (video, audio, 3D, upscaling, ...)"] += 1
            elif "API" in tags or not entry.get("openSource", True):
                out["API nodes or closed models"] += 1
            else:
                yield name, json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def given(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.rglob("*.json")):
        try:
            graph = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            print(f"{path}: {error}", file=sys.stderr)
            continue
        if isinstance(graph, dict) and isinstance(graph.get("nodes"), list):
            yield path.stem, graph


class Editor:
    """The editor in a real browser on a real server."""

    def __init__(self, page: Any, server: Comfy):
        self.page, self.server = page, server
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)[:300]))
        page.goto(server.url)
        page.wait_for_function("() => window.app?.graph && window.app?.extensionManager", timeout=120_000)
        page.wait_for_timeout(2000)
        page.keyboard.press("Escape")  # the gallery, which a new profile is shown

    def open(self, graph: dict[str, Any]) -> None:
        self.page.evaluate("graph => window.app.loadGraphData(graph)", graph)
        self.page.wait_for_timeout(500)

    def command(self, name: str) -> None:
        self.page.evaluate("name => { window.app.extensionManager.command.execute(name) }", name)

    def prompt(self) -> dict[str, Any]:
        return dict(self.page.evaluate("async () => (await window.app.graphToPrompt()).output"))

    def graph(self) -> dict[str, Any]:
        return dict(self.page.evaluate("() => (window.app.rootGraph ?? window.app.graph).serialize()"))

    def wrap(self) -> tuple[int, dict[str, Any] | None, str]:
        """(questions, what was chosen, or None and the reason)."""
        self.quiet()
        self.command(f"{OURS}.Wrap")
        questions = 0
        for _ in range(150):
            self.page.wait_for_timeout(100)
            dialog = self.page.locator("dialog.itk-ask[open]")
            if dialog.count():
                questions += 1
                dialog.locator("button[value=ok]").click()
            elif self.page.locator(".p-toast-message").count():
                break
        toasts = self.page.locator(".p-toast-message").all_inner_texts()
        chosen = self.page.evaluate(
            "() => (window.app.rootGraph ?? window.app.graph).nodes"
            ".find(n => n.properties?.interleave_wrap)?.properties.interleave_wrap.chosen ?? null"
        )
        return questions, chosen, toasts[-1].split("\n", 1)[-1] if toasts else "nothing was said"

    def quiet(self) -> None:
        """Close the messages of what was done before."""
        for _ in range(20):
            self.page.evaluate("() => document.querySelectorAll('.p-toast-close-button').forEach(b => b.click())")
            self.page.wait_for_timeout(150)
            if not self.page.locator(".p-toast-message").count():
                return

    def errors(self, prompt: dict[str, Any]) -> set[tuple[str, str, str]]:
        """(node, input, kind) of what the server finds wrong; nothing is left to run."""
        try:
            self.server.post("/prompt", {"prompt": prompt})
        except urllib.error.HTTPError as error:
            found = json.loads(error.read())
            wrong = {
                (node, str(e.get("extra_info", {}).get("input_name", "")), str(e.get("type", "")))
                for node, facts in found.get("node_errors", {}).items()
                for e in facts["errors"]
            }
            return wrong or {("", "", str(found.get("error", {}).get("type", "refused")))}
        self.server.post("/queue", {"clear": True})
        self.server.post("/interrupt", {})
        return set()


def plain(graph: dict[str, Any]) -> Any:
    """A graph without what may differ: places on the canvas, order, and the numbers of links."""
    inner = [plain(g) | {"id": g["id"]} for g in (graph.get("definitions") or {}).get("subgraphs", [])]
    links: dict[Any, tuple[Any, ...]] = {}
    for link in graph.get("links") or []:
        values = list(link) if isinstance(link, list) else [link[k] for k in _LINK]
        links[values[0]] = (str(values[1]), values[2])
    nodes = {}
    for node in graph["nodes"]:
        kept = {k: v for k, v in node.items() if k not in ("pos", "size", "order", "inputs", "outputs")}
        kept["inputs"] = sorted((i["name"], links.get(i.get("link"))) for i in node.get("inputs", []))
        nodes[str(node["id"])] = kept
    sockets = [sorted(s["name"] for s in graph.get(k, [])) for k in ("inputs", "outputs")]
    return {"nodes": nodes, "sockets": sockets, "inner": sorted(inner, key=lambda g: str(g["id"]))}


_LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def try_one(editor: Editor, name: str, graph: dict[str, Any]) -> dict[str, Any]:
    editor.open(graph)
    before, prompt = editor.graph(), editor.prompt()
    images(editor.server, prompt)
    known = editor.errors(prompt)
    questions, chosen, said = editor.wrap()
    result: dict[str, Any] = {"name": name, "questions": questions, "chosen": chosen, "said": said}
    if chosen is None:
        return result
    editor.command("Comfy.Undo")
    editor.page.wait_for_timeout(700)
    result["undone"] = plain(editor.graph()) == plain(before)
    editor.open(graph)
    editor.wrap()
    wrapped = editor.prompt()
    missing = {e for e in editor.errors(wrapped) - known if not is_missing_model(wrapped, e)}
    result["errors"] = sorted(missing)
    seeds = chosen["seeds"]
    for place, at in (("prompt", chosen["prompt"]), ("seed", seeds[0] if seeds else None), ("image", chosen["image"])):
        if at:
            result[place] = f"{prompt[at[0]]['class_type']} {'.'.join(at)}"
            result[f"{place}_value"] = str(prompt[at[0]]["inputs"][at[1]])[:80]
    result["seeds"] = [".".join(p) for p in seeds[1:]]
    result["also"] = [".".join(p) for p in chosen["also"]]
    result["output"] = f"{prompt[chosen['output']]['class_type']} {chosen['output']}"
    editor.command(f"{OURS}.Unwrap")
    editor.page.wait_for_timeout(500)
    result["unwrapped"] = plain(editor.graph()) == plain(before) and editor.prompt() == prompt
    return result


def is_missing_model(prompt: dict[str, Any], error: tuple[str, str, str]) -> bool:
    node, name, kind = error
    value = prompt.get(node, {}).get("inputs", {}).get(name)
    return kind == "value_not_in_list" and (
        not isinstance(value, str) or "." in value or "loader" in prompt[node]["class_type"].lower()
    )


def images(server: Comfy, prompt: dict[str, Any]) -> None:
    """Put a picture where the workflow loads one: the gallery would have downloaded it."""
    folder = server.base / "input"
    folder.mkdir(exist_ok=True)
    for node in prompt.values():
        name = node["inputs"].get("image")
        if node["class_type"].startswith("LoadImage") and isinstance(name, str) and Path(name).name == name:
            Image.new("RGB", (64, 64), "grey").save(folder / name, format="PNG")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, help="a folder of workflow files in the editor's format")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="the table of what was chosen")
    parser.add_argument("--only", nargs="*", help="names of workflows")
    options = parser.parse_args()
    chromium = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if chromium is None:
        parser.error("no Chromium is installed (on Debian: apt-get install chromium)")
    left_out: Counter[str] = Counter()
    chosen = list(given(options.templates) if options.templates else official(left_out))
    if options.only:
        chosen = [(n, g) for n, g in chosen if n in options.only]
    from playwright.sync_api import Error as PlaywrightError
    from playwright.sync_api import sync_playwright

    results = []
    with tempfile.TemporaryDirectory() as base, sync_playwright() as playwright:
        server = Comfy(Path(base)).start()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            editor = Editor(browser.new_page(viewport={"width": 1600, "height": 950}), server)
            for name, graph in chosen:
                try:
                    result = try_one(editor, name, graph)
                except PlaywrightError as error:  # one broken workflow does not end the measurement
                    reason = f"the editor failed: {str(error).splitlines()[0][:200]}"
                    result = {"name": name, "questions": 0, "chosen": None, "said": reason}
                results.append(result)
                print(line(result), flush=True)
        finally:
            browser.close()
            server.stop()
    report = summary(results, left_out, editor.problems)
    print(json.dumps({k: v for k, v in report.items() if k != "results"}, indent=2))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(markdown(report), encoding="utf-8")
    return 0


def line(result: dict[str, Any]) -> str:
    if result["chosen"] is None:
        return f"{result['name']}: refused: {result['said']}"
    wrong = [str(e) for e in result["errors"]] + [k for k in ("undone", "unwrapped") if not result[k]]
    return (
        f"{result['name']}: wrapped, {result['questions']} questions{'; WRONG: ' + ', '.join(wrong) if wrong else ''}"
    )


def summary(results: list[dict[str, Any]], left_out: Counter[str], problems: list[str]) -> dict[str, Any]:
    wrapped = [r for r in results if r["chosen"]]
    return {
        "workflows": len(results),
        "left_out": dict(left_out),
        "wrapped_without_question": sum(r["questions"] == 0 for r in wrapped),
        "wrapped_after_one_question": sum(r["questions"] == 1 for r in wrapped),
        "wrapped_after_more": sum(r["questions"] > 1 for r in wrapped),
        "refused": {r["name"]: r["said"] for r in results if not r["chosen"]},
        "wrapped_and_accepted": sum(not r["errors"] for r in wrapped),
        "share": round(sum(not r["errors"] for r in wrapped) / len(results), 4) if results else None,
        "undo_restores": sum(r["undone"] for r in wrapped),
        "unwrap_restores": sum(r["unwrapped"] for r in wrapped),
        "page_errors": problems,
        "results": results,
    }


def markdown(report: dict[str, Any]) -> str:
    rows = ["| workflow | asked | prompt | its text | seed | reference | result |", "|---|---|---|---|---|---|---|"]
    for r in report["results"]:
        if not r["chosen"]:
            rows.append(f"| {r['name']} | | refused: {r['said']} | | | | |")
            continue
        also = f" and {', '.join(r['also'])}" if r["also"] else ""
        text = r.get("prompt_value", "").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")[:60]
        more = "".join(f" and {s}" for s in r["seeds"])
        cells = [r["name"], str(r["questions"] or ""), r["prompt"] + also, text, r.get("seed", "none") + more]
        rows.append("| " + " | ".join([*cells, r.get("image", "none: drawn from text"), r["output"]]) + " |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
