"""Reading an OPTForCausalLM directory: one safetensors file, or several with an index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from opt_api.architecture import Architecture
from opt_model.exchange.config import architecture_of
from opt_model.exchange.names import HEAD, from_hugging_face, shapes_of

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"


@dataclass(frozen=True)
class Weights:
    """A checked directory; tensors are read when asked for, in the number format they have.

    Attributes:
        folder: Where it lies.
        shape: From its config.json.
        places: Our name of each tensor -> (file, name in the file).
    """

    folder: Path
    shape: Architecture
    places: dict[str, tuple[Path, str]]

    @classmethod
    def open(cls, folder: Path) -> Weights:
        """Check names and shapes; read no tensor but a stored head.

        Raises:
            FileNotFoundError: config.json or the weights are missing.
            ValueError: The files are not those of this architecture.
        """
        shape = architecture_of(json.loads((folder / "config.json").read_bytes()))
        places = {from_hugging_face(name): (file, name) for file, name in _tensors(folder)}
        weights = cls(folder, shape, places)
        weights._check_head(places.pop(HEAD, None))
        weights._check_names()
        weights._check_shapes()
        return weights

    def read(self, name: str, rows: slice | None = None) -> Tensor:
        """One tensor by our name, or some of its rows."""
        file, stored = self.places[name]
        with safe_open(file, framework="pt") as opened:
            found: Tensor = opened.get_slice(stored)[rows] if rows is not None else opened.get_tensor(stored)
        return found

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor, in the model's order."""
        return ((name, self.read(name)) for name in shapes_of(self.shape))

    def _check_head(self, head: tuple[Path, str] | None) -> None:
        if head is None or "embed_tokens.weight" not in self.places:
            return
        with safe_open(head[0], framework="pt") as opened:
            if not torch.equal(opened.get_tensor(head[1]), self.read("embed_tokens.weight")):
                raise ValueError(f"{head[0]}: {HEAD} differs from the token embedding; OPT's head is tied to it")

    def _check_names(self) -> None:
        wanted, found = set(shapes_of(self.shape)), set(self.places)
        if wanted != found:
            raise ValueError(
                f"{self.folder}: config.json asks for {len(wanted)} tensors, the files have {len(found)}; "
                f"missing {sorted(wanted - found)[:3]}, unknown {sorted(found - wanted)[:3]}"
            )

    def _check_shapes(self) -> None:
        for name, wanted in shapes_of(self.shape).items():
            file, stored = self.places[name]
            with safe_open(file, framework="pt") as opened:
                found = tuple(opened.get_slice(stored).get_shape())
            if found != wanted:
                raise ValueError(f"{file}: tensor {stored} has shape {found}, config.json asks for {wanted}")


@torch.no_grad()
def load(model: nn.Module, weights: Weights) -> None:
    """Copy all weights into a whole model of the same architecture, in the model's number format."""
    parameters = dict(model.named_parameters())
    for name, tensor in weights.items():
        parameters[name].copy_(tensor)


def _tensors(folder: Path) -> Iterator[tuple[Path, str]]:
    if (folder / _INDEX).exists():
        for name, file in json.loads((folder / _INDEX).read_bytes())["weight_map"].items():
            yield folder / Path(file).name, name
        return
    if not (folder / _SINGLE).exists():
        raise FileNotFoundError(f"{folder}: neither {_SINGLE} nor {_INDEX} is there; export the model as safetensors")
    with safe_open(folder / _SINGLE, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 - not a mapping
            yield folder / _SINGLE, name
