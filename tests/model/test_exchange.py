"""Hugging Face directories and the original layout, in and out, bit by bit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import OPTForCausalLM

from opt_api.architecture import PRESETS, Architecture
from opt_model.exchange.config import architecture_of, config_of
from opt_model.exchange.names import shapes_of, to_hugging_face
from opt_model.exchange.original import read_original, unfuse
from opt_model.exchange.reader import Weights
from opt_model.exchange.tensors import load, tensor_of, tensors_of
from opt_model.exchange.writer import write
from opt_model.opt import OPT
from support.hugging_face import reference
from support.shapes import TINY, TINY_POST

SHAPES = pytest.mark.parametrize("shape", [TINY, TINY_POST], ids=["pre-norm", "post-norm"])


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def first_tensor(file: Path) -> int:
    """Where it begins in the file, in bytes."""
    return 8 + int.from_bytes(file.read_bytes()[:8], "little")


@pytest.mark.unit
@SHAPES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("file_bytes", [10**9, 9000])
def test_round_trip_is_bit_equal(shape: Architecture, dtype: torch.dtype, file_bytes: int, tmp_path: Path) -> None:
    reference(shape).to(dtype).save_pretrained(tmp_path / "theirs")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "theirs" / name).write_text(name)
    weights = Weights.open(tmp_path / "theirs")
    write(tmp_path / "ours", weights.shape, tensors_of(weights), tokenizer=tmp_path / "theirs", file_bytes=file_bytes)
    assert same(stored(tmp_path / "theirs"), stored(tmp_path / "ours"))
    assert all(first_tensor(file) % 64 == 0 for file in (tmp_path / "ours").glob("*.safetensors"))
    assert (tmp_path / "ours" / "merges.txt").read_text() == "merges.txt"
    assert (len(list((tmp_path / "ours").glob("*.safetensors"))) > 1) == (file_bytes == 9000)
    back = OPTForCausalLM.from_pretrained(tmp_path / "ours")
    assert back.dtype == dtype
    assert same(back.state_dict(), OPTForCausalLM.from_pretrained(tmp_path / "theirs").state_dict())


@pytest.mark.unit
@SHAPES
def test_a_sharded_directory_of_transformers_is_read(shape: Architecture, tmp_path: Path) -> None:
    model = reference(shape)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    weights = Weights.open(tmp_path)
    ours = OPT(weights.shape)
    load(ours, weights)
    expected = {to_hugging_face(name): parameter.detach() for name, parameter in ours.named_parameters()}
    assert same(expected, {name: model.state_dict()[name] for name in expected})
    assert torch.equal(tensor_of(weights.map("embed_tokens.weight")), ours.embed_tokens.weight)


@pytest.mark.unit
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_config_of_every_published_size_returns(name: str) -> None:
    shape = PRESETS[name].architecture
    assert architecture_of(json.loads(json.dumps(config_of(shape, "float16")))) == shape
    assert sum(torch.Size(size).numel() for size in shapes_of(shape).values()) == shape.parameters()


@pytest.mark.unit
def test_a_stored_head_must_be_the_embedding(tmp_path: Path) -> None:
    reference(TINY).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "lm_head.weight": tensors["model.decoder.embed_tokens.weight"].clone()}, file)
    assert "lm_head.weight" not in Weights.open(tmp_path).places
    save_file({**tensors, "lm_head.weight": tensors["model.decoder.embed_tokens.weight"] + 1}, file)
    with pytest.raises(ValueError, match=r"lm_head.weight differs from the token embedding"):
        Weights.open(tmp_path)


@pytest.mark.unit
def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="activation_function is 'gelu', OPT has 'relu'"):
        architecture_of({**config_of(TINY, "float32"), "activation_function": "gelu"})
    with pytest.raises(ValueError, match="vocab_size missing"):
        architecture_of({key: value for key, value in config_of(TINY, "float32").items() if key != "vocab_size"})
    reference(TINY).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "ffn_dim": 65}))
    with pytest.raises(ValueError, match=r"fc1.weight has shape \(64, 32\), config.json asks for \(65, 32\)"):
        Weights.open(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ValueError, match="asks for 52 tensors, the files have 36"):
        Weights.open(tmp_path)
    save_file({"whole": torch.zeros(2, dtype=torch.int64)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="tensor whole has format I64; allowed are F64, F32, F16, BF16"):
        Weights.open(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model.safetensors nor"):
        Weights.open(tmp_path)


@pytest.mark.unit
def test_an_index_that_names_what_no_file_has_is_refused(tmp_path: Path) -> None:
    reference(TINY).save_pretrained(tmp_path, max_shard_size="10KB")
    index = tmp_path / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    first, last = sorted(set(told["weight_map"].values()))[:: len(set(told["weight_map"].values())) - 1]
    moved = next(name for name, file in told["weight_map"].items() if file == first)
    told["weight_map"][moved] = last
    index.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=rf"tensor {moved} is missing, which model.safetensors.index.json says"):
        Weights.open(tmp_path)


@pytest.mark.unit
def test_what_is_written_to_a_mapped_tensor_never_reaches_the_file(tmp_path: Path) -> None:
    reference(TINY).save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    Weights.open(tmp_path).map("layers.0.fc1.weight")[:] = 0
    assert (tmp_path / "model.safetensors").read_bytes() == before


def original_parts(model: OPT, ranks: int) -> list[dict[str, torch.Tensor]]:
    """The state of each tensor-parallel rank, in the layout that OPT was trained in."""
    state = {name: parameter.detach() for name, parameter in model.named_parameters()}
    parts: list[dict[str, torch.Tensor]] = [{"decoder.version": torch.tensor([3.0])} for _ in range(ranks)]
    for name, tensor in state.items():
        kind = name.split(".")[-2]
        if kind in ("v_proj", "q_proj"):
            continue
        divided = {"embed_tokens": 0, "k_proj": 0, "fc1": 0, "out_proj": 1, "fc2": 1}.get(kind)
        for rank, part in enumerate(parts):
            cut = None if divided is None or (divided == 1 and tensor.dim() == 1) else divided
            pieces = (
                [tensor]
                if kind != "k_proj"
                else [state[name.replace("k_proj", p)] for p in ("k_proj", "v_proj", "q_proj")]
            )
            own = torch.cat([piece if cut is None else piece.chunk(ranks, cut)[rank] for piece in pieces])
            stored_name = name.replace("k_proj", "qkv_proj").replace("project_in", "project_in_dim")
            stored_name = stored_name.replace("project_out", "project_out_dim")
            if stored_name.startswith("final_layer_norm"):
                stored_name = stored_name.replace("final_layer_norm", "layer_norm")
            part[f"decoder.{stored_name}"] = own
    return parts


@pytest.mark.unit
@SHAPES
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_original_layout_is_unfused_per_rank(shape: Architecture, ranks: int, tmp_path: Path) -> None:
    model = OPT(shape)
    files = [tmp_path / f"part-{rank}.pt" for rank in range(ranks)]
    for file, part in zip(files, original_parts(model, ranks), strict=True):
        torch.save({"model": part}, file)
    whole = read_original(files, shape)
    assert same({name: p.detach() for name, p in model.named_parameters()}, whole)


@pytest.mark.unit
def test_an_incomplete_original_checkpoint_is_named() -> None:
    parts = original_parts(OPT(TINY), 2)
    with pytest.raises(ValueError, match=r"embed_tokens.weight has shape \(48, 32\), expected \(96, 32\)"):
        unfuse(parts[:1], TINY)
    del parts[1]["decoder.layers.0.fc1.weight"]
    with pytest.raises(ValueError, match=r"layers.0.fc1.weight is not in every rank's file"):
        unfuse(parts, TINY)
