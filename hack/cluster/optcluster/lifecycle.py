"""Brings clusters up and takes them down again, without a trace, whatever happens in between."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from optcluster import cgroups, network, procs, programs, sysctls
from optcluster.addresses import MAX_NODES, choose_block, routes_in_use
from optcluster.cluster import Cluster
from optcluster.errors import ClusterError, say
from optcluster.families import CONTROL_PLANE, NODES
from optcluster.procs import Process
from optcluster.record import Record, all_records, allocation, teardown

_reapers: dict[str, "subprocess.Popen[bytes]"] = {}  # our own children, to be waited for when they end


def up(
    name: str, nodes: int, owner: Process | None = None, archives: list[Path] | None = None,
    flags: Mapping[str, tuple[str, ...]] | None = None,
) -> Cluster:  # fmt: skip
    """Brings up the cluster `name` with that many real nodes, building what is not built yet.

    Args:
        name: what to call it; two clusters of different names may run side by side.
        nodes: how many real nodes; 0 gives a control plane alone.
        owner: the process that the cluster ends with; without one it runs until `down`.
        archives: images that every node has from the start.
        flags: more flags of programs of the control plane, by their names.

    Raises:
        ClusterError: the machine lacks something, or the cluster is already up.
    """
    if not re.fullmatch("[a-z0-9][a-z0-9-]{0,39}", name):
        raise ClusterError(f"name: {name!r} is not 1 to 40 small letters, digits and hyphens")
    if not 0 <= nodes <= MAX_NODES:
        raise ClusterError(f"nodes: {nodes} is not from 0 to {MAX_NODES}")
    if os.geteuid() != 0:
        raise ClusterError("a cluster needs root, for namespaces, control groups and mounts: run it with sudo")
    if nodes or programs.assets() is None:
        programs.provide(CONTROL_PLANE + (NODES if nodes else ()))
    else:  # the user's test assets may be no more than an API server and etcd
        programs.provide((), programs.DEBIAN_FOR_CONTROL_PLANE)
    clean_up()
    cluster = Cluster(_allocate(name, owner, nodes))
    started = time.monotonic()
    try:
        if owner:
            _start_reaper(cluster, owner)
        cluster.start_control_plane(flags or {})
        say(f"control plane ready after {time.monotonic() - started:.1f} s")
        if nodes:
            cluster.start_nodes(archives or [])
            say(f"{nodes} nodes ready after {time.monotonic() - started:.1f} s")
    except BaseException:
        down(cluster)
        raise
    return cluster


def down(cluster: Cluster) -> None:
    """Takes a cluster down, whatever state it is in, and leaves no trace of it."""
    with teardown():
        if cluster.folder.exists():  # another process may have done it while this one waited for its turn
            _down(cluster)


def _down(cluster: Cluster) -> None:
    record = cluster.record
    _stop_reaper(cluster)
    cgroups.thaw_all(record.group)
    for machine in [*(one.machine for one in cluster.nodes), cluster.hub]:
        machine.kill()
    network.remove_host_link(cluster.addresses)
    cgroups.remove(record.group)
    if all(other.name == record.name for other in all_records()):
        sysctls.restore(record.sysctls)
    shutil.rmtree(record.folder)


def _start_reaper(cluster: Cluster, owner: Process) -> None:
    watched = os.pidfd_open(owner.pid)
    child = subprocess.Popen(
        [sys.executable, "-m", "optcluster.reaper", cluster.record.name, str(watched)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, pass_fds=(watched,),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )  # fmt: skip
    os.close(watched)
    _reapers[cluster.record.name] = child
    (cluster.folder / "reaper").write_text(json.dumps(asdict(procs.identify(child.pid))))


def reaper_of(cluster: Cluster) -> Process | None:
    """The process that outlives the cluster's owner to clean up after it."""
    note = cluster.folder / "reaper"
    return Process(**json.loads(note.read_text())) if note.exists() else None


def _stop_reaper(cluster: Cluster) -> None:
    reaper = reaper_of(cluster)
    if reaper and reaper != procs.me():
        reaper.kill()
    if child := _reapers.pop(cluster.record.name, None):
        child.wait()


def clean_up() -> None:
    """Takes down clusters whose owner is gone, or whose control plane is (the machine was switched off)."""
    for record in all_records():
        cluster = Cluster(record)
        abandoned = record.owner is not None and not record.owner.alive
        if abandoned or not (cluster.hub.is_up or record.starter.alive):
            say(f"removing what is left of cluster {record.name!r}")
            down(cluster)


def _allocate(name: str, owner: Process | None, nodes: int) -> Record:
    with allocation():
        others = all_records()
        if name in (other.name for other in others):
            raise ClusterError(f"cluster {name!r} is already up: `hack/cluster/cluster.py down --name {name}` first")
        block = choose_block(routes_in_use(), {other.block for other in others})
        before = others[0].sysctls if others else sysctls.read()
        record = Record(name, block, procs.me(), owner, nodes, before)
        record.write()
        return record
