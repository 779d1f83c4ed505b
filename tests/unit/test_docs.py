"""What the docs say of the code is there: files, and the names in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
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


def test_the_paper_map_names_what_the_code_has() -> None:
    for name, symbols in named(ROOT / "docs" / "paper-map.md"):
        path = place_of(name)
        for symbol in re.findall(r"\b([A-Za-z_]\w+)", re.sub(r"\(.*?\)", "", symbols)) if path else ():
            found = rf"(?m)^\s*(?:def|class) {symbol}\b|^{symbol}\b"
            assert re.search(found, path.read_text(encoding="utf-8")), f"{name} has no {symbol}"


def test_there_is_something_to_check() -> None:
    assert len(named(ROOT / "docs" / "paper-map.md")) > 15
