"""What is kept on disk about a running cluster, and which clusters there are."""

import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from optcluster.locks import one_at_a_time
from optcluster.paths import clusters_root, make_private
from optcluster.procs import Process


@dataclass(frozen=True)
class Record:
    """A cluster's name, its address block, who brings it up, whom it ends with (none: it stays), and its size."""

    name: str
    block: int
    starter: Process
    owner: Process | None
    nodes: int
    sysctls: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The cluster's folder."""
        return clusters_root() / self.name

    @property
    def group(self) -> str:
        """The cluster's control group."""
        return f"optcluster-{self.name}"

    def write(self) -> None:
        """Keeps the record; readers see the old one or the new one."""
        make_private(self.folder)
        temporary = self.folder / ".record"
        temporary.write_text(json.dumps(asdict(self)))
        temporary.rename(self.folder / "record.json")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads what `write` wrote."""
        document = json.loads((folder / "record.json").read_text())
        starter, owner = Process(**document.pop("starter")), document.pop("owner")
        return cls(**document, starter=starter, owner=Process(**owner) if owner else None)


def all_records() -> list[Record]:
    """Every cluster of this cache folder, running or left behind."""
    return [Record.read(path.parent) for path in sorted(clusters_root().glob("*/record.json"))]


def allocation() -> AbstractContextManager[None]:
    """One process at a time may choose names and addresses."""
    return one_at_a_time(make_private(clusters_root()) / ".allocation.lock")


def teardown() -> AbstractContextManager[None]:
    """One process at a time may take clusters down: an owner and its reaper may both want to."""
    return one_at_a_time(make_private(clusters_root()) / ".teardown.lock")
