"""Compare what the command line chooses in published workflows (API format) with a key that people wrote.

    python benchmarks/wrap_published.py FOLDER [--key published_later] [--json F] [--markdown F]

FOLDER holds the files as NUMBER.json; those that are not there are fetched from the addresses of the key
(benchmarks/wrap_keys/published.json, or published_later.json: a second set, from other repositories).
Of each: found without a question, found once a person has answered (what `--output`, `--prompt` and `--image` are
for), refused, or wrong; and whether unwrapping gives the file back.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from wrap_key import KEYS, Chosen, best, load_keys, what_is_wrong

from interleave_thinker.comfyui.client import WorkflowError
from interleave_thinker.comfyui.find_inputs import Candidates, candidates, find_inputs
from interleave_thinker.comfyui.workflow import load_workflow
from interleave_thinker.comfyui.wrap import unwrap, wrap


def address(entry: dict[str, Any]) -> str:
    """The file on GitHub."""
    place, _, commit = str(entry["from"]).rpartition("@")
    owner, name, path = place.split("/", 2)
    return f"https://raw.githubusercontent.com/{owner}/{name}/{commit}/{urllib.parse.quote(path)}"


def fetch(folder: Path, key: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, entry in key.items():
        file = folder / f"{name}.json"
        if not file.exists():
            try:
                with urllib.request.urlopen(address(entry), timeout=30) as reply:
                    file.write_bytes(reply.read())
            except (urllib.error.URLError, OSError) as error:
                print(f"{name}: {address(entry)}: {error}", file=sys.stderr)


def try_one(file: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """outcome: right, asked, refused or wrong. silently: nobody would have been asked before it went wrong."""
    try:
        workflow = load_workflow(file)
        found = candidates(workflow)
        questions = 0
        if len(found.outputs) > 1:
            questions += 1
            output = best(list(found.outputs), lambda node: node in entry.get("output", ()))
            found = candidates(workflow, output=output)
        if not found.outputs or not found.prompts:
            raise WorkflowError("no result or no prompt was found")
        group, image, asked = answers(found, entry)
    except WorkflowError as error:
        return {"outcome": "right" if "refuse" in entry else "refused", "why": str(error)[:200]}
    prompt = frozenset(".".join(place) for place in group)
    chosen = Chosen(found.outputs[0], prompt, image, frozenset(".".join(place) for place in found.seeds))
    wrong = what_is_wrong(entry, chosen)
    result = {"chosen": {**vars(chosen), "prompt": sorted(prompt), "seeds": sorted(chosen.seeds)}, "why": wrong}
    result["outcome"] = "wrong" if wrong else "asked" if asked or questions else "right"
    result["silently"] = bool(wrong) and not asked and not questions
    places = find_inputs(workflow, output=chosen.output, prompt=".".join(group[0]), image=image or "none")
    result["unwrapped"] = unwrap(wrap(workflow, places)) == workflow
    return result


def answers(found: Candidates, entry: dict[str, Any]) -> tuple[tuple[Any, ...], str | None, bool]:
    """The prompt and the reference as the key would answer, and whether a person is asked."""
    wanted = [frozenset(alternative) for alternative in entry.get("prompt", [])]
    group = best(list(found.prompts), lambda group: frozenset(".".join(place) for place in group) in wanted)
    unsure = any(not image.known for image in found.images)
    images = [image.node for image in found.images]
    options: list[str | None] = [*images, None] if unsure or len(images) > 1 else images or [None]
    image = best(options, lambda node: node in entry.get("image", ()))
    return group, image, len(found.prompts) > 1 or len(options) > 1


def markdown(key: dict[str, Any], results: dict[str, dict[str, Any]]) -> str:
    rows = ["| workflow | outcome | result | prompt | reference | seeds |", "|---|---|---|---|---|---|"]
    for name, result in results.items():
        place, _, commit = key[name]["from"].rpartition("@")
        owner, repository, path = place.split("/", 2)
        link = f"[{owner}/{repository}/{path}](https://github.com/{owner}/{repository}/blob/{commit}/{urllib.parse.quote(path)})"
        chosen = result.get("chosen")
        outcome = result["outcome"] + (f": {result['why']}" if result["why"] else "")
        cells = ["", "", "", ""]
        if chosen:
            cells = [
                chosen["output"],
                ", ".join(chosen["prompt"]),
                chosen["image"] or "none",
                ", ".join(chosen["seeds"]),
            ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in (link, outcome, *cells)) + " |")
    return "\n".join(rows) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--key", default="published", choices=("published", "published_later"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="write a table of the choices")
    options = parser.parse_args()
    (key,) = load_keys(KEYS / f"{options.key}.json")
    fetch(options.folder, key)
    files = {name: file for name in key if (file := options.folder / f"{name}.json").exists()}
    results = {name: try_one(file, key[name]) for name, file in files.items()}
    counts = {
        what: sum(r["outcome"] == what for r in results.values()) for what in ("right", "asked", "refused", "wrong")
    }
    report = {
        "of": len(results),
        **counts,
        "silently_wrong": sum(r.get("silently", False) for r in results.values()),
        "unwrapped": sum(r.get("unwrapped", False) for r in results.values()),
        "wrapped": sum("chosen" in r for r in results.values()),
    }
    for name, result in results.items():
        if result["outcome"] in ("wrong", "refused"):
            print(f"{name}: {result['outcome']}: {result['why']}")
    print(json.dumps(report, indent=2))
    if options.json:
        text = json.dumps(report | {"results": results}, indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(markdown(key, results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
