"""`python -m opt_runtime.coordinator`: the coordinator as a program, in a pod or on this machine."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Any

import structlog

from opt_api.documents.plan import Plan
from opt_runtime.coordinator.coordinator import Coordinator
from opt_runtime.coordinator.server import routes_of
from opt_runtime.coordinator.settings import Settings
from opt_runtime.linux import die_with_parent
from opt_runtime.logs import write_json
from opt_runtime.records.kept_plan import keep_plan
from opt_runtime.wire import Server
from opt_store import open_store

log = structlog.get_logger(__name__)
REPLACED = 3
"""Exit code when another coordinator has taken over: do not start this one again."""


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
    began = time.monotonic()
    plan = Plan.from_bytes(options.plan.read_bytes())
    store = open_store(options.store)
    keep_plan(store, plan)
    coordinator = Coordinator(Settings(plan, options.rendezvous), store)
    write_json(lambda: keys_of(coordinator))
    log.info("coordinating", coordinators=coordinator.state.coordinators, read_s=round(time.monotonic() - began, 2))
    server = Server(options.listen, routes_of(coordinator))
    server.start()
    coordinator.run()
    return REPLACED if coordinator.scribe.replaced.is_set() else 0


if __name__ == "__main__":
    sys.exit(main())
