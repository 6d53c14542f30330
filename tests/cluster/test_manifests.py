"""The CRDs and the examples of this repository are accepted by the real API server."""

from pathlib import Path

import pytest
import yaml

from optcluster.api import Api, is_true
from optcluster.wait import wait_for

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]


def test_crds_and_examples_are_accepted(api: Api, namespace: str):
    crds, examples = sorted((ROOT / "crds").glob("*.yaml")), sorted((ROOT / "examples").glob("*.yaml"))
    assert crds, "crds/ holds no YAML file: run `make generate`"
    assert examples, "examples/ holds no YAML file"
    paths = [api.path_of(made) for crd in crds for made in api.apply_file(crd)]
    wait_for(lambda: all(is_true(api.get(path), "Established") for path in paths), 30, f"established: {paths}")
    for example in examples:
        for document in yaml.safe_load_all(example.read_text()):
            accepted = api.apply({**document, "metadata": {**document["metadata"], "namespace": namespace}})
            assert accepted[0]["spec"]
