"""A trained model and its tokenizer, from a directory or from the newest export of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from opt_api.documents.keys import checkpoints_prefix, export_prefix
from opt_cli.stored import stored_run
from opt_model.decoding import Choice, decode
from opt_model.exchange import Weights, load
from opt_model.opt import OPT
from opt_store import NotFound, Store

END_OF_DOCUMENT = 2
CONFIG = "config.json"


@contextmanager
def open_export(source: str, store_url: str | None) -> Iterator[Path]:
    """The folder itself, or the newest export of the run of that name, fetched to a temporary folder.

    Raises:
        opt_store.StoreError: No such run, or it has no export yet.
    """
    if store_url is None and (Path(source) / CONFIG).is_file():
        yield Path(source)
        return
    with fetched_export(stored_run(source, store_url), source) as folder:
        yield folder


@contextmanager
def fetched_export(store: Store, run: str) -> Iterator[Path]:
    """The newest export of a run in a temporary folder.

    Raises:
        opt_store.StoreError: It has none yet, or the store cannot be read.
    """
    prefix = newest_export(store, run)
    with TemporaryDirectory(prefix="opt-generate-") as folder:
        _fetch(store, f"{export_prefix(prefix)}/", Path(folder))
        yield Path(folder)


def newest_export(store: Store, run: str) -> str:
    """Prefix of the newest checkpoint with a whole export; config.json is written last."""
    keys = [info.key for info in store.list(checkpoints_prefix(run)) if info.key.endswith(f"/export/{CONFIG}")]
    if not keys:
        raise NotFound(f"run {run!r}: no checkpoint in {store.url} has an export; let it finish, or set "
                       "checkpointing.exportEverySteps")  # fmt: skip
    return keys[-1].removesuffix(f"/export/{CONFIG}")


def _fetch(store: Store, prefix: str, folder: Path) -> None:
    for info in store.list(prefix):
        store.download(info.key, folder / info.key.removeprefix(prefix))


class Speaker:
    """A model with its byte-level tokenizer."""

    def __init__(self, folder: Path) -> None:
        weights = Weights.open(folder)
        self._model = OPT(weights.shape)
        load(self._model, weights)
        self._tokenizer = Tokenizer(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        self._tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
        self._tokenizer.decoder = ByteLevelDecoder()

    def continuation(self, prompt: str, count: int, choice: Choice) -> Iterator[str]:
        """Text that follows the prompt, piece by piece; a piece ends where a character does.

        OPT begins a text with the end-of-document token, as its Hugging Face tokenizer does.
        """
        ids = [END_OF_DOCUMENT, *self._tokenizer.encode(prompt).ids]
        made: list[int] = []
        told = ""
        for token in decode(self._model, ids, count, choice, stop=END_OF_DOCUMENT):
            made.append(token)
            text = self._tokenizer.decode(made, skip_special_tokens=False)
            if not text.endswith("\ufffd"):
                yield text[len(told) :]
                told = text
