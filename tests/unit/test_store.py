"""The attempt store: content-addressed, bounded, and never the reason that a run fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from interleave_thinker.errors import RunError
from interleave_thinker.store import AttemptStore, encode_png, hash_of, image_key, open_rgb, write_atomically
from interleave_thinker.trajectory import Judgment


def picture(number: int, mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (8, 6), (number, 2 * number % 256, 7)).convert(mode)


def age(store: AttemptStore, key: str, seconds: float, kind: str = "images", end: str = "png") -> None:
    os.utime(store.root / kind / f"{key}.{end}", (seconds, seconds))


@pytest.fixture
def store(tmp_path: Path) -> AttemptStore:
    return AttemptStore(tmp_path / "store")


def test_pictures_come_back_bit_for_bit(store: AttemptStore) -> None:
    key = store.put_image(picture(3))
    found = store.get_image(key)
    assert found is not None and found.tobytes() == picture(3).tobytes() and key == image_key(picture(3))


def test_drawing_on_a_picture_does_not_change_the_stored_one(store: AttemptStore) -> None:
    """Neither on the one that was put in nor on one that came out: recent pictures are kept in memory."""
    mine = picture(3)
    key = store.put_image(mine)
    mine.paste((0, 0, 0), (0, 0, 8, 6))
    for _ in range(2):
        found = store.get_image(key)
        assert found is not None and image_key(found) == key
        found.paste((9, 9, 9), (0, 0, 8, 6))
    again = AttemptStore(store.root)
    for _ in range(2):
        found = again.get_image(key)
        assert found is not None and image_key(found) == key
        found.paste((9, 9, 9), (0, 0, 8, 6))


def test_a_picture_in_memory_that_is_gone_from_the_disk_is_gone(store: AttemptStore) -> None:
    key = store.put_image(picture(3))
    (store.root / "images" / f"{key}.png").unlink()
    assert store.get_image(key) is None


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK"])
def test_other_modes_are_kept_as_rgb_under_the_key_of_that(store: AttemptStore, mode: str) -> None:
    key = store.put_image(picture(3, mode))
    found = store.get_image(key)
    assert found is not None and found.mode == "RGB" and image_key(found) == key


def test_keys_tell_sizes_and_requests_apart() -> None:
    assert image_key(Image.new("RGB", (2, 3))) != image_key(Image.new("RGB", (3, 2)))
    assert hash_of("a", 1) == hash_of("a", 1) != hash_of("a", "1")
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})
    assert hash_of("\ud800") != hash_of("\ud801"), "broken text from a model still has a key"


def test_a_new_process_finds_attempts_judgments_and_comparisons(store: AttemptStore) -> None:
    key = store.put_image(picture(1))
    judgment = Judgment(False, "a\u2028b", "\ud800 lone", True, "raw")
    store.put_attempt("aa", key, 1.5)
    store.put_judgment("bb", judgment, 0.5)
    store.put_comparison("cc", 2)
    again = AttemptStore(store.root)
    assert again.get_attempt("aa") == (key, 1.5)
    assert again.get_judgment("bb") == (judgment, 0.5)
    assert again.get_comparison("cc") == 2
    assert (again.get_attempt("ff"), again.get_judgment("ff"), again.get_comparison("ff")) == (None, None, None)


def test_an_unreadable_judgment_is_not_kept(store: AttemptStore) -> None:
    store.put_judgment("aa", Judgment(False, parsed=False, raw="?"), 1.0)
    assert store.get_judgment("aa") is None


# --- bounded ---------------------------------------------------------------------------------------------


def test_the_pictures_used_longest_ago_go_first(store: AttemptStore) -> None:
    keys = [store.put_image(picture(i)) for i in range(5)]
    for number, key in enumerate(keys):
        age(store, key, 1000.0 + number)
    assert store.get_image(keys[0]) is not None, "looking at it makes it the newest"
    size = sum(f.stat().st_size for f in (store.root / "images").iterdir())
    bounded = AttemptStore(store.root, size - 1)
    new = bounded.put_image(picture(9))
    kept = {f.stem for f in (store.root / "images").iterdir()}
    assert kept == {keys[0], keys[3], keys[4], new}, "two had to go for one"


def test_the_limit_holds_however_much_is_put_in(tmp_path: Path) -> None:
    limit = 4 * len(encode_png(picture(1)))
    store = AttemptStore(tmp_path, limit)
    for number in range(30):
        store.put_image(picture(number))
        assert sum(f.stat().st_size for f in (tmp_path / "images").iterdir()) <= limit


def test_records_older_than_a_dropped_picture_go_with_it(store: AttemptStore) -> None:
    """They would pile up for ever otherwise: a picture is bounded, its record would not be."""
    old, new = store.put_image(picture(1)), store.put_image(picture(2))
    for number, (record, key) in enumerate((("aa", old), ("bb", new))):
        store.put_attempt(record, key, 1.0)
        store.put_judgment(record, Judgment(True), 1.0)
        age(store, key, 1000.0 + 10 * number)
        for kind in ("attempts", "judgments"):
            age(store, record, 999.0 + 10 * number, kind, "json")
    size = sum(f.stat().st_size for f in (store.root / "images").iterdir())
    AttemptStore(store.root, size + 9).put_image(picture(3))
    assert [f.stem for kind in ("attempts", "judgments") for f in (store.root / kind).iterdir()] == ["bb", "bb"]


def test_an_attempt_whose_picture_was_dropped_is_a_miss(store: AttemptStore) -> None:
    key = store.put_image(picture(1))
    store.put_attempt("aa", key, 1.0)
    (store.root / "images" / f"{key}.png").unlink()
    assert store.get_attempt("aa") is None


# --- damage ------------------------------------------------------------------------------------------------

SOUND = encode_png(picture(5))
DAMAGE = [
    ("emptied by a power cut", b""),
    ("zeros", b"\0" * len(SOUND)),
    ("not a picture", b"hello"),
    ("only the signature", SOUND[:8]),
    ("cut off", SOUND[:-15]),
    ("a flipped bit", SOUND[:50] + bytes([SOUND[50] ^ 8]) + SOUND[51:]),
    ("a claimed size of terapixels", SOUND[:16] + b"\x7f\xff\xff\xff" * 2 + SOUND[24:]),
]


@pytest.mark.parametrize(("why", "data"), DAMAGE, ids=[c[0] for c in DAMAGE])
def test_a_damaged_picture_is_a_miss_and_is_replaced(store: AttemptStore, why: str, data: bytes) -> None:
    key = store.put_image(picture(5))
    store.put_attempt("aa", key, 1.0)
    path = store.root / "images" / f"{key}.png"
    path.write_bytes(data)
    assert store.get_attempt("aa") is None, "it would fail later, in the middle of the run"
    assert store.get_image(key) is None
    path.write_bytes(data)
    assert store.put_image(picture(5)) == key
    found = store.get_image(key)
    assert found is not None and found.tobytes() == picture(5).tobytes()


RECORDS = [
    b"",
    b"{",
    b"[]",
    b"3",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b"{}",
    b'{"image_key": null, "judgment": null, "best": null, "seconds": null}',
    b'{"image_key": "../../x", "judgment": {"accepted": true, "mood": 1}, "best": "2", "seconds": 1}',
    b'{"image_key": ["a"], "judgment": [], "best": [], "seconds": []}',
]


@pytest.mark.parametrize("data", RECORDS)
def test_a_damaged_record_is_a_miss(store: AttemptStore, data: bytes) -> None:
    for kind in ("attempts", "judgments", "comparisons"):
        (store.root / kind).mkdir(parents=True)
        (store.root / kind / "aa.json").write_bytes(data)
    assert (store.get_attempt("aa"), store.get_judgment("aa"), store.get_comparison("aa")) == (None, None, None)


@pytest.mark.parametrize("key", ["", "../x", "/etc/passwd", "ABC", "x.y", "a\x00"])
def test_what_is_no_key_never_becomes_a_path(store: AttemptStore, key: str) -> None:
    for call in (store.get_image, store.get_attempt, store.get_judgment):
        with pytest.raises(RunError, match="not a store key"):
            call(key)


def test_open_rgb_says_one_kind_of_error_whatever_is_wrong(tmp_path: Path) -> None:
    for _, data in DAMAGE[:4] + DAMAGE[-1:]:
        (tmp_path / "x.png").write_bytes(data)
        with pytest.raises(OSError):
            open_rgb(tmp_path / "x.png")


# --- disks ---------------------------------------------------------------------------------------------------


def test_a_store_where_no_folder_can_be_is_an_error_that_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(RunError, match=str(tmp_path / "store")):
        AttemptStore(tmp_path / "store").put_image(picture(1))


@pytest.mark.parametrize("call", ["replace", "fdopen", "chmod"])
def test_a_full_disk_leaves_the_old_file_whole_and_no_half_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "x.json"
    write_atomically(path, b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(RunError, match=r"x\.json.*No space left.*kept"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_an_interrupt_while_writing_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x", b"new")
    assert list(tmp_path.iterdir()) == []
