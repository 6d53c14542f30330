"""What is wrong with a document: every problem with its place, what was found there and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Location = tuple[int | str, ...]
FOUND_CHARACTERS = 80


@dataclass(frozen=True)
class Problem:
    """One wrong thing in one document.

    Attributes:
        path: the field, as `kubectl` writes it: `spec.data.sources[0].uri`; empty for the whole document.
        found: what stands there, as JSON, shortened.
        allowed: what may stand there.
        hint: what to do, where that is not plain from `allowed`.
        source: name of the file, or `-`.
        document: number of the document in the file, from 1.
        line: line in the file, from 1; 0 when it is not known.
    """

    path: str
    found: str
    allowed: str
    hint: str = ""
    source: str = ""
    document: int = 1
    line: int = 0

    def __str__(self) -> str:
        """One line for a person."""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.place}{self.path or 'document'}: found {self.found}; allowed: {self.allowed}{hint}"

    @property
    def place(self) -> str:
        """`file:line: `, or nothing when the document came from no file."""
        if not self.source:
            return ""
        line = f":{self.line}" if self.line else ""
        document = f" document {self.document}" if self.document > 1 else ""
        return f"{self.source}{line}{document}: "


class Problems(ValueError):  # noqa: N818  what it holds is its name
    """All problems of the input, in the order of the input."""

    def __init__(self, items: Iterable[Problem]) -> None:
        self.items = tuple(items)
        super().__init__("\n".join(str(item) for item in self.items))


def field_path(location: Location) -> str:
    """A place in a document as one writes it."""
    path = ""
    for part in location:
        plain = isinstance(part, str) and part.isidentifier()
        path += f".{part}" if plain else f"[{part}]"
    return path.lstrip(".")


def found_text(value: Any) -> str:
    """A value as short JSON."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= FOUND_CHARACTERS else f"{text[: FOUND_CHARACTERS - 3]}..."
