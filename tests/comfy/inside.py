"""Scripts of the tests that run in ComfyUI's folder, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from comfy_server import COMFYUI, REPO


def run_inside(script: str, *arguments: str, comfyui: Path = COMFYUI, seconds: int = 300) -> dict[str, Any]:
    """A script beside this file, given the repository and `arguments`; its RESULT line."""
    command = [sys.executable, str(Path(__file__).with_name(script)), str(REPO), *arguments]
    done = subprocess.run(
        command,
        cwd=comfyui,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout[-2000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads(lines[-1][7:])
    return found
