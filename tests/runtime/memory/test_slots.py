"""Slots in shared memory: what a killed writer leaves behind, what another process sees, what is dropped."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opt_runtime.memory.slots import PAGE, SlotDamaged, SlotFile

pytestmark = pytest.mark.unit


@pytest.fixture
def slots() -> Iterator[SlotFile]:
    file = SlotFile.create("test")
    yield file
    os.close(file.fd)


def parts(step: int, size: int = 10_000) -> dict[str, bytes]:
    return {"weights": bytes([step % 256]) * size, "empty": b"", "loop": str(step).encode()}


def steps(file: SlotFile) -> list[int]:
    return [info.step for info in file.infos()]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3 * PAGE), min_size=1, max_size=8))
def test_the_newest_states_are_there_whole_whatever_their_sizes(sizes: list[int]) -> None:
    file = SlotFile.create("test")
    for step, size in enumerate(sizes):
        file.write(7, 1, step, parts(step, size))
        newest = file.infos()[-1]
        assert (newest.step, newest.rank, newest.trajectory) == (step, 7, 1)
        assert {name: bytes(part) for name, part in file.read(newest).items()} == parts(step, size)
    os.close(file.fd)


def test_at_least_the_last_two_are_kept_while_sizes_stay(slots: SlotFile) -> None:
    for step in range(10):
        slots.write(0, 1, step, parts(step))
        assert steps(slots)[-2:] == list(range(max(step - 1, 0), step + 1))


def test_a_writer_killed_at_any_moment_leaves_whole_states_only(slots: SlotFile) -> None:
    for step in (1, 2, 3):
        slots.write(0, 1, step, parts(step, 400_000))
    for delay in (0.0, 0.002, 0.005, 0.01, 0.02):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, b"!")
            for step in range(4, 100_000):
                slots.write(0, 1, step, parts(step, 400_000))
        os.read(reader, 1)
        signal.sigtimedwait([], delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
        assert len(slots.infos()) >= 2
        for info in slots.infos():
            assert {n: bytes(p) for n, p in slots.read(info).items()} == parts(info.step, 400_000)


def test_a_state_goes_to_another_host_as_it_lies(slots: SlotFile) -> None:
    info = slots.write(3, 2, 9, parts(9))
    other = SlotFile.create("other")
    other.put_raw(3, 2, 9, info.table, bytes(slots.raw(info)))
    found = other.find(9, 2)
    assert found is not None
    assert {n: bytes(p) for n, p in other.read(found).items()} == parts(9)
    os.close(other.fd)


def test_what_is_of_another_course_or_later_is_dropped(slots: SlotFile) -> None:
    for step in (4, 5, 6):
        slots.write(0, 1, step, parts(step))
    slots.keep(trajectory=1, last_step=5)
    assert steps(slots) == [4, 5]
    slots.keep(trajectory=2)
    assert steps(slots) == []


def test_a_changed_table_is_noticed(slots: SlotFile) -> None:
    info = slots.write(0, 1, 1, parts(1))
    os.pwrite(slots.fd, b"X", PAGE + info.index * (os.fstat(slots.fd).st_size // 3) + 3)
    with pytest.raises(SlotDamaged, match="step 1"):
        slots.read(info)
