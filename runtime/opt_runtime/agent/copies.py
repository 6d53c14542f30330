"""States in this host's memory: its own ranks' slots, and copies of a partner's, given to whoever restores a rank."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog
from pydantic import BaseModel

from opt_runtime.memory.rank import NO_PARTNER, Acks
from opt_runtime.memory.slots import SlotDamaged, SlotFile, SlotInfo
from opt_runtime.messages import Copy
from opt_runtime.wire import JSON, Answer, Client, Gone, Request, Routes

BINARY = "application/octet-stream"
FETCH_TIMEOUT_S = 60.0
log = structlog.get_logger(__name__)


class Extent(BaseModel):
    """Bytes and digest of a state's body."""

    size: int
    digest: int


@dataclass(frozen=True, slots=True)
class Found:
    """A state in some slots."""

    slots: SlotFile
    info: SlotInfo


class NoCopy(LookupError):  # noqa: N818 - caught by what happened
    """The state that was asked for is in nobody's memory, or damaged in all."""


class Copies:
    """All states this host can give, and the thread that sends its own ranks' states to the partner."""

    def __init__(self, workers: int) -> None:
        self.slots = [SlotFile.create(f"rank-{index}") for index in range(workers)]
        self.acks_fd = os.memfd_create("acks", 0)
        os.ftruncate(self.acks_fd, os.sysconf("SC_PAGE_SIZE"))
        self._acks = Acks(self.acks_fd)
        self._held: dict[int, SlotFile] = {}
        self._lock = threading.Lock()
        self._partner: Client | None = None
        self._news = threading.Condition()
        self._unsent: set[int] = set()
        self.partner("")
        threading.Thread(target=self._send_all, name="partner", daemon=True).start()

    def routes(self) -> Routes:
        """What the agent's server answers for other hosts."""
        return {("GET", "/copy"): self._give, ("GET", "/extent"): self._extent, ("PUT", "/copy"): self._take}

    def listing(self) -> tuple[Copy, ...]:
        """Everything held here, once."""
        infos = [info for slots in self._everywhere() for info in slots.infos()]
        return tuple(dict.fromkeys(Copy(unit=i.unit, step=i.step, trajectory=i.trajectory) for i in infos))

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
        """Drop states of another course of the run, later ones than the step it goes on from, and idle memory."""
        for slots in self._everywhere():
            slots.keep(trajectory, last_step)
        with self._lock:
            for unit in [unit for unit, slots in self._held.items() if _idle(slots, last_step)]:
                del self._held[unit]

    def bring(self, local_rank: int, wanted: Copy, sources: Sequence[str]) -> list[str]:
        """Have a sound state in a local rank's slots, from wherever it is; what was wrong on the way, in words.

        Raises:
            NoCopy: It is neither here nor at any of the addresses, or damaged everywhere; the message has it all.
            OSError: There is no memory to put it into.
        """
        slots, problems = self.slots[local_rank], list[str]()
        while found := self._find(wanted):
            try:
                found.slots.check(found.info)
            except SlotDamaged as damage:
                problems.append(str(damage))
                continue
            if found.slots is not slots:
                self._put(slots, wanted, found)
            return problems
        for source in sources:
            try:
                self._fetch(slots, wanted, source)
            except (Gone, ValueError) as fault:
                problems.append(f"{source} does not give it: {fault}")
            else:
                return problems
        raise NoCopy("; ".join([f"{wanted!r} is in no memory", *problems]))

    def _everywhere(self) -> list[SlotFile]:
        with self._lock:
            return [*self.slots, *self._held.values()]

    def _find(self, wanted: Copy) -> Found | None:
        for slots in self._everywhere():
            if info := slots.find(wanted.unit, wanted.trajectory, wanted.step):
                return Found(slots, info)
        return None

    def _put(self, slots: SlotFile, wanted: Copy, found: Found) -> None:
        def fill(place: memoryview) -> None:
            place[:] = found.slots.body(found.info)

        size, digest = found.info.size, found.info.digest
        slots.put(wanted.unit, wanted.trajectory, wanted.step, size, digest, fill)

    def _fetch(self, slots: SlotFile, wanted: Copy, source: str) -> None:
        client, query = Client(source, timeout_s=FETCH_TIMEOUT_S), _query(wanted)
        try:
            extent = Extent.model_validate_json(client.ask("GET", f"/extent?{query}"))
            info = slots.put(
                wanted.unit, wanted.trajectory, wanted.step, extent.size, extent.digest,
                lambda place: client.ask_into(f"/copy?{query}", place),
            )  # fmt: skip
        finally:
            client.close()
        slots.check(info)

    def _extent(self, request: Request) -> Answer:
        if found := self._find(_copy_of(request)):
            return 200, JSON, Extent(size=found.info.size, digest=found.info.digest).model_dump_json().encode()
        return _no_copy(request)

    def _give(self, request: Request) -> Answer:
        if found := self._find(_copy_of(request)):
            return 200, BINARY, found.slots.body(found.info)
        return _no_copy(request)

    def _take(self, request: Request) -> Answer:
        wanted, size = _copy_of(request), request.unread
        with self._lock:
            slots = self._held.get(wanted.unit) or SlotFile.create(f"copy-of-{wanted.unit}")
            self._held[wanted.unit] = slots
        try:
            digest = int(request.query["digest"])
            slots.put(wanted.unit, wanted.trajectory, wanted.step, size, digest, request.read_into)
        except ConnectionError:
            raise
        except OSError as full:
            return 507, "text/plain", f"{full}\n".encode()
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
        copy = Copy(unit=info.unit, step=info.step, trajectory=info.trajectory)
        partner.ask("PUT", f"/copy?{_query(copy)}&digest={info.digest}", slots.body(info))
        if self._partner is partner:
            self._acks[local_rank] = info.step


def _idle(slots: SlotFile, step: int | None) -> bool:
    """Whether slots hold nothing that the run goes on from."""
    return not any(step is None or info.step == step for info in slots.infos())


def _query(copy: Copy) -> str:
    return f"unit={copy.unit}&step={copy.step}&trajectory={copy.trajectory}"


def _copy_of(request: Request) -> Copy:
    return Copy.model_validate({name: int(request.query[name]) for name in ("unit", "step", "trajectory")})


def _no_copy(request: Request) -> Answer:
    return 404, "text/plain", f"no copy of {_copy_of(request)!r}\n".encode()
