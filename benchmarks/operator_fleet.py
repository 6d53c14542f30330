"""A fleet of trainings on fake nodes: seconds of a look, memory, nodes lost at once, fail-over."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import OURS, Case, case_of

from optcluster import lifecycle, procs
from optcluster.wait import wait_for
from support.fleet import FLAGS, Fleet, Operator, Size
from support.fleet_figures import Loss, lose_nodes, quantile, slope

QUICK = Size(nodes=100, gangs=2, hosts=24, trainings=100, doomed=20)
STEADY_S, QUICK_STEADY_S = 600.0, 30.0
SETTLING_S, SETTLED_S, QUICK_SETTLED_S = 600.0, 600.0, 30.0
SAMPLE_S = 5.0
FAIL_OVERS = 5
LEADING = '"event": "leading"'


def fleet(quick: bool) -> list[Case]:
    """All figures of one fleet, in the order in which its life brings them."""
    size = QUICK if quick else Size()
    with a_fleet(size) as made:
        leader = lead(made)
        began, before = time.monotonic(), leader.metrics()
        made.submit()
        made.until_running()
        took, after = time.monotonic() - began, leader.metrics()
        cases = [storm(size, took, quantile(before, after, 0.99))]
        cases += steady(size, leader, QUICK_STEADY_S if quick else STEADY_S)
        cases += losses(made, leader)
        cases.append(fail_over(made, leader, 2 if quick else FAIL_OVERS))
    return cases


def memory(quick: bool) -> list[Case]:
    """Whether a fleet to which nothing happens but steps takes more and more, once what begins has begun."""
    size = QUICK if quick else Size()
    with a_fleet(size) as made:
        leader = lead(made)
        made.submit()
        made.until_running()
        time.sleep(0 if quick else SETTLING_S)
        samples = rss_of(leader, QUICK_SETTLED_S if quick else SETTLED_S)
    note = f"{size.trainings} trainings; from {samples[0][1]:.1f} to {samples[-1][1]:.1f} MiB in {samples[-1][0]:.0f} s"
    if not quick:
        note += f", after {SETTLING_S:.0f} s in which all were Running"
    return [case_of("resident memory, slope once settled", "MiB/h", "lower", {OURS: [round(slope(samples), 2)]}, note)]


def lead(made: Fleet) -> Operator:
    """The fleet's first operator."""
    leader = made.start_operator()
    wait_for(lambda: said(leader, LEADING), 60, "the operator leads", leader.log.read_text)
    return leader


def rss_of(leader: Operator, seconds: float) -> list[tuple[float, float]]:
    """Seconds and MiB, again and again."""
    began, samples = time.monotonic(), []
    while (passed := time.monotonic() - began) < seconds:
        samples.append((passed, leader.rss_mib()))
        time.sleep(SAMPLE_S)
    return samples


@contextmanager
def a_fleet(size: Size) -> Iterator[Fleet]:
    """A cluster of its own with its nodes."""
    cluster = lifecycle.up("fleet", 0, procs.me(), flags=FLAGS)
    with tempfile.TemporaryDirectory() as folder:
        made = Fleet(cluster, size, Path(folder))
        try:
            made.prepare()
            yield made
        finally:
            made.close()
            lifecycle.down(cluster)


def storm(size: Size, took: float, p99: float) -> Case:
    """All of them submitted at once."""
    note = f"{size.trainings} trainings, {size.pods} pods, all Running {took:.0f} s after the first was submitted"
    return case_of("look, p99, all submitted at once", "s", "lower", {OURS: [round(p99, 3)]}, note)


def steady(size: Size, leader: Operator, seconds: float) -> list[Case]:
    """All of them running, and nothing happens but steps."""
    before, cpu = leader.metrics(), leader.cpu_s()
    samples = rss_of(leader, seconds)
    cpu, after = (leader.cpu_s() - cpu) / seconds, leader.metrics()
    looks = sum(value - before.get(name, 0) for name, value in after.items() if name.startswith(COUNT)) / seconds
    note = f"{size.trainings} trainings Running for {seconds:.0f} s; {looks:.0f} looks/s on {100 * cpu:.0f} % of a core"
    half = samples[len(samples) // 4 :]  # what was filled at the beginning is no slope
    return [
        case_of("look, p99, all running", "s", "lower", {OURS: [round(quantile(before, after, 0.99), 3)]}, note),
        case_of("resident memory", "MiB", "lower", {OURS: [value for _, value in samples]}, note),
        case_of("resident memory, slope", "MiB/h", "lower", {OURS: [round(slope(half), 2)]}, note),
    ]


COUNT = "opt_operator_reconcile_seconds_count"


def losses(made: Fleet, leader: Operator) -> list[Case]:
    """One pool of nodes after the other is lost and comes back."""
    found: list[Loss] = []
    for number, pool in enumerate(made.pools):
        found.append(lose_nodes(made, number))
        made.lost_file.write_text("")
        pool.enable()
        made.until_running()
        time.sleep(SAMPLE_S)
    pods = [len(loss.each) for loss in found]
    noticed = ", ".join(f"{loss.noticed:.1f}" for loss in found)
    note = (
        f"{made.size.doomed} of {made.size.nodes} nodes silent at one moment, {min(pods)} to {max(pods)} pods on them; "
        f"the control plane called the first of them lost after {noticed} s (grace period 50 s); operator then "
        f"{leader.rss_mib():.0f} MiB"
    )
    each = [max(loss.each.values()) for loss in found]
    return [
        case_of("nodes lost at once: from the first Unknown until all are acted on", "s", "lower",
                {OURS: [loss.whole for loss in found]}, note),
        case_of("nodes lost at once: the slowest pod, from its node's Unknown to its successor", "s", "lower",
                {OURS: each}, note),
    ]  # fmt: skip


def fail_over(made: Fleet, leader: Operator, repeats: int) -> Case:
    """SIGKILL of the leader while another one stands by."""
    seconds = []
    for _ in range(repeats):
        standby = made.start_operator()
        wait_for(lambda: said(standby, "ready to lead"), 120, "the standby has seen all", standby.log.read_text)  # noqa: B023
        began = time.monotonic()
        leader.end(signal.SIGKILL)
        wait_for(lambda: said(standby, LEADING), 60, "the standby leads", standby.log.read_text)  # noqa: B023
        seconds.append(time.monotonic() - began)
        leader = standby
    return case_of("fail-over, leader killed", "s", "lower", {OURS: seconds}, "until the other decides; Lease of 15 s")


def said(one: Operator, words: str) -> bool:
    """Whether a log has a line with these words."""
    return words in one.log.read_text()
