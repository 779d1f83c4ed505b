"""Records with a digest that says that they are as they were written."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """A record with a digest of what it holds."""
    return {**record, "digest": _digest(record)}


def unsealed(record: Any) -> dict[str, Any] | None:
    """A record without its digest; None if it is damaged. Records of older versions have no digest."""
    if not isinstance(record, dict):
        return None
    rest = {name: value for name, value in record.items() if name != "digest"}
    return rest if "digest" not in record or record["digest"] == _digest(rest) else None


def _digest(record: dict[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
