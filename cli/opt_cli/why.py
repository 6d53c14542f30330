"""`kubectl opt why NAME`: what the operator saw, which rule decided, what it did. Works without the operator."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import click

from opt_cli.exits import FAILED
from opt_operator.core.names import why_map

KUBECTL_S = 30


@click.command()
@click.argument("name")
@click.option("-n", "--namespace", help="Namespace of NAME; that of the context when absent.")
@click.option("--context", help="Context of the kubeconfig.")
@click.option("--last", type=click.IntRange(1, 100), default=3, show_default=True, help="How many decisions.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def why(ctx: click.Context, name: str, namespace: str | None, context: str | None, last: int, as_json: bool) -> None:
    """Print the operator's newest decisions on the training or served model NAME, the newest last."""
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
    """The kept decisions on a training and on a served model of this name, oldest first.

    Raises:
        OSError: There is no kubectl.
        ValueError: It cannot find them; the message says why.
    """
    if shutil.which("kubectl") is None:
        raise FileNotFoundError("kubectl: not found in PATH; install it, or run this as `kubectl opt why`")
    where = [*(("--namespace", namespace) if namespace else ()), *(("--context", context) if context else ())]
    maps = [why_map(name, kind) for kind in ("OPTTraining", "OPTServe")]
    command = ["kubectl", "get", "configmap", *maps, "--ignore-not-found", *where, "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=KUBECTL_S)
    if done.returncode:
        raise ValueError(f"{name!r}: no decisions can be read: {done.stderr.strip()}")
    found = json.loads(done.stdout or "{}")
    kept = found.get("items", [found] if found else [])
    if not kept:
        raise ValueError(f"{name!r}: no decisions are kept; found none of the ConfigMaps {' and '.join(maps)}")
    return sorted(
        (decision for one in kept for decision in json.loads(one["data"]["decisions"])), key=lambda d: str(d["time"])
    )


def text_of(decision: dict[str, Any]) -> str:
    """One decision as a few lines."""
    head = f"{decision['time']}  {decision['rule']}  phase {decision['phase']}, pod attempt {decision['podAttempt']}"
    seen = [f"  saw   {line}" for line in decision["seen"]]
    done = [f"  did   {line}" for line in decision["done"]] or ["  did   nothing"]
    return "\n".join([head, *seen, *done, f"  by    {decision['by']}", ""])
