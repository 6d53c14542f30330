"""The Hugging Face directory beside a checkpoint: transformers loads it, and it holds the very weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from opt_api.documents.keys import checkpoint_prefix, export_prefix
from opt_model.exchange.names import to_hugging_face
from opt_model.initial import initialise
from opt_model.opt import OPT
from opt_trainer.checkpoint.errors import SaveFailed
from opt_trainer.checkpoint.job import ExportRequest
from opt_trainer.checkpoint.saver import CheckpointSaver
from opt_trainer.checkpoint.verify import problems_of
from opt_trainer.state import LocalTensor
from support.checkpoints import RUN, identity, loop_state, settings, store_in
from support.plans import tiny_plan

pytestmark = pytest.mark.integration


@pytest.fixture
def model():
    made = OPT(tiny_plan().architecture)
    initialise(made, made.shape, seed=3)
    return made


def save(folder, model, ranks, **export):
    """Rows of every parameter on each rank, and a moment that the export must leave out."""
    savers = [
        CheckpointSaver(identity(r, ranks), replace(settings(folder), export=ExportRequest(**export)))
        for r in range(ranks)
    ]
    for rank, saver in enumerate(savers):
        boxes = [LocalTensor("exp_avg.extra", torch.zeros(3), (3,), (0,), owner=rank == 0)]
        for name, p in model.named_parameters():
            a, b = len(p) * rank // ranks, len(p) * (rank + 1) // ranks
            theirs = to_hugging_face(name)
            boxes.append(LocalTensor(theirs, p.detach()[a:b], tuple(p.shape), (a, *(0,) * (p.dim() - 1))))
        saver.save(boxes, loop_state(4), export=True)
    for saver in savers:
        assert saver.wait(120) == 4
    for saver in savers:
        saver.close(120)
    return [outcome for saver in savers for outcome in saver.outcomes()]


def test_transformers_loads_what_two_ranks_saved(tmp_path, model):
    from transformers import OPTForCausalLM

    store_in(tmp_path / "store")
    outcomes = save(tmp_path / "store", model, 2)
    assert "Exported" in [o.stage for o in outcomes], outcomes
    folder = tmp_path / "store" / export_prefix(checkpoint_prefix(RUN, 4, 1))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    theirs = OPTForCausalLM.from_pretrained(folder)
    weights = theirs.state_dict()
    for name, parameter in model.named_parameters():
        assert torch.equal(weights[to_hugging_face(name)], parameter), name


def test_the_number_format_can_be_chosen(tmp_path, model):
    from safetensors.torch import load_file

    store_in(tmp_path / "store")
    save(tmp_path / "store", model, 1, dtype="bfloat16")
    folder = tmp_path / "store" / export_prefix(checkpoint_prefix(RUN, 4, 1))
    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}


def test_an_export_that_fails_is_told_and_leaves_the_checkpoint(tmp_path):
    store = store_in(tmp_path / "store")
    saver = CheckpointSaver(identity(), replace(settings(tmp_path / "store"), export=ExportRequest()))
    saver.save([LocalTensor("model.decoder.nothing", torch.zeros(2), (2,), (0,))], loop_state(1), export=True)
    with pytest.raises(SaveFailed, match=r"export of .*'runs/run/checkpoints/000000000001-a000001'"):
        saver.wait(120)
    saver.close()
    assert problems_of(store, checkpoint_prefix(RUN, 1, 1)) == []
    assert [o.stage for o in saver.outcomes()] == ["Stored", "Complete", "Failed"]
