"""A cluster leaves no trace: not when it is taken down, and not when its owner is killed without warning."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from optcluster import cgroups, lifecycle, network, procs, sysctls
from optcluster.cluster import Cluster
from optcluster.wait import wait_for

pytestmark = pytest.mark.cluster

OWNER = """
import sys, time
from optcluster import lifecycle, procs
made = lifecycle.up(sys.argv[1], 1, procs.me())
if sys.argv[2] == "frozen":
    made.node(1).freeze()
print("up", flush=True)
time.sleep(600)
"""


def processes_with(text: str) -> list[str]:
    """The command lines of processes that name `text`, this one left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and folder.name != str(os.getpid()):
            found.append(f"{folder.name}: {line[:200]}")
    return found


@dataclass(frozen=True)
class Before:
    """What there is of a running cluster; names and numbers may be used again, so identities are kept."""

    cluster: Cluster
    processes: frozenset[procs.Process]
    link: int

    @classmethod
    def of(cls, cluster: Cluster) -> "Before":
        machines = [machine.process for machine in (cluster.hub, *(one.machine for one in cluster.nodes))]
        holders = [found for found in machines if found]
        inits = [init for holder in holders for init in holder.children()]
        inside = [found for pid in cgroups.pids(cluster.record.group) if (found := procs.find(pid))]
        reaper = lifecycle.reaper_of(cluster)
        assert reaper
        # etcd, API server, two controllers, DNS; containerd, kubelet, proxy
        assert len(inside) >= 8
        assert len(inits) == len(machines) == 2
        return cls(cluster, frozenset([*holders, *inits, *inside, reaper]), link_number(cluster))

    def traces(self) -> dict[str, object]:
        """What the cluster has left on this machine; all false when there is nothing."""
        folder = str(self.cluster.folder)
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if folder in line]
        return {
            "processes": [process for process in self.processes if process.alive] + processes_with(folder),
            "control groups": cgroups.exists(self.cluster.record.group),
            "mounts": mounts,
            "link": bool(self.link) and self.link == link_number(self.cluster),
            "folder": self.cluster.folder.exists(),
        }

    def nothing_left(self) -> bool:
        return not any(self.traces().values())

    def wait_nothing_left(self, deadline_s: float) -> None:
        wait_for(self.nothing_left, deadline_s, "nothing left", lambda: str(self.traces()))


def link_number(cluster: Cluster) -> int:
    """The kernel's number of the cluster's link; 0 if there is none."""
    path = Path(f"/sys/class/net/{network.host_link(cluster.addresses)}/ifindex")
    return int(path.read_text()) if path.exists() else 0


@contextmanager
def owned_elsewhere(name: str, state: str = "running") -> Iterator[Before]:
    """A cluster of one node that belongs to another process, which is killed at the end of the block."""
    path = {"PYTHONPATH": str(Path(lifecycle.__file__).resolve().parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, name, state], stdout=subprocess.PIPE, env={**os.environ, **path}
    ) as owner:
        assert owner.stdout is not None
        try:
            assert owner.stdout.readline() == b"up\n"
            yield Before.of(Cluster.load(name))
        finally:
            owner.send_signal(signal.SIGKILL)


def test_down_leaves_no_trace():
    made = lifecycle.up(f"down-{os.getpid()}", 1, procs.me())
    before = Before.of(made)
    assert {name for name, value in before.traces().items() if not value} == {"mounts"}
    lifecycle.down(made)
    before.wait_nothing_left(5)


@pytest.mark.parametrize("state", ["running", "frozen"])
def test_a_killed_owner_leaves_no_trace(state: str):
    with owned_elsewhere(f"killed-{state}-{os.getpid()}", state) as before:
        pass
    before.wait_nothing_left(30)


def test_the_next_run_removes_what_a_killed_reaper_left():
    with owned_elsewhere(f"orphan-{os.getpid()}") as before:
        reaper = lifecycle.reaper_of(before.cluster)
        assert reaper
        reaper.kill()
    wait_for(lambda: not before.traces()["processes"], 30, "every machine gone", lambda: str(before.traces()))
    assert before.cluster.folder.exists()
    lifecycle.clean_up()
    before.wait_nothing_left(5)


def test_kernel_settings_that_a_kubelet_changes_are_put_back():
    before = sysctls.read()
    changed = Path("/proc/sys/kernel/panic")
    changed.write_text(str(int(before["kernel/panic"]) + 1))
    assert sysctls.read() != before
    sysctls.restore(before)
    assert sysctls.read() == before
