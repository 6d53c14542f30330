"""Every problem of an input in one pass: where, what was found, what is allowed, what to do."""

from __future__ import annotations

import pytest

from opt_api.parsing import Foreign, parse, parse_mapping, parse_text
from opt_api.problems import Problem, Problems, field_path, found_text
from support.specs import STARTS, complete, from_text, minimal

pytestmark = pytest.mark.unit

BAD = """\
apiVersion: opt-operator.io/v1alpha1
kind: OPTTraining
metadata: {name: Run, lables: {}}
spec:
  model: {preset: opt-125, layers: 0, heads: 3, hiddenSize: 100}
  data:
    seed: x
    sequenceLenght: 3
    sources:
    - {name: a, uri: "file:///x"}
    - {name: a, uri: "file:///y"}
    - {uri: "http://x"}
  pods:
    nodeSelector: {a..: b}
    env: [null, {name: LD_PRELOAD, value: 3}]
  parallelism: {hosts: "3", tensorParallel: 3, devicesPerHost: 8}
"""
EXPECTED = {
    ("metadata.lables", 3, "did you mean labels?"),
    ("metadata.name", 3, ""),
    ("spec.model.preset", 5, "did you mean opt-125m?"),
    ("spec.model.layers", 5, ""),
    ("spec.model.heads", 5, ""),
    ("spec.data.seed", 7, "write it without quotes"),
    ("spec.data.sequenceLenght", 8, "did you mean sequenceLength?"),
    ("spec.data.tokenizer", 6, ""),
    ("spec.data.sources[2].name", 12, "the field is required"),
    ("spec.data.sources[2].uri", 12, ""),
    ("spec.pods.nodeSelector[a..]", 14, ""),
    ("spec.pods.env[0]", 15, ""),
    ("spec.pods.env[1].name", 15, ""),
    ("spec.pods.env[1].value", 15, "write it in quotes"),
    ("spec.parallelism.hosts", 16, "write it without quotes"),
    ("spec.parallelism.tensorParallel", 16, ""),
}


def problems_of(text: str, source: str = "") -> tuple[Problem, ...]:
    with pytest.raises(Problems) as caught:
        parse_text(text, source)
    return caught.value.items


def test_all_problems_come_in_one_pass_with_lines_and_hints() -> None:
    found = problems_of(BAD.replace("seed: x", "seed: '7'"))
    assert {(item.path, item.line, item.hint) for item in found} == EXPECTED
    assert [item.line for item in found] == sorted(item.line for item in found)


def test_a_problem_reads_as_a_sentence_with_its_place() -> None:
    second = f"apiVersion: v1\nkind: Secret\n---\n{BAD}"
    text = str(next(item for item in problems_of(second, "run.yaml") if item.path == "spec.model.layers"))
    assert text == "run.yaml:8 document 2: spec.model.layers: found 0; allowed: a whole number from 1 to 1024"


def test_repetitions_name_the_second_entry() -> None:
    document = from_text()
    document["spec"]["data"]["sources"] *= 2
    document["spec"]["checkpointing"] = {"pinned": [5, 7, 5]}
    with pytest.raises(Problems) as caught:
        parse_mapping(document)
    assert [item.path for item in caught.value.items] == ["spec.checkpointing.pinned[2]", "spec.data.sources[1]"]


def test_a_rule_that_reads_a_wrong_field_says_nothing() -> None:
    document = minimal("OPTTraining")
    document["spec"]["parallelism"] = {"hosts": "many", "shard": 3, "tensorParallel": 2, "devicesPerHost": 4}
    with pytest.raises(Problems) as caught:
        parse_mapping(document)
    assert [item.path for item in caught.value.items] == ["spec.parallelism.hosts"]


def test_null_is_absent_and_defaults_are_filled_in() -> None:
    document = minimal("OPTTraining")
    document["spec"] |= {"suspend": None, "parallelism": None, "pods": {"nodeSelector": {"a": None}}}
    assert parse_mapping(document) == parse_mapping(minimal("OPTTraining"))


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        ("", "", "an OPTTraining or an OPTServe"),
        ("- 1\n", "", "a mapping"),
        ("kind: OPTTrainin\napiVersion: opt-operator.io/v1alpha1\n", "kind", "OPTTraining, OPTServe"),
        ("kind: OPTTraining\n", "spec", "a mapping"),
        ("a: [\n", "", "YAML or JSON"),
    ],
)
def test_what_is_no_resource_is_said(text: str, path: str, allowed: str) -> None:
    assert any(item.path == path and allowed in item.allowed for item in problems_of(text))


def test_documents_of_other_groups_are_passed_over() -> None:
    foreign, ours = parse_text("apiVersion: v1\nkind: Secret\n---\n" + as_yaml())
    assert foreign == Foreign("v1", "Secret")
    assert not isinstance(ours, Foreign)
    assert ours.kind == "OPTServe"


def as_yaml() -> str:
    return (
        "apiVersion: opt-operator.io/v1alpha1\nkind: OPTServe\nmetadata: {name: a}\n"
        "spec: {source: {uri: 's3://bucket/model'}}\n"
    )


def test_one_resource_is_parsed_from_text_or_mapping() -> None:
    assert parse(as_yaml()).metadata.name == "a"
    assert parse(minimal("OPTTraining")).kind == "OPTTraining"
    with pytest.raises(Problems, match="2 resources"):
        parse(as_yaml() + "---\n" + as_yaml())


@pytest.mark.parametrize("name", STARTS)
def test_what_we_write_we_read(name: str) -> None:
    resource = parse_mapping(complete(name))
    assert parse_mapping(resource.wire()) == resource


def test_paths_and_found_values_are_short() -> None:
    assert field_path(("spec", "a", 0, "b", "x/y")) == "spec.a[0].b[x/y]"
    assert len(found_text("x" * 1000)) == 80
