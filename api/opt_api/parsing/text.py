"""YAML and JSON text as plain values with line numbers, read the way `kubectl` reads it.

Go's reader (sigs.k8s.io/yaml) differs from PyYAML's: `1e-4` is a number, `12:30` and `2026-01-01` are text, `y` is
true. Duplicate keys are errors, as under `fieldValidation=Strict`. Nothing is constructed but plain values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import yaml

from opt_api.problems import Location, Problem, field_path, found_text

MAX_CHARACTERS = 3 * 1024 * 1024
"""The API server refuses longer requests."""
MAX_NODES = 200_000
"""Values of one file after aliases were followed; keeps a small file of nested aliases from filling the memory."""
MAX_DEPTH = 100

_PLAIN = "!plain"
_TRUE = {"y", "yes", "true", "on"}
_SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"^(~|null|Null|NULL|)$"), lambda _: None),
    (
        re.compile(r"^(y|Y|yes|Yes|YES|true|True|TRUE|on|On|ON|n|N|no|No|NO|false|False|FALSE|off|Off|OFF)$"),
        lambda text: text.lower() in _TRUE,
    ),
    (re.compile(r"^[-+]?0b[01_]+$"), lambda text: int(text.replace("_", ""), 2)),
    (re.compile(r"^[-+]?0x[0-9a-fA-F_]+$"), lambda text: int(text.replace("_", ""), 16)),
    (re.compile(r"^[-+]?0o?[0-7_]+$"), lambda text: int(text.replace("_", "").replace("o", ""), 8)),
    (re.compile(r"^[-+]?(0|[1-9][0-9_]*)$"), lambda text: int(text.replace("_", ""))),
    (
        re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
        lambda text: _whole_or_float(float(text)),
    ),
)


class _Loader(yaml.SafeLoader):
    """Marks unquoted scalars and leaves what they mean to us."""


_Loader.yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(".*", re.DOTALL))]}


@dataclass
class Text:
    """One document of a file.

    Attributes:
        value: its plain value; None when it is empty or could not be read.
        problems: what kept it from being read, duplicate keys included.
        lines: line of each place.
    """

    value: Any = None
    problems: list[Problem] = field(default_factory=list)
    lines: dict[Location, int] = field(default_factory=dict)

    def line(self, location: Location) -> int:
        """Line of a place, or of the nearest place around it; 0 when unknown."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 0)


def read(text: str) -> list[Text]:
    """All documents of a YAML stream; JSON is YAML."""
    if len(text) > MAX_CHARACTERS:
        return [_broken(f"{len(text)} characters", f"at most {MAX_CHARACTERS}", 0)]
    documents: list[Text] = []
    try:
        for node in yaml.compose_all(_untabbed(text), Loader=_Loader):
            documents.append(_document(node))  # noqa: PERF401  what was read before an error is kept
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        documents.append(_broken(str(error.problem or error), "YAML or JSON", mark.line + 1 if mark else 0))
    except (yaml.YAMLError, RecursionError) as error:
        documents.append(_broken(str(error).splitlines()[0], "YAML or JSON, nested at most 100 deep", 0))
    return [document for document in documents if document.value is not None or document.problems]


def _untabbed(text: str) -> str:
    """JSON may be indented with tabs, which YAML does not allow."""
    is_json = text.lstrip().startswith("{")
    return re.sub(r"^\t+", lambda tabs: " " * len(tabs[0]), text, flags=re.MULTILINE) if is_json else text


def _broken(found: str, allowed: str, line: int) -> Text:
    return Text(problems=[Problem("", found, allowed, line=line)])


def _document(node: Any) -> Text:
    document = Text()
    reader = _Reader(document)
    try:
        document.value = reader.value(node, ())
    except _TooLargeError as error:
        document.problems.append(
            Problem("", str(error), f"at most {MAX_NODES} values, nested at most {MAX_DEPTH} deep")
        )
    return document


class _TooLargeError(Exception):
    """The document grew too large while it was read."""


class _Reader:
    """Turns composed nodes into plain values, and notes lines and duplicate keys."""

    def __init__(self, document: Text) -> None:
        self.document = document
        self.nodes = 0

    def value(self, node: yaml.Node, location: Location) -> Any:
        """The plain value of a node."""
        self.nodes += 1
        if self.nodes > MAX_NODES or len(location) > MAX_DEPTH:
            raise _TooLargeError("more")
        self.document.lines[location] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]
        return scalar(node.value) if node.tag == _PLAIN else _tagged(node)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.value == "<<" and key_node.tag == _PLAIN:
                for part in self._merged(value_node, location):
                    merged = part | merged
                continue
            key = _key(key_node)
            place = (*location, key)
            if key in own:
                line = key_node.start_mark.line + 1
                problem = Problem(field_path(place), "the key again", "each key once", line=line)
                self.document.problems.append(problem)
            own[key] = self.value(value_node, place)
            self.document.lines[place] = key_node.start_mark.line + 1
        return merged | own

    def _merged(self, node: yaml.Node, location: Location) -> Iterator[dict[str, Any]]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for part in parts:
            value = self.value(part, location)
            if isinstance(value, dict):
                yield value
            else:
                line = part.start_mark.line + 1
                problem = Problem(field_path(location), found_text(value), "a mapping to merge", line=line)
                self.document.problems.append(problem)


def scalar(text: str) -> Any:
    """The value of an unquoted scalar."""
    for pattern, convert in _SCALARS:
        if pattern.match(text):
            with suppress(ValueError):  # thousands of digits, underscores alone, 1e400
                return convert(text)
    return text


def _tagged(node: yaml.Node) -> Any:
    """A quoted or explicitly tagged scalar: text, unless the tag says otherwise."""
    plain = node.tag in {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null")}
    return scalar(node.value) if plain else _joined(node.value)


def _joined(text: str) -> str:
    """JSON writes characters beyond U+FFFF as two escapes, which belong together."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _key(node: yaml.Node) -> str:
    """A key as JSON has it: text."""
    value = scalar(node.value) if node.tag == _PLAIN else node.value
    return {True: "true", False: "false", None: "null"}.get(value, str(value)) if not isinstance(value, str) else value


def _whole_or_float(value: float) -> float | int:
    """Go writes 3.0 as 3 when YAML becomes JSON, and leaves a number that is too large as text."""
    if not math.isfinite(value):
        raise ValueError(value)
    return int(value) if value.is_integer() and abs(value) < 1e15 else value
