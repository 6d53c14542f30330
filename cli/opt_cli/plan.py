"""`optctl plan FILE`: what a training will run, need and cost, or why it cannot."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import click

from opt_api.documents.plan import Plan
from opt_api.estimate.estimate import Estimate, estimate
from opt_api.problems import Problem, Problems
from opt_api.resolve import PlanError, resolve
from opt_api.resources import OPTTraining
from opt_cli.exits import BAD_INPUT
from opt_cli.files import load
from opt_cli.plan_text import show


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: the plan and its estimate.")
@click.pass_context
def plan(ctx: click.Context, file: str, as_json: bool) -> None:
    """Resolve an OPTTraining to its last number and say what it needs: memory, time, energy, spares.

    Nothing is started or written. Exit code 2 when the file is wrong, or when the training cannot run as it stands;
    then the nearest layout that fits is named.
    """
    try:
        training = one_training(file)
        resolved = resolve(training)
    except Problems as problems:
        _refuse(problems, file, as_json)
        ctx.exit(BAD_INPUT)
    needs = estimate(training, resolved)
    if as_json:
        click.echo(json.dumps(as_document(resolved, needs), indent=2))
    else:
        show(training, resolved, needs)


def one_training(file: str) -> OPTTraining:
    """The one OPTTraining of a file.

    Raises:
        Problems: the file's own, or that it holds no OPTTraining, or several.
    """
    trainings = [document for document in load(file) if isinstance(document, OPTTraining)]
    if len(trainings) != 1:
        raise Problems([Problem("", f"{len(trainings)} OPTTraining documents", "exactly one", source=file)])
    return trainings[0]


def as_document(resolved: Plan, needs: Estimate) -> dict[str, object]:
    """The plan and its estimate as one JSON value."""
    return {"fits": True, "digest": resolved.digest(), "plan": resolved.wire(), "estimate": needs.wire()}


def _refuse(problems: Problems, file: str, as_json: bool) -> None:
    items = [replace(problem, source=problem.source or file) for problem in problems.items]
    if as_json:
        click.echo(json.dumps({"fits": False, "problems": [asdict(item) for item in items]}, indent=2))
    for item in items:
        click.echo(str(item), err=True)
    verdict = "valid, but it cannot run as it stands" if isinstance(problems, PlanError) else "not valid"
    click.echo(f"No: {file} is {verdict} ({len(items)} problem(s)).", err=True)
