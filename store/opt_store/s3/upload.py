"""Large objects in: parallel parts, resumed after a kill, visible only when complete.

Digest and checksum are stored with the object, so they must be known before the first part is sent. A caller who knows
the digest gives it as `expect`, and the source is hashed beside the transfer; otherwise it is hashed before. What is
under way is noted in a small object named by key and digest; an uploader of the same content finds the parts that are
already there.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from minio.error import S3Error

from opt_store.digest import verify
from opt_store.errors import Corrupt, NotFound, PreconditionFailed, StoreError, Unavailable
from opt_store.interface import ObjectInfo, Progress, Source
from opt_store.keys import RESERVED
from opt_store.parallel import in_order
from opt_store.s3 import objects
from opt_store.s3.parts import part_size, ranges
from opt_store.s3.retry import again
from opt_store.s3.tally import Tally
from opt_store.s3.wire import Wire, crc32
from opt_store.s3.xml import Part, read_completion, read_parts, read_upload_id, write_completion
from opt_store.source import checksum_of_source, digest_of_source, marks_of_source, part_of

_RESTARTS = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One object to be uploaded."""

    wire: Wire
    key: str
    source: Source
    size: int
    digest: str
    checksum: str
    if_absent: bool

    @property
    def note(self) -> str:
        """Key of the note that tells of this upload while it is under way."""
        name = hashlib.sha256(f"{self.key} {self.digest}".encode()).hexdigest()
        return f"{RESERVED}/uploads/{name}"


@dataclass(frozen=True, slots=True)
class Begun:
    """A multipart upload on the server, and the parts it has."""

    upload_id: str
    part_bytes: int
    parts: dict[int, Part]


def upload(
    wire: Wire,
    key: str,
    source: Source,
    size: int,
    *,
    if_absent: bool,
    expect: str | None,
    progress: Progress | None,
) -> ObjectInfo:
    """See `Store.upload`."""
    unchanged = _watch(source)
    digest, checksum = (expect, checksum_of_source(source)) if expect else marks_of_source(source)
    job = Job(wire, key, source, size, digest, checksum, if_absent)
    if if_absent and _exists(job):
        raise PreconditionFailed(f"{wire.name(key)}: it exists already; not replaced")
    for _ in range(_RESTARTS):
        try:
            return _transfer(job, check=expect is not None, unchanged=unchanged, progress=progress)
        except NotFound:  # the upload is gone: another uploader of the same content completed it, or it was cleared
            if found := objects.written(wire, key, job.digest):
                return found
    raise Unavailable(f"{wire.name(key)}: its upload was removed {_RESTARTS} times while under way; see who clears it")


def _transfer(job: Job, *, check: bool, unchanged: Callable[[], bool], progress: Progress | None) -> ObjectInfo:
    begun = _resume(job) or _begin(job)
    with ThreadPoolExecutor(1, thread_name_prefix="opt-store-digest") as beside:
        digest = beside.submit(digest_of_source, job.source) if check else None
        parts = _send_all(job, begun, progress)
        if digest is not None:
            _abort_unless(
                job, begun, lambda: verify(f"source of {job.wire.name(job.key)}", digest.result(), job.digest)
            )
    if not unchanged():
        _abort(job, begun)
        raise Corrupt(f"source of {job.wire.name(job.key)}: the file changed while it was read; nothing was written")
    return _complete(job, begun, parts)


def _resume(job: Job) -> Begun | None:
    note = objects.read_note(job.wire, job.note)
    if note is None:
        return None
    try:
        upload_id, part_bytes = str(note["uploadId"]), int(note["partBytes"])
        return Begun(upload_id, part_bytes, _parts_there(job, upload_id))
    except (KeyError, ValueError, NotFound):
        return None


def _begin(job: Job) -> Begun:
    marks = {objects.DIGEST: job.digest, objects.CHECKSUM: job.checksum}
    headers = {**objects.CONTENT_TYPE, **marks, "x-amz-checksum-algorithm": "CRC32"}

    def act(_: int) -> str:
        return read_upload_id(job.wire.once("POST", job.key, query={"uploads": ""}, headers=headers).body)

    upload_id = again(job.wire.name(job.key), job.wire.settings, act)
    begun = Begun(upload_id, part_size(job.size, job.wire.settings.part_bytes), {})
    objects.write_note(job.wire, job.note, {"key": job.key, "uploadId": upload_id, "partBytes": begun.part_bytes})
    return begun


def _parts_there(job: Job, upload_id: str) -> dict[int, Part]:
    found: dict[int, Part] = {}
    query = {"uploadId": upload_id}
    while True:

        def act(_: int, query: dict[str, str] = query) -> tuple[list[Part], str | None]:
            return read_parts(job.wire.once("GET", job.key, query=query).body)

        parts, marker = again(job.wire.name(job.key), job.wire.settings, act)
        found |= {part.number: part for part in parts}
        if marker is None:
            return found
        query = {"uploadId": upload_id, "part-number-marker": marker}


def _send_all(job: Job, begun: Begun, progress: Progress | None) -> list[Part]:
    tally = Tally(job.size, progress)

    def task(number: int, offset: int, length: int) -> Callable[[], Part]:
        return lambda: _send(job, begun, number, part_of(job.source, offset, length), tally)

    layout = enumerate(ranges(0, job.size, begun.part_bytes), start=1)
    return list(in_order((task(number, *span) for number, span in layout), job.wire.settings.parallel))


def _send(job: Job, begun: Begun, number: int, body: memoryview, tally: Tally) -> Part:
    there, checksum = begun.parts.get(number), crc32(body)
    if there and there.size == body.nbytes and there.checksum in {None, checksum}:
        tally.add(body.nbytes)
        return Part(number, body.nbytes, there.etag, checksum)
    query = {"partNumber": str(number), "uploadId": begun.upload_id}
    what = f"{job.wire.name(job.key)}, part {number}"
    etag = again(what, job.wire.settings, lambda _: job.wire.send(job.key, body, checksum, query=query, headers={}))
    tally.add(body.nbytes)
    return Part(number, body.nbytes, etag, checksum)


def _complete(job: Job, begun: Begun, parts: list[Part]) -> ObjectInfo:
    headers = {"Content-Type": "application/xml"} | ({"If-None-Match": "*"} if job.if_absent else {})
    body = write_completion(parts)

    def act(attempt: int) -> ObjectInfo:
        try:
            answer = job.wire.once("POST", job.key, query={"uploadId": begun.upload_id}, headers=headers, body=body)
            return ObjectInfo(job.key, job.size, read_completion(answer.body), job.digest, job.checksum)
        except S3Error as fault:
            # The answer to an earlier attempt may have been lost after the object was written.
            if (
                attempt
                and fault.code == "PreconditionFailed"
                and (found := objects.written(job.wire, job.key, job.digest))
            ):
                return found
            raise

    try:
        info = again(job.wire.name(job.key), job.wire.settings, act)
    except PreconditionFailed:
        _abort(job, begun)
        raise
    job.wire.call("DELETE", job.note)
    return info


def _abort_unless(job: Job, begun: Begun, check: Callable[[], None]) -> None:
    try:
        check()
    except Corrupt:
        _abort(job, begun)
        raise


def _abort(job: Job, begun: Begun) -> None:
    """Remove the parts; what goes wrong here must not hide why."""
    try:
        job.wire.call("DELETE", job.key, query={"uploadId": begun.upload_id})
        job.wire.call("DELETE", job.note)
    except StoreError:
        return


def _exists(job: Job) -> bool:
    try:
        objects.stat(job.wire, job.key)
    except NotFound:
        return False
    return True


def _watch(source: Source) -> Callable[[], bool]:
    """Return a test of whether a file is still as it is now."""
    if not isinstance(source, Path):
        return lambda: True
    before = source.stat()
    seen = (before.st_mtime_ns, before.st_size, before.st_ino)

    def unchanged() -> bool:
        now = source.stat()
        return (now.st_mtime_ns, now.st_size, now.st_ino) == seen

    return unchanged
