"""What the docs say of the code is there: files, and the names in them."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

from interleave_thinker.cli.command_line import build_parser
from interleave_thinker.comfyui.agent_clip import chat_model

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]
BASES = (ROOT, ROOT / "interleave_thinker", ROOT / "nodes")
NAMED = re.compile(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|mjs|js|sh|yaml|json|md))(?:: ([\w., ()=|]+))?`")


def named(page: Path) -> list[tuple[str, str]]:
    text = page.read_text(encoding="utf-8")
    return [(m[1], m[2] or "") for m in NAMED.finditer(text) if "/" in m[1]]


def place_of(name: str) -> Path | None:
    return next((base / name for base in BASES if (base / name).is_file()), None)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_the_docs_name_are_there(page: Path) -> None:
    ours = ("nodes/", "js/", "tests/", "benchmarks/", "recipes/", "docs/", "workflows/", "interleave_thinker/")
    packages = tuple(f"{p.name}/" for p in (ROOT / "interleave_thinker").iterdir() if p.is_dir())
    missing = [name for name, _ in named(page) if name.startswith((*ours, *packages)) and place_of(name) is None]
    assert not missing, "renamed or deleted: say where it is now"


LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    heads = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?s)^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Files, and headings in them."""
    lost = []
    for name, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / name if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            lost.append(f"{name}#{anchor}")
    assert not lost


def test_the_paper_map_names_what_the_code_has() -> None:
    for name, symbols in named(ROOT / "docs" / "paper-map.md"):
        path = place_of(name)
        for symbol in re.findall(r"\b([A-Za-z_]\w+)", re.sub(r"\(.*?\)", "", symbols)) if path else ():
            found = rf"(?m)^\s*(?:def|class) {symbol}\b|^{symbol}\b"
            assert re.search(found, path.read_text(encoding="utf-8")), f"{name} has no {symbol}"


def test_there_is_something_to_check() -> None:
    assert len(named(ROOT / "docs" / "paper-map.md")) > 15


VERSIONS = ROOT / "docs" / "comfyui_versions.md"


def test_each_coupling_names_tests_that_are_there() -> None:
    tests = [(path, name) for path, names in named(VERSIONS) for name in re.findall(r"\btest_\w+", names)]
    assert len(tests) >= 8
    for path, name in tests:
        assert re.search(rf"(?m)^(?:async )?def {name}\b", (ROOT / path).read_text(encoding="utf-8")), f"{path}: {name}"


def test_each_internal_has_a_row() -> None:
    """What the log can say is missing, and each file of the internals."""
    internals = ROOT / "nodes" / "comfy_internals"
    text = VERSIONS.read_text(encoding="utf-8")
    tree = ast.parse((internals / "missing.py").read_text(encoding="utf-8"))
    [names] = [
        ast.literal_eval(entry.value)
        for entry in tree.body
        if isinstance(entry, ast.Assign) and "_WITHOUT" in ast.unparse(entry.targets[0])
    ]
    assert len(names) > 10 and not [name for name in names if f"| `{name}` |" not in text]
    assert not [file.name for file in internals.glob("[!_]*.py") if f"`nodes/comfy_internals/{file.name}`" not in text]


def test_the_oldest_comfyui_is_the_one_that_dev_py_and_ci_run() -> None:
    """And there is no newest one."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [asked] = re.findall(r'(?m)^requires-comfyui = "(.*)"$', project)
    [run] = re.findall(r'(?m)^COMFYUI = "(.*)"$', (ROOT / "dev.py").read_text(encoding="utf-8"))
    assert asked == f">={run}"
    oldest = ".".join(run.split(".")[:2])
    assert f"ComfyUI {oldest} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"| {run} |" in VERSIONS.read_text(encoding="utf-8")


HELP = ROOT / "js" / "docs"
MODELS = re.compile(r"Qwen\d(?:\.\d)?(?:-VL)?|Gemma(?: \d)?|FLUX\.\d|MiniMax")


def words_of_help(page: Path) -> dict[str, set[str]]:
    """What does not depend on the language: models, inputs, and what stands in backticks."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    inputs = set(re.findall(r"(?m)^- \*\*(\w+)\*\*", text))
    return {"models": set(MODELS.findall(text)), "inputs": inputs, "literals": set(re.findall(r"`([^`]+)`", text))}


@pytest.mark.parametrize("page", sorted(HELP.glob("*.md")), ids=lambda p: p.stem)
def test_a_nodes_help_says_the_same_in_both_languages(page: Path) -> None:
    assert words_of_help(page) == words_of_help(page.with_suffix("") / "zh.md")


def test_messages_that_the_readme_quotes_can_be_found() -> None:
    """A person looks for the words on the screen: a quote holds no part that changes."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## When something is wrong")[2]
    quotes = re.findall(r'\*"([^"]+)"\*', section.partition("\n## ")[0])
    folders = (ROOT / "nodes", ROOT / "interleave_thinker")
    code = "".join(p.read_text(encoding="utf-8") for folder in folders for p in folder.rglob("*.py"))
    assert len(quotes) >= 2 and not [quote for quote in quotes if quote not in code]


def test_image_models_whose_clip_can_be_the_agent_are_listed_once() -> None:
    """And each that a template of the list of templates has."""
    files = re.findall(
        r"(?m)\| [\d:]+ ([\w.-]+\.safetensors) \|$", (ROOT / "docs/wrap_templates.md").read_text("utf-8")
    )
    rows = {" ".join(chat_model(file) or ()).lower() for file in files}
    memory = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8").lower()
    assert len(rows) >= 3 and all(f"| {row} |" in memory for row in rows)
    for page in (ROOT / "docs" / "editor.md", *HELP.rglob("*.md")):
        assert not re.search(r"Boogu|Ideogram|Krea|MOSS-Image", page.read_text(encoding="utf-8")), page


def test_settings_are_explained_alike_in_the_page_and_in_its_english() -> None:
    page = (ROOT / "js" / "defaults.js").read_text(encoding="utf-8")
    texts = json.loads((ROOT / "locales" / "en" / "settings.json").read_text(encoding="utf-8"))
    assert texts and not [text for told in texts.values() for text in told.values() if f'"{text}"' not in page]


def commands(page: Path) -> list[str]:
    """Whole commands in blocks of code; a line with | or [ is a synopsis."""
    text = re.sub(r"\\\n\s*", "", page.read_text(encoding="utf-8"))
    lines = re.findall(r"(?m)^ *(?:\w+=\S+ )*interleave-thinker (.*)$", text)
    return [line.split(" #")[0].strip() for line in lines if not re.search(r"[|\[]", line.split(" #")[0])]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_printed_command_is_one(page: Path) -> None:
    """Names of commands and options, and values of a choice; FILE and MODEL stand for anything."""
    for line in commands(page):
        try:
            build_parser().parse_args(shlex.split(line))
        except SystemExit:
            pytest.fail(f"no such command: interleave-thinker {line}")


def test_there_are_commands_to_check() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 40
