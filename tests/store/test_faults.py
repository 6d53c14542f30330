"""Each fault between the store and a real server ends in success or in an error that names the cause."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from opt_store import (
    AccessDenied,
    BadEndpoint,
    ClockSkew,
    Corrupt,
    ExpiredCredentials,
    PreconditionFailed,
    Store,
    StoreFull,
    Unavailable,
    commit,
    digest_of,
    stage,
)
from opt_store.digest import checksum_of
from support.fault_proxy import (
    Answers,
    AnswersWith,
    CutsDownload,
    CutsUpload,
    Drips,
    Fault,
    FaultProxy,
    FlipsDownload,
    FlipsUpload,
    LosesAnswer,
    Request,
    Shortens,
    StallsDownload,
    StallsUpload,
)
from support.s3 import S3Server
from support.store import QUICK

pytestmark = pytest.mark.integration

MIB = 1 << 20
SMALL, LARGE = os.urandom(300_000), os.urandom(17 * MIB + 5)
ALWAYS = 1_000


def of(method: str, *, note: bool = False) -> Callable[[Request], bool]:
    """Match requests of a method for the objects of a test, not for the store's own notes."""
    return lambda request: request.method == method and (".opt-store" in request.key) == note and bool(request.key)


def part(number: int) -> Callable[[Request], bool]:
    return lambda request: request.method == "PUT" and request.part == number


def completion(request: Request) -> bool:
    return request.method == "POST" and "uploadId" in request.query


def later_range(request: Request) -> bool:
    """A part of a parallel read that is not its first."""
    return request.method == "GET" and "range" in request.headers and "bytes=0-" not in request.headers["range"]


PASSING = {
    "500": Answers(500, "InternalError"),
    "502 without XML": AnswersWith(
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n<p"
    ),
    "503 SlowDown": Answers(503, "SlowDown"),
    "503 ServiceUnavailable": Answers(503, "ServiceUnavailable"),
    "429": Answers(429, "TooManyRequests"),
    "400 RequestTimeout": Answers(400, "RequestTimeout"),
    "409 conflict": Answers(409, "ConditionalRequestConflict"),
    "lost answer": LosesAnswer(),
}
ON_THE_WAY_IN = {
    **PASSING,
    "reset at once": CutsUpload(0),
    "reset in the middle": CutsUpload(100_000),
    "flipped bit": FlipsUpload(123_456),
    "stall": StallsUpload(100_000, 60.0),
}
ON_THE_WAY_OUT = {
    **PASSING,
    "reset in the middle": CutsDownload(100_000, hard=True),
    "body cut off with status 200": CutsDownload(100_000, hard=False),
    "body cut off at its start": CutsDownload(0, hard=False),
    "short body that says it is whole": Shortens(100_000),
    "flipped bit": FlipsDownload(123_456),
    "flipped first bit": FlipsDownload(0),
    "stall": StallsDownload(100_000, 60.0),
    "drip": Drips(1.5),
}
"""The stalls last a minute; the time-out under test is a second, by default 20."""


@pytest.fixture(params=ON_THE_WAY_IN)
def fault_in(request: pytest.FixtureRequest) -> Fault:
    return ON_THE_WAY_IN[request.param]


@pytest.fixture(params=ON_THE_WAY_OUT)
def fault_out(request: pytest.FixtureRequest) -> Fault:
    return ON_THE_WAY_OUT[request.param]


def test_a_passing_fault_of_a_put(spoiled: Store, direct: Store, proxy: FaultProxy, fault_in: Fault):
    proxy.spoil(fault_in, of("PUT"), times=2)
    spoiled.put("a", SMALL)
    assert proxy.count(of("PUT")) == 3
    assert direct.get("a", expect=digest_of(SMALL)) == SMALL


def test_a_passing_fault_of_a_part(spoiled: Store, direct: Store, proxy: FaultProxy, fault_in: Fault):
    proxy.spoil(fault_in, part(2), times=2)
    info = spoiled.upload("a", [LARGE])
    assert info.digest == digest_of(LARGE)
    assert [proxy.count(part(number)) for number in (1, 2, 3, 4)] == [1, 3, 1, 1]
    assert direct.get("a") == LARGE


def test_a_passing_fault_of_a_get(spoiled: Store, direct: Store, proxy: FaultProxy, fault_out: Fault):
    direct.put("a", SMALL)
    proxy.spoil(fault_out, of("GET"), times=2)
    assert spoiled.get("a") == SMALL


def test_a_passing_fault_of_a_parallel_read(spoiled: Store, direct: Store, proxy: FaultProxy, fault_out: Fault):
    direct.upload("a", [LARGE])
    proxy.spoil(fault_out, later_range, times=2)
    buffer = bytearray(len(LARGE))
    spoiled.read_into("a", 0, buffer, digest_of(LARGE))
    assert buffer == LARGE


def test_a_passing_fault_of_a_load(spoiled: Store, direct: Store, proxy: FaultProxy, fault_out: Fault):
    """In the first part, which tells the size, and in a later one."""
    direct.upload("a", [LARGE])
    proxy.spoil(fault_out, of("GET"), times=1)
    proxy.spoil(fault_out, later_range, times=1)
    assert spoiled.load("a") == LARGE


def test_a_passing_fault_of_a_download(
    spoiled: Store, direct: Store, proxy: FaultProxy, fault_out: Fault, tmp_path: Path
):
    direct.upload("a", [LARGE])
    proxy.spoil(fault_out, later_range, times=2)
    spoiled.download("a", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == LARGE
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("name", [name for name in ON_THE_WAY_OUT if name != "drip"])
def test_a_lasting_fault_of_a_get_is_named(spoiled: Store, direct: Store, proxy: FaultProxy, name: str):
    direct.put("a", SMALL)
    proxy.spoil(ON_THE_WAY_OUT[name], of("GET"), times=ALWAYS)
    with pytest.raises((Unavailable, Corrupt), match=r"'[0-9a-f]*/a' in bucket"):
        spoiled.get("a")
    assert proxy.count(of("GET")) <= 3 * QUICK.attempts


@pytest.mark.parametrize("name", ON_THE_WAY_IN)
def test_a_lasting_fault_of_an_upload_is_named_and_leaves_nothing(
    spoiled: Store, direct: Store, proxy: FaultProxy, name: str
):
    proxy.spoil(ON_THE_WAY_IN[name], part(2), times=ALWAYS)
    with pytest.raises(Unavailable, match=f"part 2.*{QUICK.attempts} attempts"):
        spoiled.upload("a", [LARGE])
    assert proxy.count(part(2)) == QUICK.attempts
    assert list(direct.list()) == []


FINAL = {
    "ExpiredToken": (400, ExpiredCredentials, "renew"),
    "ExpiredTokenException": (403, ExpiredCredentials, "renew"),
    "RequestTimeTooSkewed": (403, ClockSkew, "clock"),
    "QuotaExceeded": (403, StoreFull, "quota"),
    "XMinioStorageFull": (507, StoreFull, "free space"),
    "InvalidAccessKeyId": (403, AccessDenied, "AWS_ACCESS_KEY_ID"),
    "AccessDenied": (403, AccessDenied, "policy"),
    "NoSuchBucket": (404, BadEndpoint, "bucket"),
    "PermanentRedirect": (301, BadEndpoint, "region"),
}


@pytest.mark.parametrize("code", FINAL)
def test_a_final_fault_is_named_at_the_first_attempt(
    spoiled: Store, direct: Store, proxy: FaultProxy, code: str, tmp_path: Path
):
    status, kind, word = FINAL[code]
    direct.upload("there", [LARGE])
    calls: list[Callable[[], object]] = [
        lambda: spoiled.get("there"),
        lambda: spoiled.stat("there"),
        lambda: spoiled.put("new", SMALL),
        lambda: spoiled.upload("new", [LARGE]),
        lambda: spoiled.read_range("there", 5, 10),
        lambda: spoiled.download("there", tmp_path / "f"),
        lambda: list(spoiled.list()),
        lambda: spoiled.delete("there"),
        spoiled.check_access,
    ]
    proxy.spoil(Answers(status, code), times=ALWAYS)
    for call in calls:
        before = len(proxy.seen)
        with pytest.raises(kind, match=code) as caught:
            call()
        assert word in str(caught.value)
        assert len(proxy.seen) - before <= 2  # HEAD has no body, so the cause is asked for by a GET
    assert [info.key for info in direct.list()] == ["there"]


@pytest.mark.parametrize("number", [1, 2, 4])
def test_credentials_that_expire_in_mid_upload(spoiled: Store, direct: Store, proxy: FaultProxy, number: int):
    proxy.spoil(Answers(400, "ExpiredToken"), part(number))
    with pytest.raises(ExpiredCredentials, match="renew"):
        spoiled.upload("a", [LARGE])
    assert not direct.exists("a")
    sent = proxy.count(lambda request: request.part is not None)
    spoiled.upload("a", [LARGE])  # goes on where it stopped
    assert proxy.count(lambda request: request.part is not None) <= sent + 3
    assert direct.get("a") == LARGE


def test_a_conditional_put_whose_answer_is_lost(spoiled: Store, direct: Store, proxy: FaultProxy):
    proxy.spoil(LosesAnswer(), of("PUT"))
    info = spoiled.put("lease", b"mine", if_absent=True)
    assert direct.stat("lease") == info
    proxy.spoil(LosesAnswer(), of("PUT"))
    second = spoiled.put("lease", b"mine again", if_match=info.etag)
    assert direct.stat("lease") == second
    proxy.spoil(Answers(500, "InternalError"), of("PUT"))
    with pytest.raises(PreconditionFailed):
        spoiled.put("lease", b"another's", if_absent=True)


def test_a_completion_whose_answer_is_lost(spoiled: Store, direct: Store, proxy: FaultProxy):
    proxy.spoil(LosesAnswer(), completion)
    info = spoiled.upload("a", [LARGE], if_absent=True)
    assert info.digest == direct.stat("a").digest == digest_of(LARGE)


def test_a_completion_that_fails_with_status_200(spoiled: Store, direct: Store, proxy: FaultProxy):
    xml = b"<Error><Code>InternalError</Code><Message>as S3 documents it</Message></Error>"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(xml)
    proxy.spoil(AnswersWith(head + xml), completion, times=2)
    spoiled.upload("a", [LARGE])
    assert proxy.count(completion) == 3
    assert direct.get("a") == LARGE


def test_a_listing_page_that_is_cut_off(spoiled: Store, direct: Store, proxy: FaultProxy):
    for number in range(30):
        direct.put(f"many/{number:02d}", b"")
    proxy.spoil(CutsDownload(500, hard=False), lambda request: "list-type" in request.query)
    proxy.spoil(Shortens(500), lambda request: "list-type" in request.query)
    assert [info.key for info in spoiled.list()] == [f"many/{number:02d}" for number in range(30)]


def test_an_object_damaged_in_the_store_is_never_returned(server: S3Server, direct: Store, prefix: str, tmp_path: Path):
    """Somebody writes other bytes under the digest of the right ones, by the plain client."""
    spoilt = LARGE[:-1] + bytes([LARGE[-1] ^ 1])
    digest, checksum = {"x-amz-meta-opt-digest": digest_of(LARGE)}, {"x-amz-meta-opt-checksum": checksum_of(LARGE)}
    for recorded in (digest, digest | checksum):
        put_by_hand(server, f"{prefix}/a", spoilt, recorded)
        for call in (lambda: direct.get("a"), lambda: direct.load("a"), lambda: direct.download("a", tmp_path / "f")):
            with pytest.raises(Corrupt, match=r"'[0-9a-f]*/a' in bucket"):
                call()
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_was_forged_is_found_out_by_the_digest_of_a_manifest(
    server: S3Server, direct: Store, prefix: str, tmp_path: Path
):
    """Who can write the object can write its record too; what is expected from elsewhere is not in their hands."""
    forged = LARGE[::-1]
    record = {"x-amz-meta-opt-digest": digest_of(LARGE), "x-amz-meta-opt-checksum": checksum_of(forged)}
    put_by_hand(server, f"{prefix}/a", forged, record)
    for call in (
        lambda: direct.get("a", digest_of(LARGE)),
        lambda: direct.load("a", digest_of(LARGE)),
        lambda: direct.download("a", tmp_path / "f", expect=digest_of(LARGE)),
    ):
        with pytest.raises(Corrupt, match=r"'[0-9a-f]*/a' in bucket"):
            call()
    assert list(tmp_path.iterdir()) == []


def put_by_hand(server: S3Server, name: str, body: bytes, headers: dict[str, str]) -> None:
    server.plain_client()._execute("PUT", bucket_name=server.bucket, object_name=name, body=body, headers=dict(headers))


def test_an_object_of_another_program_is_read_with_its_size_checked(
    server: S3Server, spoiled: Store, proxy: FaultProxy, prefix: str
):
    server.plain_client()._execute("PUT", bucket_name=server.bucket, object_name=f"{prefix}/a", body=SMALL)
    proxy.spoil(CutsDownload(100_000, hard=False), of("GET"))
    assert spoiled.get("a") == SMALL
    assert spoiled.stat("a").digest is None


def test_an_object_replaced_while_it_is_read_is_read_again(
    spoiled: Store, direct: Store, proxy: FaultProxy, tmp_path: Path
):
    class Replaces(Fault):
        async def answer(self, request: Request) -> None:
            import asyncio

            await asyncio.to_thread(direct.upload, "a", [LARGE[::-1]])

    direct.upload("a", [LARGE])
    proxy.spoil(Replaces(), later_range)
    spoiled.download("a", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == LARGE[::-1]
    direct.upload("a", [LARGE])
    proxy.spoil(Replaces(), later_range)
    assert spoiled.get("a") == LARGE[::-1]


def test_a_half_done_download_goes_on(spoiled: Store, direct: Store, proxy: FaultProxy, tmp_path: Path):
    direct.upload("a", [LARGE])
    proxy.spoil(
        Answers(403, "ExpiredToken"), lambda request: request.headers.get("range", "").startswith("bytes=15728640")
    )
    with pytest.raises(ExpiredCredentials):
        spoiled.download("a", tmp_path / "f")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.part", "f.part.json"]
    done = json.loads((tmp_path / "f.part.json").read_text())["parts"]
    before = proxy.count(of("GET"))
    spoiled.download("a", tmp_path / "f")
    assert proxy.count(of("GET")) - before == 4 - len(done)
    assert (tmp_path / "f").read_bytes() == LARGE
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_half_done_download_of_another_version_starts_anew(
    spoiled: Store, direct: Store, proxy: FaultProxy, tmp_path: Path
):
    direct.upload("a", [LARGE])
    proxy.spoil(
        Answers(403, "ExpiredToken"), lambda request: request.headers.get("range", "").startswith("bytes=15728640")
    )
    with pytest.raises(ExpiredCredentials):
        spoiled.download("a", tmp_path / "f")
    direct.upload("a", [LARGE[::-1]])
    spoiled.download("a", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == LARGE[::-1]


@pytest.mark.parametrize("left", ["zeroed", "garbage note"])
def test_a_half_done_download_that_lost_its_pages_is_found_out(
    spoiled: Store, direct: Store, proxy: FaultProxy, tmp_path: Path, left: str
):
    direct.upload("a", [LARGE])
    proxy.spoil(
        Answers(403, "ExpiredToken"), lambda request: request.headers.get("range", "").startswith("bytes=15728640")
    )
    with pytest.raises(ExpiredCredentials):
        spoiled.download("a", tmp_path / "f")
    if left == "zeroed":
        (tmp_path / "f.part").write_bytes(bytes(len(LARGE)))
    else:
        (tmp_path / "f.part.json").write_text('{"etag": 7')
    spoiled.download("a", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == LARGE


def test_nothing_is_published_over_a_fault(spoiled: Store, direct: Store, proxy: FaultProxy):
    proxy.spoil(Answers(503, "SlowDown"), lambda request: request.key.endswith("/b"), times=ALWAYS)
    with pytest.raises(Unavailable, match="step-1/b"):
        stage(spoiled, "step-1", {"a": [SMALL], "b": [SMALL]})
    assert [info.key for info in direct.list()] == ["step-1/a"]


def test_a_manifest_whose_answer_is_lost_is_written_once(spoiled: Store, direct: Store, proxy: FaultProxy):
    objects = stage(spoiled, "step-1", {"a": [SMALL]})
    proxy.spoil(LosesAnswer(), of("PUT"))
    commit(spoiled, "manifest", b"{}", objects)
    assert direct.get("manifest") == b"{}"
