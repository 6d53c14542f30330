"""A disk of a few KiB or MiB, for real, in namespaces of a command's own."""

from __future__ import annotations

from pathlib import Path


def small_disk(folder: Path, size: str) -> list[str]:
    """Return a command that gives what follows it a disk of this size (`4m`, `64k`) at `folder`."""
    folder.mkdir()
    mount = f'mount -t tmpfs -o size={size} small-disk {folder} && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
