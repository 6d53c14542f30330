"""The nine presets are table 1 of the paper, number by number."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from opt_api.architecture import PRESETS, TRAINING_TOKENS

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "tests/data/facts/opt-recipe.csv"
SHARED = ROOT / "../shared/facts/opt-recipe.csv"
UNITS = {"m": 1e6, "b": 1e9}


def rows(path: Path) -> dict[str, dict[str, str]]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {row["model"]: row for row in csv.DictReader(lines)}


FACTS = rows(COMMITTED)


def test_the_committed_facts_are_the_shared_ones() -> None:
    """Where the folder of facts lies beside the repository it is the source; elsewhere the copy stands for itself."""
    source = SHARED if SHARED.exists() else COMMITTED
    assert rows(source) == FACTS


def test_all_nine_are_there() -> None:
    assert set(PRESETS) == set(FACTS)
    assert len(PRESETS) == 9


@pytest.mark.parametrize("name", FACTS)
def test_a_preset_is_its_row(name: str) -> None:
    preset, row = PRESETS[name], FACTS[name]
    shape = preset.architecture
    assert shape.layers == int(row["layers"])
    assert shape.heads == int(row["heads"])
    assert shape.hidden_size == int(row["d_model"])
    assert shape.ffn_size == 4 * int(row["d_model"])
    assert shape.norm_position == row["norm_position"]
    assert shape.embedding_size == int(row["embed_dim"])
    assert preset.learning_rate("paper") == float(row["peak_lr_paper"])
    assert preset.learning_rate("code") == float(row["peak_lr_code"])
    assert preset.batch_tokens == int(row["batch_tokens"])
    assert preset.tensor_parallel == int(row["tensor_parallel"])
    assert preset.warmup_updates("paper") == int(row["warmup_updates"])


@pytest.mark.parametrize("name", FACTS)
def test_a_preset_makes_the_published_number_of_updates(name: str) -> None:
    updates = TRAINING_TOKENS / PRESETS[name].batch_tokens
    assert updates == pytest.approx(int(FACTS[name]["updates"]), abs=1)


@pytest.mark.parametrize("name", FACTS)
def test_a_preset_has_the_size_in_its_name(name: str) -> None:
    named = float(name[4:-1]) * UNITS[name[-1]]
    assert PRESETS[name].architecture.parameters() == pytest.approx(named, rel=0.06)  # opt-350m has 331 million
