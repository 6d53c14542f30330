"""`python -m opt_runtime.coordinator`: the coordinator as a program, in a pod or on this machine."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import structlog

from opt_api.documents.exit_report import EXIT_CODES
from opt_api.documents.plan import Plan
from opt_runtime.coordinator.coordinator import Coordinator
from opt_runtime.coordinator.server import routes_of
from opt_runtime.coordinator.settings import Settings
from opt_runtime.linux import die_with_parent
from opt_runtime.logs import write_json
from opt_runtime.records.kept_plan import keep_plan
from opt_runtime.wire import Server
from opt_store import Unavailable, open_store

log = structlog.get_logger(__name__)
REPLACED = 3
"""Exit code when another coordinator has taken over: do not start this one again."""
LEFT = 128 + signal.SIGTERM
"""Exit code after SIGTERM, as of a program that does not handle it: not the code of a complete training."""


def keys_of(coordinator: Coordinator) -> dict[str, Any]:
    """What every log line says of the run, without waiting for anybody."""
    state, observed = coordinator.state, coordinator.observed
    return {"run": coordinator.settings.run, "attempt": state.attempt, "step": observed.highest_step}


def main() -> int:
    """Read the command line and coordinate until the training is complete."""
    parser = argparse.ArgumentParser(prog="opt_runtime.coordinator")
    parser.add_argument("--plan", type=Path, required=True, help="file with the plan")
    parser.add_argument("--store", required=True, help="URL of the store")
    parser.add_argument("--rendezvous", required=True, help="host:port")
    parser.add_argument("--listen", required=True, help="host:port")
    parser.add_argument("--die-with-parent", action="store_true")
    options = parser.parse_args()
    if options.die_with_parent:
        die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in every thread: `_leave_when_told` waits for it
    began = time.monotonic()
    plan = Plan.from_bytes(options.plan.read_bytes())
    try:
        store = open_store(options.store)
        keep_plan(store, plan)
        coordinator = Coordinator(Settings(plan, options.rendezvous), store)
    except Unavailable as fault:
        sys.stderr.write(f"the coordinator cannot read what was decided before: {fault}\n")
        return EXIT_CODES["StoreUnavailable"]
    write_json(lambda: keys_of(coordinator))
    log.info("coordinating", coordinators=coordinator.state.coordinators, read_s=round(time.monotonic() - began, 2))
    server = Server(options.listen, routes_of(coordinator))
    server.start()
    Thread(target=_leave_when_told, args=(coordinator,), name="leave", daemon=True).start()
    coordinator.run()
    if coordinator.scribe.replaced.is_set():
        return REPLACED
    return LEFT if coordinator.left else 0


def _leave_when_told(coordinator: Coordinator) -> None:
    signal.sigwait({signal.SIGTERM})
    log.info("leaving as told")
    coordinator.leave()


if __name__ == "__main__":
    sys.exit(main())
