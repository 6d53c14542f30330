"""The consolidated Hugging Face directory beside a checkpoint, so that serving never reshards.

`python -m opt_trainer.checkpoint.export STORE PREFIX REQUEST`, each a JSON document or key: a program of its own,
because the writer process has no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from opt_api.documents.keys import export_prefix, manifest_key
from opt_api.documents.manifests import CheckpointManifest, TensorEntry
from opt_model.exchange import from_hugging_face, write
from opt_store import Store
from opt_trainer.checkpoint.fetching import fill
from opt_trainer.checkpoint.image import DTYPES
from opt_trainer.checkpoint.job import ExportRequest, StoreAddress
from opt_trainer.checkpoint.sealing import open_sealed
from opt_trainer.state import LocalTensor

MODEL = "model."
"""How the names of the model's parameters begin among the tensors of a checkpoint: Hugging Face's names."""


def export(store: Store, prefix: str, request: ExportRequest) -> list[str]:
    """Write the directory and return the keys, config.json last: a directory with it is whole.

    One tensor is in memory at a time; the files pass through a temporary folder.

    Raises:
        BadCheckpoint, opt_store.StoreError: The checkpoint cannot be read.
        ValueError: The checkpoint does not hold every tensor of its model.
    """
    manifest = open_sealed(store.get(manifest_key(prefix)), repr(prefix))
    tokenizer = Path(request.tokenizer) if request.tokenizer else None
    with TemporaryDirectory(prefix="opt-export-") as folder:
        tensors = _model(store, prefix, manifest, request.dtype)
        files = write(Path(folder), manifest.architecture, tensors, tokenizer=tokenizer)
        last = sorted(files, key=lambda f: (f.name == "config.json", f.name))
        return [store.upload(f"{export_prefix(prefix)}/{file.name}", file).key for file in last]


def _model(
    store: Store, prefix: str, manifest: CheckpointManifest, dtype: str | None
) -> Iterator[tuple[str, torch.Tensor]]:
    for entry in manifest.tensors:
        if entry.name.startswith(MODEL):
            whole = _whole(store, prefix, manifest, entry)
            yield from_hugging_face(entry.name), whole if dtype is None else whole.to(DTYPES[dtype])


def _whole(store: Store, prefix: str, manifest: CheckpointManifest, entry: TensorEntry) -> torch.Tensor:
    tensor = torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    fill(store, prefix, manifest, [LocalTensor(entry.name, tensor, entry.shape, (0,) * len(entry.shape))])
    return tensor


def main(arguments: list[str]) -> None:
    """Export as the arguments say."""
    address, prefix, request = arguments
    export(StoreAddress.model_validate_json(address).open(), prefix, ExportRequest.model_validate_json(request))


if __name__ == "__main__":
    main(sys.argv[1:])
