"""Every generated file, by its path in the repository."""

from __future__ import annotations

from pathlib import Path

from opt_api.crd.definition import definition
from opt_api.generate.write_yaml import yaml_text
from opt_api.resources import KINDS

NOTICE = "# Made from api/opt_api by `make generate`; edit the models instead.\n"


def artefacts() -> dict[Path, str]:
    """Path and text of every generated file."""
    return {Path("crds") / f"{model.plural}.yaml": NOTICE + yaml_text(definition(model)) for model in KINDS.values()}
