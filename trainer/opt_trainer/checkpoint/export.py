"""The consolidated Hugging Face directory beside a checkpoint, so that serving never reshards.

`python -m opt_trainer.checkpoint.export STORE PREFIX REQUEST`, each a JSON document or key: a program of its own,
because the writer process has no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from opt_api.documents.keys import export_prefix
from opt_api.documents.manifests import TensorEntry
from opt_model.exchange.names import from_hugging_face
from opt_model.exchange.writer import write
from opt_store import Store
from opt_trainer.checkpoint.contents import Contents, open_contents
from opt_trainer.checkpoint.fetching import fill
from opt_trainer.checkpoint.image import DTYPES
from opt_trainer.checkpoint.job import ExportRequest, StoreAddress
from opt_trainer.state import LocalTensor

MODEL = "model."
"""How the names of the model's parameters begin among the tensors of a checkpoint: Hugging Face's names."""


def export(store: Store, prefix: str, request: ExportRequest) -> list[str]:
    """Write the directory beside the checkpoint and return the keys, config.json last: with it a directory is whole.

    The files pass through a temporary folder.

    Raises:
        BadCheckpoint, opt_store.StoreError: The checkpoint cannot be read.
        ValueError: The checkpoint does not hold every tensor of its model.
    """
    with TemporaryDirectory(prefix="opt-export-") as folder:
        files = write_directory(open_contents(store, prefix), Path(folder), request)
        last = sorted(files, key=lambda f: (f.name == "config.json", f.name))
        return [store.upload(f"{export_prefix(prefix)}/{file.name}", file).key for file in last]


def write_directory(
    contents: Contents, folder: Path, request: ExportRequest, told: Callable[[str], None] | None = None
) -> list[Path]:
    """Write the directory to a local folder and return its files. One tensor is in memory at a time.

    Args:
        contents: Of the checkpoint.
        folder: An empty one.
        request: Number format and tokenizer.
        told: Called with the name of each tensor as it is fetched.

    Raises:
        BadCheckpoint, opt_store.StoreError: The checkpoint cannot be read.
        ValueError: The checkpoint does not hold every tensor of its model.
    """
    tokenizer = Path(request.tokenizer) if request.tokenizer else None
    tensors = _model(contents, request.dtype, told or (lambda _: None))
    return write(folder, contents.manifest.architecture, tensors, tokenizer=tokenizer)


def _model(contents: Contents, dtype: str | None, told: Callable[[str], None]) -> Iterator[tuple[str, torch.Tensor]]:
    for entry in contents.entries().values():
        if entry.name.startswith(MODEL):
            told(entry.name)
            whole = _whole(contents, entry)
            yield from_hugging_face(entry.name), whole if dtype is None else whole.to(DTYPES[dtype])


def _whole(contents: Contents, entry: TensorEntry) -> torch.Tensor:
    tensor = torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    target = LocalTensor(entry.name, tensor, entry.shape, (0,) * len(entry.shape))
    fill(contents, [target], entries={entry.name: entry})
    return tensor


def main(arguments: list[str]) -> None:
    """Export as the arguments say."""
    address, prefix, request = arguments
    export(StoreAddress.model_validate_json(address).open(), prefix, ExportRequest.model_validate_json(request))


if __name__ == "__main__":
    main(sys.argv[1:])
