"""The models' rules as CEL validations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from opt_api.shapes import Shape

Validation = dict[str, Any]


def rules_of(shape: Shape) -> Iterator[Validation]:
    """The rules of a model; each is pinned to its field."""
    for rule in shape.rules:
        yield {"rule": rule.cel, "message": rule.message, "fieldPath": f".{rule.field}"}


def key_rules(keys: Shape) -> Iterator[Validation]:
    """What a map's keys must be: a structural schema has no word for it."""
    if keys.pattern:
        pattern = json.dumps(keys.pattern)
        yield {
            "rule": f"self.all(k, k.size() <= {keys.max_length} && k.matches({pattern}))",
            "message": f"a key has at most {keys.max_length} characters and matches {keys.pattern}",
        }
