"""From the model's preset, its overrides and the tokenizer to one architecture."""

from __future__ import annotations

from typing import Any

from opt_api.architecture import PRESETS, Architecture
from opt_api.resolve.errors import Findings
from opt_api.training.model import ModelSpec
from opt_api.training.spec import OPTTrainingSpec


def resolve_architecture(spec: OPTTrainingSpec, findings: Findings) -> Architecture | None:
    """The architecture, or None where it cannot be built and a finding says why."""
    numbers = _numbers(spec.model)
    vocabulary = _vocabulary(spec)
    if vocabulary is not None:
        numbers["vocabulary_size"] = vocabulary
    if numbers["hidden_size"] % numbers["heads"]:
        _heads_do_not_divide(numbers, findings)
    positions = numbers.get("max_positions", Architecture.model_fields["max_positions"].default)
    if positions < spec.data.sequence_length:
        findings.add("model.maxPositions", positions, f"at least data.sequenceLength, {spec.data.sequence_length}")
    return None if findings else Architecture(**numbers)


def _numbers(model: ModelSpec) -> dict[str, Any]:
    """Preset, then overrides, then what follows from the two."""
    preset = PRESETS[model.preset].architecture.model_dump(by_alias=False) if model.preset != "custom" else {}
    own = model.model_dump(by_alias=False, exclude={"preset"}, exclude_none=True)
    numbers = {**preset, **own}
    if "hidden_size" in own:
        numbers["ffn_size"] = own.get("ffn_size", 4 * own["hidden_size"])
        projected = preset.get("embedding_size") != preset.get("hidden_size")
        inherited = preset["embedding_size"] if preset and projected else own["hidden_size"]
        numbers["embedding_size"] = own.get("embedding_size", inherited)
    return numbers


def _vocabulary(spec: OPTTrainingSpec) -> int | None:
    """Rows of the embedding where the spec says them: its own number, or the size of the tokenizer it trains."""
    trained = spec.data.tokenizer.train if spec.data.tokenizer else None
    return spec.model.vocabulary_size or (trained.vocabulary_size if trained else None)


def _heads_do_not_divide(numbers: dict[str, Any], findings: Findings) -> None:
    width = numbers["hidden_size"]
    near = sorted((h for h in range(1, 1025) if width % h == 0), key=lambda h: (abs(h - numbers["heads"]), h))[:4]
    allowed = f"a divisor of the hidden size {width} after preset and overrides, such as {', '.join(map(str, near))}"
    findings.add("model.heads", numbers["heads"], allowed)
