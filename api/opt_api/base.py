"""What every model of this package shares: wire names, strictness, rules and change classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

GROUP = "opt-operator.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

Change = Literal["identity", "attempt", "step", "roll", "now"]
"""When a changed field takes effect: never (identity), with the next gang (attempt), at a common step (step); for
serving with a roll of the replicas (roll) or at once (now)."""


@dataclass(frozen=True)
class Rule:
    """One statement about several fields, in the two languages that judge it.

    Attributes:
        field: wire name of the field the message is pinned to, relative to the model.
        message: what is allowed; read after "field: ".
        cel: the rule for the API server, over `self`; true means valid.
        check: the same rule over the parsed model; true means valid.
    """

    field: str
    message: str
    cel: str
    check: Callable[[Any], bool]


def exactly_one(*names: str) -> Rule:
    """Exactly one of these optional fields is set (a union, as the API server can say it)."""
    snake = {name: _snake(name) for name in names}
    return Rule(
        field=names[0],
        message=f"exactly one of {', '.join(names)} must be set",
        cel="[" + ", ".join(f"has(self.{name})" for name in names) + "].filter(x, x).size() == 1",
        check=lambda model: sum(getattr(model, attribute) is not None for attribute in snake.values()) == 1,
    )


def at_most_one(*names: str) -> Rule:
    """At most one of these optional fields is set."""
    snake = {name: _snake(name) for name in names}
    return Rule(
        field=names[0],
        message=f"at most one of {', '.join(names)} may be set",
        cel="[" + ", ".join(f"has(self.{name})" for name in names) + "].filter(x, x).size() <= 1",
        check=lambda model: sum(getattr(model, attribute) is not None for attribute in snake.values()) <= 1,
    )


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name)


class Model(BaseModel):
    """Base of every resource part and document: camelCase on the wire, frozen, no unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        serialize_by_alias=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        broken = [rule for rule in self.rules if not rule.check(self)]
        if broken:
            raise PydanticCustomError(
                "rules",
                "{text}",
                {
                    "text": "; ".join(f"{rule.field}: {rule.message}" for rule in broken),
                    "problems": [(rule.field, rule.message) for rule in broken],
                },
            )
        return self

    def wire(self) -> dict[str, Any]:
        """The document as it travels: camelCase, JSON types, unset optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def without_nulls(value: Any) -> Any:
    """The value with null fields left out: null is absent, as for the API server where a field is not nullable.

    This is done to the plain value: a validator before the model would make strict JSON refuse lists, which are tuples
    in the models.
    """
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def changes(when: Change, **field: Any) -> Any:
    """A pydantic field whose change, and that of all below it, takes effect at `when`; others are identity."""
    return Field(**field, json_schema_extra={"x-change": when})
