"""Refuse a ComfyUI that is too old with a sentence instead of a traceback about a missing name."""

from __future__ import annotations

OLDEST = (0, 26, 0)
"""The first ComfyUI with everything the pack uses: the V3 node API and native Qwen3-VL."""


def require_comfyui(version: str | None) -> None:
    """`version`: None where ComfyUI does not tell it; the pack takes its chance then.

    Raises:
        ImportError: `version` is older than `OLDEST`; ComfyUI shows the message when it lists custom nodes.
    """
    if version is None:
        return
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdigit())
    if numbers < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise ImportError(f"InterleaveThinker needs ComfyUI {needed} or newer; this is {version}. Update ComfyUI.")
