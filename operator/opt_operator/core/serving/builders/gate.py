"""The Job that finds what the source offers and says whether it is fit to be served."""

from __future__ import annotations

from collections.abc import Iterable

from opt_operator.core.actions import Object
from opt_operator.core.builders.common import container, env
from opt_operator.core.builders.jobs import HOPELESS
from opt_operator.core.builders.storage import store_env, store_url
from opt_operator.core.serving import names
from opt_operator.core.serving.builders.common import Blueprint, mounts, pod, replica_amounts

RETRIES = 2


def job(made: Blueprint, number: int, *, current: str | None, loss: str | None, rejected: Iterable[str],
        keep: Iterable[str]) -> Object:  # fmt: skip
    """The Job.

    Args:
        made: What it is built from.
        number: Of the gate.
        current: Digest of what is served; that is not looked at again.
        loss: Its loss, to compare with.
        rejected: Digests of what is not to be looked at again either.
        keep: Digests of checkpoints that retention must leave alone from now on; all others are let go.
    """
    amounts = replica_amounts(made)
    labels = names.labels(made.parent.name, "gate", **{names.ATTEMPT: str(number)})
    command = ["python3", "-m", "opt_cli.gate_job", *_source(made), *_judgement(made, loss)]
    command += ["--current", current] if current else []
    command += [part for digest in rejected for part in ("--reject", digest)]
    command += [part for digest in keep for part in ("--keep", digest)]
    main = container(
        "main", made.image, made.parent, command, env=env(made.parent, *store_env(made.storage)),
        volumeMounts=mounts(made), resources=amounts.document(),
    )  # fmt: skip
    codes = {"containerName": "main", "operator": "In", "values": sorted(HOPELESS)}
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": codes},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": made.parent.metadata(names.gate_job(made.parent.name, number), labels),
        "spec": {
            "backoffLimit": RETRIES,
            "podFailurePolicy": {"rules": rules},
            "template": {
                "metadata": {"labels": {**made.parent.pods.labels, **labels}},
                "spec": pod(made, [main], amounts, restartPolicy="Never"),
            },
        },
    }


def _source(made: Blueprint) -> list[str]:
    source = made.spec.source
    if source.training is None:
        return ["--uri", str(source.uri)]
    assert made.storage is not None
    t = source.training
    chosen = str(t.step) if t.checkpoint == "step" else t.checkpoint
    return ["--serve", made.parent.name, "--store", store_url(made.storage), "--run", t.name,
            "--checkpoint", chosen, "--min-age", str(t.min_age_seconds)]  # fmt: skip


def _judgement(made: Blueprint, loss: str | None) -> list[str]:
    gate, engine = made.spec.rollout.gate, made.spec.engine
    if not gate.enabled:
        return ["--no-judgement"]
    weights = engine.weights if engine.name == "native" else "bfloat16"
    told = ["--weights", weights, "--device", engine.device, "--sequences", str(gate.sequences),
            "--max-loss-increase", str(gate.max_loss_increase_ratio)]  # fmt: skip
    return [*told, *(["--baseline", loss] if loss else [])]
