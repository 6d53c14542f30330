"""Reading a file of faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from opt_api.documents.faults import FaultPlan
from opt_api.problems import Problem, Problems
from opt_runtime.local.faults import allowed


def read_faults(path: str) -> FaultPlan:
    """The faults of a YAML or JSON file.

    Raises:
        Problems: Everything that is wrong with it, by place in the file.
    """
    try:
        return FaultPlan.model_validate(yaml.safe_load(Path(path).read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise Problems([Problem("--fault-file", f"{path}: {fault}", "a readable YAML or JSON file")]) from fault
    except ValidationError as fault:
        raise Problems([_problem(path, error) for error in fault.errors()]) from fault


def _problem(path: str, error: Any) -> Problem:
    place = ".".join(str(part) for part in error["loc"])
    wants = f"faults: {allowed()}" if place.endswith(".fault") else error["msg"]
    return Problem(f"{path}: {place or 'file'}", repr(error["input"])[:200], wants)
