"""`python -m opt_cli.gate_job`: what the gate of a served model runs in a cluster.

It finds what the source offers, makes the Hugging Face directory beside a checkpoint that has none, loads it into the
engine, computes its loss on held-out sequences, and leaves a `GateReport` as its container's termination message, for
an operator that has no credentials.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from opt_api.documents.exit_report import EXIT_CODES
from opt_api.documents.gate_report import GatedCheckpoint, GateReport
from opt_api.documents.keys import export_prefix
from opt_cli.gate_choice import Candidate, Nothing, Wish, candidates, choose, mark_served
from opt_cli.gate_judgement import Unfit, held_out, loss_of
from opt_cli.process_one import end_on_sigterm
from opt_cli.termination import leave
from opt_serving.settings import EngineSettings
from opt_serving.weights_cache import fetch, listing, revision_of
from opt_store import Store, StoreError, open_store
from opt_trainer.checkpoint.errors import BadCheckpoint

REASON_CHARS = 900


@dataclass(frozen=True)
class Judgement:
    """How a model is judged; None for the engine where it is not.

    Attributes:
        sequences: Held-out ones, over all sources.
        max_increase: Of the loss over `baseline`, as a share of it.
        baseline: Loss of what is served now.
    """

    engine: EngineSettings | None = None
    sequences: int = 32
    max_increase: float = 0.05
    baseline: float | None = None

    def verdict(self, loss: float | None) -> str:
        """Why it does not pass; empty if it does."""
        if loss is None or self.baseline is None or loss <= self.baseline * (1 + self.max_increase):
            return ""
        allowed = self.baseline * (1 + self.max_increase)
        what = f"loss {loss:.4f} on {self.sequences} held-out sequences"
        return f"{what}; at most {allowed:.4f} is allowed, as what is served has {self.baseline:.4f}"


def gate_training(store: Store, run: str, serve: str, wish: Wish, judgement: Judgement, keep: set[str]) -> GateReport:
    """What a training offers, and whether it is fit.

    Raises:
        StoreError: The store does not answer, or refuses.
    """
    known = candidates(store, run)
    chosen = choose(known, wish)
    if isinstance(chosen, Nothing):
        mark_served(store, run, serve, keep)
        return GateReport(reason=chosen.reason[:REASON_CHARS], later=chosen.later)
    mark_served(store, run, serve, {*keep, chosen.digest})
    prefix, loss, reason = export_prefix(chosen.found.prefix), None, ""
    if chosen.digest != wish.current:
        try:
            ensure_export(store, run, chosen)
            folder, _ = fetch(store, f"{prefix}/")
            blocks = held_out(store, run, chosen.manifest, judgement.sequences) if judgement.engine else []
            loss = loss_of(folder, judgement.engine, blocks) if judgement.engine else None
            reason = judgement.verdict(loss)
        except (Unfit, BadCheckpoint, FileNotFoundError) as fault:
            reason = f"{type(fault).__name__}: {fault}"
    found = GatedCheckpoint(
        step=chosen.manifest.step,
        digest=chosen.digest,
        uri=f"{store.url}/{prefix}",
        time=chosen.manifest.time,
        loss=loss,
    )
    return GateReport(checkpoint=found, passed=not reason, reason=reason[:REASON_CHARS])


def gate_uri(uri: str, judgement: Judgement, wish: Wish) -> GateReport:
    """What lies at a URI, and whether it is fit.

    Raises:
        StoreError: The store does not answer, or refuses.
    """
    store = open_store(uri)
    try:
        digest = revision_of(listing(store, ""), "")
    except FileNotFoundError as fault:
        return GateReport(reason=str(fault)[:REASON_CHARS])
    if digest in wish.rejected:
        return GateReport(reason=f"{uri}: what lies there was rejected before")
    reason = ""
    if digest != wish.current:
        try:
            folder, _ = fetch(store, "")
            if judgement.engine:
                loss_of(folder, judgement.engine, [])
        except (Unfit, FileNotFoundError) as fault:
            reason = f"{type(fault).__name__}: {fault}"
    found = GatedCheckpoint(digest=digest, uri=uri)
    return GateReport(checkpoint=found, passed=not reason, reason=reason[:REASON_CHARS])


def ensure_export(store: Store, run: str, chosen: Candidate) -> None:
    """Make the directory beside a checkpoint that has none.

    Raises:
        BadCheckpoint: Its bytes are not what they were.
        StoreError: The store, or the tokenizer in it, cannot be read.
    """
    from opt_cli.export import fetch_tokenizer
    from opt_cli.stored_checkpoints import dataset_of
    from opt_trainer.checkpoint.export import export
    from opt_trainer.checkpoint.job import ExportRequest

    if f"{export_prefix(chosen.found.prefix)}/config.json" in chosen.found.keys:
        return
    place = dataset_of(store, run, chosen.manifest, None)
    with TemporaryDirectory(prefix="opt-gate-") as scratch:
        folder = Path(scratch) / "tokenizer"
        fetch_tokenizer(place.store, place.key, folder)
        export(store, chosen.found.prefix, ExportRequest(tokenizer=str(folder)))


def main(arguments: list[str] | None = None) -> int:
    """Exit codes as in `EXIT_CODES`."""
    end_on_sigterm()
    given = _parser().parse_args(arguments)
    judgement = Judgement(_engine(given), given.sequences, given.max_loss_increase, given.baseline)
    wish = Wish(
        given.checkpoint, datetime.now(UTC), timedelta(seconds=given.min_age), given.current, frozenset(given.reject)
    )
    try:
        if given.uri:
            report = gate_uri(given.uri, judgement, wish)
        else:
            report = gate_training(open_store(given.store), given.run, given.serve, wish, judgement, set(given.keep))
    except StoreError as fault:
        print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
        return EXIT_CODES["StoreUnavailable"]
    leave(report.to_bytes().decode())
    return 0


def _engine(given: argparse.Namespace) -> EngineSettings | None:
    if given.no_judgement:
        return None
    return EngineSettings(weights=given.weights, device=given.device, max_sequences=4, kernels="auto")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="opt_cli.gate_job", description=__doc__)
    add = parser.add_argument
    add("--uri", help="a Hugging Face directory, instead of a training")
    add("--store", help="URL of the training's store")
    add("--run", help="name of the training")
    add("--serve", help="name of the served model, for the marks that keep its checkpoints")
    add("--checkpoint", default="latest", help="latest, best, or a step")
    add("--min-age", type=int, default=0, help="seconds")
    add("--current", help="digest of what is served")
    add("--reject", action="append", default=[], help="digest of what is not to be served; may be repeated")
    add("--keep", action="append", default=[], help="digest of a checkpoint that is needed; may be repeated")
    add("--no-judgement", action="store_true", help="only find it")
    add("--weights", choices=["float32", "bfloat16", "float16", "int8"], default="float32")
    add("--device", default="cpu")
    add("--sequences", type=int, default=32, help="held-out sequences")
    add("--max-loss-increase", type=float, default=0.05, help="over the baseline, as a share of it")
    add("--baseline", type=float, help="loss of what is served")
    return parser


if __name__ == "__main__":
    sys.exit(main())
