"""Keep what is computed from a picture, by its pixels: a retry shows the critic the same picture before it again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

from PIL import Image

T = TypeVar("T")


def picture_key(image: Image.Image) -> str:
    """Of its size and pixels, as they look: pixels of a palette are numbers of colors."""
    if image.mode == "P":
        image = image.convert("RGBA")
    digest = hashlib.blake2b(f"{image.mode}{image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.hexdigest()


class KeptPictures(Generic[T]):
    """The newest stay, up to `most_bytes`. Threads may share one."""

    def __init__(self, most_bytes: int, size_of: Callable[[T], int]):
        self._most, self._size_of = most_bytes, size_of
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Hashable, value: T) -> None:
        with self._lock:
            if key in self._kept or self._size_of(value) > self._most:
                return
            self._kept[key] = value
            self._bytes += self._size_of(value)
            while self._bytes > self._most:
                self._bytes -= self._size_of(self._kept.popitem(last=False)[1])

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        known = self.get(key)
        if known is None:
            known = make()
            self.keep(key, known)
        return known


def bytes_of(value: Any) -> int:
    """Of the tensors in it."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return sum(map(bytes_of, parts))


_REPLACED = threading.RLock()


class KeptPatches:
    """What an image processor of Qwen-VL's kind makes of each picture: rows of patches, and how they lie."""

    def __init__(self, most_bytes: int):
        self._kept: KeptPictures[dict[str, Any]] = KeptPictures(most_bytes, bytes_of)

    @contextmanager
    def used_by(self, processor: Any) -> Iterator[None]:
        """While this lasts a processor makes no patches that are known. One thread at a time: agents may share it."""
        with _REPLACED:
            own = processor.image_processor
            processor.image_processor = _Remembering(own, self._kept)
            try:
                yield
            finally:
                processor.image_processor = own


_PARTS = {"pixel_values", "image_grid_thw"}


class _Remembering:
    def __init__(self, own: Any, kept: KeptPictures[dict[str, Any]]):
        self._own, self._kept = own, kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def __call__(self, images: Any = None, **options: Any) -> Any:
        import torch
        from transformers import BatchFeature

        pictures = _flat(images)
        if not pictures or not all(isinstance(picture, Image.Image) for picture in pictures):
            return self._own(images, **options)
        asked = repr(sorted(options.items(), key=lambda option: option[0]))
        made = [self._kept.of((picture_key(p), asked), partial(self._made, p, options)) for p in pictures]
        if any(set(of) != _PARTS or not all(map(torch.is_tensor, of.values())) for of in made):
            return self._own(images, **options)
        return BatchFeature({name: torch.cat([of[name] for of in made]) for name in _PARTS})

    def _made(self, picture: Image.Image, options: dict[str, Any]) -> dict[str, Any]:
        return dict(self._own([picture], **options))


def _flat(images: Any) -> list[Any]:
    if isinstance(images, (list, tuple)):
        return [picture for part in images for picture in _flat(part)]
    return [] if images is None else [images]
