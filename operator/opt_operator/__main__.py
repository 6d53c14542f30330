"""`python -m opt_operator`: the operator."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys

import structlog

from opt_operator.core.snapshot import Settings
from opt_operator.shell.app import Options, operate

IMAGE = "opt-operator"
METRICS_PORT, PROBE_PORT = 9402, 9403


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and operate until told to stop; 1 when the lease was lost or a part failed."""
    options = parse(arguments)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    return asyncio.run(operate(options))


def parse(arguments: list[str] | None = None) -> Options:
    """The options; exits with code 2 and a usage message where they are wrong."""
    parser = argparse.ArgumentParser(prog="opt_operator", description="Run OPTTraining and OPTServe resources.")
    scope = parser.add_mutually_exclusive_group(required=True)
    scope.add_argument("--namespace", action="append", default=[], help="namespace to watch; may be repeated")
    scope.add_argument("--all-namespaces", action="store_true", help="watch every namespace")
    parser.add_argument("--kubeconfig", help="file; the pod's own service account when absent")
    parser.add_argument("--trainer-image", default=f"{IMAGE}/trainer", help="image of coordinator and hosts")
    parser.add_argument("--dataprep-image", help="image of data preparation; the trainer's when absent")
    parser.add_argument("--serving-image", default=f"{IMAGE}/serving", help="image of replicas, gates and gateways")
    parser.add_argument(
        "--vllm-image", default="", help="image of replicas with engine vllm; each names its own if empty"
    )
    own = os.environ.get("POD_NAMESPACE")
    parser.add_argument("--lease-namespace", default=own, help="where the Lease is; the first namespace when absent")
    parser.add_argument("--lease-name", default="opt-operator")
    parser.add_argument("--lease-is-given", action="store_true", help="wait for the Lease; never make it")
    parser.add_argument("--taint-nodes", action="store_true", help="taint the nodes of quarantined machines")
    parser.add_argument("--metrics-port", type=int, default=METRICS_PORT)
    parser.add_argument("--probe-port", type=int, default=PROBE_PORT)
    found = parser.parse_args(arguments)
    images = Settings(
        found.trainer_image, found.dataprep_image or found.trainer_image, found.serving_image, found.vllm_image
    )
    lease_namespace = found.lease_namespace or next(iter(found.namespace), "default")
    return Options(
        images, tuple(found.namespace), found.kubeconfig, lease_namespace, found.lease_name, found.metrics_port,
        found.probe_port, found.taint_nodes, found.lease_is_given,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
