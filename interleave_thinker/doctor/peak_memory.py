"""The most memory that was in use since the last look: the graphics card's, or else the process's."""

from __future__ import annotations

import sys
from typing import Any


def graphics_card() -> Any:
    """PyTorch's device of this machine's card; None where there is none, or no PyTorch."""
    try:
        import torch
    except ImportError:
        return None
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None


def reset_peak(device: Any) -> None:
    """Begin to look. device: PyTorch's, None for none. What a process took before cannot be forgotten on a CPU."""
    if getattr(device, "type", "") == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def read_peak(device: Any) -> dict[str, Any] | None:
    """{"bytes", "of"}: of "card" since `reset_peak`, of "process" since it began; None where that is not known."""
    if getattr(device, "type", "") == "cuda":
        import torch

        most, now = torch.cuda.max_memory_reserved(device), torch.cuda.memory_reserved(device)
        free, total = torch.cuda.mem_get_info(device)
        return {"bytes": card_peak(most, now, free, total), "of": "card"}
    taken = _process_peak()
    return {"bytes": taken, "of": "process"} if taken else None


def card_peak(most_reserved: int, reserved: int, free: int, total: int) -> int:
    """Bytes of a card that were in use at most: PyTorch's own peak, and what else is on the card now.

    most_reserved, reserved: by PyTorch of this process, at most and now. free, total: of the card, now.
    """
    others = max(0, total - free - reserved)
    return min(most_reserved + others, total)


def _process_peak() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return _process_peak_on_windows()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _process_peak_on_windows() -> int:
    try:
        import psutil
    except ImportError:
        return 0
    return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))
