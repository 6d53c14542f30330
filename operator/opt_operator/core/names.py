"""Names and labels of everything we make. Deterministic: a repeated create is a conflict, never a second object."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

from opt_api.base import GROUP

Role = Literal["coordinator", "gang", "spare", "dataprep", "evaluation", "burn-in"]

MANAGED_BY = "app.kubernetes.io/managed-by"
OPERATOR = "opt-operator"
TRAINING = f"{GROUP}/training"
SERVE = f"{GROUP}/serve"
OWNERS: Mapping[str, str] = {"OPTTraining": TRAINING, "OPTServe": SERVE}
"""Which label names the resource of a kind that an object belongs to."""
ROLE = f"{GROUP}/role"
ATTEMPT = f"{GROUP}/attempt"
SLOT = f"{GROUP}/slot"
STAGE = f"{GROUP}/stage"
PLAN = f"{GROUP}/plan"
"""Annotation of a coordinator: digest of the plan it was started with."""
MADE_IN = f"{GROUP}/made-in"
"""Annotation of a coordinator: the gang's attempt it was made in."""
HARDWARE = f"{GROUP}/hardware"
MACHINE = f"{GROUP}/machine"
"""Label of a burn-in Job: digest of the machine's identity."""
QUARANTINED = f"{GROUP}/quarantined"
"""Taint of a node. Its value is the uid of the training that suspects the machine, or whatever a person wrote."""
DOMAIN = f"{GROUP}/domain"
SELECTOR = f"{MANAGED_BY}={OPERATOR}"
"""What our watches of children ask the API server for."""
QUARANTINED_BY = f"{GROUP}/quarantined-by"
"""Annotation of a node that we tainted: namespace and name of the operator's Lease."""
DIGEST_CHARS = 12
MACHINE_CHARS = 10


def common_labels(training: str) -> dict[str, str]:
    """On everything that belongs to a training."""
    return owned_by("OPTTraining", training)


def owned_by(kind: str, name: str) -> dict[str, str]:
    """On everything that belongs to a resource of ours."""
    return {MANAGED_BY: OPERATOR, OWNERS[kind]: name}


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


def burn_in_job(training: str, hardware: str) -> str:
    """Job that loads one quarantined machine; the machine's, so that there is one at a time."""
    return f"{training}-burn-in-{machine(hardware)}"


def place_on(machine: str, slot: int) -> str:
    """Hardware identity of a host that has to share its machine."""
    return f"{machine}#{slot}"


def is_on(hardware: str, machine: str) -> bool:
    """Whether a hardware identity is that machine's, or of a place on it."""
    return hardware == machine or hardware.startswith(f"{machine}#")


def machine(hardware: str) -> str:
    """A hardware identity as a label can hold it."""
    return hashlib.sha256(hardware.encode()).hexdigest()[:MACHINE_CHARS]


def why_map(name: str, kind: str = "OPTTraining") -> str:
    """ConfigMap with the newest decisions; a training and what serves it may have one name."""
    return f"{name}-why" if kind == "OPTTraining" else f"{name}-why-serve"


def short(digest: str) -> str:
    """The first characters of a digest, without its algorithm."""
    return digest.removeprefix("sha256:")[:DIGEST_CHARS]
