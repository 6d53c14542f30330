"""Removes what the cache holds beyond what this checkout would use."""

import shutil
from pathlib import Path

from optcluster import build, images, role_images
from optcluster.errors import ClusterError
from optcluster.families import FAMILIES
from optcluster.paths import images_root, tools_root
from optcluster.record import all_records


def prune() -> list[Path]:
    """Removes programs, image archives and image stores of other digests; returns what was removed.

    Raises:
        ClusterError: a cluster is running, and may be using them.
    """
    running = [record.name for record in all_records()]
    if running:
        raise ClusterError(f"clusters are running and use the cache: {', '.join(running)}; take them down first")
    outdated = [path for path in _everything() if path not in _in_use()]
    for path in outdated:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return outdated


def _everything() -> list[Path]:
    return [*tools_root().glob("[!.]*-*"), *images_root().glob("*.tar"), *images_root().glob("store-*")]


def _in_use() -> set[Path]:
    roles = role_images.cached(role_images.ROLES)
    pause = images.pause_archive()
    stores = [images.store_path([pause]), images.store_path([pause, *role_images.cached()])]
    return {*(build.folder_of(family) for family in FAMILIES.values()), pause, *roles, *stores}
