"""The worker's side: find what was published, wait for the partner, give a dead partner up, live with a full memory."""

import os
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from opt_runtime.memory import rank as module
from opt_runtime.memory.rank import LOOP, NO_PARTNER, Acks, RankMemory, Tell, Whose
from opt_runtime.memory.slots import SlotFile
from opt_runtime.memory.units import Division

pytestmark = pytest.mark.unit


@dataclass
class Host:
    acks: Acks
    slots: list[SlotFile]
    told: list[int] = field(default_factory=list)
    full: list[str] = field(default_factory=list)

    def memory(self, local_rank: int = 0, division: Division | None = None, trajectory: int = 1) -> RankMemory:
        division = division or Division(1, 1)
        whose = Whose(local_rank, local_rank % division.units, trajectory, division.beside(local_rank))
        return RankMemory(self.slots, self.acks, whose, Tell(self.told.append, self.full.append))


@pytest.fixture
def host() -> Iterator[Host]:
    fd = os.memfd_create("acks")
    os.ftruncate(fd, os.sysconf("SC_PAGE_SIZE"))
    acks = Acks(fd)
    for local_rank in range(4):
        acks[local_rank] = NO_PARTNER
    yield Host(acks, [SlotFile.create(f"rank-{n}") for n in range(4)])
    os.close(fd)


def whole(parts) -> dict[str, bytes]:
    return {name: bytes(part) for name, part in parts.items()}


def test_what_was_published_is_loaded_by_the_next_worker(host: Host) -> None:
    first = host.memory()
    for step in (1, 2):
        first.publish(step, {"w": bytes([step]) * 9})
    first.settle()
    assert host.told == [1, 2]
    assert whole(host.memory().load(1)) == {"w": b"\1" * 9}
    with pytest.raises(KeyError, match=r"step 9, trajectory 1; held are .*\(0, 2, 1\)"):
        host.memory().load(9)
    with pytest.raises(KeyError):
        host.memory(trajectory=2).load(1)


@pytest.mark.parametrize(("pieces", "per_host"), [(1, 4), (2, 4), (4, 4), (1, 1), (8, 4)])
def test_ranks_of_a_host_that_hold_the_same_keep_it_once(host: Host, pieces: int, per_host: int) -> None:
    division = Division(pieces, per_host)
    states = [{LOOP: b"s", **{f"w{n}": bytes([local % pieces, n]) * 50 for n in range(5)}} for local in range(per_host)]
    memories = [host.memory(local, division) for local in range(per_host)]
    for memory, state in zip(memories, states, strict=True):
        memory.publish(7, state)
        memory.settle()
    kept = sum(info.size for slots in host.slots for info in slots.infos())
    different = len({id(s) for s in states[: min(pieces, per_host)]})
    assert kept < different * 5 * 100 * 1.9
    for local, state in enumerate(states):
        assert whole(host.memory(local, division).load(7)) == state


def test_settling_waits_until_the_partner_has_the_step(host: Host) -> None:
    host.acks[0] = 0
    memory = host.memory()
    memory.publish(1, {"w": b"x"})
    settled = threading.Event()
    waiter = threading.Thread(target=lambda: (memory.settle(), settled.set()))
    waiter.start()
    assert not settled.wait(0.1)
    host.acks[0] = 1
    assert settled.wait(10)
    waiter.join()


def test_a_dead_partner_is_waited_for_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTNER_PATIENCE_S", 0.2)
    host.acks[0] = 0
    memory = host.memory()
    memory.publish(1, {"w": b"x"})
    memory.settle()
    looks = []
    monkeypatch.setattr(time, "sleep", looks.append)
    memory.publish(2, {"w": b"y"})
    memory.settle()
    assert not looks


def test_when_memory_is_full_the_agent_hears_it_once_and_nothing_old_is_left(host: Host) -> None:
    memory = host.memory()
    memory.publish(1, {"w": b"x"})
    memory.settle()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        for step in (2, 3):
            memory.publish(step, {"w": bytes(4 << 20)})
            memory.settle()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (word,) = host.full
    assert "the state of step 2 has no place in memory" in word
    assert host.told == [1]
    assert host.slots[0].infos() == [], "an old state would cost more steps than the store's"


def test_a_copy_under_way_is_not_yet_a_state(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    write = SlotFile.write

    def slowly(*given):
        go.wait(10)
        return write(*given)

    monkeypatch.setattr(SlotFile, "write", slowly)
    memory = host.memory()
    memory.publish(1, {"w": b"x"})
    assert host.slots[0].infos() == []
    go.set()
    memory.settle()
    assert [info.step for info in host.slots[0].infos()] == [1]
