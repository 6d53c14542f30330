"""`python -m opt_runtime.rendezvous`: serve the store until killed."""

from __future__ import annotations

import argparse
import signal

from opt_runtime.linux import die_with_parent
from opt_runtime.rendezvous.bare import tcp_store_class


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
    # a container's first process is not even sent what it neither handles nor blocks
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    store = tcp_store_class()(options.host, options.port, is_master=True, wait_for_workers=False)
    print(f"rendezvous on {options.host}:{store.port}", flush=True)
    signal.sigwait([signal.SIGTERM])


if __name__ == "__main__":
    main()
