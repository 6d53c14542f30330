"""Trainings for tests: the smallest valid document, with parts replaced."""

from __future__ import annotations

import copy
from typing import Any

from opt_api.resources import OPTTraining

BASE: dict[str, Any] = {
    "apiVersion": "opt-operator.io/v1alpha1",
    "kind": "OPTTraining",
    "metadata": {"name": "small"},
    "spec": {
        "model": {"preset": "opt-125m"},
        "data": {"dataset": "s3://corpus/manifest.json"},
        "parallelism": {"deviceModel": "a100-80gb"},
    },
}


def document(**spec: Any) -> dict[str, Any]:
    """The base document with whole sections of the spec replaced."""
    made = copy.deepcopy(BASE)
    made["spec"].update(copy.deepcopy(spec))
    return made


def training(**spec: Any) -> OPTTraining:
    """The same, parsed."""
    return OPTTraining.model_validate(document(**spec))
