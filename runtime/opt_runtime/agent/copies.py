"""States in this host's memory: its own ranks' slots, and copies of a partner's, given to whoever restores a rank."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from opt_runtime.memory.rank import NO_PARTNER, Acks
from opt_runtime.memory.slots import SlotFile
from opt_runtime.messages import Copy
from opt_runtime.wire import Answer, Client, Gone, Request, Routes

COPIES_KEPT = 2
_TABLE = struct.Struct("<Q")
BINARY = "application/octet-stream"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """A copy of another host's state, as it lay there."""

    copy: Copy
    table: int
    raw: bytes


class NoCopy(LookupError):  # noqa: N818 - caught by what happened
    """The state that was asked for is in nobody's memory."""


class Copies:
    """All states this host can give, and the thread that sends its own ranks' states to the partner."""

    def __init__(self, workers: int) -> None:
        self.slots = [SlotFile.create(f"rank-{index}") for index in range(workers)]
        self.acks_fd = os.memfd_create("acks", 0)
        os.ftruncate(self.acks_fd, os.sysconf("SC_PAGE_SIZE"))
        self._acks = Acks(self.acks_fd)
        self._held: dict[int, list[Held]] = {}
        self._lock = threading.Lock()
        self._partner: Client | None = None
        self._news = threading.Condition()
        self._unsent: set[int] = set()
        self.partner("")
        threading.Thread(target=self._send_all, name="partner", daemon=True).start()

    def routes(self) -> Routes:
        """What the agent's server answers for other hosts."""
        return {("GET", "/copy"): self._give, ("PUT", "/copy"): self._take}

    def listing(self) -> tuple[Copy, ...]:
        """Everything held here."""
        own = [Copy(rank=i.rank, step=i.step, trajectory=i.trajectory) for s in self.slots for i in s.infos()]
        with self._lock:
            return (*own, *(held.copy for copies in self._held.values() for held in copies))

    def published(self, local_rank: int) -> None:
        """A worker has put a new state into its slots."""
        with self._news:
            self._unsent.add(local_rank)
            self._news.notify()

    def partner(self, address: str) -> None:
        """Send copies there from now on; empty for nowhere, and then no worker waits for any."""
        self._partner = Client(address) if address else None
        for index in range(len(self.slots)):
            self._acks[index] = 0 if address else NO_PARTNER

    def keep(self, trajectory: int, last_step: int | None) -> None:
        """Drop states of another course of the run, and later ones than the step it goes on from."""
        for slots in self.slots:
            slots.keep(trajectory, last_step)
        with self._lock:
            for rank, copies in self._held.items():
                self._held[rank] = [
                    held
                    for held in copies
                    if held.copy.trajectory == trajectory and (last_step is None or held.copy.step <= last_step)
                ]

    def bring(self, local_rank: int, wanted: Copy, source: str) -> None:
        """Have a state in a local rank's slots, from wherever it is.

        Raises:
            NoCopy: It is not here, and `source` does not give it.
        """
        slots = self.slots[local_rank]
        found = slots.find(wanted.step, wanted.trajectory)
        if found is not None and found.rank == wanted.rank:
            return
        held = self._find_held(wanted) or self._fetch(wanted, source)
        slots.put_raw(wanted.rank, wanted.trajectory, wanted.step, held.table, held.raw)

    def _fetch(self, wanted: Copy, source: str) -> Held:
        if not source:
            raise NoCopy(f"{wanted}: not in this host's memory, and no other host was named")
        client = Client(source, timeout_s=60.0)
        try:
            data = client.ask("GET", f"/copy?{_query(wanted)}")
        except (Gone, ValueError) as fault:
            raise NoCopy(f"{wanted}: {source} does not give it: {fault}") from fault
        finally:
            client.close()
        return Held(wanted, _TABLE.unpack_from(data)[0], data[_TABLE.size :])

    def _find_held(self, wanted: Copy) -> Held | None:
        with self._lock:
            return next((held for held in self._held.get(wanted.rank, []) if held.copy == wanted), None)

    def _give(self, request: Request) -> Answer:
        wanted = Copy.model_validate({key: int(value) for key, value in request.query.items()})
        if held := self._find_held(wanted):
            return 200, BINARY, _TABLE.pack(held.table) + held.raw
        for slots in self.slots:
            info = slots.find(wanted.step, wanted.trajectory)
            if info is not None and info.rank == wanted.rank:
                return 200, BINARY, _TABLE.pack(info.table) + bytes(slots.raw(info))
        return 404, "text/plain", f"no copy of {wanted}\n".encode()

    def _take(self, request: Request) -> Answer:
        query = {key: int(value) for key, value in request.query.items()}
        table = query.pop("table")
        held = Held(Copy.model_validate(query), table, request.body)
        with self._lock:
            kept = [old for old in self._held.get(held.copy.rank, []) if old.copy != held.copy]
            self._held[held.copy.rank] = [*kept, held][-COPIES_KEPT:]
        return 200, "text/plain", b""

    def _send_all(self) -> None:
        for local_rank in self._due():
            partner = self._partner
            if partner is None:
                continue
            try:
                self._send(local_rank, partner)
            except (Gone, ValueError) as fault:
                log.warning("the partner takes no copies; going on without", partner=partner.address, fault=str(fault))
                if self._partner is partner:
                    self.partner("")

    def _due(self) -> Iterator[int]:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._unsent)
                due = sorted(self._unsent)
                self._unsent.clear()
            yield from due

    def _send(self, local_rank: int, partner: Client) -> None:
        slots = self.slots[local_rank]
        infos = slots.infos()
        if not infos:
            return
        info = infos[-1]
        raw = slots.raw(info)
        copy = Copy(rank=info.rank, step=info.step, trajectory=info.trajectory)
        partner.ask("PUT", f"/copy?{_query(copy)}&table={info.table}", raw)
        if self._partner is partner:
            self._acks[local_rank] = info.step


def _query(copy: Copy) -> str:
    return f"rank={copy.rank}&step={copy.step}&trajectory={copy.trajectory}"
