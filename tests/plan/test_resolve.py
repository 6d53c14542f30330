"""From a spec to a plan: the numbers of the paper, the overrides, and every reason for a no."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from opt_api.architecture import PRESETS
from opt_api.documents.plan import Plan
from opt_api.resolve import PlanError, resolve
from support.trainings import training

pytestmark = pytest.mark.unit

TESTS = str(Path(__file__).parents[1])
# updates for 300e9 tokens and warm-up updates by the paper, of arXiv 2205.01068, table 1 and section 2.2
PUBLISHED = {
    "opt-125m": (572205, 715), "opt-350m": (572205, 715), "opt-1.3b": (286102, 358), "opt-2.7b": (286102, 358),
    "opt-6.7b": (143051, 179), "opt-13b": (71526, 89), "opt-30b": (71526, 89), "opt-66b": (143051, 179),
    "opt-175b": (143051, 2000),
}  # fmt: skip
BIG = {"hosts": 16, "devicesPerHost": 8, "tensorParallel": 8, "activationCheckpointing": "full"}


def problems(**spec) -> dict[str, str]:
    with pytest.raises(PlanError) as caught:
        resolve(training(**spec))
    return {problem.path: str(problem) for problem in caught.value.items}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_gives_the_published_steps_and_rates(preset):
    layout = BIG if preset == "opt-175b" else {**BIG, "tensorParallel": 2}
    plan = resolve(training(model={"preset": preset}, parallelism=layout))
    expected = PRESETS[preset]
    assert (plan.recipe.total_steps, plan.recipe.warmup_steps) == PUBLISHED[preset]
    assert plan.recipe.peak_learning_rate == expected.learning_rate_paper
    assert plan.recipe.min_learning_rate == pytest.approx(expected.learning_rate_paper / 10)
    assert plan.tokens_per_step == expected.batch_tokens
    assert plan.architecture == expected.architecture


def test_the_code_has_its_own_rate_and_warmup_for_175b():
    plan = resolve(training(model={"preset": "opt-175b"}, parallelism=BIG, optimisation={"learningRateSource": "code"}))
    assert (plan.recipe.peak_learning_rate, plan.recipe.warmup_steps) == (3e-5, 179)


def test_overrides_replace_the_presets_numbers_and_carry_along_what_follows():
    plan = resolve(
        training(
            model={"preset": "opt-125m", "hiddenSize": 1024, "heads": 16},
            optimisation={"learningRate": 1e-3, "batchTokens": 8192, "totalTokens": 819200, "warmupTokens": 40960},
        )
    )
    assert (plan.architecture.ffn_size, plan.architecture.embedding_size, plan.architecture.layers) == (4096, 1024, 12)
    assert plan.recipe.total_steps == 100
    assert plan.recipe.warmup_steps == 5
    assert plan.recipe.peak_learning_rate == 1e-3


def test_350m_keeps_its_narrow_embedding_when_its_width_is_overridden():
    plan = resolve(training(model={"preset": "opt-350m", "hiddenSize": 2048}))
    assert (plan.architecture.embedding_size, plan.architecture.norm_position) == (512, "post")


def test_a_trained_tokenizer_gives_the_vocabulary():
    data = {"sources": [{"name": "a", "uri": "file:///a"}], "tokenizer": {"train": {"vocabularySize": 4096}}}
    assert resolve(training(data=data)).architecture.vocabulary_size == 4096


def test_the_automatic_interval_is_young_and_dalys_and_says_what_it_was_given():
    checkpointing = resolve(training()).checkpointing
    assert checkpointing.automatic
    assert checkpointing.interval_seconds == round((2 * 0.05 * 12.2 * 3600) ** 0.5)
    assert (checkpointing.assumed_stall_seconds, checkpointing.assumed_hours_between_faults) == (0.05, 12.2)


def test_a_given_interval_stays():
    checkpointing = resolve(training(checkpointing={"interval": {"steps": 7}})).checkpointing
    assert (checkpointing.interval_steps, checkpointing.interval_seconds, checkpointing.automatic) == (7, None, False)


def test_all_problems_come_in_one_pass():
    found = problems(
        model={"preset": "opt-125m", "hiddenSize": 1000, "maxPositions": 512},
        data={"dataset": "s3://corpus/manifest.json", "sequenceLength": 500},
        optimisation={"batchTokens": 4100, "totalTokens": 4000},
    )
    assert set(found) == {"spec.model.heads", "spec.optimisation.batchTokens", "spec.optimisation.totalTokens"}
    assert "1000" in found["spec.model.heads"]
    assert "10" in found["spec.model.heads"]


CUSTOM = {"preset": "custom", "layers": 1, "heads": 1, "hiddenSize": 8}
LONG = {"dataset": "s3://corpus/m", "sequenceLength": 4096}
IMPOSSIBLE = [
    ("model.maxPositions", ["2048", "4096"], {"data": LONG}),
    ("optimisation.batchTokens", ["2047", "2048"], {"optimisation": {"batchTokens": 2047}}),
    ("optimisation.warmupTokens", ["715", "488"], {"optimisation": {"totalTokens": 488 * 524288}}),
    ("optimisation.learningRate", ["custom"], {"model": CUSTOM, "optimisation": {"batchTokens": 2048}}),
    ("parallelism.deviceModel", ["cpu"], {"parallelism": {"deviceModel": "cpu"}}),
    ("precision.compute", ["bfloat16", "v100-32gb"], {"parallelism": {"deviceModel": "v100-32gb"}}),
    ("parallelism.tensorParallel", ["8", "heads 12"], {"parallelism": {"devicesPerHost": 8, "tensorParallel": 8}}),
    ("parallelism.hosts", ["257", "256"], {"parallelism": {"hosts": 257}}),
    ("parallelism.microBatchSequences", ["300", "256"], {"parallelism": {"microBatchSequences": 300}}),
    ("parallelism", ["GiB", "a100-80gb"], {"model": {"preset": "opt-13b"}}),
    ("pods.resources.memory", ["GiB", "nearest"], {"parallelism": {"device": "cpu"}}),
]


@pytest.mark.parametrize(("path", "words", "spec"), IMPOSSIBLE)
def test_what_cannot_run_is_named(path, words, spec):
    found = problems(**spec)
    assert set(found) == {f"spec.{path}"}
    for word in words:
        assert word in found[f"spec.{path}"]


def test_a_smallest_gang_that_does_not_fit_is_refused():
    found = problems(
        model={"preset": "opt-66b"},
        parallelism={"hosts": 64, "devicesPerHost": 8, "tensorParallel": 8, "activationCheckpointing": "full"},
        resilience={"minHosts": 1},
    )
    assert set(found) == {"spec.resilience.minHosts"}


def test_data_preparation_alone_needs_no_room_for_the_model():
    plan = resolve(training(model={"preset": "opt-175b"}, until="Data"))
    assert plan.until == "Data"


def test_uneven_shares_cover_the_batch_once_and_in_order():
    plan = resolve(training(parallelism={"hosts": 3, "devicesPerHost": 5, "deviceModel": "a100-80gb"}))
    shares = [plan.share(rank) for rank in range(plan.layout.data_parallel)]
    assert [place for share in shares for place in share] == list(range(plan.recipe.batch_sequences))
    assert {len(share) for share in shares} == {17, 18}
    for rank, share in enumerate(shares):
        passes = plan.micro_batches(rank)
        assert len(passes) == plan.layout.accumulation
        assert [place for part in passes for place in part] == list(share)
        assert max(map(len, passes)) <= plan.layout.micro_batch_sequences


def test_the_document_survives_the_wire():
    plan = resolve(training())
    assert Plan.from_bytes(plan.to_bytes()) == plan


def test_identity_stays_when_the_gang_changes_and_moves_when_the_run_would():
    base = resolve(training())
    same = [
        {"parallelism": {"hosts": 4, "deviceModel": "h100-80gb"}},
        {"resilience": {"spares": 3}},
        {"optimisation": {"learningRate": 1e-5, "clip": 0.3}},
        {"data": {"dataset": "s3://corpus/manifest.json", "skipBatches": [{"first": 1, "last": 2}]}},
        {"checkpointing": {"interval": {"steps": 3}}},
        {"model": {"preset": "opt-125m", "layers": 12}},
    ]
    other = [
        {"model": {"preset": "opt-125m", "layers": 11}},
        {"optimisation": {"seed": 2}},
        {"optimisation": {"totalTokens": 10**12}},
        {"data": {"dataset": "s3://corpus/other.json"}},
        {"precision": {"compute": "float16"}},
    ]
    assert {resolve(training(**change)).identity for change in same} == {base.identity}
    assert base.identity not in {resolve(training(**change)).identity for change in other}


def test_the_same_bytes_in_every_process_and_hash_seed():
    program = "import support.trainings as s, opt_api.resolve as r; print(r.resolve(s.training()).digest())"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": TESTS},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1", "4242")
    }
    assert digests == {resolve(training()).digest()}
