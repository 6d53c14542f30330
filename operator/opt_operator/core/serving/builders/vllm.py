"""`engine: vllm`: vLLM's own server, on an export of ours that an init container fetches."""

from __future__ import annotations

from typing import Any

from opt_operator.core.actions import Object
from opt_operator.core.builders.common import container, env
from opt_operator.core.builders.storage import store_env
from opt_operator.core.serving.builders.common import KEYS, Blueprint, Revision, mounts, replica_amounts

FOLDER = "/tmp/model"  # noqa: S108 - an emptyDir of the pod's own
PORT, MASTER_PORT = 8000, 29501
KEYS_SCRIPT = f'exec vllm serve --api-key $(cat {KEYS}/keys) "$@"'
"""vLLM takes its keys as arguments; they are read in the container, so that no object names one."""
WAIT_SCRIPT = """
import sys, time, urllib.request
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    time.sleep(1)
    text = urllib.request.urlopen("http://127.0.0.1:8000/metrics", timeout=5).read().decode()
    lines = [l for l in text.splitlines() if l.startswith(("vllm:num_requests_running", "vllm:num_requests_waiting"))]
    if lines and not any(float(l.rpartition(" ")[2]) for l in lines):
        break
"""
"""vLLM ends its streams at SIGTERM: the kubelet sends that only when none is left, or the drain is over."""


def fetch(made: Blueprint, revision: Revision) -> Object:
    """Fetches the export and checks its digests."""
    command = ["python3", "-m", "opt_cli.fetch_model", str(revision.checkpoint.uri), FOLDER]
    return container(
        "fetch", made.image, made.parent, command, env=env(made.parent, *store_env(made.storage)),
        volumeMounts=mounts(made), resources=replica_amounts(made).document(),
    )  # fmt: skip


def engine(made: Blueprint, revision: Revision, **shared: Any) -> Object:
    """The server."""
    secret = made.spec.access.api_keys_secret
    command = ["sh", "-c", KEYS_SCRIPT, "vllm"] if secret else ["vllm", "serve"]
    drain = str(made.spec.rollout.drain_seconds)
    wait = {"preStop": {"exec": {"command": ["python3", "-c", WAIT_SCRIPT, drain]}}}
    whole = [*command, *arguments(made), *_place(made, "0")]
    return _container(made, whole, shared, lifecycle=wait)


def follower(made: Blueprint, **shared: Any) -> Object:
    """What runs on every host of a replica but its first: no server, the first one's orders."""
    whole = ["vllm", "serve", *arguments(made), *_place(made, "$(LWS_WORKER_INDEX)"), "--headless"]
    return _container(made, whole, shared)


def _container(made: Blueprint, command: list[str], shared: dict[str, Any], **more: Any) -> Object:
    caches = {"VLLM_CACHE_ROOT": "/tmp/vllm", "XDG_CACHE_HOME": "/tmp/cache", "HF_HUB_OFFLINE": "1"}  # noqa: S108
    shared["env"] = [*shared["env"], *({"name": name, "value": value} for name, value in caches.items())]
    return container("main", made.engine_image, made.parent, command, **more, **shared)


def _place(made: Blueprint, rank: str) -> list[str]:
    """Where a host stands among its replica's; LeaderWorkerSet sets the variables, the kubelet fills them in."""
    hosts = made.spec.engine.hosts_per_replica
    if hosts == 1:
        return []
    found = {
        "--nnodes": str(hosts), "--node-rank": rank, "--master-addr": "$(LWS_LEADER_ADDRESS)",
        "--master-port": str(MASTER_PORT), "--distributed-executor-backend": "mp",
    }  # fmt: skip
    return [part for item in found.items() for part in item]


def arguments(made: Blueprint) -> list[str]:
    """VLLM's names for what the spec says."""
    e = made.spec.engine
    copies = "--data-parallel-size" if e.hosts_per_replica == 1 else "--pipeline-parallel-size"
    values = {
        "--served-model-name": made.model_name,
        "--host": "0.0.0.0",  # noqa: S104 - a pod's own address
        "--port": PORT,
        "--dtype": e.weights,
        "--tensor-parallel-size": e.tensor_parallel,
        copies: e.devices_per_replica // e.tensor_parallel,
        "--max-num-seqs": e.max_sequences,
        "--max-num-batched-tokens": max(e.prefill_chunk_tokens, e.max_sequences),
        "--max-model-len": e.max_sequence_length,
        "--kv-cache-memory-bytes": e.kv_cache_bytes,
    }
    return [FOLDER, *(part for name, value in values.items() if value is not None for part in (name, str(value)))]
