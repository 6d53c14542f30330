"""No room left, for real: each store on a disk of a few MiB."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opt_store import Store, StoreError, StoreFull
from support.s3 import minio_server, seaweedfs_server
from support.small_disk import small_disk
from support.store import open_on

pytestmark = pytest.mark.integration

MIB = 1 << 20


FILL_A_FOLDER = """
import os, sys
from pathlib import Path
from opt_store import StoreFull, open_store
store = open_store(Path(sys.argv[1]).as_uri())
store.put("small", b"kept")
for attempt in (lambda: store.put("a", os.urandom(5 << 20)), lambda: store.upload("a", [os.urandom(5 << 20)])):
    try:
        attempt()
    except StoreFull as fault:
        print(fault)
    else:
        sys.exit("it was written")
assert [info.key for info in store.list()] == ["small"]
assert store.get("small") == b"kept"
store.put("fits", os.urandom(2 << 20))
"""


def test_a_full_folder(tmp_path: Path):
    command = [*small_disk(tmp_path / "disk", "4m"), sys.executable, "-c", FILL_A_FOLDER, str(tmp_path / "disk")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("no space is left on the file system; free some or use a larger one") == 2


def fill(store: Store) -> tuple[StoreError, set[str]]:
    """Write until the store will not; return its error and what it had taken."""
    taken: set[str] = set()
    for number in range(200):
        try:
            store.put(f"object-{number}", os.urandom(4 * MIB))
        except StoreError as fault:
            return fault, taken
        taken.add(f"object-{number}")
    raise AssertionError("the disk never filled up")


def test_a_full_minio(tmp_path: Path):
    disk = tmp_path / "disk"
    with minio_server(tmp_path, before=small_disk(disk, "100m"), data=disk) as server:
        store = open_on(server, f"s3://{server.bucket}")
        fault, taken = fill(store)
        assert isinstance(fault, StoreFull), fault
        assert "free space" in str(fault)
        assert {info.key for info in store.list()} == taken
        with pytest.raises(StoreFull):
            store.upload("large", [os.urandom(90 * MIB)])
        assert {info.key for info in store.list()} == taken
        for key in taken:
            store.get(key)


def test_a_full_seaweedfs(tmp_path: Path):
    """It answers a full disk as any fault of its own, so that the error can name the server, but not the disk."""
    disk = tmp_path / "disk"
    options = ["-master.volumeSizeLimitMB=8", "-volume.max=2"]
    with seaweedfs_server(tmp_path, before=small_disk(disk, "100m"), data=disk, options=options) as server:
        store = open_on(server, f"s3://{server.bucket}")
        fault, taken = fill(store)
        assert "InternalError" in str(fault), fault
        assert {info.key for info in store.list()} == taken
        for key in taken:
            store.get(key)
