"""Jobs: data preparation, stage by stage, and the last evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opt_api.documents.exit_report import EXIT_CODES, RETRYABLE
from opt_api.documents.plan import Plan
from opt_operator.core import names
from opt_operator.core.actions import Object
from opt_operator.core.builders.common import PLAN_FILE, Amounts, Parent, container, env, mounts, pod_spec
from opt_operator.core.builders.pods import host_amounts
from opt_operator.core.builders.storage import store_env, store_url

RETRIES = 3
HOPELESS = tuple(EXIT_CODES[cause] for cause, again in RETRYABLE.items() if not again and cause != "Completed")
"""Exit codes after which the same again would end the same."""
PLAN_STAGE = "plan"
BURN_IN_TIMES = 3
"""A machine that was suspected is loaded so many times longer than one that is new."""
BURN_IN_PATIENCE_S = 1800
"""Beyond that: for the image to come, for room on the node, and for a machine that is slow to admit it."""


def plan_job(parent: Parent, plan: Plan, image: str, attempt: int) -> Object:
    """Finds the sources, plans the parts, and says whether the store already holds the data set."""
    command = ["python3", "-m", "opt_cli.dataprep_stage", "plan", "--plan", PLAN_FILE, "--store", _url(plan)]
    return _job(parent, plan, image, PLAN_STAGE, attempt, command, completions=1)


def stage_job(parent: Parent, plan: Plan, image: str, stage: str, attempt: int, key: str) -> Object:
    """One stage: an Indexed Job whose completions share its tasks. `key` is that of the preparation's plan."""
    workers = plan.data.workers
    command = ["python3", "-m", "opt_cli.dataprep_stage", "stage", "--store", _url(plan), "--plan", key,
               "--stage", stage, "--completions", str(workers)]  # fmt: skip
    return _job(parent, plan, image, stage, attempt, command, completions=workers)


def evaluation_job(parent: Parent, plan: Plan, image: str, attempt: int, dataset: str) -> Object:
    """Validation losses of the final checkpoint."""
    module = ["python3", "-m", "opt_cli.evaluate_job"]
    command = [*module, "--plan", PLAN_FILE, "--store", _url(plan), "--dataset", dataset]
    labels = names.pod_labels(parent.name, "evaluation", attempt)
    name = names.evaluation_job(parent.name, attempt)
    return _document(parent, plan, image, name, labels, command, completions=1, amounts=host_amounts(parent, plan))


def burn_in_job(parent: Parent, plan: Plan, image: str, attempt: int, node: str, hardware: str) -> Object:
    """Loads one quarantined machine, on its node and no other, longer than a host is before it joins."""
    seconds = BURN_IN_TIMES * plan.resilience.host_checks.seconds
    command = ["python3", "-m", "opt_runtime.checks", "--seconds", str(seconds), "--directory", "/tmp/opt",  # noqa: S108
               "--report", "/dev/termination-log"]  # fmt: skip
    labels = {**names.pod_labels(parent.name, "burn-in", attempt), names.MACHINE: names.machine(hardware)}
    name = names.burn_in_job(parent.name, hardware)
    made = _document(parent, plan, image, name, labels, command, completions=1, amounts=host_amounts(parent, plan))
    made["spec"] |= {"backoffLimitPerIndex": 0, "activeDeadlineSeconds": seconds + BURN_IN_PATIENCE_S}
    here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    spec = made["spec"]["template"]["spec"]
    spec["affinity"] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [here]}}
    }
    spec["tolerations"].append({"key": names.QUARANTINED, "operator": "Exists"})
    return made


def suspended(namespace: str, name: str, *, suspend: bool) -> Object:
    """Hold a Job, or let it go on."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"suspend": suspend}}


def _url(plan: Plan) -> str:
    assert plan.storage is not None
    return store_url(plan.storage)


def _job(
    parent: Parent, plan: Plan, image: str, stage: str, attempt: int, command: Sequence[str], *, completions: int
) -> Object:
    labels = {**names.pod_labels(parent.name, "dataprep", attempt), names.STAGE: stage}
    r = parent.pods.resources
    amounts = Amounts(r.cpu, r.memory, r.ephemeral_storage, r.shared_memory)
    name = names.stage_job(parent.name, stage, attempt)
    return _document(parent, plan, image, name, labels, command, completions=completions, amounts=amounts)


def _document(
    parent: Parent, plan: Plan, image: str, name: str, labels: dict[str, str], command: Sequence[str],
    *, completions: int, amounts: Amounts,
) -> Object:  # fmt: skip
    main = container(
        "main", image, parent, command, env=env(parent, *store_env(plan.storage)), volumeMounts=mounts(plan),
        resources=amounts.document(),
    )  # fmt: skip
    template: dict[str, Any] = {
        "metadata": {"labels": {**parent.pods.labels, **labels}},
        "spec": pod_spec(parent, plan, [main], amounts),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": parent.metadata(name, labels),
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": completions,
            "backoffLimitPerIndex": RETRIES,
            "maxFailedIndexes": 0,
            "podFailurePolicy": {"rules": _rules()},
            "template": template,
        },
    }


def _rules() -> list[Object]:
    """What breaks under a pod does not count; what the input is guilty of is not tried again."""
    codes = {"containerName": "main", "operator": "In", "values": sorted(HOPELESS)}
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": codes},
    ]
