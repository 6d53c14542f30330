"""Names and labels of everything we make. Deterministic: a repeated create is a conflict, never a second object."""

from __future__ import annotations

from typing import Literal

from opt_api.base import GROUP

Role = Literal["coordinator", "gang", "spare", "dataprep", "evaluation"]

MANAGED_BY = "app.kubernetes.io/managed-by"
OPERATOR = "opt-operator"
TRAINING = f"{GROUP}/training"
ROLE = f"{GROUP}/role"
ATTEMPT = f"{GROUP}/attempt"
SLOT = f"{GROUP}/slot"
STAGE = f"{GROUP}/stage"
PLAN = f"{GROUP}/plan"
"""Annotation of a coordinator: digest of the plan it was started with."""
HARDWARE = f"{GROUP}/hardware"
DOMAIN = f"{GROUP}/domain"
SELECTOR = f"{MANAGED_BY}={OPERATOR}"
"""What our watches of children ask the API server for."""
DIGEST_CHARS = 12


def common_labels(training: str) -> dict[str, str]:
    """On everything that belongs to a training."""
    return {MANAGED_BY: OPERATOR, TRAINING: training}


def pod_labels(training: str, role: Role, attempt: int) -> dict[str, str]:
    """On every pod."""
    return {**common_labels(training), ROLE: role, ATTEMPT: str(attempt)}


def host_pod(training: str, attempt: int, slot: int) -> str:
    """A host of the gang, or a spare; the attempt lets it stand beside the one it replaces."""
    return f"{training}-a{attempt}-h{slot}"


def coordinator_pod(training: str, attempt: int) -> str:
    """The coordinator."""
    return f"{training}-a{attempt}-coordinator"


def coordinator_service(training: str) -> str:
    """Under this name agents find the coordinator and the rendezvous, whichever pod has them."""
    return f"{training}-coordinator"


def hosts_service(training: str) -> str:
    """Headless Service of the hosts; also the name of their PodDisruptionBudget and NetworkPolicy."""
    return f"{training}-hosts"


def plan_map(training: str, digest: str) -> str:
    """ConfigMap of one plan."""
    return f"{training}-plan-{short(digest)}"


def stage_job(training: str, stage: str, attempt: int) -> str:
    """Job of one stage of data preparation."""
    return f"{training}-data-{stage}-a{attempt}"


def evaluation_job(training: str, attempt: int) -> str:
    """Job of the last evaluation."""
    return f"{training}-evaluation-a{attempt}"


def why_map(training: str) -> str:
    """ConfigMap with the newest decisions."""
    return f"{training}-why"


def short(digest: str) -> str:
    """The first characters of a digest, without its algorithm."""
    return digest.removeprefix("sha256:")[:DIGEST_CHARS]
