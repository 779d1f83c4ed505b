"""`dev.py test --comfyui PATH`: another ComfyUI in an environment of its own, and the table by version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

WORDS = "comfy/text_encoders/new_tokenizer/vocab.json"


def make_comfyui(folder: Path, version: str) -> Path:
    for name in ("models", "custom_nodes", "user", "comfy/text_encoders/new_tokenizer", "comfy/__pycache__", ".git"):
        (folder / name).mkdir(parents=True)
    (folder / "main.py").write_text("main = 1\n")
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    (folder / "requirements.txt").write_text(f"torch\ntorchsde\ncomfyui-frontend-package==1.{version}\n")
    (folder / "comfy" / "sd.py").write_text("sd = 1\n")
    (folder / "comfy" / "text_encoders" / "new_tokenizer" / "tokenizer_config.json").write_text("{}")
    for mine in ("models/big.safetensors", "custom_nodes/mine.py", "user/settings.json", "extra_model_paths.yaml"):
        (folder / mine).touch()
    return folder


def files(folder: Path) -> dict[str, tuple[int, int]]:
    found = ((p.relative_to(folder).as_posix(), p.stat()) for p in folder.rglob("*") if p.is_file())
    return {name: (state.st_size, state.st_mtime_ns) for name, state in found}


class World:
    """Two ComfyUIs; what takes long is noted instead of done. Environments are folders, or real ones without pip."""

    def __init__(self, dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dev, self.done = dev, []
        self.first = make_comfyui(dev.DEV / "ComfyUI", dev.COMFYUI)
        (self.first / WORDS).write_text("w" * dev.LARGE)
        self.other = make_comfyui(tmp_path / "theirs", "0.46.0")
        self.chromium, self.counts = True, True
        self.cases = '<testcase classname="tests.comfy.test_a" name="test_a"/>'
        self.real(dev.PYTHON.parents[1])
        monkeypatch.setattr(dev, "make_venv", lambda folder, python: self.real(folder))
        monkeypatch.setattr(dev, "pip", lambda *words, **options: self.note("pip", *words, options.get("python")))
        monkeypatch.setattr(dev, "run", lambda *words, **options: self.note("run", *words))
        monkeypatch.setattr(dev, "setup", lambda install, **options: self.note("setup", install.comfyui))
        monkeypatch.setattr(dev, "find_chromium", lambda: self.chromium)
        monkeypatch.setattr(dev, "tool", self.tool)

    @staticmethod
    def real(folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=os.name != "nt")

    def note(self, *words: object) -> None:
        self.done.append(" ".join(map(str, words)))

    def tool(self, *words: str, python: Path, env: dict[str, str]) -> bool:
        self.note("pytest", *words[1:], "on", env["INTERLEAVE_COMFYUI"], "by", python)
        self.env = env
        [file] = [Path(word.split("=", 1)[1]) for word in words if word.startswith("--junitxml=")]
        suite = "browser" if "tests/browser" in words else "comfy"
        if self.counts:
            cases = self.cases.replace("tests.comfy", f"tests.{suite}")
            file.write_text(f'<testsuites><testsuite tests="1" time="1">{cases}</testsuite></testsuites>')
        return self.counts and "<failure" not in self.cases

    def test(self, *words: str, path: Path | None = None) -> int:
        self.done.clear()
        return int(self.dev.main(["test", "--comfyui", str(path or self.other), *words]))

    @property
    def tested(self) -> list[dict[str, Any]]:
        return list(json.loads((self.dev.DEV / "tested.json").read_text()))


@pytest.fixture
def world(dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(dev, tmp_path, monkeypatch)


def starting(words: Sequence[str], start: str) -> list[str]:
    return [word for word in words if word.startswith(start)]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("", r"theirs is not a ComfyUI folder \(there is no such folder\)"),
        ("main.py", r"theirs is not a ComfyUI folder \(no main.py"),
        ("requirements.txt", r"theirs has no requirements.txt, which says what ComfyUI 0.46.0 needs"),
    ],
)
def test_what_cannot_be_tested_is_said_before_anything_is_made(world: World, missing: str, said: str) -> None:
    if missing:
        (world.other / missing).unlink()
    else:
        shutil.rmtree(world.other)
    with pytest.raises(world.dev.DevError, match=said):
        world.test()
    assert not world.done and not (world.dev.DEV / "other").exists()


def test_the_first_environment_stays_and_the_second_is_made_once(world: World) -> None:
    assert world.test() == 0
    assert world.done[0] == f"setup {world.first}", "with its own ComfyUI, not with the other's requirements"
    [installed] = starting(world.done, "pip")
    [home] = (world.dev.DEV / "other").iterdir()
    assert home.name.startswith("0.46.0-") and installed.endswith(str(home / "venv" / "bin" / "python"))
    assert (home / "requirements.txt").read_text() == "torchsde\ncomfyui-frontend-package==1.0.46.0\n"
    assert (home / "constraints.txt").read_text() == f"{world.dev.TORCH}\n"
    comfy, browser = starting(world.done, "pytest")
    assert "tests/comfy -n" in comfy and "tests/browser" in browser and f"by {home}" in browser
    assert world.env["INTERLEAVE_OWN_FRONTEND"] == "1"
    assert world.test() == 0
    assert not starting(world.done, "pip") + starting(world.done, "run")
    twin = make_comfyui(world.other.parent / "twin", "0.46.0")
    assert world.test(path=twin) == 0
    assert not starting(world.done, "pip") and len(starting(world.done, "run")) == 1  # the models' install
    (twin / "requirements.txt").write_text("new\n")
    assert world.test(path=twin) == 0
    assert len(starting(world.done, "pip")) == 1 and len(list((world.dev.DEV / "other").iterdir())) == 2


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_its_packages_come_before_those_of_the_first_environment(world: World) -> None:
    world.test()
    [home] = (world.dev.DEV / "other").iterdir()
    python = home / "venv" / "bin" / "python"
    first, other = (world.dev.packages_folder(p) for p in (world.dev.PYTHON, python))
    assert first != other
    for place, name in ((first, "shared"), (first, "pinned"), (other, "pinned")):
        (place / f"{name}.py").touch()
    asked = subprocess.check_output(
        [python, "-I", "-c", "import shared, pinned; print(shared.__file__, pinned.__file__)"]
    )
    assert asked.decode().split() == [str(first / "shared.py"), str(other / "pinned.py")]


def test_their_folder_stays_as_it_is_and_the_copy_follows_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(world.other)
    world.test()
    assert files(world.other) == before
    [copy] = (world.dev.DEV / "other").glob("*/ComfyUI-*")
    program = {name for name in before if not name.startswith(("models", "custom_nodes", "user", "extra"))}
    assert set(files(copy)) == program | {WORDS}
    assert f"{WORDS} is not in {world.other}: taken from ComfyUI {world.dev.COMFYUI}" in capsys.readouterr().out
    compiled = copy / "comfy" / "__pycache__" / "sd.cpython-399.pyc"
    compiled.parent.mkdir(exist_ok=True)
    compiled.touch()
    (copy / "models" / "tiny.safetensors").touch()
    (world.other / "comfy" / "sd.py").rename(world.other / "comfy" / "sd2.py")
    (world.other / "main.py").write_text("main = 22\n")
    world.test()
    assert not (copy / "comfy" / "sd.py").exists() and (copy / "comfy" / "sd2.py").exists()
    assert (copy / "main.py").read_text() == "main = 22\n"
    assert compiled.exists() and (copy / "models" / "tiny.safetensors").exists() and (copy / WORDS).exists()


def test_a_vocabulary_that_nobody_has_is_named(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.first / WORDS).unlink()
    bytes_only = world.other / "comfy" / "text_encoders" / "byt5_tokenizer"
    bytes_only.mkdir()
    (bytes_only / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    world.test()
    said = [line for line in capsys.readouterr().out.splitlines() if "no vocabulary" in line]
    assert said == [
        f"[test] comfy/text_encoders/new_tokenizer in {world.other} has no vocabulary: models that need it cannot load"
    ]
    assert world.tested[0]["notes"] == [said[0].removeprefix("[test] ")]


def test_words_go_to_pytest_and_a_path_replaces_the_folders(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.test("-k", "loop", "--slow")
    comfy, browser = starting(world.done, "pytest")
    assert "-k loop -m not fresh" in comfy and "-k loop -m not fresh" in browser
    world.test("tests/comfy/test_a.py", "-x")
    [only] = starting(world.done, "pytest")
    assert only.startswith("pytest tests/comfy/test_a.py -x") and "-n" not in only
    world.chromium = False
    world.test()
    assert len(starting(world.done, "pytest")) == 1
    assert "browser: skipped, no Chromium" in capsys.readouterr().out


def test_the_table_keeps_whole_runs_of_all_versions(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.cases += "".join(
        f'<testcase classname="tests.comfy.bodies.test_b" name="b{i}">{what}</testcase>'
        for i, what in enumerate(("", "<skipped/>", "<failure/>"))
    )
    assert world.test() == 1
    older = make_comfyui(world.other.parent / "older", "0.9.1")
    world.cases = '<testcase classname="tests.comfy.test_a" name="test_a"/>'
    assert world.test(path=older) == 0
    capsys.readouterr()
    assert world.test("-k", "some") == 0
    rows = [
        line.removeprefix("[test]   ") for line in capsys.readouterr().out.splitlines() if line.startswith("[test]   ")
    ]
    assert [row.split()[0] for row in rows] == ["ComfyUI", "0.9.1", "0.46.0", "0.46.0"]
    assert "2 passed, 1 failed, 1 skipped" in rows[2] and "only" not in rows[2] and rows[3].endswith("only -k some")
    assert world.test() == 0
    assert [(entry["comfyui"], entry["part"]) for entry in world.tested] == [("0.9.1", []), ("0.46.0", [])]
    entry = world.tested[1]
    assert entry["suites"] == {name: {"passed": 1, "failed": 0, "skipped": 0} for name in ("comfy", "browser")}
    assert entry["tree"] == str(world.other) and entry["when"] == time.strftime("%Y-%m-%d")
    assert entry["python"] == sys.version.split()[0] and entry["frontend"] is None  # nothing was really installed


def test_a_pytest_that_died_is_no_result(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.counts = False
    assert world.test() == 1
    assert "ended before it could count" in capsys.readouterr().err and not (world.dev.DEV / "tested.json").exists()


def test_a_whole_run_on_the_own_comfyui_stands_in_the_table_too(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("comfy", "browser", "unit"):
        (world.dev.ROOT / "tests" / name).mkdir(parents=True)
        (world.dev.ROOT / "tests" / name / "test_a.py").touch()
    monkeypatch.setattr(world.dev, "lint", lambda: True)
    assert world.dev.main(["test"]) == 0
    assert "INTERLEAVE_OWN_FRONTEND" not in world.env  # the second editor too
    [entry] = world.tested
    assert entry["comfyui"] == world.dev.COMFYUI and entry["suites"]["comfy"]["passed"] == 1
    assert capsys.readouterr().out.splitlines()[-1] == "===== 2 passed in 2.00s ====="
