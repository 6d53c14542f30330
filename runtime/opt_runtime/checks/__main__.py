"""`python -m opt_runtime.checks`: load this host for a while and print what it reached, as one JSON document.

A program of its own, so that the agent needs no torch, and so that a machine that fails under load takes down this and
not the agent.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from opt_runtime.checks.load import disk_free, disk_write, matmul, memory_copy
from opt_runtime.checks.pair import meet
from opt_runtime.linux import die_with_parent
from opt_runtime.messages import HostCheck

SHARES = {"matmul": 0.4, "memory": 0.2, "disk": 0.1, "pair": 0.3}
"""Of the time given."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="opt_runtime.checks")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--rendezvous", default="", help="host:port, to find another host to measure the network with")
    parser.add_argument("--run", default="")
    parser.add_argument("--report", type=Path, help="write the document here as well, such as a pod's last words")
    options = parser.parse_args()
    die_with_parent()
    options.directory.mkdir(parents=True, exist_ok=True)
    time = {name: share * options.seconds for name, share in SHARES.items()}
    found = HostCheck(
        matmul=matmul(time["matmul"]),
        memory=memory_copy(time["memory"]),
        disk_write=disk_write(options.directory, time["disk"]),
        disk_bytes_free=disk_free(options.directory),
        pair=meet(options.rendezvous, options.run, time["pair"]) if options.rendezvous else None,
    )
    if options.report is not None:
        options.report.write_bytes(found.to_bytes())
    sys.stdout.write(found.to_bytes().decode() + "\n")


if __name__ == "__main__":
    main()
