"""The nearest layout that fits: it really does, and nothing smaller would do."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from opt_api.estimate.layouts import lay_out, nearest
from opt_api.resolve import PlanError, resolve
from opt_api.resolve.resolver import case_of
from support.trainings import document, training

pytestmark = pytest.mark.unit

CASES: list[dict[str, Any]] = [
    {"model": {"preset": "opt-13b"}, "parallelism": {"deviceModel": "a100-40gb"}},
    {"model": {"preset": "opt-30b"}, "parallelism": {"devicesPerHost": 8}},
    {"model": {"preset": "opt-175b"}, "parallelism": {"hosts": 4, "devicesPerHost": 8}},
    {"model": {"preset": "opt-66b"}, "parallelism": {"hosts": 8, "devicesPerHost": 8, "shard": 2}},
    {"model": {"preset": "opt-6.7b"}, "parallelism": {"devicesPerHost": 8, "microBatchSequences": 128}},
    {"model": {"preset": "opt-30b"}, "parallelism": {"hosts": 2, "devicesPerHost": 8, "reshardAfterForward": False}},
    {"parallelism": {"device": "cpu"}, "precision": {"compute": "float32"}},
    {"parallelism": {"device": "cpu", "hosts": 4, "devicesPerHost": 2}, "precision": {"compute": "float32"}},
]


def refusal(spec: dict[str, Any]) -> str:
    with pytest.raises(PlanError) as caught:
        resolve(training(**spec))
    assert len(caught.value.items) == 1
    return caught.value.items[0].hint


def changes_of(hint: str) -> list[tuple[str, str]]:
    return re.findall(r"spec\.([\w.]+): (\S+) \(now", hint)


def applied(spec: dict[str, Any], changes: list[tuple[str, str]]) -> dict[str, Any]:
    made = document(**spec)
    for path, text in changes:
        *sections, field = path.split(".")
        place = made["spec"]
        for section in sections:
            place = place.setdefault(section, {})
        if text == "absent":
            place.pop(field)
        else:
            place[field] = json.loads(text) if text.isdigit() or text in ("true", "false") else text
    spec_of: dict[str, Any] = made["spec"]
    return spec_of


@pytest.mark.parametrize("spec", CASES)
def test_the_named_layout_resolves(spec):
    changes = changes_of(refusal(spec))
    assert changes
    resolve(training(**applied(spec, changes)))


@pytest.mark.parametrize("spec", CASES)
def test_leaving_out_any_of_the_named_changes_does_not_fit(spec):
    changes = changes_of(refusal(spec))
    for left_out in range(len(changes)):
        fewer = changes[:left_out] + changes[left_out + 1 :]
        with pytest.raises(PlanError):
            resolve(training(**applied(spec, fewer)))


def test_where_nothing_fits_it_says_so():
    spec = {"model": {"preset": "opt-175b", "layers": 1024, "hiddenSize": 131072, "heads": 128}}
    assert "no layout on this device fits" in refusal(spec)


def test_a_layout_that_fits_is_left_alone():
    made = training()
    plan = resolve(made)
    case = case_of(made.spec, plan.architecture, plan.recipe)
    assert lay_out(made.spec.parallelism, case).layout == plan.layout


def test_passes_are_the_fewest_that_fit():
    made = training(model={"preset": "opt-6.7b"}, parallelism={"devicesPerHost": 8})
    plan = resolve(made)
    case = case_of(made.spec, plan.architecture, plan.recipe)
    one_pass_less = made.spec.parallelism.model_copy(
        update={"micro_batch_sequences": -(-128 // (plan.layout.accumulation - 1))}
    )
    assert plan.layout.accumulation > 1
    assert lay_out(made.spec.parallelism, case).fits
    assert not lay_out(one_pass_less, case).fits


def test_the_search_asks_for_more_hosts_last():
    made = training(model={"preset": "opt-13b"}, parallelism={"hosts": 1, "devicesPerHost": 4})
    case = case_of(made.spec, *architecture_and_recipe())
    near = nearest(made.spec.parallelism, case)
    assert near is not None
    assert [path for path, _, _ in near.changes] == ["spec.parallelism.activationCheckpointing"]


def architecture_and_recipe():
    plan = resolve(training(model={"preset": "opt-13b"}, parallelism={"hosts": 64, "devicesPerHost": 8}))
    return plan.architecture, plan.recipe
