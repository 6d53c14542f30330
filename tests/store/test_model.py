"""Any sequence of calls, compared with a dictionary (hypothesis), on each kind of store."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from opt_store import NotFound, PreconditionFailed, Store, digest_of, open_store
from support.s3 import S3Server
from support.store import open_on

pytestmark = pytest.mark.integration

KEYS = st.sampled_from(["a", "b/a", "b/b", "b-a", "b.a", "c/ü é", "c/d/e/f"])
SIZES = st.sampled_from([0, 1, 7, 40, 7, 40, 7, 40, (5 << 20) + 1])
"""Some longer than one part."""
LETTERS = st.integers(0, 3)


def made(size: int, letter: int) -> bytes:
    return bytes([letter]) * size


class Model(RuleBasedStateMachine):
    """The store must answer as the dictionary does; `open_new` gives an empty store."""

    open_new: Callable[[], Store]
    folder: Path

    @initialize()
    def begin(self) -> None:
        self.store, self.content, self.etags = self.open_new(), dict[str, bytes](), dict[str, str]()

    def wrote(self, key: str, content: bytes, etag: str) -> None:
        self.content[key], self.etags[key] = content, etag

    @rule(key=KEYS, size=SIZES, letter=LETTERS)
    def put(self, key: str, size: int, letter: int) -> None:
        content = made(size, letter)
        self.wrote(key, content, self.store.put(key, content).etag)

    @rule(key=KEYS, size=SIZES, letter=LETTERS, cut=st.integers(0, 50), absent=st.booleans(), known=st.booleans())
    def upload(self, key: str, size: int, letter: int, cut: int, absent: bool, known: bool) -> None:
        content = made(size, letter)
        source, expect = [content[:cut], content[cut:]], digest_of(content) if known else None
        if absent and key in self.content:
            with pytest.raises(PreconditionFailed):
                self.store.upload(key, source, if_absent=True, expect=expect)
        else:
            self.wrote(key, content, self.store.upload(key, source, if_absent=absent, expect=expect).etag)

    @rule(key=KEYS, size=SIZES, letter=LETTERS)
    def create(self, key: str, size: int, letter: int) -> None:
        content = made(size, letter)
        if key in self.content:
            with pytest.raises(PreconditionFailed):
                self.store.put(key, content, if_absent=True)
        else:
            self.wrote(key, content, self.store.put(key, content, if_absent=True).etag)

    @rule(key=KEYS, other=KEYS, size=SIZES, letter=LETTERS)
    def swap(self, key: str, other: str, size: int, letter: int) -> None:
        """Replace under the etag of this or of another key."""
        content = made(size, letter)
        etag = self.etags.get(other, "0" * 32)
        if self.etags.get(key) == etag:
            self.wrote(key, content, self.store.put(key, content, if_match=etag).etag)
        else:
            with pytest.raises(PreconditionFailed):
                self.store.put(key, content, if_match=etag)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.store.delete(key)
        self.content.pop(key, None)
        self.etags.pop(key, None)

    @rule(key=KEYS)
    def read(self, key: str) -> None:
        if key in self.content:
            content = self.content[key]
            assert self.store.get(key, digest_of(content)) == self.store.load(key) == content
            info = self.store.stat(key)
            assert (info.size, info.digest) == (len(content), digest_of(content))
            assert info.etag == self.etags[key]
        else:
            with pytest.raises(NotFound):
                self.store.get(key)

    @rule(key=KEYS, offset=st.integers(0, 50), length=st.integers(0, 50) | st.just(5 << 20))
    def read_range(self, key: str, offset: int, length: int) -> None:
        if key not in self.content:
            with pytest.raises(NotFound):
                self.store.read_range(key, offset, length)
        elif offset + length > len(self.content[key]):
            with pytest.raises(ValueError, match="object"):
                self.store.read_range(key, offset, length)
        else:
            assert self.store.read_range(key, offset, length) == self.content[key][offset : offset + length]

    @rule(key=KEYS)
    def download(self, key: str) -> None:
        target = self.folder / uuid.uuid4().hex
        if key in self.content:
            self.store.download(key, target)
            assert target.read_bytes() == self.content[key]
            target.unlink()
        else:
            with pytest.raises(NotFound):
                self.store.download(key, target)
        assert list(self.folder.iterdir()) == []

    @rule(prefix=st.sampled_from(["", "b", "b/", "c/", "c/d", "nothing"]))
    def listing(self, prefix: str) -> None:
        expected = sorted((key for key in self.content if key.startswith(prefix)), key=str.encode)
        found = list(self.store.list(prefix))
        assert [(info.key, info.size, info.etag) for info in found] == [
            (key, len(self.content[key]), self.etags[key]) for key in expected
        ]

    @invariant()
    def exists(self) -> None:
        if hasattr(self, "store"):
            assert self.store.exists("b/a") == ("b/a" in self.content)


@pytest.mark.parametrize("kind", ["folder", "minio", "seaweedfs"])
def test_any_sequence_of_calls(kind: str, tmp_path: Path, s3_servers: Callable[[str], S3Server]):
    def open_new() -> Store:
        name = uuid.uuid4().hex
        if kind != "folder":
            server = s3_servers(kind)
            return open_on(server, f"s3://{server.bucket}/{name}")
        (tmp_path / name).mkdir()
        return open_store((tmp_path / name).as_uri())

    (tmp_path / "downloads").mkdir()
    machine = type("Bound", (Model,), {"open_new": staticmethod(open_new), "folder": tmp_path / "downloads"})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100 if kind == "folder" else 25,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
