"""`optctl validate FILE...`: every problem of every file, in one pass."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import click

from opt_api.parsing import Foreign
from opt_api.problems import Problem, Problems
from opt_api.resources import Resource
from opt_cli.exits import BAD_INPUT
from opt_cli.files import load


@dataclass(frozen=True)
class Verdict:
    """What was found in one file."""

    file: str
    documents: tuple[Resource | Foreign, ...] = ()
    problems: tuple[Problem, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The verdict as plain values."""
        return {
            "file": self.file,
            "valid": not self.problems,
            "documents": [_described(document) for document in self.documents],
            "problems": [asdict(problem) for problem in self.problems],
        }


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def validate(ctx: click.Context, files: tuple[str, ...], as_json: bool) -> None:
    """Check OPTTraining and OPTServe files; `-` is standard input.

    The verdict is the API server's. Every problem is printed with its field, what was found and what is allowed.
    Documents of other kinds are passed over. Exit code 2 when there is a problem.
    """
    verdicts = [judge_file(name) for name in files]
    (_print_json if as_json else _print_text)(verdicts)
    ctx.exit(BAD_INPUT if any(verdict.problems for verdict in verdicts) else 0)


def judge_file(name: str) -> Verdict:
    """The verdict on one file; a file without a resource of ours is a problem."""
    try:
        documents = load(name)
    except Problems as problems:
        return Verdict(name, problems=problems.items)
    if all(isinstance(document, Foreign) for document in documents):
        return Verdict(
            name, documents, (Problem("", "no resource of ours", "an OPTTraining or OPTServe", source=name),)
        )
    return Verdict(name, documents)


def _print_json(verdicts: list[Verdict]) -> None:
    valid = not any(verdict.problems for verdict in verdicts)
    click.echo(json.dumps({"valid": valid, "files": [verdict.as_json() for verdict in verdicts]}, indent=2))


def _print_text(verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        for problem in verdict.problems:
            click.echo(str(problem), err=True)
        if verdict.problems:
            click.echo(f"{verdict.file}: {len(verdict.problems)} problem(s)", err=True)
        for document in () if verdict.problems else verdict.documents:
            click.echo(f"{verdict.file}: {_sentence(document)}")


def _sentence(document: Resource | Foreign) -> str:
    if isinstance(document, Foreign):
        return f"{document.kind} ({document.api_version}) passed over"
    return f"{document.kind} {document.metadata.name} is valid"


def _described(document: Resource | Foreign) -> dict[str, Any]:
    if isinstance(document, Foreign):
        return {"apiVersion": document.api_version, "kind": document.kind, "judged": False}
    return {
        "apiVersion": document.api_version,
        "kind": document.kind,
        "name": document.metadata.name,
        "judged": True,
    }
