"""Large objects out, to a file: parallel ranges, resumed after a kill, checked before the file takes its name.

Beside ``<path>.part`` lies ``<path>.part.json`` with the version of the object and the parts that are done. After a
restart those are not fetched again but still hashed, so a page that never reached the disk is found out. An object
without a digest could not be checked so, and is fetched anew.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from opt_store.buffers import new_buffer
from opt_store.digest import Check, Hasher
from opt_store.errors import Corrupt, PreconditionFailed
from opt_store.interface import ObjectInfo, Progress
from opt_store.parallel import in_order
from opt_store.s3 import objects
from opt_store.s3.parts import ranges
from opt_store.s3.read import fetch, settled
from opt_store.s3.tally import Tally
from opt_store.s3.wire import Wire


@dataclass(frozen=True, slots=True)
class Target:
    """The files of one download."""

    path: Path

    @property
    def part(self) -> Path:
        """What is there so far."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def note(self) -> Path:
        """What is known of it."""
        return self.path.with_name(self.path.name + ".part.json")

    def clear(self) -> None:
        """Throw away what is there so far."""
        self.note.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)


@dataclass(slots=True)
class Done:
    """Which parts of which version are in the file."""

    etag: str
    size: int
    part_bytes: int
    parts: set[int] = field(default_factory=set)

    def write(self, target: Target) -> None:
        """Replace the note on disk."""
        note = {"etag": self.etag, "size": self.size, "partBytes": self.part_bytes, "parts": sorted(self.parts)}
        fresh = target.note.with_name(target.note.name + ".new")
        fresh.write_text(json.dumps(note))
        fresh.replace(target.note)


def download(wire: Wire, key: str, path: Path, *, expect: str | None, progress: Progress | None) -> ObjectInfo:
    """See `Store.download`."""
    target = Target(path)

    def act() -> ObjectInfo:
        try:
            return _download_once(wire, key, target, expect, progress)
        except (Corrupt, PreconditionFailed):
            target.clear()
            raise

    return settled(act)


def _download_once(wire: Wire, key: str, target: Target, expect: str | None, progress: Progress | None) -> ObjectInfo:
    info = objects.stat(wire, key)
    done = _found(target, info, expect) or Done(info.etag, info.size, wire.settings.part_bytes)
    with _open(target.part, info.size) as descriptor:
        check = Check.of(info.digest, info.checksum, expect)
        _Transfer(wire, info, target, done, descriptor, check.running, Tally(info.size, progress)).run()
        check.verify(wire.name(key))
        os.fsync(descriptor)
    target.part.replace(target.path)
    target.note.unlink(missing_ok=True)
    return info


@dataclass(slots=True)
class _Transfer:
    wire: Wire
    info: ObjectInfo
    target: Target
    done: Done
    descriptor: int
    running: Hasher
    tally: Tally
    spare: list[memoryview] = field(default_factory=list)

    def run(self) -> None:
        """Fetch ahead in threads, hash here in order; `parallel` buffers and two more are in use at most."""
        layout = enumerate(ranges(0, self.info.size, self.done.part_bytes))
        tasks = (partial(self._part, number, *span) for number, span in layout)
        for number, view in in_order(tasks, self.wire.settings.parallel):
            self._take(number, view)

    def _part(self, number: int, offset: int, length: int) -> tuple[int, memoryview]:
        view = (self.spare.pop() if self.spare else new_buffer(self.done.part_bytes))[:length]
        if number in self.done.parts:
            os.preadv(self.descriptor, [view], offset)
        else:
            fetch(self.wire, self.info.key, offset, view, self.info.etag)
            os.pwrite(self.descriptor, view, offset)
        return number, view

    def _take(self, number: int, view: memoryview) -> None:
        self.running.update(view)
        if view.nbytes == self.done.part_bytes:
            self.spare.append(view)
        if number not in self.done.parts:
            self.done.parts.add(number)
            self.done.write(self.target)
        self.tally.add(view.nbytes)


def _found(target: Target, info: ObjectInfo, expect: str | None) -> Done | None:
    """Return what an earlier run left, if it is of the same version and can be checked."""
    if info.digest is None and expect is None:
        return None
    try:
        note = json.loads(target.note.read_text())
        done = Done(note["etag"], note["size"], note["partBytes"], set(note["parts"]))
        usable = target.part.stat().st_size == info.size
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return done if usable and (done.etag, done.size) == (info.etag, info.size) else None


@contextmanager
def _open(path: Path, size: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.ftruncate(descriptor, size)
        yield descriptor
    finally:
        os.close(descriptor)
