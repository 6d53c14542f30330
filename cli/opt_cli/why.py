"""`kubectl opt why NAME`: what the operator saw, which rule decided, what it did. Works without the operator."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import click

FAILED = 1
KUBECTL_S = 30


@click.command()
@click.argument("name")
@click.option("-n", "--namespace", help="Namespace of the training; that of the context when absent.")
@click.option("--context", help="Context of the kubeconfig.")
@click.option("--last", type=click.IntRange(1, 100), default=3, show_default=True, help="How many decisions.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def why(ctx: click.Context, name: str, namespace: str | None, context: str | None, last: int, as_json: bool) -> None:
    """Print the operator's newest decisions on training NAME, the newest last."""
    try:
        decisions = decisions_of(name, namespace, context)[-last:]
    except (OSError, subprocess.SubprocessError, ValueError) as fault:
        click.echo(str(fault), err=True)
        ctx.exit(FAILED)
    if as_json:
        click.echo(json.dumps(decisions))
        return
    for decision in decisions:
        click.echo(text_of(decision))


def decisions_of(name: str, namespace: str | None = None, context: str | None = None) -> list[dict[str, Any]]:
    """The kept decisions on a training, oldest first.

    Raises:
        OSError: There is no kubectl.
        ValueError: It cannot find them; the message says why.
    """
    if shutil.which("kubectl") is None:
        raise FileNotFoundError("kubectl: not found in PATH; install it, or run this as `kubectl opt why`")
    where = [*(("--namespace", namespace) if namespace else ()), *(("--context", context) if context else ())]
    command = ["kubectl", "get", "configmap", f"{name}-why", *where, "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=KUBECTL_S)
    if done.returncode:
        raise ValueError(f"training {name!r}: no decisions are kept: {done.stderr.strip()}")
    found: list[dict[str, Any]] = json.loads(json.loads(done.stdout)["data"]["decisions"])
    return found


def text_of(decision: dict[str, Any]) -> str:
    """One decision as a few lines."""
    head = f"{decision['time']}  {decision['rule']}  phase {decision['phase']}, pod attempt {decision['podAttempt']}"
    seen = [f"  saw   {line}" for line in decision["seen"]]
    done = [f"  did   {line}" for line in decision["done"]] or ["  did   nothing"]
    return "\n".join([head, *seen, *done, f"  by    {decision['by']}", ""])
