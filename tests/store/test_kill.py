"""Killed at any point, a writer leaves whole objects, no manifest without them, and goes on when run again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opt_store import Store, open_store
from support.fault_proxy import FaultProxy, Holds, Request
from support.s3 import S3Server

pytestmark = pytest.mark.integration

MIB = 1 << 20
PUBLISH = """
import sys
from opt_store import StoreSettings, commit, stage
from opt_store import open_store
store = open_store(sys.argv[1], settings=StoreSettings(part_bytes=5 << 20, parallel=1))
objects = {name: [name.encode() * (6 << 20)] for name in ("aa", "bb", "cc")}
commit(store, "manifest", b"{}", stage(store, "set", objects))
"""
DOWNLOAD = """
import sys
from pathlib import Path
from opt_store import StoreSettings
from opt_store import open_store
open_store(sys.argv[1], settings=StoreSettings(part_bytes=5 << 20, parallel=1)).download("set/bb", Path(sys.argv[2]))
"""
REWRITE = """
import sys
from opt_store import open_store
store = open_store(sys.argv[1])
for number in range(1, 1000):
    store.put("a", bytes([number % 251]) * (number * 1000))
    store.upload("b", [bytes([number % 251]) * 300_000, b"end"])
"""


def start(script: str, *arguments: str, server: S3Server | None = None, endpoint: str = "") -> subprocess.Popen[bytes]:
    """Run a script that finds server and credentials in its environment, as a pod does."""
    environment = dict(os.environ)
    if server:
        environment |= {"AWS_ENDPOINT_URL": endpoint or server.endpoint, "AWS_REGION": "us-east-1"}
        environment |= {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    script = script.replace("import open_store", "import open_store; print('imported', flush=True)")
    return subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment, stdout=subprocess.PIPE)


def run(script: str, *arguments: str, server: S3Server, endpoint: str = "") -> int:
    process = start(script, *arguments, server=server, endpoint=endpoint)
    process.communicate(timeout=60)
    return process.returncode


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Kill a writer so long after it began to write."""
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def part_of(name: str, number: int | None = None):
    def matches(request: Request) -> bool:
        return request.key.endswith(name) and request.part is not None and number in {None, request.part}

    return matches


def test_an_upload_goes_on_after_a_kill(server: S3Server, url: str, direct: Store, proxy: FaultProxy):
    held = proxy.spoil(Holds(), part_of("set/bb", 3))
    first = start(PUBLISH, url, server=server, endpoint=proxy.endpoint)
    assert held.reached.wait(60)
    kill(first)
    held.release.set()
    assert [info.key for info in direct.list()] == ["set/aa"]
    before = proxy.count(part_of("set/aa")), proxy.count(part_of("set/bb"))
    assert run(PUBLISH, url, server=server, endpoint=proxy.endpoint) == 0
    assert proxy.count(part_of("set/aa")) == before[0], "what was whole was sent again"
    assert proxy.count(part_of("set/bb")) <= before[1] + 1, "parts that were there were sent again"
    assert direct.get("set/bb") == b"bb" * (6 * MIB)
    assert direct.exists("manifest")


def test_a_download_goes_on_after_a_kill(server: S3Server, url: str, direct: Store, proxy: FaultProxy, tmp_path: Path):
    direct.upload("set/bb", [b"bb" * (6 * MIB)])

    def last(request: Request) -> bool:
        return request.method == "GET" and request.headers.get("range", "").startswith("bytes=10485760-")

    held = proxy.spoil(Holds(), last)
    first = start(DOWNLOAD, url, str(tmp_path / "f"), server=server, endpoint=proxy.endpoint)
    assert held.reached.wait(60)
    deadline = time.monotonic() + 60
    while not (tmp_path / "f.part.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    kill(first)
    held.release.set()
    assert not (tmp_path / "f").exists()
    assert (tmp_path / "f.part.json").exists()
    before = proxy.count(lambda request: "range" in request.headers)
    assert run(DOWNLOAD, url, str(tmp_path / "f"), server=server, endpoint=proxy.endpoint) == 0
    assert proxy.count(lambda request: "range" in request.headers) - before < 3
    assert (tmp_path / "f").read_bytes() == b"bb" * (6 * MIB)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_kills_at_random_leave_no_manifest_without_its_objects(server: S3Server, url: str, direct: Store):
    generator = random.Random(7)
    for _ in range(6):
        process = start(PUBLISH, url, server=server)
        kill_after(process, generator.uniform(0, 0.6))
        for info in direct.list("set/"):
            assert direct.get(info.key) == info.key[-2:].encode() * (6 * MIB)
        if direct.exists("manifest"):
            assert [info.key for info in direct.list("set/")] == ["set/aa", "set/bb", "set/cc"]
    assert run(PUBLISH, url, server=server) == 0
    assert direct.exists("manifest")


def test_a_folder_is_whole_after_kills_at_random(tmp_path: Path):
    url, generator = tmp_path.as_uri(), random.Random(11)
    seen = set()
    for _ in range(12):
        process = start(REWRITE, url)
        kill_after(process, generator.uniform(0.02, 0.3))
        store = open_store(url)
        for info in store.list():
            found = store.stat(info.key)
            content = store.get(info.key, expect=found.digest)
            assert len(content) == found.size
            assert found.digest is not None
            assert set(content.removesuffix(b"end")) == {content[0]}
            seen.add(info.key)
    assert seen == {"a", "b"}
