"""Memories of hosts: copies go to the partner, come back to a spare, and are dropped with the course of the run."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from opt_runtime.agent.copies import Copies, NoCopy
from opt_runtime.local.cluster import wait_for
from opt_runtime.memory.rank import Acks
from opt_runtime.memory.slots import SlotFile
from opt_runtime.messages import Copy
from opt_runtime.wire import Server

pytestmark = pytest.mark.unit


@contextmanager
def host() -> Iterator[tuple[Copies, str]]:
    copies = Copies(1)
    server = Server("127.0.0.1:0", copies.routes())
    server.start()
    yield copies, server.address
    server.stop()
    copies.partner("")


def held(copies: Copies) -> set[tuple[int, int]]:
    return {(copy.unit, copy.step) for copy in copies.listing()}


def test_a_state_travels_to_the_partner_and_from_there_to_a_spare() -> None:
    with host() as (mine, _), host() as (theirs, address), host() as (spare, _):
        mine.partner(address)
        for step in (1, 2, 3):
            mine.slots[0].write(5, 1, step, {"w": bytes([step]) * 5000})
            mine.published(0)
            assert wait_for(lambda step=step: Acks(mine.acks_fd)[0] == step, 10)
        assert held(theirs) >= {(5, 2), (5, 3)}
        wanted = Copy(unit=5, step=2, trajectory=1)
        spare.bring(0, wanted, [address])
        found = spare.slots[0].find(5, 1, 2)
        assert found is not None
        assert bytes(spare.slots[0].read(found)["w"]) == b"\2" * 5000
        spare.bring(0, wanted, [])
        with pytest.raises(NoCopy, match=r"does not give it: .* 404"):
            spare.bring(0, Copy(unit=5, step=9, trajectory=1), [address])
        with pytest.raises(NoCopy, match="is in no memory"):
            spare.bring(0, Copy(unit=5, step=9, trajectory=1), [])


def damage(slots: SlotFile, step: int) -> None:
    """Flip one bit of a weight, as a bad memory module does."""
    info = next(info for info in slots.infos() if info.step == step)
    slots.body(info)[-1] ^= 1


def test_a_flipped_bit_is_found_and_the_partners_copy_taken() -> None:
    with host() as (mine, _), host() as (theirs, address):
        mine.partner(address)
        mine.slots[0].write(5, 1, 2, {"w": b"\2" * 5000})
        mine.published(0)
        assert wait_for(lambda: held(theirs) == {(5, 2)}, 10)
        damage(mine.slots[0], 2)
        (word,) = mine.bring(0, Copy(unit=5, step=2, trajectory=1), [address])
        assert "unit 5 of step 2: its bytes are not those that were written" in word
        found = mine.slots[0].find(5, 1, 2)
        assert found is not None
        assert bytes(mine.slots[0].read(found)["w"]) == b"\2" * 5000
        assert mine.bring(0, Copy(unit=5, step=2, trajectory=1), []) == []


def test_what_is_damaged_everywhere_is_nowhere() -> None:
    with host() as (mine, _), host() as (theirs, address):
        for copies in (mine, theirs):
            copies.slots[0].write(5, 1, 2, {"w": b"\2" * 5000})
            damage(copies.slots[0], 2)
        with pytest.raises(NoCopy, match=r"is in no memory.*not those that were written.*does not give it.*not those"):
            mine.bring(0, Copy(unit=5, step=2, trajectory=1), [address])


def test_memory_that_the_run_does_not_go_on_from_is_given_back() -> None:
    with host() as (mine, _), host() as (theirs, address):
        mine.partner(address)
        mine.slots[0].write(5, 1, 2, {"w": b"x"})
        mine.published(0)
        assert wait_for(lambda: held(theirs) == {(5, 2)}, 10)
        theirs.keep(1, 2)
        assert held(theirs) == {(5, 2)}
        theirs.keep(1, 7)
        assert held(theirs) == set()


def test_another_course_of_the_run_drops_what_was() -> None:
    with host() as (mine, _), host() as (theirs, address):
        mine.partner(address)
        for step in (1, 2):
            mine.slots[0].write(0, 1, step, {"w": b"x"})
            mine.published(0)
            assert wait_for(lambda step=step: (0, step) in held(theirs), 10)
        theirs.keep(1, last_step=1)
        assert held(theirs) == {(0, 1)}
        theirs.keep(2, None)
        assert held(theirs) == set()


def test_a_partner_that_is_gone_is_given_up() -> None:
    with host() as (mine, _):
        mine.partner("127.0.0.1:1")
        mine.slots[0].write(0, 1, 1, {"w": b"x"})
        mine.published(0)
        assert wait_for(lambda: Acks(mine.acks_fd)[0] > 1, 10), "nobody waits for a partner that is gone"
