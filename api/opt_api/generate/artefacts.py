"""Every generated file, by its path in the repository."""

from __future__ import annotations

import json
from pathlib import Path

from opt_api.change_rules import classes
from opt_api.crd.definition import definition
from opt_api.documents.base import Document
from opt_api.generate.documents import document_models, file_stem
from opt_api.generate.json_schema import json_schema
from opt_api.generate.reference import TAKES_EFFECT, plain_page, spec_page
from opt_api.generate.write_yaml import yaml_text
from opt_api.resources import KINDS, OPTServe, OPTTraining
from opt_api.shapes import shape_of

NOTICE = "Made from api/opt_api by `make generate`; edit the models instead."
REFERENCE = Path("docs/reference")


def artefacts() -> dict[Path, str]:
    """Path and text of every generated file."""
    return _definitions() | _schemas() | _pages()


def _definitions() -> dict[Path, str]:
    return {
        Path("crds") / f"{model.plural}.yaml": f"# {NOTICE}\n{yaml_text(definition(model))}" for model in KINDS.values()
    }


def _schemas() -> dict[Path, str]:
    return {REFERENCE / "schemas" / f"{file_stem(model)}.json": _schema(model) for model in document_models().values()}


def _schema(model: type[Document]) -> str:
    return json.dumps(json_schema(model.__name__, shape_of(model)), indent=1, ensure_ascii=False) + "\n"


def _pages() -> dict[Path, str]:
    pages = {REFERENCE / f"{kind.lower()}.md": _resource_page(model) for kind, model in KINDS.items()}
    parts = {kind: shape_of(model) for kind, model in document_models().items()}
    intro = (
        f"<!-- {NOTICE} -->\nThe documents that cross a process boundary. Their JSON schemas are in "
        "[schemas](schemas). Times are RFC 3339, steps are optimiser steps."
    )
    return pages | {REFERENCE / "documents.md": plain_page("Documents", parts, intro)}


def _resource_page(model: type[OPTTraining | OPTServe]) -> str:
    kind, shape = model.__name__, shape_of(model)
    spec, status = shape.properties["spec"], shape.properties["status"]
    names = f"`{model.plural}`, {', '.join(f'`{name}`' for name in model.short_names)}, category `opt`"
    used = ", ".join(f"*{TAKES_EFFECT[when]}*" for when in sorted(classes(spec, spec.change or "identity")))
    intro = (
        f"<!-- {NOTICE} -->\n{shape.description} `kubectl` knows it as {names}. The name of the resource is "
        f"a DNS label of at most 40 characters that begins with a letter.\n\nA change takes effect {used}. "
        "*Never* means that the API server refuses it: those fields are the identity of the resource."
    )
    page = spec_page(kind, spec, "spec", spec.change or "identity", intro)
    tail = plain_page("Status", {"status": status}, "Written by the operator alone.")
    return f"{page}\n{tail}"
