"""The entry points: a mapping or a text becomes resources, or all of its problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from opt_api.base import API_VERSION, GROUP
from opt_api.parsing.judge import judge
from opt_api.parsing.metadata import metadata_problems
from opt_api.parsing.text import Text, read
from opt_api.problems import Location, Problem, Problems, found_text
from opt_api.resources import KINDS, OPTServe, OPTTraining, Resource


@dataclass(frozen=True)
class Foreign:
    """A document of another API group: not ours to judge."""

    api_version: str
    kind: str


def parse(source: str | Mapping[str, Any]) -> Resource:
    """The one resource of a YAML or JSON text, or of a mapping.

    Raises:
        Problems: every problem of the input; also when there is no resource or more than one.
    """
    if isinstance(source, Mapping):
        return parse_mapping(source)
    resources = [item for item in parse_text(source) if not isinstance(item, Foreign)]
    if len(resources) != 1:
        raise Problems([Problem("", f"{len(resources)} resources", f"one {' or '.join(KINDS)}")])
    return resources[0]


def parse_mapping(document: Mapping[str, Any]) -> Resource:
    """The resource that a mapping holds.

    Raises:
        Problems: every problem of the document.
    """
    found = _judge(Text(dict(document)))
    if isinstance(found, list):
        raise Problems(problem for _, problem in found)
    return found


def parse_text(text: str, source: str = "") -> tuple[Resource | Foreign, ...]:
    """All documents of a YAML or JSON text.

    Args:
        text: the text.
        source: name of the file, for messages.

    Raises:
        Problems: every problem of every document, with file, document and line.
    """
    documents = read(text)
    if not documents:
        raise Problems([Problem("", "no document", f"an {' or an '.join(KINDS)}", source=source)])
    results = [_parse(document, number, source) for number, document in enumerate(documents, 1)]
    problems = [problem for result in results if isinstance(result, list) for problem in result]
    if problems:
        raise Problems(problems)
    return tuple(result for result in results if not isinstance(result, list))


def _parse(document: Text, number: int, source: str) -> Resource | Foreign | list[Problem]:
    foreign = _foreign(document.value)
    judged = foreign or (_judge(document) if document.value is not None else [])
    if not document.problems and not isinstance(judged, list):
        return judged
    placed = [
        replace(problem, line=document.line(location))
        for location, problem in (judged if isinstance(judged, list) else [])
    ]
    found = sorted((*document.problems, *placed), key=lambda problem: problem.line)
    return [replace(problem, source=source, document=number) for problem in found]


def _foreign(value: Any) -> Foreign | None:
    if not isinstance(value, dict):
        return None
    version, kind = value.get("apiVersion"), value.get("kind")
    if isinstance(version, str) and isinstance(kind, str) and kind not in KINDS and version.split("/")[0] != GROUP:
        return Foreign(version, kind)
    return None


def _judge(document: Text) -> Resource | list[tuple[Location, Problem]]:
    value = document.value
    if not isinstance(value, dict):
        return [((), Problem("", found_text(value), f"a mapping with apiVersion {API_VERSION} and a kind"))]
    kind = value.get("kind")
    model: type[OPTTraining | OPTServe] | None = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        found = found_text(kind) if "kind" in value else "nothing"
        return [(("kind",), Problem("kind", found, f"one of {', '.join(KINDS)}"))]
    judged = judge(model, value)
    metadata = metadata_problems(value.get("metadata"))
    if isinstance(judged, list) or metadata:
        return [*metadata, *(judged if isinstance(judged, list) else [])]
    return judged
