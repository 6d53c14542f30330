"""The commands of data preparation's Jobs, one process after the other: the same data set as the local driver's."""

import pytest

from opt_api.documents.preparation_report import PreparationReport
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from opt_cli import dataprep_stage, termination
from opt_dataprep.work.driver import prepare
from support.small_spec import SPEC

pytestmark = pytest.mark.integration


def test_stages_as_jobs_make_what_the_local_driver_makes(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys):
    plan = resolve(OPTTraining.model_validate(SPEC))
    (tmp_path / "plan.json").write_bytes(plan.to_bytes())
    (tmp_path / "store").mkdir()
    (tmp_path / "twin").mkdir()
    url = (tmp_path / "store").as_uri()
    monkeypatch.setattr(termination, "TERMINATION_LOG", tmp_path / "termination-log")
    (tmp_path / "termination-log").touch()

    def said() -> PreparationReport:
        return PreparationReport.from_bytes((tmp_path / "termination-log").read_bytes())

    planning = ["plan", "--plan", str(tmp_path / "plan.json"), "--store", url]
    assert dataprep_stage.main(planning) == 0
    first = said()
    assert first.stages == dataprep_stage.NAMES
    for stage in first.stages:
        given = ["stage", "--store", url, "--plan", first.plan, "--stage", stage, "--completions", "2"]
        for index in ("1", "0"):
            monkeypatch.setenv(dataprep_stage.INDEX, index)
            assert dataprep_stage.main(given) == 0
    last = said()
    twin = prepare(plan.data, (tmp_path / "twin").as_uri(), workers=1)
    assert (last.manifest_digest, last.stages) == (twin.manifest.digest(), ())
    assert last.dataset == f"{url}/{twin.uri.split('/twin/')[1]}"
    assert dataprep_stage.main(planning) == 0
    assert said() == last  # found, not made again
    capsys.readouterr()

    missing = SPEC["spec"]["data"] | {"sources": [{"name": "none", "uri": "file:///no/such/folder", "format": "text"}]}
    wrong = resolve(OPTTraining.model_validate(SPEC | {"spec": SPEC["spec"] | {"data": missing}}))
    (tmp_path / "plan.json").write_bytes(wrong.to_bytes())
    assert dataprep_stage.main(planning) == 65
    assert "/no/such/folder" in capsys.readouterr().err
