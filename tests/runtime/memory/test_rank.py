"""The worker's side: find what was published, wait for the partner, give a dead partner up."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

from opt_runtime.memory import rank as module
from opt_runtime.memory.rank import NO_PARTNER, Acks, RankMemory
from opt_runtime.memory.slots import SlotFile

pytestmark = pytest.mark.unit


@pytest.fixture
def shared() -> Iterator[tuple[SlotFile, Acks]]:
    fd = os.memfd_create("acks")
    os.ftruncate(fd, os.sysconf("SC_PAGE_SIZE"))
    slots = SlotFile.create("rank")
    yield slots, Acks(fd)
    os.close(slots.fd)
    os.close(fd)


def memory_of(shared: tuple[SlotFile, Acks], told: list[int], trajectory: int = 1) -> RankMemory:
    return RankMemory(*shared, 0, 3, trajectory, told.append)


def test_what_was_published_is_loaded_by_the_next_worker(shared) -> None:
    shared[1][0] = NO_PARTNER
    told: list[int] = []
    first = memory_of(shared, told)
    for step in (1, 2):
        first.publish(step, {"w": bytes([step]) * 9})
    assert told == [1, 2]
    assert bytes(memory_of(shared, []).load(1)["w"]) == b"\1" * 9
    with pytest.raises(KeyError, match=r"step 9, trajectory 1; held are .*\(3, 2, 1\)"):
        memory_of(shared, []).load(9)
    with pytest.raises(KeyError):
        memory_of(shared, [], trajectory=2).load(1)


def test_settling_waits_until_the_partner_has_the_step(shared) -> None:
    memory = memory_of(shared, [])
    memory.publish(1, {"w": b"x"})
    settled = threading.Event()
    waiter = threading.Thread(target=lambda: (memory.settle(), settled.set()))
    waiter.start()
    assert not settled.wait(0.1)
    shared[1][0] = 1
    assert settled.wait(10)
    waiter.join()


def test_a_dead_partner_is_waited_for_once(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTNER_PATIENCE_S", 0.2)
    memory = memory_of(shared, [])
    memory.publish(1, {"w": b"x"})
    memory.settle()
    looks = []
    monkeypatch.setattr(time, "sleep", looks.append)
    memory.publish(2, {"w": b"y"})
    memory.settle()
    assert not looks
