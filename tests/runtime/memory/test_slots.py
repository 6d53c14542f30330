"""Slots in shared memory: what a killed writer leaves behind, what another process sees, what is dropped."""

import os
import resource
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opt_runtime.memory.slots import PAGE, SlotDamaged, SlotFile, shared

pytestmark = pytest.mark.unit


@pytest.fixture
def slots() -> SlotFile:
    return SlotFile.create("test")


def parts(step: int, size: int = 10_000) -> dict[str, bytes]:
    return {"weights": bytes([step % 256]) * size, "empty": b"", "loop": str(step).encode()}


def steps(file: SlotFile) -> list[int]:
    return [info.step for info in file.infos()]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3 * PAGE), min_size=1, max_size=8))
def test_the_newest_states_are_there_whole_whatever_their_sizes(sizes: list[int]) -> None:
    file = SlotFile.create("test")
    for step, size in enumerate(sizes):
        file.write(7, 1, step, parts(step, size))
        newest = file.infos()[-1]
        assert (newest.step, newest.unit, newest.trajectory) == (step, 7, 1)
        assert {name: bytes(part) for name, part in file.read(newest).items()} == parts(step, size)


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

    def fill(place: memoryview) -> None:
        place[:] = slots.body(info)

    other.put(3, 2, 9, info.size, info.digest, fill)
    found = other.find(3, 2, 9)
    assert found is not None
    other.check(found)
    assert {n: bytes(p) for n, p in other.read(found).items()} == parts(9)


def test_what_is_of_another_course_or_later_is_dropped(slots: SlotFile) -> None:
    for step in (4, 5, 6):
        slots.write(0, 1, step, parts(step))
    slots.keep(trajectory=1, last_step=5)
    assert steps(slots) == [4, 5]
    slots.keep(trajectory=2)
    assert steps(slots) == []


@settings(max_examples=30)
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_any_flipped_bit_is_found_and_the_state_dropped(place: int, bit: int) -> None:
    file = SlotFile.create("test")
    file.write(0, 1, 1, parts(1))
    info = file.write(0, 1, 2, parts(2))
    file.body(info)[place % info.size] ^= 1 << bit
    with pytest.raises(SlotDamaged, match="step 2"):
        file.check(info)
    assert steps(file) == [1]


def test_memory_that_has_run_out_leaves_the_older_states(slots: SlotFile) -> None:
    slots.write(0, 1, 1, parts(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            slots.write(0, 1, 2, parts(2, 4 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert steps(slots) == [1]
    assert {n: bytes(p) for n, p in slots.read(slots.infos()[0]).items()} == parts(1)


def test_more_than_the_machine_has_is_refused_before_it_is_taken(slots: SlotFile) -> None:
    with pytest.raises(OSError, match=r"more bytes of shared memory are needed, \d+ are free here"):
        slots.put(0, 1, 1, 1 << 45, 0, lambda _: None)


@given(st.lists(st.integers(0, 1000), max_size=20), st.integers(1, 4))
def test_holders_of_equal_states_keep_each_part_once_and_alike_much(sizes: list[int], of: int) -> None:
    whole = {f"part-{number}": bytes(size) for number, size in enumerate(sizes)}
    kept = [list(shared(whole, number, of)) for number in range(of)]
    assert sorted(name for names in kept for name in names) == sorted(whole)
    loads = [sum(len(whole[name]) for name in names) for names in kept]
    assert max(loads) - min(loads) <= max(sizes, default=0)
