"""`python -m opt_runtime.agent`: the agent as a program, in a pod or on this machine."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from opt_api.documents.exit_report import EXIT_CODES
from opt_runtime.agent.agent import Agent, HostIdentity, NoWorkers
from opt_runtime.agent.burn_in import BurnIn
from opt_runtime.linux import die_with_parent
from opt_runtime.logs import write_json


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="opt_runtime.agent")
    parser.add_argument("--run", required=True, help="name of the training")
    parser.add_argument("--host", required=True, help="name of this host")
    parser.add_argument("--hardware", required=True, help="provider id, serial or GPU UUID of the machine")
    parser.add_argument("--domain", default="", help="failure domain of the host")
    parser.add_argument("--directory", type=Path, required=True, help="scratch folder")
    parser.add_argument("--coordinator", required=True, help="host:port")
    parser.add_argument("--entry", required=True, help="worker entry, package.module:function")
    parser.add_argument("--workers", type=int, default=1, help="workers of this host")
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port of the agent's own server")
    parser.add_argument("--check-seconds", type=float, default=0.0, help="burn-in before it may train; 0 for none")
    parser.add_argument("--check-with", default="", help="host:port of the rendezvous, to find another host there")
    parser.add_argument("--shared-machine", action="store_true", help="other hosts of the run are on this machine")
    parser.add_argument("--die-with-parent", action="store_true")
    options = parser.parse_args()
    if options.die_with_parent:
        die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    options.directory.mkdir(parents=True, exist_ok=True)
    identity = HostIdentity(options.run, options.host, options.hardware, options.domain, options.directory)
    check = BurnIn(options.check_seconds, options.check_with, shared=options.shared_machine)
    write_json(lambda: {"run": options.run, "host": options.host})
    try:
        Agent(identity, options.coordinator, options.entry, options.workers, options.listen, check).run()
    except NoWorkers as fault:
        sys.stderr.write(f"{fault}\n")
        sys.exit(EXIT_CODES["Internal"])


if __name__ == "__main__":
    main()
