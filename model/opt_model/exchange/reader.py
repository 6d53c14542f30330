"""Reading an OPTForCausalLM directory: one safetensors file, or several with an index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_api.architecture import Architecture
from opt_model.exchange.config import architecture_of
from opt_model.exchange.names import HEAD, from_hugging_face, shapes_of
from opt_model.exchange.stored import Stored, stored_in

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"


@dataclass(frozen=True)
class Weights:
    """A checked directory; tensors are mapped when asked for, in the number format they have.

    Attributes:
        folder: Where it lies.
        shape: From its config.json.
        places: Our name of each tensor -> where it lies.
    """

    folder: Path
    shape: Architecture
    places: dict[str, Stored]

    @classmethod
    def open(cls, folder: Path) -> Weights:
        """Check names and shapes; read no tensor but a stored head.

        Raises:
            FileNotFoundError: config.json or the weights are missing.
            ValueError: The files are not those of this architecture.
            safetensors.SafetensorError: A file of weights is broken.
        """
        shape = architecture_of(json.loads((folder / "config.json").read_bytes()))
        places = {from_hugging_face(stored.name): stored for stored in _tensors(folder)}
        weights = cls(folder, shape, places)
        weights._check_head(places.pop(HEAD, None))
        weights._check_names()
        weights._check_shapes()
        return weights

    def map(self, name: str) -> NDArray[Any]:
        """One tensor by our name; see `Stored.map`."""
        return self.places[name].map()

    def _check_head(self, head: Stored | None) -> None:
        if head is None or "embed_tokens.weight" not in self.places:
            return
        if not np.array_equal(head.map(), self.map("embed_tokens.weight")):
            raise ValueError(f"{head.file}: {HEAD} differs from the token embedding; OPT's head is tied to it")

    def _check_names(self) -> None:
        wanted, found = set(shapes_of(self.shape)), set(self.places)
        if wanted != found:
            raise ValueError(
                f"{self.folder}: config.json asks for {len(wanted)} tensors, the files have {len(found)}; "
                f"missing {sorted(wanted - found)[:3]}, unknown {sorted(found - wanted)[:3]}"
            )

    def _check_shapes(self) -> None:
        for name, wanted in shapes_of(self.shape).items():
            found = self.places[name]
            if found.shape != wanted:
                raise ValueError(
                    f"{found.file}: tensor {found.name} has shape {found.shape}, config.json asks for {wanted}"
                )


def _tensors(folder: Path) -> Iterator[Stored]:
    if not (folder / _INDEX).exists():
        if not (folder / _SINGLE).exists():
            raise FileNotFoundError(f"{folder}: neither {_SINGLE} nor {_INDEX} is there; export it as safetensors")
        yield from stored_in(folder / _SINGLE)
        return
    told: dict[str, str] = json.loads((folder / _INDEX).read_bytes())["weight_map"]
    for file in sorted({Path(place).name for place in told.values()}):
        found = {stored.name: stored for stored in stored_in(folder / file)}
        for name in (name for name, place in told.items() if Path(place).name == file):
            if name not in found:
                raise ValueError(f"{folder / file}: tensor {name} is missing, which {_INDEX} says is there")
            yield found[name]
