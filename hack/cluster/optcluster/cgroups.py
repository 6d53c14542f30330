"""Control groups of both versions behind the five things a cluster needs of them.

A machine's group has two children: `system` for its services and `pods`, which is the kubelet's to fill.
Version 1 has one tree per controller, and all are kept alike; version 2 has one tree.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")


def is_v2() -> bool:
    """Whether this machine has the unified hierarchy (version 2) only."""
    return (ROOT / "cgroup.controllers").exists()


def trees() -> list[Path]:
    """The roots of all hierarchies."""
    if is_v2():
        return [ROOT]
    return [folder for folder in sorted(ROOT.iterdir()) if (folder / "cgroup.procs").exists()]


def create(name: str) -> None:
    """Creates the group `name` (a path with slashes) and all above it, in every hierarchy."""
    for tree in trees():
        folder = tree
        for part in name.split("/"):
            _open_controllers(folder)
            folder = folder / part
            folder.mkdir(exist_ok=True)
            _copy_cpuset(folder)


def enter(name: str) -> None:
    """Moves the calling process into the group, in every hierarchy."""
    for tree in trees():
        (tree / name / "cgroup.procs").write_text("0")


def pids(name: str) -> set[int]:
    """Every process in the group and below it."""
    found: set[int] = set()
    for tree in trees():
        for folder in _walk(tree / name):
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
    return found - {0}


def freeze(name: str, frozen: bool, seconds: float = 10.0) -> None:
    """Stops (or resumes) every process of the group and below, at once and without a signal.

    Raises:
        TimeoutError: the kernel did not report the new state in time.
    """
    if is_v2():
        switch, word, report = ROOT / name / "cgroup.freeze", str(int(frozen)), ROOT / name / "cgroup.events"
        wanted = f"frozen {int(frozen)}"
    else:
        switch = report = ROOT / "freezer" / name / "freezer.state"
        word = wanted = "FROZEN" if frozen else "THAWED"
    switch.write_text(word)
    deadline = time.monotonic() + seconds
    while wanted not in report.read_text():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{report}: not {wanted!r} after {seconds:g} s")
        time.sleep(0.01)


def thaw_all(name: str) -> None:
    """Resumes the group and every group below it; a group that is gone is left in peace."""
    tree = ROOT if is_v2() else ROOT / "freezer"
    for folder in _walk(tree / name):
        with contextlib.suppress(OSError):
            if is_v2():
                (folder / "cgroup.freeze").write_text("0")
            else:
                (folder / "freezer.state").write_text("THAWED")


def remove(name: str, seconds: float = 10.0) -> None:
    """Removes the empty group and all below it; the kernel needs a moment after the last process is gone.

    Raises:
        OSError: a group still holds processes after `seconds`.
    """
    deadline = time.monotonic() + seconds
    for tree in trees():
        for folder in reversed(list(_walk(tree / name))):
            _remove_one(folder, deadline)


def exists(name: str) -> bool:
    """Whether any hierarchy has the group."""
    return any((tree / name).exists() for tree in trees())


def _remove_one(folder: Path, deadline: float) -> None:
    while folder.exists():
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _walk(top: Path) -> Iterator[Path]:
    """`top` and every group below it, parents first."""
    if not top.is_dir():
        return
    yield top
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(os.scandir(top), key=lambda found: found.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))


def _copy_cpuset(folder: Path) -> None:
    """A new group of version 1's cpuset is empty and takes no process until it is told CPUs and memory nodes."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = folder / name
        if not is_v2() and file.exists() and not file.read_text().strip():
            file.write_text((folder.parent / name).read_text())


def _open_controllers(folder: Path) -> None:
    """Version 2 hands controllers down one level at a time."""
    if not is_v2():
        return
    for controller in V2_CONTROLLERS:
        with contextlib.suppress(OSError):
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
