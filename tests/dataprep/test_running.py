"""As a command, as Indexed Jobs, on S3; and the report."""

from __future__ import annotations

import html.parser
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from opt_api.training.data import Deduplication, QualityRules, Source
from opt_dataprep.planning import make_plan
from opt_dataprep.report.charts import bars, columns
from opt_dataprep.work.driver import prepare
from opt_dataprep.work.preparation import load_preparation, save_plan
from opt_dataprep.work.table import STAGES
from opt_dataprep.work.worker import run_stage
from opt_store import open_store
from support.corpora import library_texts, spec, training_file, write_jsonl
from support.dataset_checker import check, folder_of
from support.kills import dataset_bytes

OPTCTL = Path(sys.executable).parent / "optctl"


@pytest.fixture
def data(tmp_path):
    texts = library_texts(45)
    write_jsonl(tmp_path / "src" / "a.jsonl", [*texts, texts[3], texts[4] + " and one more word", "short"])
    return spec(
        Source(name="a", uri=(tmp_path / "src").as_uri()),
        deduplication=Deduplication(),
        quality=QualityRules(min_words=5),
    )


@pytest.mark.integration
def test_the_command_prints_json_lines_and_makes_its_folder(tmp_path, data):
    file = training_file(tmp_path / "t.yaml", data)
    done = subprocess.run([OPTCTL, "dataprep", file], cwd=tmp_path, capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["kind"] for event in events} == {"PreparationEvent"}
    assert [e["stage"] for e in events if e["done"] == e["tasks"]][-2:] == ["manifest", "done"]
    uri = events[-1]["dataset"]
    assert uri.startswith((tmp_path / "runs/pages/data").as_uri())
    found = check(uri)
    assert found.manifest["counts"][0]["dropped"] == {"exact_duplicate": 1, "min_words": 1, "near_duplicate": 1}
    assert events[-1]["dropped"] == found.manifest["counts"][0]["dropped"]


@pytest.mark.integration
def test_run_until_data_prepares_and_trains_nothing(tmp_path, data):
    file = training_file(tmp_path / "t.yaml", data, until="Data", model={"preset": "opt-175b"})
    done = subprocess.run([OPTCTL, "run", file], cwd=tmp_path, capture_output=True, text=True, check=True)
    last = json.loads(done.stdout.splitlines()[-1])
    check(last["result"]["dataset"])
    assert {path.name for path in (tmp_path / "runs/pages").iterdir() if not path.name.startswith(".")} == {"data"}


@pytest.mark.integration
def test_the_command_shows_a_table_on_a_terminal(tmp_path, data):
    file = training_file(tmp_path / "t.yaml", data)
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "160", "LINES": "60"}
    process = subprocess.Popen([OPTCTL, "dataprep", file], cwd=tmp_path, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    screen = b""
    while True:
        try:
            screen += os.read(ours, 65536)
        except OSError:
            break
    os.close(ours)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode())
    for wanted in ("read", "verify", "tokenise", "MB/s", "48 documents read", "1 near_duplicate", "data set: file:///"):
        assert wanted in text
    assert "kind" not in text


@pytest.mark.integration
@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda d: d["spec"]["data"].update(partBytes=5), 2, "partBytes"),
        (lambda d: d["spec"]["data"]["sources"][0].update(uri="file:///nowhere/at/all"), 2, "source 'a'"),
        (lambda d: d["spec"]["data"]["sources"][0].update(textField="body"), 2, "no line has a string under the key"),
        (lambda d: d["spec"].update(data={"dataset": "file:///x/manifest.json"}), 2, "finished data set"),
    ],
)
def test_bad_input_ends_with_code_two_and_no_traceback(tmp_path, data, change, code, message):
    file = training_file(tmp_path / "t.yaml", data)
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    done = subprocess.run([OPTCTL, "dataprep", file], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.integration
def test_indexed_jobs_give_what_the_driver_gives(tmp_path, data):
    for name in ("driver", "jobs"):
        (tmp_path / name).mkdir()
    prepare(data, (tmp_path / "driver").as_uri(), workers=2)
    store = (tmp_path / "jobs").as_uri()
    plan_key = save_plan(open_store(store), "data", make_plan(data)).plan_key
    for number, stage in enumerate(STAGES[1:], 1):
        if number == 1:
            command = [sys.executable, "-m", "opt_dataprep.work.worker", "--store", store, "--plan", plan_key]
            command += ["--stage", STAGES[0].name, "--completions", "2"]
            for index in ("0", "1"):
                env = {**os.environ, "JOB_COMPLETION_INDEX": index}
                subprocess.run(command, check=True, capture_output=True, env=env)
        for index in reversed(range(1 + number % 3)):
            list(run_stage(load_preparation(open_store(store), plan_key), stage.name, index, 1 + number % 3))
    assert dataset_bytes(tmp_path / "jobs") == dataset_bytes(tmp_path / "driver")


@pytest.mark.integration
def test_a_stage_before_its_time_says_so(tmp_path, data):
    (tmp_path / "store").mkdir()
    store = (tmp_path / "store").as_uri()
    preparation = save_plan(open_store(store), "data", make_plan(data))
    command = [sys.executable, "-m", "opt_dataprep.work.worker", "--store", store, "--plan", preparation.plan_key]
    done = subprocess.run([*command, "--stage", "select"], capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert "are not done; run it first" in done.stderr


class Page(html.parser.HTMLParser):
    """Collects what a page would load, and its text."""

    def __init__(self):
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in {"src", "href"}]


@pytest.mark.integration
def test_the_report_stands_alone_and_shows_what_happened(tmp_path, data):
    write_jsonl(tmp_path / "src" / "0.jsonl", ["<script>alert(1)</script> & five more words here", "tiny"])
    (tmp_path / "store").mkdir()
    prepared = prepare(data, (tmp_path / "store").as_uri(), workers=2)
    text = (folder_of(prepared.uri) / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.loads == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 5
    for wanted in ("exact_duplicate", "near_duplicate", "min_words", "&lt;script&gt;", "rensa", "Settings"):
        assert wanted in text
    assert f"{prepared.manifest.counts[0].tokens_train:,}" in text


@pytest.mark.unit
def test_bars_are_in_proportion():
    widths = [
        float(w) for w in re.findall(r'<rect x="\d+" y="\d+" width="([\d.]+)"', bars({"a": 100, "b": 50, "c": 0}, "t"))
    ]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.1)
    assert widths[2] == 0
    assert bars({}, "t") == columns({}, "t", "x") == "<p class=none>none</p>"


@pytest.mark.unit
def test_columns_show_empty_ones_between():
    chart = columns({3: 4, 6: 1}, "t", "axis")
    assert chart.count("<rect") == 4
    assert "8 to 15: 4" in chart
    assert "64 to 127: 1" in chart
