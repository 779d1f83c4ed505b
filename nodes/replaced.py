"""Replace an attribute of one object for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """While this lasts `owner.name` is `value`. Afterwards it is what it was: the class's own, or another pack's."""
    mine = vars(owner)
    before = (mine[name],) if name in mine else ()
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before:
            setattr(owner, name, before[0])
        else:
            delattr(owner, name)
