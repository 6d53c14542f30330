"""Checkpoints on real S3 servers: whole, damaged, swept; with faults on the way, and a server killed in mid-save."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from opt_api.documents.keys import checkpoint_prefix, logbook_prefix, mark_key, object_name
from opt_api.documents.logbook import LogbookEntry
from opt_trainer.checkpoint import fence
from opt_trainer.checkpoint.catalog import catalog
from opt_trainer.checkpoint.errors import SaveFailed
from opt_trainer.checkpoint.job import StoreAddress
from opt_trainer.checkpoint.saver import CheckpointSaver
from opt_trainer.checkpoint.verify import problems_of
from support.checkpoints import (
    RUN,
    blank,
    boxes,
    columns,
    identity,
    loop_state,
    restorer,
    same_bits,
    save_all,
    settings,
    store_in,
    whole_state,
)
from support.fault_proxy import (
    Answers,
    CutsDownload,
    CutsUpload,
    Fault,
    FaultProxy,
    FlipsDownload,
    FlipsUpload,
    Holds,
    LosesAnswer,
    Request,
    Shortens,
    StallsUpload,
    fault_proxy,
)
from support.s3 import S3Server, minio_server, seaweedfs_server
from support.store import QUICK

pytestmark = pytest.mark.integration

SERVERS = {"minio": minio_server, "seaweedfs": seaweedfs_server}


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs_server(tmp_path_factory.mktemp("weed")) as running:
        yield running


def address(server: S3Server, monkeypatch: pytest.MonkeyPatch, endpoint: str | None = None) -> StoreAddress:
    """A place of its own in the server's bucket; the writer process takes the credentials from the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    where = server.settings.model_copy(update={"endpoint": endpoint or server.endpoint})
    return StoreAddress(url=f"s3://{server.bucket}/{uuid.uuid4().hex}", s3=where, settings=QUICK)


@pytest.fixture
def place(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> StoreAddress:
    return address(server, monkeypatch)


def prefix_of(step: int, attempt: int = 1) -> str:
    return checkpoint_prefix(RUN, step, attempt)


def test_any_layout_loads_into_any_other(place: StoreAddress) -> None:
    state = whole_state(2)
    save_all(place, state, 3, ranks=3)
    assert problems_of(store_in(place), prefix_of(3)) == []
    assert catalog(store_in(place), RUN)[0].marked("Verified")
    for ranks, cut in [(1, boxes), (2, columns)]:
        got = blank(state)
        for rank in range(ranks):
            assert restorer(place, rank, ranks).restore(cut(got, rank, ranks)).state.step == 3
        assert same_bits(got, state)


@pytest.mark.parametrize("name", ["manifest.json", object_name(0), "rank-000001.index.json"])
def test_a_damaged_one_is_poisoned_told_and_passed_over(place: StoreAddress, name: str) -> None:
    for step in (1, 2):
        save_all(place, whole_state(step), step, ranks=2)
    store, key = store_in(place), f"{prefix_of(2)}/{name}"
    data = bytearray(store.get(key))
    data[len(data) // 2] ^= 4
    store.put(key, data)
    got = blank(whole_state(1))
    assert restorer(place).restore(boxes(got)).state.step == 1
    assert same_bits(got, whole_state(1))
    assert store.exists(mark_key(prefix_of(2), "Poisoned"))
    (entry,) = [LogbookEntry.from_bytes(store.get(info.key)) for info in store.list(logbook_prefix(RUN))]
    assert (entry.cause, entry.from_step) == ("CheckpointPoisoned", 2)
    assert name in entry.evidence[0]


def test_old_ones_go_whole_and_pinned_ones_stay(place: StoreAddress) -> None:
    state, saver = whole_state(1), CheckpointSaver(identity(), settings(place, keep_last=2, pinned=(2,)))
    for step in range(1, 6):
        saver.save(boxes(state), loop_state(step))
        assert saver.wait(120) == step
    saver.close()
    found = catalog(store_in(place), RUN)
    assert [f.step for f in found] == [5, 4, 2]
    assert all(problems_of(store_in(place), f.prefix) == [] for f in found)


def test_a_zombie_publishes_nothing(place: StoreAddress) -> None:
    zombie = CheckpointSaver(identity(attempt=1), settings(place))
    fence.hold(store_in(place), RUN, 2)
    zombie.save(boxes(whole_state(1)), loop_state(2))
    with pytest.raises(SaveFailed, match="this is attempt 1, attempt 2 has begun"):
        zombie.wait(120)
    zombie.close()
    assert not any(f.complete for f in catalog(store_in(place), RUN))


def object_of(method: str, *, ending: str = "") -> Callable[[Request], bool]:
    """Requests for a checkpoint's own objects, not for the store's notes."""
    return lambda r: r.method == method and "/checkpoints/" in r.key and r.key.endswith(ending)


PASSING: dict[str, tuple[Fault, Callable[[Request], bool], int]] = {
    "upload cut": (CutsUpload(1000), object_of("PUT", ending=".safetensors"), 2),
    "upload stalls": (StallsUpload(100, 3.0), object_of("PUT", ending=".safetensors"), 1),
    "upload damaged": (FlipsUpload(2000), object_of("PUT", ending=".safetensors"), 1),
    "read back damaged": (FlipsDownload(500), object_of("GET", ending=".safetensors"), 1),
    "read cut": (CutsDownload(700, hard=True), object_of("GET", ending=".safetensors"), 2),
    "read short": (Shortens(64), object_of("GET", ending=".safetensors"), 1),
    "server busy": (Answers(503, "SlowDown"), object_of("PUT"), 3),
    "answer to the index lost": (LosesAnswer(), object_of("PUT", ending=".index.json"), 1),
    "answer to the manifest lost": (LosesAnswer(), object_of("PUT", ending="manifest.json"), 1),
    "answer to the mark lost": (LosesAnswer(), object_of("PUT", ending="Verified.json"), 1),
}


@pytest.mark.parametrize("name", sorted(PASSING))
def test_a_passing_fault_leaves_a_whole_checkpoint(weed: S3Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with fault_proxy(weed.port) as proxy:
        place = address(weed, monkeypatch, proxy.endpoint)
        fault, matches, times = PASSING[name]
        proxy.spoil(fault, matches, times=times)
        state = whole_state(1)
        save_all(place, state, 1)
        assert not any(rule.times for rule in proxy._rules), "the fault was never met"
        proxy.spoil(fault, object_of("GET"), times=1)
        got = blank(state)
        assert restorer(place).restore(boxes(got)).state.step == 1
        assert same_bits(got, state)
        assert problems_of(store_in(place), prefix_of(1)) == []


def test_a_manifest_that_is_refused_fails_this_save_and_not_the_next(
    weed: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_proxy(weed.port) as proxy:
        place = address(weed, monkeypatch, proxy.endpoint)
        proxy.spoil(Answers(403, "AccessDenied"), object_of("PUT", ending="manifest.json"), times=1)
        saver = CheckpointSaver(identity(), settings(place))
        saver.save(boxes(whole_state(1)), loop_state(1))
        with pytest.raises(SaveFailed, match=r"step 1, rank 0: .*manifest.json"):
            saver.wait(120)
        saver.save(boxes(whole_state(2)), loop_state(2))
        assert saver.wait(120) == 2
        saver.close()
        assert [f.step for f in catalog(store_in(place), RUN) if f.complete] == [2]


def test_a_server_killed_in_mid_save_leaves_no_manifest_and_the_next_save_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"w": torch.arange(3_000_000, dtype=torch.float32)}
    with ExitStack() as first, ExitStack() as second:
        server = start(first, tmp_path)
        with fault_proxy(server.port) as proxy:
            place = address(server, monkeypatch, proxy.endpoint)
            saver = CheckpointSaver(identity(), settings(place, chunk_bytes=1 << 20))
            saver.save(boxes(state), loop_state(1))
            assert saver.wait(120) == 1
            kill_in_mid_save(proxy, saver, state, first)
            with pytest.raises(SaveFailed, match="step 2, rank 0"):
                saver.wait(120)
            proxy._upstream_port = start(second, tmp_path).port
            store = store_in(place)
            assert [(f.step, f.complete) for f in catalog(store, RUN) if f.complete] == [(1, True)]
            assert problems_of(store, prefix_of(1)) == []
            saver.save(boxes(state), loop_state(3))
            assert saver.wait(120) == 3
            saver.close()
            got = blank(state)
            assert restorer(place).restore(boxes(got)).state.step == 3
            assert same_bits(got, state)


def start(stack: ExitStack, folder: Path) -> S3Server:
    """The server, on what another one has left in the folder."""
    return stack.enter_context(seaweedfs_server(folder))


def kill_in_mid_save(
    proxy: FaultProxy, saver: CheckpointSaver, state: dict[str, torch.Tensor], server: ExitStack
) -> None:
    """SIGKILL while a part of the object is on its way."""
    held = proxy.spoil(Holds(), object_of("PUT", ending=".safetensors"))
    assert isinstance(held, Holds)
    saver.save(boxes(state), loop_state(2))
    saver.before_update()
    assert held.reached.wait(120)
    server.close()
    held.release.set()
