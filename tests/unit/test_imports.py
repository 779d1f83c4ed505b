"""The direction of imports (design, section 2), read from the source: nothing is imported to find out."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "interleave_thinker"
MODULES = sorted(CORE.rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))

COMFYUI = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths", "nodes", "server"}
HEAVY = {"torch", "transformers", "diffusers", "openai", "trl", "ray"}
ALSO_HEAVY = {"accelerate", "peft", "datasets", "torchvision"}
MAY_BE_HEAVY = {
    f"tinyworld/{n}.py"
    for n in ("pipeline", "train_generator", "sft", "agents", "attempts", "convert", "average", "loop_attempts")
} | {"train/on_cpu.py"}
"""Modules that are about these libraries; they are imported only when a command, or a training on a CPU, needs them."""
SIBLINGS = ("data", "train", "bench")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run when the module is imported: not function bodies, not `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_import_time(child)


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Top-level names of absolute imports."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    return names


def relative(path: Path) -> set[str]:
    """Modules of the package that `path` imports, as paths below it without an ending: "tinyworld/scene"."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].relative_to(CORE).parts
            parts = (*base, *(node.module or "").split("."))
            found.add("/".join(p for p in parts if p))
            if not node.module:
                found |= {"/".join([*base, alias.name]) for alias in node.names}
    return found


def name(path: Path) -> str:
    return path.relative_to(CORE).as_posix()


def test_there_is_something_to_scan() -> None:
    assert len(MODULES) > 30 and "import torch" in (CORE / "tinyworld" / "attempts.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_the_core_never_imports_comfyui(path: Path) -> None:
    """It runs without it: on the command line, in training, in tests."""
    assert not imported(ast.walk(tree(path))) & COMFYUI


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_own_modules_are_imported_relatively(path: Path) -> None:
    """ComfyUI loads the pack by path under another name; an absolute import would load it twice or not at all."""
    own = {p.stem for p in CORE.iterdir()} - {"__init__", "generators", "agents"} | {"interleave_thinker"}
    strangers = imported(ast.walk(tree(path))) - set(sys.stdlib_module_names)
    assert not strangers & own


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_heavy_libraries_are_imported_lazily(path: Path) -> None:
    if name(path) not in MAY_BE_HEAVY:
        assert not imported(at_import_time(tree(path))) & (HEAVY | ALSO_HEAVY)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_that_is_imported_early_drags_a_heavy_one_along(path: Path) -> None:
    if name(path) in MAY_BE_HEAVY:
        return
    drawn_in = set()
    for node in at_import_time(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].relative_to(CORE).parts
            drawn_in.add("/".join([*base, *(node.module or "").split(".")]).strip("/") + ".py")
            drawn_in |= {
                "/".join([*base, node.module or "", a.name]).replace("//", "/").strip("/") + ".py" for a in node.names
            }
    assert not drawn_in & MAY_BE_HEAVY


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_the_core_does_not_know_its_siblings_nor_they_each_other(path: Path) -> None:
    """cli -> ablate -> train; cli -> data | train | bench -> core."""
    mine = name(path).split("/")[0]
    assert name(path) == "cli.py" or mine == "ablate" or not any(m.startswith("ablate") for m in relative(path))
    if mine == "ablate":
        mine = "train"
    used = {other.split("/")[0] for other in relative(path)} & set(SIBLINGS)
    allowed = set(SIBLINGS) if name(path) == "cli.py" else {mine} if mine in SIBLINGS else set()
    assert used <= allowed


LAYERS = [
    ("errors", set()),
    ("loose_json", set()),
    ("replies", {"loose_json"}),
    ("plan", {"errors", "replies"}),
    ("judgments", {"loose_json", "replies", "trajectory"}),
    ("plain_list", {"errors", "plan"}),
    ("plan_text", {"errors", "judgments", "loose_json", "plain_list", "plan", "replies"}),
    ("trajectory", {"errors", "plan"}),
    ("loop", {"errors", "plan", "trajectory"}),
    ("store", {"errors", "png", "trajectory"}),
    ("runs", {"errors", "store", "trajectory"}),
    ("syncing", {"errors"}),
    ("behind", set()),
    ("document", {"errors", "trajectory"}),
    ("session", {"behind", "document", "errors", "loop", "runs", "store", "syncing", "trajectory"}),
    ("agents/base", set()),
    ("generators/base", set()),
]


@pytest.mark.parametrize(("module", "below"), LAYERS, ids=[c[0] for c in LAYERS])
def test_the_core_is_layered(module: str, below: set[str]) -> None:
    """The loop is pure: it knows no agent, picture or file; the session knows no way to make them."""
    assert relative(CORE / f"{module}.py") <= below


@pytest.mark.parametrize("path", MODULES + NODES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_shipped_runs_code_or_commands_or_reads_the_environment(path: Path) -> None:
    """The registry's security review asks for this, and keys must come from the user's file only."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in {"environ", "getenv", "system", "popen", "putenv"}
    assert not imported(ast.walk(tree(path))) & {"subprocess", "pickle", "ctypes"}


def test_the_command_line_starts_without_any_heavy_library() -> None:
    code = f"import sys, interleave_thinker.cli; print(*sorted({HEAVY | ALSO_HEAVY | COMFYUI!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
