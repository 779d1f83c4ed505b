"""Keep the vision features of the last pictures: a retry shows the model the same picture before it again."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...interleave_thinker.agents.kept_pictures import KeptPictures, bytes_of
from ..replaced import replaced

MOST_BYTES = 512 * 2**20
"""Of what is kept of pictures. One of a megapixel takes 67 MB for an 8B."""
KEY = "interleave_key"
"""Under which an entry of a picture tells its content."""


class SeenPictures:
    """Features by picture, in RAM, of one agent. The newest stay."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._kept: KeptPictures[Any] = KeptPictures(most_bytes, bytes_of)

    @contextmanager
    def remembered(self, transformer: Any, patches: Hashable) -> Iterator[None]:
        """While this lasts the model looks at no picture that it knows. patches: of its weights, by ComfyUI's mark."""
        own = transformer.preprocess_embed

        def seen(embed: Any, device: Any) -> Any:
            key = (patches, embed.get(KEY)) if isinstance(embed, dict) and embed.get(KEY) else None
            if key is None:
                return own(embed, device=device)
            known = self._kept.get(key)
            if known is not None:
                return _on(known, device)
            found = own(embed, device=device)
            self._kept.keep(key, _on(found, torch.device("cpu")))
            return found

        with replaced(transformer, "preprocess_embed", seen):
            yield


def _on(value: Any, device: Any) -> Any:
    """Copies, so that whoever is given one may change it."""
    if torch.is_tensor(value):
        return value.detach().to(device, copy=True)
    if isinstance(value, dict):
        return {name: _on(part, device) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on(part, device) for part in value)
    return value
