"""The chart without a cluster: it renders to valid objects, asks for no right too many, and refuses wrong values."""

import json
import re
from pathlib import Path

import pytest
import yaml

from opt_operator.shell.metrics import REGISTRY
from optchart import alerts, dashboard, values
from optchart.artefacts import artefacts
from optcluster.paths import SOURCE_ROOT
from support.charts import CHART, EVERYTHING, HELMS, NAMESPACE, VALUES, helm, of_kind, rendered, run_helm

GOLDEN = Path(__file__).parent / "golden"
POD_KINDS = ("Deployment", "Job", "Pod")


@pytest.mark.unit
def test_generated_files_are_fresh():
    stale = [str(path) for path, text in artefacts(SOURCE_ROOT).items() if path.read_text() != text]
    assert not stale, f"run hack/chart/generate.py: {stale}"


@pytest.mark.unit
def test_the_defaults_are_what_the_model_of_the_values_takes():
    given = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values.ChartValues.model_validate(given).model_dump(by_alias=True, exclude={"global_"}) == given


def _metrics_named(expression: str) -> set[str]:
    return set(re.findall(r"\bopt_(?:operator|training)_[a-z_]+", expression))


@pytest.mark.unit
def test_alerts_and_panels_name_only_metrics_that_the_operator_has():
    there = {sample.name for metric in REGISTRY.collect() for sample in metric.samples} | {
        f"{metric.name}{end}" for metric in REGISTRY.collect() for end in ("", "_total", "_bucket", "_sum", "_count")
    }
    named = {alert.name: _metrics_named(alert.expression) for alert in alerts.alerts()}
    named |= {panel.title: _metrics_named(panel.expression) for panel in dashboard.PANELS}
    assert all(named.values())
    assert not {where: found - there for where, found in named.items() if found - there}


@pytest.mark.unit
def test_every_alert_has_its_own_name_and_a_runbook():
    listed = alerts.alerts()
    names = [alert.name for alert in listed]
    assert len(set(names)) == len(names)
    page = (SOURCE_ROOT / "docs" / "alerts.md").read_text()
    for rule in yaml.safe_load(alerts.rules())["groups"][0]["rules"]:
        anchor = rule["annotations"]["runbook"].partition("#")[2]
        assert f"\n## {rule['alert']}\n" in page
        assert anchor == rule["alert"].lower()


@pytest.mark.unit
def test_the_dashboard_is_one_that_grafana_can_show():
    made = dashboard.document()
    panels = made["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(taken)) == len(taken)
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in panels)
    chosen = {variable["name"] for variable in made["templating"]["list"]}
    for panel in panels:
        (target,) = panel["targets"]
        assert set(re.findall(r"\$\{?(\w+)", target["expr"] + target["datasource"]["uid"])) <= chosen
        assert target["expr"].count("(") == target["expr"].count(")")
        assert panel["description"].endswith(".")


@pytest.mark.integration
@pytest.mark.parametrize("name", VALUES)
def test_the_chart_lints_and_renders_each_object_once(name: str, tmp_path: Path):
    given = yaml.safe_dump(VALUES[name])
    (tmp_path / "values.yaml").write_text(given)
    helm("lint", "--strict", CHART, "--values", tmp_path / "values.yaml")
    objects = rendered(VALUES[name])
    assert len({(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects}) == len(objects)


@pytest.mark.integration
@pytest.mark.parametrize("name", VALUES)
def test_helm_3_renders_what_helm_4_renders(name: str):
    """But for what is drawn by lot at each rendering: the evaluation store's login."""
    three, four = (
        [one for one in rendered(VALUES[name], by=by) if one["kind"] not in ("Secret", "ConfigMap")] for by in HELMS
    )
    assert three == four


@pytest.mark.integration
def test_the_release_has_a_lease_and_no_right_to_make_one():
    (lease,) = of_kind(rendered({}), "Lease")
    assert lease["metadata"]["name"] == "opt"
    assert "spec" not in lease
    (operator,) = of_kind(rendered({}), "Deployment")
    assert "--lease-is-given" in operator["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.integration
@pytest.mark.parametrize("name", VALUES)
def test_every_pod_of_the_chart_is_restricted(name: str):
    for one in of_kind(rendered(VALUES[name]), *POD_KINDS):
        pod = one["spec"] if one["kind"] == "Pod" else one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all(set(volume) & {"emptyDir", "secret", "persistentVolumeClaim"} for volume in pod.get("volumes", []))
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
            }  # fmt: skip


def _rules(name: str) -> dict[str, list[dict[str, object]]]:
    roles = of_kind(rendered(VALUES[name]), "Role", "ClusterRole")
    return {"/".join(filter(None, (r["kind"], r["metadata"].get("namespace"), r["metadata"]["name"]))): r["rules"]
            for r in roles}  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize("name", ["default", "one-namespace", "three-namespaces"])
def test_rights_are_those_written_down(name: str):
    """A right more or less is a decision: change the golden file with it."""
    assert _rules(name) == yaml.safe_load((GOLDEN / f"rbac-{name}.yaml").read_text())


@pytest.mark.integration
@pytest.mark.parametrize("name", VALUES)
def test_no_right_reaches_secrets_or_more_rights(name: str):
    rules = [rule for found in _rules(name).values() for rule in found]
    for rule in rules:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert not {"secrets", "serviceaccounts", "serviceaccounts/token", "pods/exec", "pods/ephemeralcontainers",
                    "nodes/proxy"} & set(rule["resources"])  # fmt: skip
        assert not {"impersonate", "escalate", "bind"} & set(rule["verbs"])
        assert not {"rbac.authorization.k8s.io", "admissionregistration.k8s.io"} & set(rule["apiGroups"])


@pytest.mark.integration
def test_a_namespaced_install_has_nothing_outside_its_namespace():
    outside = [f"{one['kind']}/{one['metadata']['name']}" for one in rendered(VALUES["one-namespace"])
               if one["metadata"].get("namespace") != NAMESPACE]  # fmt: skip
    assert outside == []


@pytest.mark.integration
def test_each_watched_namespace_has_a_role_and_is_watched():
    objects = rendered(VALUES["three-namespaces"])
    roles = {one["metadata"]["namespace"] for one in of_kind(objects, "Role") if one["metadata"]["name"] == "opt"}
    assert roles == {"team-a", "team-b", "team-c"}
    (operator,) = of_kind(objects, "Deployment")
    arguments = operator["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [a for a in arguments if "namespace" in a and "lease" not in a] == [
        f"--namespace={n}" for n in sorted(roles)
    ]


@pytest.mark.integration
def test_definitions_are_kept_unless_told_otherwise():
    kept = of_kind(rendered({}), "CustomResourceDefinition")
    assert {one["metadata"]["annotations"]["helm.sh/resource-policy"] for one in kept} == {"keep"}
    freed = of_kind(rendered(VALUES["delete-definitions"]), "CustomResourceDefinition")
    assert len(freed) == len(kept) == 2
    assert all("annotations" not in one["metadata"] or not one["metadata"]["annotations"] for one in freed)
    assert of_kind(rendered(VALUES["one-namespace"]), "CustomResourceDefinition") == []


@pytest.mark.integration
def test_a_digest_pins_an_image():
    images = {c["name"]: c["image"] for one in of_kind(rendered(EVERYTHING), "Deployment")
              for c in one["spec"]["template"]["spec"]["containers"]}  # fmt: skip
    assert images["operator"] == "localhost/opt-operator/operator@sha256:" + "a" * 64


@pytest.mark.integration
@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"replicaz": 2}, "replicaz"),
        ({"replicas": 0}, "replicas"),
        ({"watch": {"namespaces": ["Team_A"]}}, "namespaces"),
        ({"images": {"digests": {"operator": "latest"}}}, "operator"),
        ({"metrics": {"port": 80}}, "port"),
        ({"evaluationStore": {"bucket": "No"}}, "bucket"),
    ],
)
def test_wrong_values_are_refused_by_name(wrong: dict, word: str, tmp_path: Path):
    (tmp_path / "values.yaml").write_text(json.dumps(wrong))
    done = run_helm("template", "opt", CHART, "--values", tmp_path / "values.yaml")
    assert done.returncode != 0
    assert word in done.stderr
