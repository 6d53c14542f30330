"""Real saves: writer processes, a folder store, every layout, every stored number format."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from opt_api.documents.keys import checkpoint_prefix, index_name, manifest_key, mark_key
from opt_store import NotFound
from opt_trainer.checkpoint import fence
from opt_trainer.checkpoint.catalog import catalog
from opt_trainer.checkpoint.contents import open_contents
from opt_trainer.checkpoint.errors import Fenced, SaveFailed, WrongCheckpoint
from opt_trainer.checkpoint.reads import plan_fetches, wanted_by
from opt_trainer.checkpoint.saver import CheckpointSaver
from opt_trainer.checkpoint.verify import problems_of
from opt_trainer.state import LocalTensor
from support.checkpoints import (
    RUN,
    blank,
    boxes,
    columns,
    identity,
    loop_state,
    restorer,
    same_bits,
    save_all,
    settings,
    store_in,
    whole_state,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path):
    store_in(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def savers(folder):
    made = []

    def make(rank=0, ranks=1, attempt=1, **more) -> CheckpointSaver:
        made.append(CheckpointSaver(identity(rank, ranks, attempt), settings(folder, **more)))
        return made[-1]

    yield make
    for saver in made:
        saver.close()


def test_a_save_comes_back_bit_for_bit_with_its_state(folder, savers):
    state, saver = whole_state(1), savers()
    before = loop_state(5, rng=os.urandom(100))
    saver.save(boxes(state), before)
    assert saver.wait(120) == 5
    got = blank(state)
    restored = restorer(folder).restore(boxes(got))
    assert same_bits(got, state)
    assert restored.state == before
    assert restored.manifest.lineage.code_version == "test"
    assert problems_of(store_in(folder), checkpoint_prefix(RUN, 5, 1)) == []
    assert catalog(store_in(folder), RUN)[0].marked("Verified")


@pytest.mark.parametrize(("ranks", "cut"), [(1, boxes), (3, boxes), (2, columns)])
def test_any_layout_loads_into_any_other(folder, ranks, cut):
    state = whole_state(2)
    save_all(folder, state, 3, ranks=ranks, cut=cut)
    for into, how in [(1, boxes), (2, boxes), (5, boxes), (3, columns)]:
        got = blank(state)
        for rank in range(into):
            assert restorer(folder, rank, into).restore(how(got, rank, into)).state.step == 3
        assert same_bits(got, state), (into, how)


def test_a_rank_fetches_its_share_rounded_to_chunks(folder, savers):
    whole = {"w": torch.arange(4096, dtype=torch.float32).reshape(512, 8)}
    saver = savers(chunk_bytes=256)
    saver.save(boxes(whole), loop_state(1))
    saver.wait(120)
    contents = open_contents(store_in(folder), checkpoint_prefix(RUN, 1, 1))
    for rank in range(4):
        mine = boxes(blank(whole), rank, 4)
        fetches = plan_fetches(contents.entries(wanted_by(mine)), mine, contents.manifest.chunk_bytes)
        fetched = sum(f.end - f.start for f in fetches)
        assert fetched == whole["w"].nbytes // 4
    progress = []
    restorer(folder, 1, 3, progress=lambda done, total: progress.append((done, total))).restore(
        boxes(blank(whole), 1, 3)
    )
    assert max(progress)[0] == max(progress)[1] <= whole["w"].nbytes // 3 + 2 * 256


def test_what_is_saved_is_the_state_at_the_save_however_soon_training_goes_on(folder, savers):
    state, saver = {"w": torch.zeros(3_000_000)}, savers(chunk_bytes=1 << 20)
    for step in range(1, 6):
        saver.before_update()
        state["w"].fill_(step)
        saver.save(boxes(state), loop_state(step))
    saver.before_update()
    state["w"].fill_(-1)
    saver.wait(120)
    for step in range(1, 6):
        got = blank(state)
        restorer(folder).restore(boxes(got), step=step)
        assert got["w"].unique().tolist() == [step]


def test_a_step_is_saved_once(savers, folder):
    state, saver = whole_state(1), savers()
    for _ in range(3):
        saver.save(boxes(state), loop_state(7))
        assert saver.wait(120) == 7
    assert [o.stage for o in saver.outcomes()] == ["Stored", "Complete"]


def test_shapes_may_change_from_save_to_save(folder, savers):
    saver, small, large = savers(), {"w": torch.ones(10)}, {"w": torch.full((100_000,), 2.0)}
    for step, state in enumerate([small, large, small], 1):
        saver.save(boxes(state), loop_state(step))
        saver.wait(120)
    for step, state in enumerate([small, large, small], 1):
        got = blank(state)
        restorer(folder).restore(boxes(got), step=step)
        assert same_bits(got, state)


def test_generator_states_come_back_to_the_same_world_size_only(folder):
    state = whole_state(1)
    pair = [CheckpointSaver(identity(r, 2), settings(folder)) for r in range(2)]
    for rank, saver in enumerate(pair):
        saver.save(boxes(state, rank, 2), loop_state(1, rng=bytes([rank]) * 5))
    for saver in pair:
        saver.wait(120)
        saver.close()
    got = blank(state)
    assert [restorer(folder, r, 2).restore(boxes(got, r, 2)).state.rng for r in range(2)] == [b"\0" * 5, b"\1" * 5]
    assert restorer(folder).restore(boxes(got)).state.rng == b""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_never_published(folder, savers, dtype, value):
    saver, state = savers(finite=True), {"fine": torch.ones(50), "w": torch.full((100,), 1.0, dtype=dtype)}
    state["w"][0] = torch.finfo(dtype).max
    saver.save(boxes(state), loop_state(1))
    assert saver.wait(120) == 1
    saver.before_update()
    state["w"][77] = value
    saver.save(boxes(state), loop_state(2))
    with pytest.raises(SaveFailed, match="'w': it has values that are not finite"):
        saver.wait(120)
    assert [f.step for f in catalog(store_in(folder), RUN) if f.complete] == [1]


def test_ranks_whose_generator_states_differ_in_length_save_nothing(folder):
    pair = [CheckpointSaver(identity(r, 2), settings(folder)) for r in range(2)]
    for rank, saver in enumerate(pair):
        saver.save(boxes(whole_state(1), rank, 2), loop_state(1, rng=b"x" * (5 + rank)))
    with pytest.raises(SaveFailed, match=r"tensor 'rng': rank 1 has uint8 \(2, 6\), a lower rank uint8 \(2, 5\)"):
        pair[0].wait(120)
    for saver in pair:
        saver.close(0)


def test_a_checkpoint_of_the_first_version_is_read_for_ever(folder):
    """It listed the slices in the manifest itself, and had no indexes."""
    state, prefix = whole_state(1), checkpoint_prefix(RUN, 3, 1)
    save_all(folder, state, 3, ranks=2)
    store = store_in(folder)
    contents = open_contents(store, prefix)
    bare = [o.model_copy(update={"index": None, "boxes": None}) for o in contents.manifest.objects]
    inline = {"version": 1, "objects": tuple(bare), "tensors": tuple(contents.entries().values())}
    for number in range(2):
        store.delete(f"{prefix}/{index_name(number)}")
    store.put(manifest_key(prefix), contents.manifest.model_copy(update=inline).sealed().to_bytes())
    store.delete(mark_key(prefix, "Verified"))
    assert problems_of(store, prefix) == []
    got = blank(state)
    for rank in range(3):
        assert restorer(folder, rank, 3).restore(boxes(got, rank, 3)).state.step == 3
    assert same_bits(got, state)


def test_old_checkpoints_go_and_pinned_ones_stay(folder, savers):
    state, saver = whole_state(1), savers(keep_last=2, pinned=(2,))
    for step in range(1, 6):
        saver.save(boxes(state), loop_state(step))
        saver.wait(120)
    assert [f.step for f in catalog(store_in(folder), RUN)] == [5, 4, 2]


def test_a_zombie_attempt_publishes_nothing(folder, savers):
    state, zombie = whole_state(1), savers(attempt=1)
    zombie.save(boxes(state), loop_state(1))
    zombie.wait(120)
    fence.hold(store_in(folder), RUN, 2)
    zombie.save(boxes(state), loop_state(2))
    with pytest.raises(SaveFailed, match="this is attempt 1, attempt 2 has begun"):
        zombie.wait(120)
    with pytest.raises(Fenced):
        zombie.save(boxes(state), loop_state(3))
    with pytest.raises(NotFound):
        store_in(folder).get(manifest_key(checkpoint_prefix(RUN, 2, 1)))


def test_a_rank_that_never_comes_leaves_no_manifest(folder, savers):
    saver = savers(0, 2)
    saver._link._config = saver._link._config.model_copy(update={"peers_deadline_s": 1.0})
    saver._link.close(10)
    saver.save(boxes(whole_state(1), 0, 2), loop_state(1))
    with pytest.raises(SaveFailed, match="parts of 1 of 2 ranks"):
        saver.wait(120)
    assert not catalog(store_in(folder), RUN)[0].complete


def test_a_store_that_refuses_fails_the_save_and_not_the_run(folder, savers):
    state, saver = whole_state(1), savers()
    saver.save(boxes(state), loop_state(1))
    saver.wait(120)
    hidden = folder.with_name("away")
    folder.rename(hidden)
    saver.save(boxes(state), loop_state(2))
    with pytest.raises(SaveFailed, match=r"step 2, rank 0: .*store"):
        saver.wait(120)
    hidden.rename(folder)
    saver.save(boxes(state), loop_state(3))
    assert saver.wait(120) == 3


def test_a_killed_writer_is_replaced_at_the_next_save(folder, savers):
    state, saver = whole_state(1), savers()
    os.kill(saver._link.pid, signal.SIGKILL)
    saver._link._process.wait()
    saver.save(boxes(state), loop_state(1))
    assert saver.wait(120) == 1


def test_a_writer_killed_at_work_fails_that_save_only(folder, savers):
    state, saver = {"w": torch.zeros(8_000_000)}, savers(chunk_bytes=1 << 20)
    saver.save(boxes(state), loop_state(1))
    saver.before_update()
    time.sleep(0.02)
    os.kill(saver._link.pid, signal.SIGKILL)
    with pytest.raises(SaveFailed, match="ended before it was done"):
        saver.wait(120)
    saver.save(boxes(state), loop_state(2))
    assert saver.wait(120) == 2


def test_another_model_is_refused_with_the_fields_that_differ(folder, savers):
    state = whole_state(1)
    save_all(folder, state, 1)
    other = restorer(folder)
    other._architecture = other._architecture.model_copy(update={"layers": 5})
    with pytest.raises(WrongCheckpoint, match="layers 2 there, 5 here"):
        other.restore(boxes(blank(state)))
    with pytest.raises(WrongCheckpoint, match="'extra'"):
        restorer(folder).restore([LocalTensor("extra", torch.zeros(1), (1,), (0,))])


def test_a_run_without_checkpoints_begins_anew(folder):
    assert restorer(folder).restore(boxes(whole_state(1))) is None
