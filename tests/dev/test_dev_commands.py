"""What dev.py runs: server, demo and tests; and the files beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
posix_only = pytest.mark.skipif(os.name == "nt", reason="uses bash")


# ---- server and demo


def test_a_free_port_can_be_bound_on_loopback(dev: ModuleType) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", dev.free_port()))


@pytest.mark.parametrize(
    ("accelerator", "extra", "expected"), [(False, [], 1), (True, [], 0), (False, ["--cpu"], 1), (True, ["--cpu"], 1)]
)
def test_the_server_listens_on_loopback_and_gets_cpu_where_there_is_no_accelerator(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, accelerator: bool, extra: list[str], expected: int
) -> None:
    monkeypatch.setattr(dev.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=int(not accelerator)))
    command = dev.server_command(dev.Install(), 8200, extra)
    assert command[1:6] == ["main.py", "--listen", "127.0.0.1", "--port", "8200"]
    assert command.count("--cpu") == expected


SERVER = """
import http.server, pathlib, sys
HISTORY = b'{"p": {"outputs": {"31": {}, "32": {"interleave_document": [{"run": "tale ~2"}]}}}}'
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(HISTORY if self.path == "/history" else self.path.encode())
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""

COMMAND_LINE = """
import sys, urllib.request
def main():
    server = sys.argv[sys.argv.index("--server") + 1]
    print("asked", urllib.request.build_opener(urllib.request.ProxyHandler({})).open(server + "/x").read().decode())
    print("words", sys.argv[0], sys.argv[1], sys.argv[sys.argv.index("--request") + 1])
    print("address", server)
    print("graph", open(sys.argv[sys.argv.index("--graph") + 1]).read())
    return EXIT
"""


@pytest.fixture
def stage(dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A ComfyUI and a command line of a few lines each, run for real."""

    def build(main: str = SERVER, exit_code: int = 0) -> Any:
        package = dev.ROOT / "interleave_thinker"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "cli.py").write_text(COMMAND_LINE.replace("EXIT", str(exit_code)))
        dev.DEV.mkdir()
        dev.EDITOR_STORY.parent.mkdir()
        dev.EDITOR_STORY.write_text(json.dumps({"nodes": [{"widgets_values": [dev.REQUEST, 12]}]}))
        start = lambda place, port, extra=(): [sys.executable, "main.py", str(port)]  # noqa: E731
        monkeypatch.setattr(dev, "server_command", start)
        comfyui = tmp_path / "ComfyUI"
        comfyui.mkdir()
        (comfyui / "main.py").write_text(main)
        return dev.Install(comfyui, Path(sys.executable))

    return build


@pytest.mark.parametrize("exit_code", [0, 3])
def test_the_demo_runs_against_its_server_stops_it_and_returns_the_runs_exit_code(
    dev: ModuleType, stage: Callable[..., Any], capfd: pytest.CaptureFixture[str], exit_code: int
) -> None:
    place = stage(exit_code=exit_code)
    assert dev.demo(place, "a red disc", keep_open=False) == exit_code
    out = capfd.readouterr().out
    assert "asked /x" in out and "words interleave-thinker run a red disc" in out
    assert ("FAILED" in out) is bool(exit_code)
    port = int(out.split("address http://127.0.0.1:")[1].split()[0])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the server still runs"


def test_the_demos_workflow_for_the_editor_has_the_request_that_was_made(
    dev: ModuleType, stage: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Or the editor would show one story and run another."""
    dev.demo(stage(), 'a "red" disc\n', keep_open=False)
    graph = json.loads(capfd.readouterr().out.split("graph ")[1].splitlines()[0])
    assert graph == {"nodes": [{"widgets_values": ['a "red" disc\n', 12]}]}
    shipped = (REPOSITORY / "workflows" / dev.EDITOR_STORY.name).read_text(encoding="utf-8")
    assert shipped.count(json.dumps(dev.REQUEST)) == 1


def test_demo_open_ends_in_the_editor_with_the_story(
    dev: ModuleType, stage: Callable[..., Any], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(dev.webbrowser, "open", opened.append)
    wait = time.sleep

    def sleep(seconds: float) -> None:
        if seconds > 60:
            raise KeyboardInterrupt  # as a person who has seen enough
        wait(seconds)

    monkeypatch.setattr(dev.time, "sleep", sleep)
    assert dev.demo(stage(), "a red disc", keep_open=True) == 0
    [address] = opened
    out = capfd.readouterr().out
    assert address in out and address.startswith(out.split("address ")[1].split()[0] + "/?")
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(address).query)
    assert asked == {"interleave_run": ["tale ~2"]}


def test_a_server_that_dies_is_reported_with_the_end_of_its_log(dev: ModuleType, stage: Callable[..., Any]) -> None:
    place = stage(main="print('x' * 9)\nraise SystemExit('no such checkpoint')")
    with pytest.raises(dev.DevError, match=r"exit code 1(.|\n)*no such checkpoint"):
        dev.demo(place, "r", keep_open=False)


def test_a_server_that_never_answers_is_given_up(dev: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("still loading")
    sleeper = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    try:
        with pytest.raises(dev.DevError, match=r"exit code None(.|\n)*still loading"):
            dev.wait_until_ready(sleeper, f"http://127.0.0.1:{dev.free_port()}", log, limit=0.2)
    finally:
        sleeper.kill()
        sleeper.wait()


# ---- the test command


@pytest.fixture
def stages(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Lint and pytest as switches; what pytest was given is kept."""
    state = SimpleNamespace(lint=True, pytest=True, runs=[], chromium=False, counts=True)

    def tool(*words: str, **options: Any) -> bool:
        state.runs.append(list(words[1:]))
        for word in words:
            if word.startswith("--junitxml=") and state.counts:
                Path(word.split("=", 1)[1]).write_text('<testsuites><testsuite tests="1" time="1"/></testsuites>')
        return bool(state.pytest)

    monkeypatch.setattr(dev, "lint", lambda: state.lint)
    monkeypatch.setattr(dev, "tool", tool)
    monkeypatch.setattr(dev, "has_chromium", lambda: state.chromium)
    monkeypatch.setattr(dev, "apt_install", lambda package: False)
    for name in ("unit", "comfy", "browser", "dev"):
        (dev.ROOT / "tests" / name).mkdir(parents=True)
    for name in ("unit", "browser", "dev"):
        (dev.ROOT / "tests" / name / "test_it.py").touch()
    return state


def chosen(words: Sequence[str]) -> list[str]:
    return [word for word in words if word.startswith("tests")]


def test_folders_without_tests_are_left_out_and_a_missing_browser_is_said(
    dev: ModuleType, stages: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a browser, the second editor that we support is fetched for it; without, nothing is."""
    fetched: list[tuple[Any, ...]] = []
    monkeypatch.setattr(dev, "pip", lambda *words: fetched.append(words))
    assert dev.test(dev.Install(), []) == 0
    [alone] = stages.runs
    assert chosen(alone) == ["tests/dev", "tests/unit"] and "-n" in alone and not fetched
    assert "browser: skipped, no Chromium" in capsys.readouterr().out
    stages.chromium = True
    assert dev.test(dev.Install(), ["-x"]) == 0
    rest, browser = stages.runs[1:]
    assert chosen(rest) == ["tests/dev", "tests/unit"] and "-x" in rest
    assert chosen(browser) == ["tests/browser"] and "-x" in browser and "-n" not in browser
    assert [words[-1] for words in fetched] == [dev.NEWER_FRONTEND]


def test_a_part_that_died_is_not_outshone_by_the_other(
    dev: ModuleType, stages: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "pip", lambda *words: None)
    stages.chromium = True
    tool = dev.tool

    def first_fails(*words: str, **options: Any) -> bool:
        return bool(tool(*words, **options)) and "tests/browser" in words

    monkeypatch.setattr(dev, "tool", first_fails)
    assert dev.test(dev.Install(), []) == 1
    monkeypatch.setattr(dev, "tool", tool)
    stages.counts = False
    assert dev.test(dev.Install(), []) == 1
    assert "FAILED: pytest" in capsys.readouterr().err


def test_paths_of_the_caller_replace_the_folders(dev: ModuleType, stages: SimpleNamespace) -> None:
    dev.test(dev.Install(), ["tests/unit/test_it.py::test_x", "-q"])
    assert stages.runs == [["tests/unit/test_it.py::test_x", "-q"]]


@pytest.mark.parametrize(("lint", "pytest_", "code"), [(True, True, 0), (False, True, 1), (True, False, 1)])
def test_any_failed_stage_fails_the_whole(
    dev: ModuleType,
    stages: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    lint: bool,
    pytest_: bool,
    code: int,
) -> None:
    stages.lint, stages.pytest = lint, pytest_
    assert dev.test(dev.Install(), []) == code
    assert ("FAILED: lint" in capsys.readouterr().err) is not lint


@pytest.mark.skipif(not shutil.which("node"), reason="no Node.js")
@pytest.mark.parametrize(("body", "result"), [("", "ok"), ("throw new Error('x')", "FAILED")])
def test_javascript_tests_run_and_count(dev: ModuleType, body: str, result: str) -> None:
    assert dev.test_javascript() == "no tests"
    folder = dev.ROOT / "tests" / "js"
    folder.mkdir(parents=True)
    (folder / "plan.test.mjs").write_text(f"import test from 'node:test'; test('t', () => {{ {body} }});")
    assert dev.test_javascript() == result


@pytest.fixture
def linter(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Node.js, npm and its registry as switches; what was installed and run is kept."""
    state = SimpleNamespace(tools={"node", "npm"}, reachable=True, code=0, installed=[], runs=[])

    def install(*words: Any, **options: Any) -> None:
        state.installed.append([str(word) for word in words])

    def run(words: Sequence[str], **options: Any) -> SimpleNamespace:
        state.runs.append([Path(words[0]).name, *words[1:]])
        return SimpleNamespace(returncode=state.code, stdout="https://registry.example/\n", stderr="")

    monkeypatch.setattr(dev.shutil, "which", lambda name: name if name in state.tools else None)
    monkeypatch.setattr(dev, "reachable", lambda url: state.reachable and url == "https://registry.example/eslint")
    monkeypatch.setattr(dev, "run", install)
    monkeypatch.setattr(dev.subprocess, "run", run)
    return state


@pytest.mark.parametrize(("code", "clean"), [(0, True), (1, False)])
def test_eslint_is_installed_once_and_its_findings_fail_the_lint(
    dev: ModuleType, linter: SimpleNamespace, code: int, clean: bool
) -> None:
    linter.code = code
    assert [dev.lint_javascript(), dev.lint_javascript()] == [clean, clean]
    [install] = linter.installed
    assert all(re.fullmatch(r"[@/a-z]+@\d+\.\d+\.\d+", package) for package in dev.ESLINT), "exact versions"
    assert install[:4] == ["npm", "install", "--prefix", str(dev.DEV / "eslint")] and set(dev.ESLINT) <= set(install)
    checked = [words for words in linter.runs if words[0] == "node"]
    assert len(checked) == 2 and {"js", "tests/js"} <= set(checked[0])


@pytest.mark.parametrize(
    ("tools", "reachable", "reason"),
    [
        (set(), True, "no Node.js on the PATH"),
        ({"node"}, True, "no npm on the PATH"),
        ({"node", "npm"}, False, "npm's registry cannot be reached"),
    ],
)
def test_where_eslint_cannot_be_had_the_lint_says_so_and_passes(
    dev: ModuleType,
    linter: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    tools: set[str],
    reachable: bool,
    reason: str,
) -> None:
    linter.tools, linter.reachable = tools, reachable
    assert dev.lint_javascript()
    assert f"JavaScript was not linted: {reason}." in capsys.readouterr().out
    assert linter.installed == []
    linter.tools, linter.reachable = {"node", "npm"}, True
    assert dev.lint_javascript() and len(linter.installed) == 1, "the next time it is there"


def test_javascript_counts_in_the_lint(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "tool", lambda *words: True)
    monkeypatch.setattr(dev, "check_imports", lambda: True)
    for clean in (True, False):
        monkeypatch.setattr(dev, "lint_javascript", lambda clean=clean: clean)
        assert dev.lint() is clean


def test_pytest_with_nothing_to_run_is_no_failure_but_ruff_with_that_code_is(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev.subprocess, "run", lambda *words, **options: SimpleNamespace(returncode=5))
    assert dev.tool("pytest") and not dev.tool("ruff", "check")


# ---- the files beside dev.py


@posix_only
def test_ci_runs_dev_py_test_from_the_root_of_the_repository(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\necho "$PWD|$*"\nexit 7\n')
    python.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([REPOSITORY / ".ci" / "run"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (f"{REPOSITORY}|dev.py test", 7), done.stderr


def test_pyproject_has_what_setup_and_the_registry_read(dev: ModuleType) -> None:
    tomllib = pytest.importorskip("tomllib")
    data = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    project, comfy = data["project"], data["tool"]["comfy"]
    assert set(dev.EXTRAS.split(",")) <= set(project["optional-dependencies"])
    assert project["requires-python"] == ">=3.10" and "comfyui" not in project["name"].lower()
    (frontend,) = [d for d in project["dependencies"] if d.startswith("comfyui-frontend-package")]
    assert re.fullmatch(r"comfyui-frontend-package>=\d+\.\d+\.\d+", frontend), "the registry drops any other form"
    assert not any(d.startswith(("torch", "transformers", "diffusers")) for d in project["dependencies"])
    assert project["license"] == {"file": "LICENSE"} and "Repository" in project["urls"]
    assert comfy["PublisherId"] and comfy["requires-comfyui"] == ">=0.30.0" and "web" not in comfy


def test_the_archive_for_the_registry_leaves_out_what_starts_processes() -> None:
    ignored = (REPOSITORY / ".comfyignore").read_text().splitlines()
    assert {"/dev.py", "/eslint.config.mjs", "/tests/", "/.ci/", "/.dev/"} <= set(ignored)


@pytest.mark.fresh
def test_a_fresh_clone_sets_itself_up_and_the_second_time_takes_seconds(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", REPOSITORY, clone], check=True)
    subprocess.run([sys.executable, "dev.py", "setup"], cwd=clone, check=True)
    assert (clone / ".dev" / "ComfyUI" / "custom_nodes" / "interleave-thinker").resolve() == clone
    start = time.monotonic()
    subprocess.run([sys.executable, "dev.py", "setup"], cwd=clone, check=True)
    assert time.monotonic() - start < 5


def test_the_closing_line_counts_all_parts(dev: ModuleType, tmp_path: Path) -> None:
    """Who reads the last line only must not take one part for all, nor miss a failure of the first."""
    suite = '<testsuites><testsuite tests="{}" failures="{}" errors="0" skipped="{}" time="{}"/></testsuites>'
    parts = [tmp_path / "0.xml", tmp_path / "1.xml"]
    parts[0].write_text(suite.format(10, 2, 1, 61.5), encoding="utf-8")
    parts[1].write_text(suite.format(5, 0, 0, 2.25), encoding="utf-8")
    assert dev.counted(parts) == "===== 2 failed, 12 passed, 1 skipped in 63.75s ====="
    assert dev.counted(parts[1:]) == "===== 5 passed in 2.25s ====="
