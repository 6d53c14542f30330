"""Memory that there is to take: the host's, or what the container is allowed."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from opt_model.memory import memory_available, memory_total

pytestmark = pytest.mark.unit


def group(folder: Path, limit: str) -> Path:
    """Files as cgroup v2 has them."""
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text("300000\n")
    (folder / "memory.stat").write_text("anon 1000\ninactive_file 50000\nactive_file 70000\n")
    return folder


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    assert memory_total(group(tmp_path, "1000000")) == 1_000_000
    assert memory_available(group(tmp_path, "1000000")) == 1_000_000 - 300_000 + 50_000


@pytest.mark.parametrize("limit", ["max", str(1 << 60)])
def test_a_container_without_a_limit_has_what_the_host_has(tmp_path: Path, limit: str) -> None:
    assert 0 < memory_available(group(tmp_path, limit)) <= psutil.virtual_memory().total
    assert memory_total(group(tmp_path, limit)) == psutil.virtual_memory().total


def test_without_control_groups_it_is_what_the_host_has(tmp_path: Path) -> None:
    assert 0 < memory_available(tmp_path / "none") <= psutil.virtual_memory().total
    assert memory_total(tmp_path / "none") == psutil.virtual_memory().total
