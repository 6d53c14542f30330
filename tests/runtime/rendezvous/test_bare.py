"""torch's TCPStore from its compiled part alone is the one that workers meet at; torch's insides may change one day."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from torch.distributed import PrefixStore, TCPStore

pytestmark = pytest.mark.integration

LOADED = "import sys; print(tcp_store_class().__module__, 'torch.nn' in sys.modules)"
HIDDEN = "import opt_runtime.rendezvous.bare as bare; bare._from_compiled_part = lambda: sys.nothing; "


@contextmanager
def serving() -> Iterator[int]:
    """The rendezvous as a program; gives its port."""
    command = [sys.executable, "-u", "-m", "opt_runtime.rendezvous", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            yield int(program.stdout.readline().rpartition(":")[2])
        finally:
            program.terminate()


def test_whole_torchs_clients_meet_there() -> None:
    with serving() as port:
        one, other = (
            PrefixStore("run/1", TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=30)))
            for _ in range(2)
        )
        one.set("address", "10.0.0.1")
        other.wait(["address"], timedelta(seconds=30))
        assert other.get("address") == b"10.0.0.1"
        assert (one.add("joined", 1), other.add("joined", 1)) == (1, 2)


@pytest.mark.parametrize(
    ("before", "found"),
    [("", "torch._C._distributed_c10d False"), (HIDDEN, "torch._C._distributed_c10d True")],
    ids=["compiled part", "all of torch"],
)
def test_the_compiled_part_is_enough_and_where_it_is_not_all_of_torch_is_there(before: str, found: str) -> None:
    code = f"import sys; from opt_runtime.rendezvous.bare import tcp_store_class; {before}{LOADED}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found
