"""The attempt store: content-addressed, bounded, and never the reason that a run fails."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from interleave_thinker import files as files_module
from interleave_thinker.errors import RunError
from interleave_thinker.files import hash_of, write_atomically
from interleave_thinker.loop.trajectory import RAW_LIMIT, Judgment
from interleave_thinker.storage import attempt_store as store_module
from interleave_thinker.storage import images as images_module
from interleave_thinker.storage.attempt_store import AttemptStore
from interleave_thinker.storage.images import image_key, is_image_of, open_rgb, read_image
from interleave_thinker.storage.png import encode_png
from interleave_thinker.storage.sealed import sealed, unsealed


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


def test_an_output_beside_a_picture_has_run_or_not_also_for_a_new_process(store: AttemptStore) -> None:
    store.put_side_output("ab")
    again = AttemptStore(store.root)
    assert (again.has_side_output("ab"), again.has_side_output("ba")) == (True, False)


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


# --- other pixels under a key ----------------------------------------------------------------------------------


def file_of(store: AttemptStore, key: str) -> Path:
    return store.root / "images" / f"{key}.png"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each picture file that was decoded."""
    calls: list[int] = []
    real = images_module.decode_png

    def counted(file: Any) -> Image.Image:
        calls.append(1)
        return real(file)

    monkeypatch.setattr(images_module, "decode_png", counted)
    return calls


def swapped() -> dict[str, bytes]:
    one = picture(5)
    one.putpixel((3, 3), (1, 2, 3))
    alpha = io.BytesIO()
    picture(5, "RGBA").save(alpha, "PNG")
    return {
        "another picture": encode_png(picture(6)),
        "one other pixel": encode_png(one),
        "another size": encode_png(Image.new("RGB", (9, 6))),
        "the same pixels with alpha": alpha.getvalue(),
    }


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("why", swapped())
def test_a_picture_with_other_pixels_is_a_miss_and_is_replaced(store: AttemptStore, why: str, restarted: bool) -> None:
    key = store.put_image(picture(5))
    store.put_attempt("aa", key, 1.0)
    assert store.get_attempt("aa") is not None
    file_of(store, key).write_bytes(swapped()[why])
    store = AttemptStore(store.root) if restarted else store
    assert store.get_image(key) is None and store.get_attempt("aa") is None
    assert not file_of(store, key).exists(), "it would be looked at for ever"
    store.put_image(picture(5))
    found = store.get_image(key)
    assert found is not None and image_key(found) == key


def test_an_edit_that_hides_its_time_is_seen(store: AttemptStore) -> None:
    """Editors that keep a file's time, and syncing tools, write the same size at the same time."""
    key = store.put_image(picture(5))
    path = file_of(store, key)
    assert store.get_image(key) is not None
    before = path.stat()
    data = encode_png(picture(6))
    assert len(data) == before.st_size
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.get_image(key) is None


def test_an_edit_right_after_our_own_touch_is_seen(store: AttemptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    key = store.put_image(picture(5))
    real = store_module.set_time_of_use

    def edited(path: Path) -> int:
        used = real(path)
        path.write_bytes(encode_png(picture(6)))
        return used

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "set_time_of_use", edited)
        store.image_file(key)
    assert store.get_image(key) is None


def test_a_file_is_decoded_once_until_it_changes(store: AttemptStore, decoded: list[int]) -> None:
    key = store.put_image(picture(5))
    for _ in range(3):
        assert store.image_file(key) is not None and store.get_image(key) is not None
    assert decoded == [], "it was written a moment ago"
    path = file_of(store, key)
    path.write_bytes(path.read_bytes())
    for _ in range(3):
        assert AttemptStore(store.root).image_file(key) is not None
    assert store.get_image(key) is not None
    assert decoded == [1], "once for all stores of the process, however often it is touched"


def test_few_files_are_remembered(store: AttemptStore, monkeypatch: pytest.MonkeyPatch, decoded: list[int]) -> None:
    monkeypatch.setattr(images_module, "REMEMBERED", 3)
    keys = [store.put_image(picture(i)) for i in range(6)]
    assert len(images_module._verified._states) == 3
    for key in keys:
        assert is_image_of(file_of(store, key), key)
    assert len(decoded) >= 3


def test_a_large_picture_of_ours_is_read(store: AttemptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    key = store.put_image(picture(5))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = file_of(store, key)
    path.write_bytes(path.read_bytes())
    again = AttemptStore(store.root).get_image(key)
    assert again is not None and again.tobytes() == picture(5).tobytes()
    with pytest.raises(OSError):
        open_rgb(path)


def test_keys_of_large_pictures_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.frombytes("RGB", (7, 50), random.Random(3).randbytes(1050))
    whole = image_key(image)
    for size in (1, 21, 100, 1049, 1050):
        monkeypatch.setattr(images_module, "_HASHED_AT_ONCE", size)
        assert image_key(image) == whole
    assert image_key(Image.new("RGB", (2, 3), (1, 2, 3))) == "fdfde977577060bca4469d15", "users have such stores"


def test_a_file_that_cannot_be_opened_is_not_deleted(store: AttemptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may have too many files open; the picture is as good as before."""
    key = store.put_image(picture(5))
    path = file_of(store, key)
    path.write_bytes(path.read_bytes())

    def too_many(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", too_many)
        assert store.image_file(key) is None
    assert store.image_file(key) is not None


def test_a_flipped_bit_never_shows_another_picture(store: AttemptStore) -> None:
    image = Image.frombytes("RGB", (12, 9), random.Random(4).randbytes(324))
    key = image_key(image)
    path = file_of(store, store.put_image(image))
    sound = path.read_bytes()
    for damaged in flips(sound, 2500):
        path.write_bytes(damaged)
        found = read_image(path, key)
        assert found is None or found.tobytes() == image.tobytes()
    assert store.get_image(key) is None


def test_the_picture_just_written_is_kept_however_small_the_limit(tmp_path: Path) -> None:
    store = AttemptStore(tmp_path, 1)
    for number in range(4):
        key = store.put_image(picture(number))
        assert [f.stem for f in (tmp_path / "images").iterdir()] == [key]
        assert store.image_file(key) is not None


# --- records -----------------------------------------------------------------------------------------------------


def flips(data: bytes, most: int) -> Iterator[bytes]:
    """Copies of `data` with one bit flipped: all, or a sample."""
    places = list(range(8 * len(data)))
    for place in random.Random(5).sample(places, min(most, len(places))):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        yield bytes(flipped)


KEPT = {
    "attempts": ("get_attempt", ("ab" * 12, 1.5)),
    "judgments": ("get_judgment", (Judgment(False, "make it 7 discs", "it has 6", True, "<think>…</think>"), 0.5)),
    "comparisons": ("get_comparison", 2),
}


@pytest.mark.parametrize("kind", KEPT)
def test_a_flipped_bit_in_a_record_is_a_miss_or_nothing(
    store: AttemptStore, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AttemptStore, "image_file", lambda *_: Path())
    store.put_attempt("aa", *KEPT["attempts"][1])  # type: ignore[misc]
    store.put_judgment("aa", *KEPT["judgments"][1])  # type: ignore[misc]
    store.put_comparison("aa", 2)
    call, kept = KEPT[kind]
    path = store.root / kind / "aa.json"
    sound = path.read_bytes()
    assert getattr(store, call)("aa") == kept
    for damaged in flips(sound, 4000):
        path.write_bytes(damaged)
        assert getattr(store, call)("aa") in (None, kept), damaged


@pytest.mark.parametrize("kind", KEPT)
def test_a_record_under_another_name_is_a_miss(store: AttemptStore, kind: str) -> None:
    key = store.put_image(picture(1))
    store.put_attempt("aa", key, 1.0)
    store.put_judgment("aa", Judgment(True), 1.0)
    store.put_comparison("aa", 1)
    folder = store.root / kind
    (folder / "aa.json").rename(folder / "bb.json")
    assert getattr(store, KEPT[kind][0])("bb") is None
    (folder / "bb.json").rename(folder / "aa.json")
    assert getattr(store, KEPT[kind][0])("aa") is not None


def test_records_of_older_versions_are_read(store: AttemptStore) -> None:
    key = store.put_image(picture(1))
    old = {
        "attempts": {"image_key": key, "seconds": 1.5},
        "judgments": {"judgment": Judgment(True).to_dict(), "seconds": 0.5},
        "comparisons": {"best": 2},
    }
    for kind, record in old.items():
        write_atomically(store.root / kind / "aa.json", json.dumps(record).encode())
    assert store.get_attempt("aa") == (key, 1.5)
    assert store.get_judgment("aa") == (Judgment(True), 0.5)
    assert store.get_comparison("aa") == 2


def test_a_long_reply_is_cut_in_the_file(store: AttemptStore) -> None:
    store.put_judgment("aa", Judgment(True, raw="x" * 10**6), 1.0)
    found = store.get_judgment("aa")
    assert found is not None and len(found[0].raw) == RAW_LIMIT and "1000000 characters" in found[0].raw


def test_a_digest_is_of_everything_in_any_order() -> None:
    record = sealed({"b": [1.5, "\ud800é"], "a": None})
    again = json.loads(json.dumps(dict(reversed(record.items()))))
    assert unsealed(again) == {"a": None, "b": [1.5, "\ud800é"]}
    assert unsealed({**again, "a": 0}) is None and unsealed({**again, "c": 0}) is None and unsealed([1]) is None


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


CAUSES = {
    errno.ENOSPC: "disk is full: free some space",
    errno.EACCES: "read-only for this user: choose a writable folder",
    errno.EROFS: "read-only",
    errno.ENAMETOOLONG: "name is too long",
    errno.ENOENT: "folder is missing: somebody removed it",
    errno.ENOTDIR: "A file lies where a folder is needed",
    errno.EIO: "Input/output error.*a fault: check it",
}


@pytest.mark.parametrize("number", CAUSES)
def test_an_error_names_its_real_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fails(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(RunError, match=CAUSES[number]) as error:
        write_atomically(tmp_path / "x", b"new")
    assert ("free some space" in str(error.value)) is (number == errno.ENOSPC)


def test_a_folder_that_is_deleted_while_it_is_written_to_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real, left = tmp_path / "run", os.replace, [1]

    def deleted(source: str, target: Path) -> None:
        if left:
            left.pop()
            Path(source).unlink()
            folder.rmdir()
        real(source, target)

    monkeypatch.setattr(os, "replace", deleted)
    write_atomically(folder / "x", b"new")
    assert (folder / "x").read_bytes() == b"new"


def test_a_planted_link_is_not_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"theirs")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".writing-planted").symlink_to(outside)
    (tmp_path / "run" / "x").symlink_to(outside)
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: iter(["planted", "free"]))
    write_atomically(tmp_path / "run" / "x", b"new")
    assert outside.read_bytes() == b"theirs" and (tmp_path / "run" / "x").read_bytes() == b"new"


def test_old_half_written_files_go_and_nothing_else(tmp_path: Path) -> None:
    store = AttemptStore(tmp_path)
    key = store.put_image(picture(1))
    folder, hours = tmp_path / "images", time.time() - 7200
    for name in (".writing-old", ".writing-new", ".other", "x.tmp"):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, None if name.endswith("new") else (hours, hours))
    (tmp_path / "theirs").write_bytes(b"")
    (folder / ".writing-link").symlink_to(tmp_path / "theirs")
    (folder / ".writing-folder").mkdir()
    os.utime(folder / ".writing-folder", (hours, hours))
    os.utime(folder / f"{key}.png", (hours, hours))
    AttemptStore(tmp_path)
    left = {f.name for f in folder.iterdir()}
    assert left == {f"{key}.png", ".writing-new", ".other", "x.tmp", ".writing-link", ".writing-folder"}


def test_few_names_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "LOOKED_AT", 5)
    (tmp_path / "images").mkdir()
    for number in range(20):
        (tmp_path / "images" / f".writing-{number}").write_bytes(b"")
        os.utime(tmp_path / "images" / f".writing-{number}", (1, 1))
    AttemptStore(tmp_path)
    assert len(list((tmp_path / "images").iterdir())) == 15
