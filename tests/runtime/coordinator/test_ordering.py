"""Orders from decisions: ranks, sources, partners."""

import pytest

from opt_api.documents.plan import LayoutPlan
from opt_runtime.coordinator.ordering import Peer, gang_orders, partner_of
from opt_runtime.coordinator.settings import allowed_sizes
from opt_runtime.core.actions import Restore, StartAttempt
from opt_runtime.memory.units import Division

pytestmark = pytest.mark.unit
GANG = ("h0", "h1", "h2")
APART = Division(pieces=3, per_host=1)


def peers(*names: str, domains: dict[str, str] | None = None) -> dict[str, Peer]:
    return {name: Peer(name, f"{name}:1", (domains or {}).get(name, "")) for name in names}


def test_copies_go_round_the_ring_so_that_each_keeps_one() -> None:
    keepers = [partner_of(host, GANG, peers(*GANG), APART) for host in GANG]
    assert keepers == ["h1", "h2", "h0"]


def test_another_failure_domain_is_preferred_and_a_spare_will_do() -> None:
    domains = {"h0": "a", "h1": "a", "h2": "b", "spare": "b"}
    assert partner_of("h0", GANG, peers(*GANG, "spare", domains=domains), APART) == "h2"
    assert partner_of("h0", ("h0",), peers("h0", "spare"), APART) == "spare"
    assert partner_of("h0", ("h0",), peers("h0"), APART) == ""
    assert partner_of("h0", ("h0", "h1"), peers("h0", "h1", domains={"h0": "a", "h1": "a"}), APART) == "h1"


def test_hosts_that_keep_the_same_units_need_no_keeper_unless_they_may_fail_together() -> None:
    equal = Division(pieces=1, per_host=1)
    assert [partner_of(host, GANG, peers(*GANG), equal) for host in GANG] == ["", "", ""]
    together = {"h0": "a", "h1": "a", "h2": "a", "spare": "b"}
    assert partner_of("h0", GANG, peers(*GANG, "spare", domains=together), equal) == "spare"


def test_each_host_is_told_its_ranks_and_whose_memory_they_come_from() -> None:
    start = StartAttempt(4, ("h0", "h2"), Restore(17, dict.fromkeys(range(4), ("h0",))), 2, "HostLost", stacks=(1,))
    orders = gang_orders(start, 3, Division(4, 2), peers("h0", "h2"), "r:1", None, (), 99)
    assert [placed.rank for placed in orders["h2"].ranks] == [2, 3]
    assert [placed.sources for placed in orders["h0"].ranks] == [(), ()]
    assert [placed.sources for placed in orders["h2"].ranks] == [("h0:1",), ("h0:1",)]
    told = orders["h2"]
    assert (told.attempt, told.trajectory, told.world_size, told.restore_step) == (4, 3, 4, 17)
    assert (told.partner, told.from_memory, told.stacks, told.number) == ("h0:1", True, (1,), 99)


def test_from_the_store_no_source_is_named() -> None:
    start = StartAttempt(1, ("h0",), Restore(), 0, "Started")
    orders = gang_orders(start, 1, Division(1, 1), peers("h0"), "r:1", None, (), 1)
    assert not orders["h0"].from_memory
    assert orders["h0"].ranks[0].sources == ()


@pytest.mark.parametrize(
    ("hosts", "devices", "micro", "batch", "sizes"),
    [(4, 1, 2, 16, (1, 2, 4)), (4, 2, 1, 16, (1, 2, 4)), (3, 1, 1, 12, (1, 2, 3)), (3, 1, 1, 8, (1, 2, 3))],
)
def test_smaller_gangs_divide_the_batch(
    hosts: int, devices: int, micro: int, batch: int, sizes: tuple[int, ...]
) -> None:
    layout = LayoutPlan(
        hosts=hosts, devices_per_host=devices, device="cpu", device_model="cpu", tensor_parallel=1, shard=1,
        replicate=hosts * devices, micro_batch_sequences=micro, accumulation=1, activation_checkpointing="none",
        compile=False, engine="native",
    )  # fmt: skip
    assert allowed_sizes(layout, batch) == sizes
