"""How a worker meets its gang.

Who is in it, and as which rank, was decided before: `OrderedRendezvous` is torch elastic's interface to that, for
whatever is written against it.
"""

from __future__ import annotations

from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.rendezvous.api import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from opt_runtime.messages import WorkerOrder


class OrderedRendezvous(RendezvousHandler):
    """A rendezvous whose outcome the coordinator has ordered: nobody is waited for, nothing is agreed on.

    Args:
        order: Of the worker.
        timeout_s: How long to look for the store.
    """

    def __init__(self, order: WorkerOrder, timeout_s: float = 60.0) -> None:
        self._order, self._timeout = order, timedelta(seconds=timeout_s)
        self._host, _, port = order.rendezvous.rpartition(":")
        self._port = int(port)

    def get_backend(self) -> str:
        """Its name."""
        return "opt-coordinator"

    @property
    def use_agent_store(self) -> bool:
        """The store is there already; rank 0 starts none."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Store, rank and world size. The store is the attempt's own name space: other attempts meet nobody there.

        Raises:
            torch.distributed.DistStoreError: Nobody serves it within the time given.
        """
        store = TCPStore(self._host, self._port, is_master=False, timeout=self._timeout, wait_for_workers=False)
        scoped = PrefixStore(f"{self._order.run}/{self._order.attempt}", store)
        meeting = RendezvousStoreInfo(self._host, self._port)
        return RendezvousInfo(scoped, self._order.rank, self._order.world_size, meeting)

    def is_closed(self) -> bool:
        """A worker is started for one rendezvous only, and that one is open."""
        return False

    def set_closed(self) -> None:
        """Only the coordinator ends attempts."""

    def num_nodes_waiting(self) -> int:
        """Hosts that came later wait at the coordinator, which regroups the gang by itself."""
        return 0

    def get_run_id(self) -> str:
        """Name of the training."""
        return self._order.run

    def shutdown(self) -> bool:
        """Nothing of it outlives the worker."""
        return True


def join(order: WorkerOrder, timeout_s: float = 60.0) -> Store:
    """The store of the order's gang.

    Raises:
        torch.distributed.DistStoreError: Nobody serves it within the time given.
    """
    return OrderedRendezvous(order, timeout_s).next_rendezvous().store
