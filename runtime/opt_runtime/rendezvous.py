"""The rendezvous: torch's TCPStore in a process of its own, on no trainer host, so that none can take it down.

Workers need it while they find each other; a gang that has formed goes on without it.
"""

from __future__ import annotations

import argparse
import signal
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from opt_runtime.linux import die_with_parent
from opt_runtime.messages import WorkerOrder


def join(order: WorkerOrder, timeout_s: float = 60.0) -> Store:
    """The gang's store in the attempt's own name space: a rank of another attempt meets nobody there.

    Raises:
        torch.distributed.DistStoreError: Nobody serves it within the time given.
    """
    host, _, port = order.rendezvous.rpartition(":")
    store = TCPStore(host, int(port), is_master=False, timeout=timedelta(seconds=timeout_s), wait_for_workers=False)
    return PrefixStore(f"{order.run}/{order.attempt}", store)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--die-with-parent", action="store_true")
    options = parser.parse_args()
    if options.die_with_parent:
        die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store = TCPStore(options.host, options.port, is_master=True, wait_for_workers=False)
    print(f"rendezvous on {options.host}:{store.port}", flush=True)
    signal.sigwait([signal.SIGTERM])


if __name__ == "__main__":
    main()
