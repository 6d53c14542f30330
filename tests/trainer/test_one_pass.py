"""The update in one pass beside torch's fused kernel: the same weights, moments and norms, whatever a worker holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor, nn

from opt_api.documents.plan import Plan, PrecisionPlan
from opt_model.native import KernelUnavailable, levels
from opt_trainer.parallelism.build import Part, WorkerModel, build, initial_values
from opt_trainer.recipe import one_pass
from opt_trainer.recipe.fused import FusedAdam
from opt_trainer.recipe.one_pass import OnePassAdam
from opt_trainer.recipe.optimiser import Optimiser, optimiser_of
from support.plans import tiny_plan

pytestmark = pytest.mark.unit
CLOSE = {"rtol": 1e-5, "atol": 1e-7}


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def plan_of(compute: str) -> Plan:
    return tiny_plan().model_copy(update={"precision": PrecisionPlan(compute=compute)})  # type: ignore[arg-type]


def worker_of(plan: Plan, copies: int = 1) -> WorkerModel:
    worker = build(plan, 0)
    initial_values(worker, seed=1)
    if copies == 1:
        return worker
    parts = tuple(replace(part, box=replace(part.box, copies=copies)) for part in worker.parts)
    return replace(worker, parts=parts)


def gradients_of(worker: WorkerModel, step: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    drawn = [torch.randn(part.master.shape, generator=generator) for part in worker.parts]
    return [gradient.to(torch.bfloat16).to(dtype) for gradient in drawn]


def check(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    torch.testing.assert_close(list(found), list(expected), **CLOSE)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_it_does_what_torchs_kernel_does(compute: str) -> None:
    plan = plan_of(compute)
    mine, theirs = worker_of(plan), worker_of(plan)
    one_pass, fused = OnePassAdam(mine, plan.recipe), FusedAdam(theirs, plan.recipe)
    for step in range(1, 5):
        given = gradients_of(mine, step, mine.parts[0].parameter.dtype)
        wide = gradients_of(theirs, step)
        check([one_pass.squares(given)], [fused.squares(wide)])
        divisor = 10.0 ** (8 - 2 * step)  # gradients as small as epsilon, and large ones
        one_pass.update(given, 0.01 / step, divisor)
        fused.update(wide, 0.01 / step, divisor)
    for part, other in zip(mine.parts, theirs.parts, strict=True):
        torch.testing.assert_close(part.master, other.master, **CLOSE)
        assert torch.equal(part.parameter.detach(), part.master.to(part.parameter.dtype))
    check(one_pass.moments.first, fused.moments.first)
    check(one_pass.moments.second, fused.moments.second)
    assert one_pass.moments.updates.item() == fused.moments.updates.item() == 4


@pytest.mark.parametrize("kind", [OnePassAdam, FusedAdam])
def test_what_was_read_in_is_gone_on_from(kind: type[OnePassAdam] | type[FusedAdam]) -> None:
    """A checkpoint is read into masters and moments behind the optimiser's back, after it has made steps."""
    plan = plan_of("bfloat16")
    straight, resumed = worker_of(plan), worker_of(plan)
    first, second = kind(straight, plan.recipe), kind(resumed, plan.recipe)
    _steps(first, straight, range(1, 4))
    _steps(second, resumed, range(7, 9))
    for part, other in zip(straight.parts, resumed.parts, strict=True):
        other.master.copy_(part.master)
    for ours, theirs in ((first.moments.first, second.moments.first), (first.moments.second, second.moments.second)):
        torch._foreach_copy_(theirs, ours)
    second.moments.updates.copy_(first.moments.updates)
    second.restored()
    assert torch.equal(resumed.parts[0].parameter.detach(), straight.parts[0].parameter.detach())
    assert torch.equal(second.squares(gradients_of(resumed, 9)), first.squares(gradients_of(straight, 9)))
    _steps(first, straight, [4])
    _steps(second, resumed, [4])
    assert all(torch.equal(p.master, q.master) for p, q in zip(straight.parts, resumed.parts, strict=True))


def test_what_several_workers_hold_counts_with_its_share() -> None:
    plan = plan_of("float32")
    alone, two = worker_of(plan), worker_of(plan, copies=2)
    whole = OnePassAdam(alone, plan.recipe).squares(gradients_of(alone, 1))
    assert torch.equal(OnePassAdam(two, plan.recipe).squares(gradients_of(two, 1)) * 2, whole)


@pytest.mark.parametrize("wrong", [float("inf"), float("nan")])
@pytest.mark.parametrize("part", [0, -1])
def test_a_number_that_is_none_is_seen_in_a_matrix_and_in_a_vector(wrong: float, part: int) -> None:
    plan = plan_of("float32")
    worker = worker_of(plan)
    given = gradients_of(worker, 1)
    given[part].view(-1)[-1] = wrong
    found = OnePassAdam(worker, plan.recipe).squares(given)
    assert [bool(value.isfinite()) for value in found] == [False, True]


@pytest.mark.parametrize("level", levels()[1:])
@pytest.mark.usefixtures("threads_as_before")
def test_every_level_and_any_number_of_threads_make_the_same_bits(level: str) -> None:
    plan = plan_of("bfloat16")
    found = []
    for threads, one in ((1, None), (2, None), (3, level)):
        worker = worker_of(plan)
        optimiser = OnePassAdam(worker, plan.recipe, one)
        torch.set_num_threads(threads)
        _steps(optimiser, worker, [1, 2])
        found.append([*(part.master for part in worker.parts), optimiser.squares(gradients_of(worker, 3))])
    for other in found[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradients_may_lie_in_any_order(dtype: torch.dtype) -> None:
    plan = plan_of("bfloat16")
    straight, turned = worker_of(plan), worker_of(plan)
    for worker, lay in ((straight, Tensor.contiguous), (turned, _columns_first)):
        given = [lay(gradient) for gradient in gradients_of(worker, 1, dtype)]
        optimiser = OnePassAdam(worker, plan.recipe)
        optimiser.update(given, 0.01, 1.0)
    assert all(torch.equal(p.master, q.master) for p, q in zip(straight.parts, turned.parts, strict=True))


def test_numbers_that_are_no_whole_pieces_or_lanes_are_all_summed() -> None:
    plan = plan_of("float32")
    worker = worker_of(plan)
    lengths = [0, 1, 15, 16, 17, (1 << 13) - 1, (1 << 13) + 1, 3 * (1 << 13)]
    parts = [_vector_part(worker.parts[0], torch.rand(length)) for length in lengths]
    found = OnePassAdam(replace(worker, parts=tuple(parts)), plan.recipe).squares([part.master for part in parts])
    wanted = sum(part.master.double().square().sum().item() for part in parts)
    assert found.tolist() == pytest.approx([wanted, wanted], rel=1e-6)


def test_a_processor_gets_it_and_torchs_where_nothing_can_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_plan()
    assert isinstance(optimiser_of(worker_of(plan), plan), OnePassAdam)
    monkeypatch.setattr(one_pass, "load", _unavailable)
    with capture_logs() as said:
        assert isinstance(optimiser_of(worker_of(plan), plan), FusedAdam)
    assert [line["reason"] for line in said] == ["no compiler"]


def _unavailable(level: str | None) -> None:
    raise KernelUnavailable("no compiler")


def _columns_first(tensor: Tensor) -> Tensor:
    return tensor.t().contiguous().t()


def _vector_part(like: Part, values: Tensor) -> Part:
    parameter, box = nn.Parameter(values), replace(like.box, copies=1)
    return Part("vector", parameter, parameter.detach(), tuple(values.shape), box)


def _steps(optimiser: Optimiser, worker: WorkerModel, steps: Sequence[int]) -> None:
    for step in steps:
        optimiser.squares(gradients_of(worker, step))
        optimiser.update(gradients_of(worker, step), 0.01, 1.0)
