"""Sentences and files of faults: read, said again, and held against the run before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opt_api.documents.faults import PlannedFault
from opt_api.problems import Problems
from opt_cli.fault_file import read_faults
from opt_runtime.local.acts import ACTS, ENDING
from opt_runtime.local.faults import (
    FAULTS,
    INSIDE,
    FaultScript,
    UnknownFault,
    check_fault,
    parse_fault,
    sentence_of,
    takes,
)

pytestmark = pytest.mark.unit
HOSTS = ("host-0", "host-1")


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("kill rank 1 at step 50", PlannedFault(fault="kill rank", target="1", step=50)),
        ("  stop  rank 0 at step 3 ", PlannedFault(fault="stop rank", target="0", step=3)),
        ("kill host host-1 at step 20", PlannedFault(fault="kill host", target="host-1", step=20)),
        ("kill coordinator at step 10", PlannedFault(fault="kill coordinator", step=10)),
        ("stop coordinator at step 1 for 2.5 s", PlannedFault(fault="stop coordinator", step=1, seconds=2.5)),
        ("hang save of rank 1 at step 9", PlannedFault(fault="hang save of rank", target="1", step=9)),
    ],
)
def test_a_sentence_is_read_and_said_again(sentence: str, fault: PlannedFault) -> None:
    assert parse_fault(sentence) == fault
    assert sentence_of(fault) == " ".join(sentence.split())


@pytest.mark.parametrize("sentence", ["", "melt rank 1 at step 5", "kill rank 1", "killrank 1 at step 5"])
def test_an_unknown_fault_lists_the_known_ones(sentence: str) -> None:
    with pytest.raises(UnknownFault, match="kill rank NAME at step N; stop rank"):
        parse_fault(sentence)


@pytest.mark.parametrize(
    ("sentence", "word"),
    [
        ("kill rank 2 at step 5", "there is no rank '2'; there are 0, 1"),
        ("kill host host-9 at step 5", "there is no host 'host-9'; there are host-0, host-1"),
        ("kill rank at step 1", "there is no rank ''"),
        ("kill coordinator 7 at step 1", "it takes no name"),
        ("kill rank 1 at step 5 for 3 s", "end by themselves"),
        ("lose store at step 5", "only a store in a folder"),
    ],
)
def test_a_fault_that_cannot_happen_is_named(sentence: str, word: str) -> None:
    with pytest.raises(UnknownFault, match=word):
        check_fault(parse_fault(sentence), 2, HOSTS, folder_store=False)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_can_be_said_and_somebody_carries_it_out(name) -> None:
    target = {"rank": "0", "host": "host-0"}.get(takes(name), "")
    seconds = 3.0 if name in ENDING else None
    fault = PlannedFault(fault=name, target=target, step=1, seconds=seconds)
    check_fault(fault, 2, HOSTS, folder_store=True)
    assert parse_fault(sentence_of(fault)) == fault
    assert (name in ACTS) != (name in INSIDE)


def test_a_file_of_faults_is_read(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("kind: FaultPlan\nversion: 1\nfaults:\n  - {fault: kill rank, target: '1', step: 5}\n")
    assert read_faults(str(path)).faults == (PlannedFault(fault="kill rank", target="1", step=5),)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("faults: [{fault: melt rank, step: 5}]", "kill rank NAME at step N"),
        ("faults: [{fault: kill rank, target: '1'}]", "faults.0.step"),
        ("faults: [", "YAML or JSON"),
        ("- 1", "FaultPlan"),
    ],
)
def test_a_wrong_file_is_named_by_place(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(text)
    with pytest.raises(Problems) as found:
        read_faults(str(path))
    assert word in str(found.value)


def test_faults_inside_workers_are_laid_out_and_told_when_done(tmp_path: Path) -> None:
    script = FaultScript([parse_fault("flip weight of rank 0 at step 7")], tmp_path)
    script.arm()
    (path,) = (tmp_path / "faults").iterdir()
    assert json.loads(path.read_bytes())["step"] == 7
    assert script.look(None, None) == []
    path.rename(path.with_suffix(".done"))
    assert script.look(None, None) == ["flip weight of rank 0 at step 7"]
    assert script.look(None, None) == []
