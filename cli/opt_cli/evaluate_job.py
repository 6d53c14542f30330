"""`python -m opt_cli.evaluate_job`: the last evaluation, as the evaluation Job in a cluster runs it.

The gang itself measures the validation losses at its last step, on all its hosts, and writes them into the checkpoint's
manifest. The job proves that they are there, of the last step and of every source that has held-out blocks, and leaves
them as its container's termination message.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from opt_api.documents.exit_report import EXIT_CODES
from opt_api.documents.manifests import DatasetManifest
from opt_api.documents.plan import Plan
from opt_cli.process_one import end_on_sigterm
from opt_cli.run_result import result_of
from opt_cli.termination import leave
from opt_store import StoreError, open_object, open_store


class NotEvaluated(LookupError):  # noqa: N818 - caught by what happened
    """The store holds no complete evaluation of the last step."""


def evaluation(plan: Plan, url: str, dataset: str) -> dict[str, Any]:
    """Step, training loss and validation losses of the last checkpoint.

    Raises:
        NotEvaluated: It is of another step, or a source is missing.
        StoreError: The store does not answer.
    """
    found = result_of(open_store(url), plan.name)
    last, step = plan.recipe.total_steps, found.get("step")
    if step != last:
        raise NotEvaluated(f"training {plan.name!r}: the newest checkpoint is of step {step}, the last step is {last}")
    losses = found["validationLoss"]
    store, key = open_object(dataset)
    manifest = DatasetManifest.from_bytes(store.get(key))
    held_out = {
        shard.source for shard in manifest.shards if shard.source and shard.split == "validation" and shard.blocks
    }
    if missing := sorted(held_out - set(losses)):
        raise NotEvaluated(f"checkpoint {found['checkpoint']}: no validation loss of source(s) {', '.join(missing)}")
    return {name: found[name] for name in ("run", "step", "loss", "validationLoss", "checkpoint", "export")}


def main(arguments: list[str] | None = None) -> int:
    """Exit codes as in `EXIT_CODES`."""
    end_on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="file with the training's plan")
    parser.add_argument("--store", required=True, help="URL of the store")
    parser.add_argument("--dataset", required=True, help="URI of the data set's manifest")
    given = parser.parse_args(arguments)
    try:
        text = json.dumps(evaluation(Plan.from_bytes(given.plan.read_bytes()), given.store, given.dataset))
    except NotEvaluated as fault:
        print(fault, file=sys.stderr)
        return EXIT_CODES["BadCheckpoint"]
    except StoreError as fault:
        print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
        return EXIT_CODES["StoreUnavailable"]
    leave(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
