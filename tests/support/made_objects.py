"""Everything that the operator makes for a training, and trainings that use every field."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from opt_api.documents.plan import Plan
from opt_api.resources import OPTTraining
from opt_operator.core.builders import jobs, pods, surroundings
from opt_operator.core.builders.common import Parent

NAMESPACE = "victim"


def built(training: OPTTraining, plan: Plan) -> list[dict[str, Any]]:
    """Everything that the operator makes for a training."""
    parent = Parent(training.metadata.name, NAMESPACE, "uid", training.spec.pods)
    made = [surroundings.plan_map(parent, plan), surroundings.coordinator_service(parent, 1),
            surroundings.hosts_service(parent), surroundings.disruption_budget(parent),
            surroundings.network_policy(parent, plan)]  # fmt: skip
    if plan.storage is not None:
        made += [
            pods.coordinator(parent, plan, "image", 1, "0"),
            pods.host(parent, plan, "image", 1, 0, "s3://bucket/manifest.json", pods.Placement()),
            jobs.plan_job(parent, plan, "image", 1),
            jobs.stage_job(parent, plan, "image", "read", 1, "data/1/plan.json"),
            jobs.burn_in_job(parent, plan, "image", 1, "node-1", "cloud://machine-1"),
            jobs.evaluation_job(parent, plan, "image", 1, "s3://bucket/manifest.json"),
        ]
    return made


def documents() -> dict[str, dict[str, Any]]:
    """Trainings that can run, with every field of pods and storage that takes text."""
    example = yaml.safe_load((Path(__file__).parents[2] / "examples" / "quickstart.yaml").read_text())
    example["spec"]["pods"] |= {
        "image": "registry.example/own:1", "imagePullSecrets": ["registry"], "nodeSelector": {"pool": "a"},
        "tolerations": [{"key": "pool", "operator": "Equal", "value": "a", "effect": "NoSchedule"}],
        "env": [{"name": "NCCL_DEBUG", "value": "WARN"}], "labels": {"team": "a"}, "topologyKey": "rack",
        "networkResource": "rdma/hca",
    }  # fmt: skip
    example["spec"]["storage"]["s3"] |= {"region": "eu-1", "caConfigMap": "authority"}
    claim = copy.deepcopy(example)
    claim["spec"]["storage"] = {"volume": {"claimName": "shared", "path": "runs"}}
    finished = copy.deepcopy(example)
    finished["spec"]["data"] = {"dataset": "s3://bucket/data/manifest.json", "sequenceLength": 128}
    return {"s3": example, "claim": claim, "data set": finished}
