"""Make the blueprint "Interleave (simple)" (../subgraphs) from flux2_klein_story: the whole loop as one node.

    python workflows/make_blueprint.py --url http://127.0.0.1:8188

Needs Playwright, a Chromium on the PATH, and a running ComfyUI with this pack: the editor itself makes the subgraph.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from pages import PAGES
from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
SOURCE = HERE / PAGES["flux2_klein_story"].file
NAME = "Interleave (simple)"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
DESCRIPTION = "A request, and pictures if you like, become a story of texts and pictures: planned, drawn and judged."

BUILD = """(name) => {
  const root = window.app.graph;
  const kind = (type) => root.nodes.find((n) => n.type === 'InterleaveThinker' + type);
  const stay = new Set(root.nodes.filter((n) => n.type === 'InterleaveThinkerSaveDocument' || n.type.includes('Note')));
  for (const group of [...root._groups]) root.remove(group);
  const { subgraph, node } = root.convertToSubgraph(new Set(root.nodes.filter((n) => !stay.has(n))));
  for (const other of stay) root.remove(other);
  subgraph.name = name;
  node.title = name;
  for (const input of [...subgraph.inputs]) subgraph.removeInput(input); // the editor exposes every seed by itself
  const inner = (type) => subgraph.nodes.find((n) => n.type === 'InterleaveThinker' + type);
  const slot = (n, what) => n.inputs.find((i) => i.name === what || i.widget?.name === what);
  const expose = (label, type, ...places) => {
    const input = subgraph.addInput(label, type);
    for (const [n, what] of places) input.connect(slot(n, what), n);
  };
  const planner = inner('Planner'), open = inner('LoopOpen'), close = inner('LoopClose');
  expose('request', 'STRING', [planner, 'request']);
  expose('image', 'IMAGE', [planner, 'images.image_0'], [open, 'images.image_0']);
  expose('t_max', 'INT', [close, 't_max']);
  expose('seed', 'INT', [open, 'seed']);
  node.pos = [0, 0];
  node.setSize?.([420, 320]);
  return root.serialize();
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.goto(options.url)
        page.wait_for_function("() => window.app?.graph && window.app?.extensionManager", timeout=120_000)
        page.wait_for_timeout(2000)
        page.evaluate("graph => window.app.loadGraphData(graph)", json.loads(SOURCE.read_text(encoding="utf-8")))
        page.wait_for_timeout(1500)
        graph = page.evaluate(BUILD, NAME)
    (definition,) = graph["definitions"]["subgraphs"]
    definition |= {"category": "InterleaveThinker", "description": DESCRIPTION}
    graph["extra"] = {}
    target = HERE.parent / "subgraphs" / f"{NAME}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(graph, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    inputs = ", ".join(i["name"] for i in definition["inputs"])
    print(f"{target.name}: {len(definition['nodes'])} nodes; inputs: {inputs}")


if __name__ == "__main__":
    main()
