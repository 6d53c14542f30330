"""The operator's tables, row by row: phases, failure policies, signs on nodes, changes of the spec."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from opt_api.documents.exit_report import EXIT_CODES
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from opt_operator.core.nodes import SIGNS, STATES, judge_node
from opt_operator.core.phases import MEANING, PHASES, TERMINAL, TRANSITIONS, allowed
from opt_operator.core.plans import change, wishes
from opt_operator.core.symptoms import BY_EXIT, POLICY, SYMPTOMS, by_exit_code
from opt_operator.core.views import NodeView
from opt_operator.tables import page
from support.opmodel.scenarios import document
from support.tracked import ROOT

pytestmark = pytest.mark.unit


def test_every_phase_has_its_row() -> None:
    assert set(TRANSITIONS) == set(PHASES) == set(MEANING)
    assert all(TRANSITIONS[before] <= set(PHASES) for before in PHASES)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(PHASES, PHASES)))
def test_each_pair_of_phases(before: Any, after: Any) -> None:
    """Every pair is either in the table or refused; these are the laws the table must keep."""
    may = allowed(before, after)
    if before in TERMINAL:
        assert may == (after in (before, "Deleting"))
    if before == "Deleting":
        assert may == (after == "Deleting")
    if after == "Deleting":
        assert may
    if after == "Pending":
        assert may == (before == "Pending")
    if after == "Suspended" and before not in (*TERMINAL, "Deleting"):
        assert may
    if after == "Failed" and before not in (*TERMINAL, "Deleting"):
        assert may


def test_every_phase_can_be_reached_and_left() -> None:
    for phase in PHASES:
        assert phase == "Pending" or any(phase in TRANSITIONS[other] for other in PHASES if other != phase)
        assert phase == "Deleting" or TRANSITIONS[phase]


def test_every_symptom_has_a_policy() -> None:
    assert set(POLICY) == set(SYMPTOMS)
    for symptom, policy in POLICY.items():
        replaced = policy.treatment in ("replace", "replace-then-delete", "pause", "force-delete")
        assert replaced == (policy.cause is not None), symptom
        assert not policy.counted or replaced, symptom


@pytest.mark.parametrize("cause", EXIT_CODES)
def test_every_exit_cause_is_a_symptom(cause: Any) -> None:
    assert by_exit_code(EXIT_CODES[cause]) == BY_EXIT[cause]
    assert BY_EXIT[cause] in POLICY


@pytest.mark.parametrize(("code", "symptom"), [(3, "Evicted"), (137, "Crashed"), (143, "Evicted"), (2, "Crashed")])
def test_other_exit_codes(code: int, symptom: str) -> None:
    assert by_exit_code(code) == symptom


def node(**parts: Any) -> NodeView:
    ready = [{"type": "Ready", "status": "True"}]
    status = {"conditions": [*ready, *parts.pop("conditions", [])]}
    meta = {"name": "n", "labels": parts.pop("labels", {})}
    return NodeView.model_validate({"metadata": meta, "spec": parts, "status": status})


SEEN = [
    ({}, "Good"),
    ({"unschedulable": True}, "Leaving"),
    ({"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]}, "Lost"),
    ({"taints": [{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown"}]}, "Lost"),
    ({"taints": [{"key": "aws-node-termination-handler/spot-itn", "value": "x"}]}, "Leaving"),
    ({"taints": [{"key": "karpenter.sh/disrupted"}]}, "Leaving"),
    ({"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "value": "1"}]}, "Leaving"),
    ({"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}, "Good"),
    ({"labels": {"sagemaker.amazonaws.com/node-health-status": "Schedulable"}}, "Good"),
    ({"labels": {"sagemaker.amazonaws.com/node-health-status": "UnschedulablePendingReboot"}}, "Bad"),
    ({"labels": {"dgxc.nvidia.com/nvsentinel-state": "quarantined"}}, "Bad"),
    ({"labels": {"dgxc.nvidia.com/nvsentinel-state": "remediation-succeeded"}}, "Good"),
    ({"conditions": [{"type": "KernelDeadlock", "status": "True"}]}, "Bad"),
    ({"conditions": [{"type": "ReadonlyFilesystem", "status": "False"}]}, "Good"),
    ({"conditions": [{"type": "GpuMemWatch", "status": "True"}]}, "Bad"),
    ({"conditions": [{"type": "DiskPressure", "status": "True"}], "unschedulable": True}, "Leaving"),
    ({"conditions": [{"type": "FrequentKubeletRestart", "status": "True"}]}, "Avoid"),
]


@pytest.mark.parametrize(("parts", "state"), SEEN)
def test_signs_on_nodes(parts: dict[str, Any], state: str) -> None:
    verdict = judge_node(node(**dict(parts)))
    assert verdict.state == state
    assert bool(verdict.words) == (state != "Good")


def test_every_sign_is_of_a_known_state() -> None:
    assert {sign.state for sign in SIGNS} == set(STATES) - {"Good"}


def plan(**spec: Any) -> Any:
    made = document()
    for section, fields in spec.items():
        made["spec"][section] = {**made["spec"].get(section, {}), **fields}
    return resolve(OPTTraining.model_validate(made))


CHANGES = [
    ({}, "none"),
    ({"optimisation": {"learningRate": 2e-3}}, "live"),
    ({"optimisation": {"clip": 0.5}}, "live"),
    ({"data": {"skipBatches": [{"first": 3, "last": 4}]}}, "live"),
    ({"resilience": {"spares": 2}}, "coordinator"),
    ({"checkpointing": {"interval": {"steps": 10}}, "optimisation": {"clip": 0.5}}, "coordinator"),
    ({"parallelism": {"hosts": 4, "device": "cpu"}}, "attempt"),
    ({"evaluation": {"intervalSteps": 7}}, "attempt"),
]


@pytest.mark.parametrize(("spec", "kind"), CHANGES)
def test_how_much_a_change_moves(spec: dict[str, Any], kind: str) -> None:
    assert change(plan(), plan(**spec)) == kind


def test_what_the_policy_changed_is_left_alone() -> None:
    in_force = {"learningRate": 7e-4, "clip": 1.0, "skipBatches": []}
    assert wishes(plan(), plan(), in_force) == {}
    assert wishes(plan(), plan(optimisation={"clip": 0.5}), in_force) == {"optimisation.clip": 0.5}
    assert wishes(plan(), plan(optimisation={"clip": 0.5}), {**in_force, "clip": 0.5}) == {}


def test_the_page_of_tables_is_fresh() -> None:
    path = ROOT / "docs" / "reference" / "operator.md"
    found = path.read_text(encoding="utf-8")
    assert found == page(), "run `python -m opt_operator.tables > docs/reference/operator.md`"
