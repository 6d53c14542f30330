"""The schemas keep the rules of Kubernetes' API conventions (after kube-api-linter), and stay small."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.unit

CRDS = Path(__file__).parents[2] / "crds"
DEFINITIONS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))}
VERSIONS = {name: crd["spec"]["versions"][0] for name, crd in DEFINITIONS.items()}
Schema = dict[str, Any]
MAX_BYTES = 60_000


def schemas(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from schemas(part, f"{path}.{name}")
    for key, suffix in (("items", "[]"), ("additionalProperties", "[*]")):
        if key in schema:
            yield from schemas(schema[key], path + suffix)


def of_part(part: str) -> list[tuple[str, Schema]]:
    roots = {name: version["schema"]["openAPIV3Schema"]["properties"][part] for name, version in VERSIONS.items()}
    return [found for name, root in roots.items() for found in schemas(root, f"{name}:{part}")]


EVERYTHING = [*of_part("spec"), *of_part("status")]


def offenders(found: list[tuple[str, Schema]], rule: Any) -> list[str]:
    return [path for path, schema in found if not rule(schema)]


def test_both_resources_are_there() -> None:
    assert set(DEFINITIONS) == {"opttrainings", "optserves"}


@pytest.mark.parametrize("path", sorted(CRDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_crd_stays_small(path: Path) -> None:
    assert path.stat().st_size < MAX_BYTES


def test_every_text_is_bounded() -> None:
    def bounded(schema: Schema) -> bool:
        return schema["type"] != "string" or bool({"maxLength", "enum", "format"} & set(schema))

    assert not offenders(EVERYTHING, bounded)


def test_every_list_has_a_bound_and_a_type() -> None:
    def typed(schema: Schema) -> bool:
        if schema["type"] != "array":
            return True
        keyed = schema["x-kubernetes-list-type"] != "map" or bool(schema["x-kubernetes-list-map-keys"])
        return keyed and "maxItems" in schema

    assert not offenders(EVERYTHING, typed)


def test_every_map_has_a_bound() -> None:
    assert not offenders(EVERYTHING, lambda s: "additionalProperties" not in s or "maxProperties" in s)


def test_every_number_has_both_bounds_and_a_format() -> None:
    def bounded(schema: Schema) -> bool:
        if schema["type"] not in ("integer", "number"):
            return True
        return {"minimum", "maximum"} <= set(schema) and (schema["type"] == "number" or "format" in schema)

    assert not offenders(EVERYTHING, bounded)


def test_schemas_are_structural_and_keep_nothing_unknown() -> None:
    forbidden = {"$ref", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string", "nullable", "anyOf"}
    assert not offenders(EVERYTHING, lambda schema: not forbidden & set(schema))
    assert not offenders(
        EVERYTHING, lambda schema: schema["type"] != "object" or {"properties", "additionalProperties"} & set(schema)
    )


def test_names_are_camel_case() -> None:
    def camel(schema: Schema) -> bool:
        return all(re.fullmatch(r"[a-z][a-zA-Z0-9]*", name) for name in schema.get("properties", {}))

    assert not offenders(EVERYTHING, camel)


def test_status_has_conditions_first_no_floats_no_defaults_and_nothing_required() -> None:
    for name, version in VERSIONS.items():
        status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
        assert next(iter(status["properties"])) == "conditions", name
        assert status["properties"]["conditions"]["x-kubernetes-list-map-keys"] == ["type"], name
        assert "required" not in status, name
    assert not offenders(of_part("status"), lambda s: s["type"] != "number" and "default" not in s)


def test_no_reference_leaves_the_namespace() -> None:
    assert not offenders(of_part("spec"), lambda s: "namespace" not in s.get("properties", {}))


def test_no_field_takes_what_only_a_pod_author_may_have() -> None:
    forbidden = {"hostPath", "hostNetwork", "hostPID", "hostIPC", "privileged", "serviceAccountName", "securityContext",
                 "volumes", "template", "runAsUser", "capabilities", "hostPorts"}  # fmt: skip
    assert not offenders(of_part("spec"), lambda s: not forbidden & set(s.get("properties", {})))


def test_every_rule_has_a_message_and_names_a_field_that_exists() -> None:
    for path, schema in of_part("spec"):
        for rule in schema.get("x-kubernetes-validations", []):
            assert rule["message"], path
            assert field_exists(schema, rule.get("fieldPath", "")), f"{path} {rule}"


def field_exists(schema: Schema, path: str) -> bool:
    for name in filter(None, path.split(".")):
        if name not in schema.get("properties", {}):
            return False
        schema = schema["properties"][name]
    return True


@pytest.mark.parametrize("name", VERSIONS)
def test_columns_and_scale_paths_read_fields_that_exist(name: str) -> None:
    root = VERSIONS[name]["schema"]["openAPIV3Schema"]
    paths = [column["jsonPath"] for column in VERSIONS[name]["additionalPrinterColumns"]]
    paths += VERSIONS[name]["subresources"].get("scale", {}).values()
    assert not [path for path in paths if path != ".metadata.creationTimestamp" and not field_exists(root, path)]


def test_the_promised_names_and_columns() -> None:
    names = {name: crd["spec"]["names"] for name, crd in DEFINITIONS.items()}
    assert (names["opttrainings"]["shortNames"], names["optserves"]["shortNames"]) == (["optt"], ["opts"])
    assert all(entry["categories"] == ["opt"] for entry in names.values())
    shown = [c["name"] for c in VERSIONS["opttrainings"]["additionalPrinterColumns"] if not c.get("priority")]
    assert shown == ["Phase", "Step", "Loss", "Nodes", "Spares", "Restarts", "Checkpoint", "ETTR", "Age"]
    assert VERSIONS["optserves"]["subresources"]["scale"]["specReplicasPath"] == ".spec.replicas"
