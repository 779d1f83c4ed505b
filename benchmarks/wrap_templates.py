"""Wrap every local image template of ComfyUI in the real editor, and compare the choices with a key.

    python benchmarks/wrap_templates.py [--templates DIR] [--stand-ins] [--frontend newer] [--json F] [--markdown F]

Needs `python dev.py setup` and a Chromium. For each workflow: open it, wrap it, undo, wrap again, queue it, unwrap.
A question is answered as the key says (benchmarks/wrap_keys: written by reading, before the code). Counted are

| of | workflows that the key knows |
| right | all places as the key says, or rightly refused, without a question |
| asked | right after one question; asked_more: after more than one |
| refused | refused, though the key knows the places |
| wrong | a place is another; silently_wrong: and nobody was asked |
| failed | the editor itself did not open or queue the workflow |
| damaged | anything else of the queued prompt changed, or undo or unwrap did not give the graph back |

Without --templates the workflows are those of the installed `comfyui-workflow-templates-json`; with it, those of
that folder. Where the folder has the index of that package, those are taken that are
(1) about pictures, tagged "Text to Image" or "Image Edit", and in a category of pictures, and
(2) local: not tagged "API", open source. Else every *.json is taken.
--stand-ins: nodes that this ComfyUI lacks get the sockets that the templates show (benchmarks/stand_ins.py).
--frontend newer: the second editor that `python dev.py test` fetches, or the folder of another.
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

from comfy_server import REPO, Comfy
from stand_ins import write_pack
from wrap_key import Chosen, best, entry_for, load_keys, what_is_wrong

TAGS = {"Text to Image", "Image Edit"}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OURS = "InterleaveThinker"
MESSAGE = ".p-toast-message, ol.pointer-events-none > li"
CLOSE = ".p-toast-close-button, ol.pointer-events-none > li button"
"""CSS selectors of a message and of its close button; first those of frontend 1.47, then those of 1.58."""
NEWER = REPO / ".dev" / "frontend" / "comfyui_frontend_package" / "static"
OPEN_OUTPUTS = {"prompt": 1, "reference": 2, "seed": 5}
"""Outputs of Loop Open that feed the user's nodes."""


def official(folder: Path, out: Counter[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The templates that the rule takes; what it leaves out is counted."""
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


def installed() -> Path:
    import comfyui_workflow_templates_json as package

    return Path(package.__file__).parent / "templates"


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

    def __init__(self, page: Any, server: Comfy, *, nodes2: bool = False):
        self.page, self.server = page, server
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)[:300]))
        page.goto(server.url)
        page.wait_for_function("() => window.app?.graph && window.app?.extensionManager", timeout=120_000)
        page.wait_for_timeout(2000)
        page.keyboard.press("Escape")  # the gallery, which a new profile is shown
        if nodes2:
            page.evaluate("() => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
            page.wait_for_timeout(500)

    def open(self, graph: dict[str, Any]) -> None:
        self.page.evaluate("graph => window.app.loadGraphData(graph)", graph)
        self.page.wait_for_timeout(500)

    def command(self, name: str) -> None:
        self.page.evaluate("name => { window.app.extensionManager.command.execute(name) }", name)

    def prompt(self) -> dict[str, Any]:
        return dict(self.page.evaluate("async () => (await window.app.graphToPrompt()).output"))

    def becomes(self, prompt: dict[str, Any]) -> bool:
        """Whether the queued prompt is this one within three seconds."""
        for _ in range(30):
            if self.prompt() == prompt:
                return True
            self.page.wait_for_timeout(100)
        return False

    def graph(self) -> dict[str, Any]:
        return dict(self.page.evaluate("() => (window.app.rootGraph ?? window.app.graph).serialize()"))

    def wrap(self, entry: dict[str, Any] | None = None) -> tuple[int, dict[str, Any] | None, str]:
        """(questions, what was chosen, or None and the reason). Questions are answered as the key's entry says."""
        self.quiet()
        prompt = self.prompt()
        self.command(f"{OURS}.Wrap")
        questions, output = 0, None
        for _ in range(300):
            self.page.wait_for_timeout(50)
            dialog = self.page.locator("dialog.itk-ask[open]")
            if dialog.count():
                questions += 1
                output = self.answer(dialog, prompt, output, entry or {})
                dialog.locator("button[value=ok]").click()
            elif self.page.locator(MESSAGE).count():
                break
        toasts = self.page.locator(MESSAGE).all_inner_texts()
        chosen = self.page.evaluate(
            "() => { const all = graph => graph.nodes.flatMap(n => [n, ...(n.subgraph ? all(n.subgraph) : [])]);"
            " return all(window.app.rootGraph ?? window.app.graph)"
            ".find(n => n.properties?.interleave_wrap)?.properties.interleave_wrap.chosen ?? null }"
        )
        return questions, chosen, toasts[-1].split("\n", 1)[-1] if toasts else "nothing was said"

    def answer(self, dialog: Any, prompt: dict[str, Any], output: str | None, entry: dict[str, Any]) -> str | None:
        """Mark what the key says, or leave the first option. Returns the result that is meant."""
        named = {str(radio.get_attribute("name")) for radio in dialog.get_by_role("radio").all()}

        def mark(name: str, value: str) -> None:
            dialog.locator(f'input[name="{name}"][value="{value}"]').check()

        if "output" in named:
            radios = [str(radio.get_attribute("value")) for radio in dialog.get_by_role("radio").all()]
            output = best(radios, lambda node: node in entry.get("output", ()))
            mark("output", output)
            return output
        found = self.server.post("/interleave_thinker/choose", {"workflow": prompt, "output": output})
        if "prompt" in named:
            wanted = [frozenset(alternative) for alternative in entry.get("prompt", [])]
            groups = [frozenset(".".join(place) for place in group) for group in found["prompts"]]
            mark("prompt", str(groups.index(best(groups, lambda group: group in wanted))))
        if "image" in named:
            images = [image["node"] for image in found["images"]]
            image = best([*images, None], lambda node: node in entry.get("image", ()))
            mark("image", str(images.index(image)) if image in images else "none")
        return output

    def quiet(self) -> None:
        """Close the messages of what was done before."""
        for _ in range(20):
            self.page.evaluate("close => document.querySelectorAll(close).forEach(b => b.click())", CLOSE)
            self.page.wait_for_timeout(150)
            if not self.page.locator(MESSAGE).count():
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
    groups = sorted(str(group.get("title")) for group in graph.get("groups") or [])
    return {"nodes": nodes, "sockets": sockets, "groups": groups, "inner": sorted(inner, key=lambda g: str(g["id"]))}


_LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def try_one(editor: Editor, name: str, graph: dict[str, Any], keys: list[dict[str, Any]]) -> dict[str, Any]:
    editor.open(graph)
    before, prompt = editor.graph(), editor.prompt()
    images(editor.server, prompt)
    entry = entry_for(keys, name, prompt)
    known = editor.errors(prompt)
    questions, chosen, said = editor.wrap(entry)
    result: dict[str, Any] = {"name": name, "questions": questions, "chosen": chosen, "said": said, "why": ""}
    if chosen is None:
        result["outcome"] = outcome(entry, result)
        result["damaged"] = [] if editor.prompt() == prompt else ["refused, but the prompt is another"]
        return result
    damaged = []
    if plain(editor.graph()) == plain(before):
        damaged.append("nothing was added")
    damaged += changes(prompt, editor.prompt(), chosen)
    editor.command("Comfy.Undo")
    if not editor.becomes(prompt) or plain(editor.graph()) != plain(before):
        damaged.append("undo does not give the graph back")
    editor.open(graph)
    editor.wrap(entry)
    wrapped = editor.prompt()
    result["agent"] = agent_of(prompt, wrapped)
    result["errors"] = sorted(e for e in editor.errors(wrapped) - known if not is_missing_model(wrapped, e))
    editor.command(f"{OURS}.Unwrap")
    if not editor.becomes(prompt) or plain(editor.graph()) != plain(before):
        damaged.append("unwrap does not give the graph back")
    result["damaged"] = damaged
    image = chosen["image"]
    places = [chosen["prompt"], *chosen["also"]]
    made = Chosen(
        chosen["output"],
        frozenset(".".join(place) for place in places),
        image[0] if image else None,
        frozenset(".".join(place) for place in chosen["seeds"]),
    )
    result["why"] = what_is_wrong(entry, made) if entry else ""
    result["outcome"] = outcome(entry, result)
    for what, at in (
        ("prompt", chosen["prompt"]),
        ("seed", chosen["seeds"][0] if made.seeds else None),
        ("image", image),
    ):
        if at:
            result[what] = f"{prompt[at[0]]['class_type']} {'.'.join(part for part in at[:2] if part)}"
    result["prompt_value"] = str(prompt[places[0][0]]["inputs"][places[0][1]])[:80]
    result["seeds"] = [".".join(p) for p in chosen["seeds"][1:]]
    result["also"] = [".".join(p) for p in chosen["also"]]
    result["output"] = f"{prompt[chosen['output']]['class_type']} {chosen['output']}"
    return result


def agent_of(before: dict[str, Any], wrapped: dict[str, Any]) -> str:
    """The workflow's own CLIP that the agent uses, as "NODE FILE"; "" where the agent is a model of its own."""
    agents = [node for node in wrapped.values() if node["class_type"] == f"{OURS}AgentFromCLIP"]
    loader = str(agents[0]["inputs"]["clip"][0]) if agents else ""
    return f"{loader} {before[loader]['inputs'].get('clip_name', '')}" if loader in before else ""


def outcome(entry: dict[str, Any] | None, result: dict[str, Any]) -> str:
    if entry is None:
        return "not in the key"
    if result["chosen"] is None:
        return "right" if "refuse" in entry else "refused"
    if result["why"]:
        return "wrong"
    return ("right", "asked", "asked_more")[min(result["questions"], 2)]


def changes(before: dict[str, Any], after: dict[str, Any], chosen: dict[str, Any]) -> list[str]:
    """The differences between two queued prompts, without the inputs that the loop feeds."""
    opens = [i for i, n in after.items() if n["class_type"] == f"{OURS}LoopOpen"]
    feeds = {what: [[i, number] for i in opens] for what, number in OPEN_OUTPUTS.items()}
    request = before[chosen["prompt"][0]]["inputs"][chosen["prompt"][1]]
    seeds = [before[i]["inputs"][name] for i, name in chosen["seeds"]]
    picture = [chosen["image"][0], chosen["image"][2]] if chosen["image"] else None
    also = [list(place) for place in chosen["also"]]
    found = [f"{i} is gone" for i in before if i not in after]
    new = {after[i]["class_type"] for i in after if i not in before}
    found += [f"{kind} is new" for kind in sorted(new) if not kind.startswith(OURS) and kind != "CLIPLoader"]
    for i in before.keys() & after.keys():
        for name in before[i]["inputs"].keys() | after[i]["inputs"].keys():
            was, now = before[i]["inputs"].get(name), after[i]["inputs"].get(name)
            right = (
                was == now
                or (now in feeds["prompt"] and (was == request or [i, name] in also))
                or (now in feeds["seed"] and was in seeds)
                or (now in feeds["reference"] and was == picture)
            )
            if not right:
                found.append(f"{i}.{name} was {str(was)[:60]} and is {str(now)[:60]}")
    return found


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
    parser.add_argument("--stand-ins", action="store_true", help="make nodes that this ComfyUI lacks, without function")
    parser.add_argument("--frontend", default="installed", help="installed, newer, or the folder of an editor")
    parser.add_argument("--nodes2", action="store_true", help="draw the nodes as elements of the page (Nodes 2.0)")
    parser.add_argument("--key", type=Path, help="another key than those of benchmarks/wrap_keys")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="the table of what was chosen")
    parser.add_argument("--only", nargs="*", help="names of workflows")
    options = parser.parse_args()
    chromium = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if chromium is None:
        parser.error("no Chromium is installed (on Debian: apt-get install chromium)")
    left_out: Counter[str] = Counter()
    folder = options.templates or installed()
    chosen = list(official(folder, left_out) if (folder / "index.json").exists() else given(folder))
    if options.only:
        chosen = [(n, g) for n, g in chosen if n in options.only]
    keys = load_keys(options.key) if options.key else load_keys()
    from playwright.sync_api import Error as PlaywrightError
    from playwright.sync_api import sync_playwright

    results = []
    with tempfile.TemporaryDirectory() as base, sync_playwright() as playwright:
        server = Comfy(Path(base), front_end(options.frontend)).start()
        if options.stand_ins:
            write_pack(Path(base) / "custom_nodes", [graph for _, graph in chosen], server.get("/object_info").keys())
            server.stop()
            server.start()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            editor = Editor(browser.new_page(viewport={"width": 1600, "height": 950}), server, nodes2=options.nodes2)
            for name, graph in chosen:
                try:
                    result = try_one(editor, name, graph, keys)
                except PlaywrightError as error:  # one broken workflow does not end the measurement
                    reason = f"the editor failed: {str(error).splitlines()[0][:200]}"
                    result = {"name": name, "questions": 0, "chosen": None, "said": reason, "outcome": "failed"}
                    result |= {"why": "", "damaged": []}
                results.append(result)
                print(line(result), flush=True)
            version = editor.page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__")
        finally:
            browser.close()
            server.stop()
    report = summary(results, left_out, editor.problems) | {"frontend": version}
    print(json.dumps({k: v for k, v in report.items() if k != "results"}, indent=2))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(markdown(report), encoding="utf-8")
    return 0


def front_end(choice: str) -> tuple[str, ...]:
    """The server's arguments for an editor."""
    if choice == "installed":
        return ()
    folder = NEWER if choice == "newer" else Path(choice)
    if not folder.is_dir():
        raise SystemExit(f"There is no editor in {folder}; `python dev.py test` fetches the newer one.")
    return ("--front-end-root", str(folder))


def line(result: dict[str, Any]) -> str:
    text = f"{result['name']}: {result['outcome']}"
    if result["chosen"] is None:
        text += f": {result['said']}"
    wrong = [result["why"], *map(str, result.get("errors", [])), *(f"DAMAGED: {d}" for d in result["damaged"])]
    return "; ".join([text, *filter(None, wrong)])


def summary(results: list[dict[str, Any]], left_out: Counter[str], problems: list[str]) -> dict[str, Any]:
    counts = Counter(r["outcome"] for r in results)
    wrapped = [r for r in results if r["chosen"]]
    return {
        "of": len(results) - counts["not in the key"],
        **{what: counts[what] for what in ("right", "asked", "asked_more", "refused", "wrong", "failed")},
        "silently_wrong": sum(r["outcome"] == "wrong" and not r["questions"] for r in results),
        "damaged": sum(bool(r["damaged"]) for r in results),
        "rightly_refused": sum(r["outcome"] == "right" and not r["chosen"] for r in results),
        "not_in_the_key": counts["not in the key"],
        "wrapped": len(wrapped),
        "own_clip_is_agent": sum(bool(r["agent"]) for r in wrapped),
        "wrapped_and_accepted": sum(not r["errors"] for r in wrapped),
        "says_undefined": sum("undefined" in r["said"] for r in results),
        "left_out": dict(left_out),
        "page_errors": dict(Counter(problems)),
        "results": results,
    }


def markdown(report: dict[str, Any]) -> str:
    heads = ("workflow", "outcome", "prompt", "its text", "seed", "reference", "result", "own CLIP as agent")
    rows = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for r in report["results"]:
        if not r["chosen"]:
            rows.append(f"| {r['name']} | {r['outcome']} | refused: {r['said']} | | | | | |")
            continue
        also = f" and {', '.join(r['also'])}" if r["also"] else ""
        text = r.get("prompt_value", "").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")[:60]
        more = "".join(f" and {s}" for s in r["seeds"])
        cells = [r["name"], r["outcome"], r["prompt"] + also, text, r.get("seed", "none") + more]
        rows.append(
            "| " + " | ".join([*cells, r.get("image", "none: drawn from text"), r["output"], r["agent"]]) + " |"
        )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
