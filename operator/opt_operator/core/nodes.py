"""What a node's conditions, taints and labels mean for the pods on it: one table, ours and other systems' signs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from opt_operator.core.views import NodeView

NodeState = Literal["Lost", "Bad", "Leaving", "Avoid", "Good"]
"""Lost: its kubelet is not heard of. Bad: its hardware is said to be broken. Leaving: it will go soon. Avoid: no new
pods there; those on it stay."""
STATES: tuple[NodeState, ...] = ("Lost", "Bad", "Leaving", "Avoid", "Good")
"""Gravest first."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing that may be seen on a node.

    Attributes:
        kind: Where it stands.
        key: Condition type, taint key or label key; a pattern.
        value: Condition status, taint value or label value; a pattern.
        state: What it means.
        source: Who sets it.
    """

    kind: Literal["condition", "taint", "label", "field"]
    key: str
    value: str
    state: NodeState
    source: str


UID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""Value of our own taint: the training that suspects the machine. What one training suspects moves no other's pods."""
SIGNS: tuple[Sign, ...] = (
    Sign("condition", "Ready", "Unknown", "Lost", "node controller: the kubelet's lease ran out"),
    Sign("taint", "node.kubernetes.io/unreachable", ".*", "Lost", "node controller"),
    Sign("taint", "node.kubernetes.io/out-of-service", ".*", "Lost", "an administrator: the machine is off"),
    Sign("taint", "node.cloudprovider.kubernetes.io/shutdown", ".*", "Lost", "cloud provider: the machine is off"),
    Sign("label", "sagemaker.amazonaws.com/node-health-status", "Unschedulable.*", "Bad", "HyperPod health agent"),
    Sign("label", "sagemaker.amazonaws.com/fault-type", ".+", "Bad", "HyperPod health agent"),
    Sign("label", r"dgxc\.nvidia\.com/nvsentinel-state",
         "quarantined|draining|drain-(succeeded|failed)|remediating|remediation-failed", "Bad", "NVSentinel"),
    Sign("condition", "Gpu[A-Za-z]+Watch|SysLogsXIDError", "True", "Bad", "NVSentinel: a fatal fault"),
    Sign("condition", "KernelDeadlock|ReadonlyFilesystem|CorruptDockerOverlay2|XfsShutdown", "True", "Bad",
         "node-problem-detector"),
    Sign("taint", "opt-operator.io/quarantined", f"(?!{UID}$).*", "Bad", "an administrator"),
    Sign("taint", "opt-operator.io/quarantined", UID, "Avoid", "us: a training suspects the machine"),
    Sign("taint", "aws-node-termination-handler/.*", ".*", "Leaving", "AWS termination handler: spot notices"),
    Sign("taint", "cloud.google.com/impending-node-termination", ".*", "Leaving", "GKE: the machine is taken back"),
    Sign("taint", "karpenter.sh/disrupt(ed|ion)", ".*", "Leaving", "Karpenter"),
    Sign("taint", "ToBeDeletedByClusterAutoscaler", ".*", "Leaving", "cluster autoscaler"),
    Sign("field", "unschedulable", "True", "Leaving", "kubectl cordon and drain"),
    Sign("condition", "Ready", "False", "Avoid", "the kubelet itself: it is there and does not feel well"),
    Sign("condition", "DiskPressure|MemoryPressure|PIDPressure", "True", "Avoid", "the kubelet"),
    Sign("condition", "Frequent(Kubelet|Docker|Containerd)Restart", "True", "Avoid", "node-problem-detector"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """What is to be thought of a node, and by which sign."""

    state: NodeState
    reason: str = ""
    words: str = ""


def judge_node(node: NodeView) -> NodeVerdict:
    """The gravest sign on a node."""
    found = list(_seen(node))
    if not found:
        return NodeVerdict("Good")
    sign, words = min(found, key=lambda item: STATES.index(item[0].state))
    return NodeVerdict(sign.state, f"Node{sign.state}", f"node {node.metadata.name}: {words} ({sign.source})")


def _seen(node: NodeView) -> Iterator[tuple[Sign, str]]:
    for kind, key, value, words in _marks(node):
        for sign in _signs(kind, key):
            if re.fullmatch(sign.value, value):
                yield sign, words


@lru_cache(maxsize=4096)
def _signs(kind: str, key: str) -> tuple[Sign, ...]:
    """Signs of that key: the same few hundred keys come back on every node."""
    return tuple(sign for sign in SIGNS if sign.kind == kind and re.fullmatch(sign.key, key))


def _marks(node: NodeView) -> Iterator[tuple[str, str, str, str]]:
    for condition in node.status.conditions:
        yield "condition", condition.type, condition.status, f"condition {condition.type} is {condition.status}"
    for taint in node.spec.taints:
        yield "taint", taint.key, taint.value, f"taint {taint.key}"
    for key, value in node.metadata.labels.items():
        yield "label", key, value, f"label {key}={value}"
    yield "field", "unschedulable", str(node.spec.unschedulable), "it is cordoned"
