"""Names and labels of what a served model is made of."""

from __future__ import annotations

from typing import Literal

from opt_api.base import GROUP
from opt_operator.core import names

Role = Literal["replica", "worker", "gateway", "gate"]
"""A worker is a host of a replica beside its first, which is the replica to everyone else."""
SERVE, ROLE, ATTEMPT = names.SERVE, names.ROLE, names.ATTEMPT
REVISION = f"{GROUP}/revision"
STEP = f"{GROUP}/step"
TEMPLATE = f"{GROUP}/template"
"""Annotation: digest of what was applied, so that a difference is seen without comparing defaults."""
LEADER_WORKER_SETS = "leaderworkerset.x-k8s.io"
"""API group of LeaderWorkerSet (KEP-1 of kubernetes-sigs/lws)."""
ROUTES = f"{GROUP}/routes"
"""Annotation of each gateway: the `ServeRoutes` it goes by. The kubelet shows it in a file within a second or two."""
ROUTES_KEY = "routes.json"
INSTANCE = "OPT_SERVE_INSTANCE"


def labels(serve: str, role: Role, **more: str) -> dict[str, str]:
    """On every pod."""
    return {**names.owned_by("OPTServe", serve), ROLE: role, **more}


def replicas(serve: str, revision: str) -> str:
    """Deployment or LeaderWorkerSet of one revision."""
    return f"{serve}-{revision}"


def replicas_service(serve: str) -> str:
    """Headless Service of all replicas; also the name of their PodDisruptionBudget."""
    return f"{serve}-replicas"


def gateway(serve: str) -> str:
    """Deployment of the gateways, their Service and their PodDisruptionBudget: where clients go."""
    return f"{serve}-gateway"


def policy(serve: str, role: Role) -> str:
    """NetworkPolicy of the pods of one role."""
    return f"{serve}-serve-{role}"


def routes(serve: str) -> str:
    """ConfigMap that a gateway starts with."""
    return f"{serve}-routes"


def gate_job(serve: str, number: int) -> str:
    """Job of one gate."""
    return f"{serve}-gate-{number}"


def instance(namespace: str, serve: str, revision: str) -> str:
    """What a replica calls itself, so that a gateway knows it from a stranger at its address."""
    return f"{namespace}/{serve}/{revision}"
