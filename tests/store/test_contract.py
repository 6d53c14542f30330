"""What every store promises: one suite for the folder and for both S3 servers."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from opt_store import (
    BadKey,
    Corrupt,
    NotFound,
    ObjectInfo,
    PreconditionFailed,
    Store,
    commit,
    digest_of,
    open_store,
    stage,
    sweep,
)

pytestmark = pytest.mark.integration

LARGE = os.urandom(12 * (1 << 20) + 7)
"""Three parts of the settings under test, the last one short."""


def test_what_is_put_is_read(store: Store):
    info = store.put("runs/a/model.bin", b"weights")
    assert (info.key, info.size, info.digest) == ("runs/a/model.bin", 7, digest_of(b"weights"))
    assert store.get("runs/a/model.bin") == b"weights"
    assert store.get("runs/a/model.bin", expect=digest_of(b"weights")) == b"weights"
    assert store.load("runs/a/model.bin") == store.load("runs/a/model.bin", digest_of(b"weights")) == b"weights"
    assert store.stat("runs/a/model.bin") == info
    assert store.exists("runs/a/model.bin")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_put(store: Store, kind: type):
    store.put("a", kind(b"content"))
    assert store.get("a") == b"content"


def test_an_empty_object_is_an_object(store: Store, tmp_path: Path):
    assert store.put("empty", b"").size == 0
    assert store.get("empty") == store.load("empty") == b""
    assert store.read_range("empty", 0, 0) == b""
    store.upload("empty-too", [])
    assert store.download("empty-too", tmp_path / "f").size == 0
    assert (tmp_path / "f").read_bytes() == b""


def test_a_put_replaces(store: Store):
    first = store.put("a", b"one")
    second = store.put("a", b"two!")
    assert first.etag != second.etag
    assert store.get("a") == b"two!"
    assert store.stat("a") == second


def test_keys_with_odd_characters(store: Store):
    keys = ["sp ace/é ü", "per%25cent+plus", "amp&q=1", "~=@,;:!$'()", "日本語"]
    for key in keys:
        store.put(key, key.encode())
    assert {info.key for info in store.list()} == set(keys)
    assert [store.get(key) for key in keys] == [key.encode() for key in keys]


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/./b", "a\nb", "a\\b", "x" * 241, ".opt-store/x"])
def test_a_key_that_cannot_be_kept_everywhere_is_refused(store: Store, key: str):
    for call in (store.get, store.stat, store.delete, lambda k: store.put(k, b"")):
        with pytest.raises(BadKey):
            call(key)


def test_what_is_missing_is_not_found(store: Store, tmp_path: Path):
    for call in (
        store.get,
        store.stat,
        lambda key: store.read_range(key, 0, 1),
        lambda key: store.read_range(key, 0, 0),
        lambda key: store.download(key, tmp_path / "f"),
    ):
        with pytest.raises(NotFound, match="none/such"):
            call("none/such")
    assert not store.exists("none/such")
    assert not list(tmp_path.glob("f*"))


def test_a_folder_of_objects_is_no_object(store: Store):
    store.put("a/b", b"x")
    assert not store.exists("a")
    with pytest.raises(NotFound):
        store.get("a")


def test_delete_is_final_and_may_be_repeated(store: Store):
    store.put("a/b/c", b"x")
    store.delete("a/b/c")
    store.delete("a/b/c")
    assert not store.exists("a/b/c")
    assert list(store.list()) == []


def test_what_a_store_inside_another_keeps_of_its_own_is_not_listed(tmp_path: Path):
    (tmp_path / "inner").mkdir()
    open_store((tmp_path / "inner").as_uri()).put("a", b"x")
    assert [info.key for info in open_store(tmp_path.as_uri()).list()] == ["inner/a"]


def test_listing_is_in_the_order_of_bytes_and_by_plain_prefix(store: Store):
    keys = ["b", "a/2", "a/10", "a.txt", "a-x", "aa", "ä", "a/sub/deep"]
    for key in keys:
        store.put(key, b"12")
    listed = list(store.list())
    assert [info.key for info in listed] == sorted(keys, key=str.encode)
    assert {info.size for info in listed} == {2}
    assert [info.key for info in store.list("a/")] == ["a/10", "a/2", "a/sub/deep"]
    assert [info.key for info in store.list("a/1")] == ["a/10"]
    assert [info.key for info in store.list("a")] == [info.key for info in listed if info.key.startswith("a")]
    assert list(store.list("zz/")) == []
    etags = {info.key: info.etag for info in listed}
    assert all(store.stat(key).etag == etags[key] for key in keys)


def test_a_listing_longer_than_a_page(store: Store):
    keys = [f"many/{number:05d}" for number in range(1100)]
    for key in keys:
        store.put(key, b"")
    assert [info.key for info in store.list("many/")] == keys


def test_put_if_absent(store: Store):
    store.put("lease", b"one", if_absent=True)
    with pytest.raises(PreconditionFailed, match="lease"):
        store.put("lease", b"two", if_absent=True)
    assert store.get("lease") == b"one"


def test_put_if_match(store: Store):
    first = store.put("state", b"one")
    second = store.put("state", b"two", if_match=first.etag)
    with pytest.raises(PreconditionFailed, match="state"):
        store.put("state", b"three", if_match=first.etag)
    store.put("state", b"four", if_match=second.etag)
    assert store.get("state") == b"four"
    with pytest.raises(PreconditionFailed, match="none"):
        store.put("none", b"x", if_match=first.etag)


def test_of_many_rivals_one_creates(store: Store):
    outcomes: list[ObjectInfo | Exception] = []

    def rival(number: int) -> None:
        try:
            outcomes.append(store.put("lock", b"%d" % number, if_absent=True))
        except PreconditionFailed as fault:
            outcomes.append(fault)

    threads = [threading.Thread(target=rival, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if isinstance(outcome, ObjectInfo)]
    assert len(winners) == 1
    assert store.stat("lock") == winners[0]


def test_ranges(store: Store):
    store.put("a", b"0123456789")
    assert store.read_range("a", 0, 10) == b"0123456789"
    assert store.read_range("a", 3, 4, expect=digest_of(b"3456")) == b"3456"
    assert store.read_range("a", 10, 0) == b""
    for offset, length in [(0, 11), (9, 2), (10, 1), (20, 1), (11, 0), (-1, 1), (0, -1)]:
        with pytest.raises(ValueError):
            store.read_range("a", offset, length)
    with pytest.raises(Corrupt):
        store.read_range("a", 3, 4, expect=digest_of(b"other"))


def test_a_large_range_comes_in_parts(store: Store):
    store.upload("large", [LARGE])
    buffer = bytearray(len(LARGE) - 2)
    store.read_into("large", 1, buffer, digest_of(LARGE[1:-1]))
    assert buffer == LARGE[1:-1]


def test_an_object_is_loaded_into_the_callers_memory(store: Store):
    """The memory may be larger than the object, and is used again for another."""
    store.upload("large", [LARGE])
    store.put("small", b"small")
    memory, asked = bytearray(len(LARGE) + 100), list[int]()

    def room(size: int) -> bytearray:
        asked.append(size)
        return memory

    with store.load("large", room=room) as view:
        assert view == LARGE
        assert view.obj is memory
    with store.load("small", digest_of(b"small"), room) as view:
        assert view == b"small"
    assert asked == [len(LARGE), 5]


def test_a_large_object_goes_in_and_out(store: Store, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    cut = 5 * (1 << 20) + 3
    info = store.upload("large", [LARGE[:cut], memoryview(LARGE)[cut:]], progress=lambda *now: seen.append(now))
    assert (info.size, info.digest) == (len(LARGE), digest_of(LARGE))
    assert seen[-1] == (len(LARGE), len(LARGE))
    assert store.stat("large") == info
    assert store.get("large") == LARGE
    seen.clear()
    assert store.download("large", tmp_path / "f", progress=lambda *now: seen.append(now)) == info
    assert (tmp_path / "f").read_bytes() == LARGE
    assert seen[-1] == (len(LARGE), len(LARGE))
    assert [path.name for path in tmp_path.glob("f*")] == ["f"]


def test_a_file_is_uploaded(store: Store, tmp_path: Path):
    (tmp_path / "source").write_bytes(LARGE)
    info = store.upload("large", tmp_path / "source", expect=digest_of(LARGE))
    assert info.digest == digest_of(LARGE)
    assert store.get("large") == LARGE


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_a_source_with_another_digest_is_not_written(store: Store, content: bytes):
    with pytest.raises(Corrupt, match="source"):
        store.upload("a", [content], expect=digest_of(b"other"))
    assert list(store.list()) == []


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_upload_if_absent(store: Store, content: bytes):
    store.upload("a", [content], if_absent=True)
    with pytest.raises(PreconditionFailed):
        store.upload("a", [content], if_absent=True)
    assert store.get("a") == content


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_another_digest_than_expected_is_corrupt(store: Store, content: bytes, tmp_path: Path):
    store.upload("a", [content])
    with pytest.raises(Corrupt, match="recorded is"):
        store.get("a", expect=digest_of(b"other"))
    with pytest.raises(Corrupt, match="recorded is"):
        store.load("a", expect=digest_of(b"other"))
    with pytest.raises(Corrupt, match="recorded is"):
        store.download("a", tmp_path / "f", expect=digest_of(b"other"))
    assert not list(tmp_path.glob("f*"))


def test_a_download_replaces_the_file_at_once(store: Store, tmp_path: Path):
    (tmp_path / "f").write_bytes(b"old")
    store.put("a", b"new")
    store.download("a", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"new"


def test_access_is_checked_without_a_trace(store: Store):
    store.check_access()
    store.check_access(write=False)
    assert list(store.list()) == []


def test_a_set_is_published_whole(store: Store):
    objects = stage(store, "step-10/attempt-1", {"a": [b"one"], "b": [LARGE]})
    manifest = commit(store, "step-10/manifest.json", b"{}", objects)
    assert commit(store, "step-10/manifest.json", b"{}", objects) == manifest
    with pytest.raises(PreconditionFailed):
        commit(store, "step-10/manifest.json", b"{ }", objects)
    assert [info.key for info in store.list("step-10/attempt-1/")] == [info.key for info in objects]


def test_no_manifest_over_missing_or_other_objects(store: Store):
    objects = stage(store, "step-10/attempt-1", {"a": [b"one"], "b": [b"two"]})
    store.put(objects[0].key, b"another")
    with pytest.raises(Corrupt, match=objects[0].key):
        commit(store, "step-10/manifest.json", b"{}", objects)
    store.delete(objects[0].key)
    with pytest.raises(NotFound, match=objects[0].key):
        commit(store, "step-10/manifest.json", b"{}", objects)
    assert not store.exists("step-10/manifest.json")


def test_sweeping_keeps_what_is_named(store: Store):
    kept = stage(store, "set/2", {"a": [b"one"]})
    stage(store, "set/1", {"a": [b"one"], "b": [b"two"]})
    manifest = commit(store, "set/manifest", b"{}", kept)
    assert sweep(store, "set/", [manifest.key, *(info.key for info in kept)]) == ["set/1/a", "set/1/b"]
    assert [info.key for info in store.list()] == ["set/2/a", "set/manifest"]
