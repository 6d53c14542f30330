"""Writing an OPTForCausalLM directory, one file at a time, so that no more than one file is held in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from opt_api.architecture import Architecture
from opt_model.exchange.config import config_of
from opt_model.exchange.names import shapes_of, to_hugging_face

FILE_BYTES = 5 * 10**9
"""Largest file, as transformers writes by default."""
_LINE = 64
"""Bytes of a cache line."""
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
"""Passed through unchanged where they are there."""


def write(
    folder: Path,
    shape: Architecture,
    tensors: Iterable[tuple[str, Tensor]],
    *,
    tokenizer: Path | None = None,
    file_bytes: int = FILE_BYTES,
) -> list[Path]:
    """Write config.json, the weights under Hugging Face's names and the tokenizer's files; returns what was written.

    Args:
        folder: Made if absent.
        shape: What the tensors belong to.
        tensors: Every tensor of the model by our name, whole and on the CPU, in any order; read once.
        tokenizer: Folder to take `TOKENIZER_FILES` from.
        file_bytes: A new file begins before this is passed.

    Raises:
        ValueError: A tensor is missing, or there is one too many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, int] = {}
    sizes: list[int] = []
    dtype = "float32"
    for number, group in enumerate(_groups(tensors, file_bytes)):
        save_file(group, folder / _temporary(number), metadata={"format": "pt", **_padding(group)})
        places |= dict.fromkeys(group, number)
        sizes.append(sum(tensor.nbytes for tensor in group.values()))
        dtype = str(next(iter(group.values())).dtype).removeprefix("torch.")
    _check_complete(folder, shape, places)
    written = _name_files(folder, places, sizes)
    written.append(_write_json(folder / "config.json", config_of(shape, dtype)))
    return written + _copy_tokenizer(folder, tokenizer)


def _padding(group: dict[str, Tensor]) -> dict[str, str]:
    """Metadata that makes the header end with a cache line, so that tensors which are mapped, not read, begin with one.

    A header is eight bytes of length and compact JSON, padded to eight bytes (safetensors format specification).
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "padding": ""}}
    at = 0
    for name in sorted(group):
        kind = "BF16" if group[name].dtype == torch.bfloat16 else "F32"  # or another name of three letters
        header[name] = {"dtype": kind, "shape": [*group[name].shape]}
        header[name]["data_offsets"] = [at, at := at + group[name].nbytes]
    size = len(json.dumps(header, separators=(",", ":")))
    return {"padding": " " * (-(8 + size) % _LINE)}


def _groups(tensors: Iterable[tuple[str, Tensor]], file_bytes: int) -> Iterator[dict[str, Tensor]]:
    group: dict[str, Tensor] = {}
    held = 0
    for name, tensor in tensors:
        if group and held + tensor.nbytes > file_bytes:
            yield group
            group, held = {}, 0
        group[to_hugging_face(name)] = tensor.detach().contiguous()
        held += tensor.nbytes
    yield group


def _check_complete(folder: Path, shape: Architecture, places: dict[str, int]) -> None:
    wanted = {to_hugging_face(name) for name in shapes_of(shape)}
    if wanted != set(places):
        raise ValueError(
            f"{folder}: the architecture has {len(wanted)} tensors, {len(places)} were given; "
            f"missing {sorted(wanted - set(places))[:3]}, unknown {sorted(set(places) - wanted)[:3]}"
        )


def _name_files(folder: Path, places: dict[str, int], sizes: list[int]) -> list[Path]:
    if len(sizes) == 1:
        return [(folder / _temporary(0)).replace(folder / "model.safetensors")]
    names = [f"model-{number + 1:05d}-of-{len(sizes):05d}.safetensors" for number in range(len(sizes))]
    files = [(folder / _temporary(number)).replace(folder / name) for number, name in enumerate(names)]
    index = {"metadata": {"total_size": sum(sizes)}, "weight_map": {name: names[at] for name, at in places.items()}}
    return [*files, _write_json(folder / "model.safetensors.index.json", index)]


def _temporary(number: int) -> str:
    return f"part-{number}.safetensors.tmp"


def _write_json(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return path


def _copy_tokenizer(folder: Path, tokenizer: Path | None) -> list[Path]:
    if tokenizer is None:
        return []
    return [
        Path(shutil.copyfile(tokenizer / name, folder / name))
        for name in TOKENIZER_FILES
        if (tokenizer / name).is_file()
    ]
