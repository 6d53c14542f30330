"""Every document there is, found by looking: a new one cannot be forgotten."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import opt_api.documents
from opt_api.documents.base import Document


def document_models() -> dict[str, type[Document]]:
    """The document models by kind, in the order of their names."""
    for module in iter_modules(opt_api.documents.__path__, "opt_api.documents."):
        import_module(module.name)
    ours = (model for model in _subclasses(Document) if _is_one(model))
    return dict(sorted((model.__name__, model) for model in ours))


def file_stem(model: type[Document]) -> str:
    """Name of a document's schema file: `checkpoint-manifest-v1`."""
    name = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in model.__name__).lstrip("-")
    return f"{name}-v{model.model_fields['version'].default}"


def _is_one(model: type[Document]) -> bool:
    """Whether it names its kind, and is not what several of them share."""
    return model.__module__.startswith("opt_api.documents.") and not model.model_fields["kind"].is_required()


def _subclasses(model: type[Document]) -> set[type[Document]]:
    children = set(model.__subclasses__())
    return children.union(*(_subclasses(child) for child in children))
