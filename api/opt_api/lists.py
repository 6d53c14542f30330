"""Lists whose entries are told apart: by a key field, or as a set. One marker checks them and names the list type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True)
class Unique:
    """Annotation of a tuple: no two entries are the same, or, with `key`, have the same value of that wire name.

    In a CRD this is `x-kubernetes-list-type: set`, or `map` with the key as its map key.
    """

    key: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check after the tuple's own schema."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        repeated = first_repeated(self._identity(item) for item in items)
        if repeated is not None:
            what = f"{self.key} values" if self.key else "entries"
            raise PydanticCustomError("repeated", "{what} must be unique", {"what": what, "index": repeated})
        return items

    def _identity(self, item: Any) -> Any:
        return getattr(item, self.key) if self.key else item


def first_repeated(values: Iterable[Any]) -> int | None:
    """Index of the first value that was there before."""
    seen: set[Any] = set()
    for index, value in enumerate(values):
        if value in seen:
            return index
        seen.add(value)
    return None
