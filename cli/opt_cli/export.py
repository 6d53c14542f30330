"""`optctl export NAME OUT`: a stored checkpoint as a Hugging Face directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from opt_cli.exits import BAD_INPUT, FAILED
from opt_cli.store_option import of_run

if TYPE_CHECKING:
    from opt_store import Store

DTYPES = ("float32", "float16", "bfloat16")


@click.command()
@click.argument("name", metavar="NAME")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--step", type=click.IntRange(1), help="Checkpoint of this step; the newest good one if not given.")
@click.option("--dtype", type=click.Choice(DTYPES), help="Number format of the weights; as saved if not given.")
@of_run
@click.option("--dataset", help="URI of the data set's manifest, for the tokenizer; found by its digest if not given.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: step, files, bytes.")
@click.pass_context
def export(
    ctx: click.Context,
    name: str,
    out: Path,
    step: int | None,
    dtype: str | None,
    store: str | None,
    dataset: str | None,
    as_json: bool,
) -> None:
    """Write a checkpoint of the run NAME to the folder OUT: an OPTForCausalLM directory with its tokenizer.

    Every byte is checked on the way. OUT must not exist, or be empty; it appears whole or not at all.
    """
    from opt_cli.stored import stored_run
    from opt_cli.stored_checkpoints import NoSuchCheckpoint
    from opt_store import StoreError
    from opt_trainer.checkpoint.errors import CheckpointError

    try:
        made = export_to(stored_run(name, store), name, out, step=step, dtype=dtype, dataset=dataset)
    except (FileExistsError, NoSuchCheckpoint) as problem:
        click.echo(str(problem), err=True)
        ctx.exit(BAD_INPUT)
    except (StoreError, CheckpointError, ValueError, OSError) as fault:
        click.echo(f"{type(fault).__name__}: {fault}", err=True)
        ctx.exit(FAILED)
    if as_json:
        click.echo(json.dumps(made))
        return
    click.echo(f"step {made['step']} of {name}: {made['bytes'] / 1e6:,.1f} MB in {made['folder']}")
    for file in made["files"]:
        click.echo(f"  {file}")


def export_to(
    store: Store,
    run: str,
    out: Path,
    *,
    step: int | None = None,
    dtype: str | None = None,
    dataset: str | None = None,
) -> dict[str, Any]:
    """Write a stored checkpoint of a run to a folder; returns what was written.

    Raises:
        FileExistsError: `out` is there and not empty.
        NoSuchCheckpoint, BadCheckpoint: There is none to export, or its bytes are not what they were.
        opt_store.StoreError: The store, or the tokenizer in it, cannot be read.
    """
    from opt_cli.stored_checkpoints import dataset_of, open_checkpoint
    from opt_trainer.checkpoint.export import write_directory
    from opt_trainer.checkpoint.job import ExportRequest

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: it is there and not empty; name a new or an empty folder")
    contents = open_checkpoint(store, run, step)
    place = dataset_of(store, run, contents.manifest, dataset)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        fresh = Path(scratch) / "export"
        fetch_tokenizer(place.store, place.key, Path(scratch) / "tokenizer")
        request = ExportRequest.model_validate({"dtype": dtype, "tokenizer": f"{scratch}/tokenizer"})
        files = write_directory(contents, fresh, request)
        size = sum(file.stat().st_size for file in files)
        if out.exists():
            out.rmdir()
        shutil.move(fresh, out)
    return {
        "run": run,
        "step": contents.manifest.step,
        "attempt": contents.manifest.attempt,
        "folder": str(out),
        "files": sorted(file.name for file in files),
        "bytes": size,
    }


def fetch_tokenizer(store: Store, key: str, folder: Path) -> None:
    """The vocabulary's files under the names that Hugging Face knows them by."""
    from opt_api.documents.manifests import DatasetManifest

    entry = DatasetManifest.from_bytes(store.get(key)).tokenizer
    prefix = key.rpartition("/")[0]
    folder.mkdir()
    for piece, name in ((entry.vocab, "vocab.json"), (entry.merges, "merges.txt")):
        store.download(f"{prefix}/{piece.key}" if prefix else piece.key, folder / name, expect=piece.digest)
