"""Sentences of faults."""

import pytest

from opt_runtime.local.faults import ACTS, Fault, UnknownFault, parse_fault

pytestmark = pytest.mark.unit
HOSTS = ("host-0", "host-1")


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("kill rank 1 at step 50", Fault("kill rank #", "1", 50)),
        ("  stop  rank 0 at step 3 ", Fault("stop rank #", "0", 3)),
        ("kill host host-1 at step 20", Fault("kill host #", "host-1", 20)),
        ("kill coordinator at step 10", Fault("kill coordinator", "coordinator", 10)),
    ],
)
def test_a_sentence_is_read_and_said_again(sentence: str, fault: Fault) -> None:
    assert parse_fault(sentence, 2, HOSTS) == fault
    assert str(fault) == " ".join(sentence.split())


@pytest.mark.parametrize(
    "sentence", ["", "melt rank 1 at step 5", "kill rank 1", "kill coordinator 7 at step 1", "kill rank at step 1"]
)
def test_an_unknown_fault_lists_the_known_ones(sentence: str) -> None:
    with pytest.raises(UnknownFault, match="kill rank NAME at step N; stop rank"):
        parse_fault(sentence, 2, HOSTS)


@pytest.mark.parametrize("sentence", ["kill rank 2 at step 5", "kill host host-9 at step 5", "kill rank x at step 5"])
def test_a_target_that_is_not_there_is_named(sentence: str) -> None:
    with pytest.raises(UnknownFault, match=r"there is no .*; there are "):
        parse_fault(sentence, 2, HOSTS)


def test_every_fault_can_be_said() -> None:
    for what in ACTS:
        name = "0" if "rank" in what else "host-0"
        assert parse_fault(f"{what.replace('#', name)} at step 1", 2, HOSTS).what == what
