"""A training on this machine from beginning to end: the function behind `optctl run`, callable from Python."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from opt_api.documents.faults import FaultPlan, PlannedFault
from opt_api.documents.plan import Plan
from opt_api.parsing import parse_mapping
from opt_api.problems import Problem, Problems
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from opt_cli.stored import ADDRESS_FILE
from opt_cli.worker_entry_names import DATASET, ENTRY, FAULTS, PLAN, STORE
from opt_runtime.local.cluster import LocalCluster
from opt_runtime.local.faults import FOLDER, FaultScript, UnknownFault, check_fault, parse_fault
from opt_runtime.records.kept_plan import keep_plan
from opt_runtime.records.logbook import Logbook
from opt_runtime.wire import Gone
from opt_store import Store, StoreError, open_store

POLL_S = 0.2
SAVE_PATIENCE_S = 120.0
CUDA_CONTROL = Path("/dev/nvidiactl")
"""There where a driver for CUDA devices is loaded."""
Told = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run on this machine came to its end.

    Attributes:
        outcome: Suspended is at a person's wish; Paused is by the policy, and waits for a person.
        cause: Of a pause, in the logbook's words (`BadSpec`).
        words: What the coordinator said of the pause: who ended, how, and what to do.
    """

    outcome: Literal["Completed", "Suspended", "Paused"]
    cause: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for.

    Attributes:
        training: The resource.
        store: URL of the store.
        directory: Scratch folder of the run on this machine.
        hosts: Hosts of the gang; the spec's number when None.
        spares: Hosts held ready; the spec's number when None.
        faults: Sentences, see `opt_runtime.local.faults`.
        planned: More faults, from a file.
        check_hosts: Burn hosts in before they may train.
    """

    training: OPTTraining
    store: str
    directory: Path
    hosts: int | None = None
    spares: int | None = None
    faults: Sequence[str] = ()
    planned: FaultPlan | None = None
    check_hosts: bool = False


@dataclass
class Prepared:
    """Everything checked, nothing started."""

    plan: Plan
    names: list[str]
    store: Store
    faults: list[PlannedFault] = field(default_factory=list)


def prepare(wish: Wish) -> Prepared:
    """Check all of it before anything starts.

    Raises:
        opt_api.problems.Problems: What is wrong, by field; the stored run is as it was.
        opt_store.StoreError: The store cannot be used.
    """
    training = _with_hosts(wish)
    plan = resolve(training)
    spares = training.spec.resilience.spares if wish.spares is None else wish.spares
    names = [f"host-{index}" for index in range(plan.layout.hosts + spares)]
    if plan.layout.device == "cuda" and not CUDA_CONTROL.exists():
        raise _problem("spec.parallelism.device", "cuda, and no CUDA device on this machine", "cpu")
    faults = _faults(wish, plan, names)
    store = open_store(wish.store)
    store.check_access()
    _claim(store, plan)
    return Prepared(plan, names, store, faults)


def _faults(wish: Wish, plan: Plan, names: list[str]) -> list[PlannedFault]:
    try:
        faults = [parse_fault(sentence) for sentence in wish.faults]
        faults += wish.planned.faults if wish.planned else ()
        for fault in faults:
            check_fault(fault, plan.layout.world_size, names, folder_store=wish.store.startswith("file:"))
    except UnknownFault as unknown:
        raise _problem("--fault", str(unknown), "one of these") from unknown
    return faults


def run_cluster(wish: Wish, prepared: Prepared, dataset: str, told: Told) -> Ending:
    """Run until the training is complete or paused; Ctrl-C saves and stops.

    `told` is called with every status, and with `{"fault": ...}` and `{"entry": ...}` as they come. The logbook is
    written behind what the coordinator says: its last entries are told when the coordinator has ended.
    """
    wish.directory.mkdir(parents=True, exist_ok=True)
    plan_file = wish.directory / "plan.json"
    environment = {PLAN: str(plan_file.absolute()), STORE: wish.store, DATASET: dataset}
    script = FaultScript(prepared.faults, wish.directory)
    if prepared.faults:
        script.arm()
        environment[FAULTS] = str((wish.directory / FOLDER).absolute())
    cluster = LocalCluster(prepared.plan, wish.store, wish.directory, ENTRY, prepared.names, environment)
    cluster.checks = wish.check_hosts
    logbook = Logbook(prepared.store, prepared.plan.name)
    with closing(script), _started(cluster, wish.directory):
        try:
            ending = _follow(cluster, logbook, script, told)
        except KeyboardInterrupt:
            told({"stopping": "saving; press Ctrl-C again to stop at once"})
            ending = _save_and_stop(cluster)
    _tell_entries(logbook, told)
    return ending


def _follow(cluster: LocalCluster, logbook: Logbook, script: FaultScript, told: Told) -> Ending:
    resumed = False
    while not cluster.finished():
        status = cluster.status()
        for fault in script.look(cluster, status):
            told({"fault": fault})
        _tell_entries(logbook, told)
        if status is not None:
            told({"status": status})
            if resumed and status["pausedFor"] not in (None, "SparesSpent"):
                return _paused(status)
            resumed = resumed or _resume(cluster, status)
        time.sleep(POLL_S)
    return Ending("Completed")


def _paused(status: dict[str, Any]) -> Ending:
    cause = status["pausedFor"]
    return Ending("Suspended" if cause == "Suspended" else "Paused", cause, status["pausedWords"])


def _tell_entries(logbook: Logbook, told: Told) -> None:
    """What is new in the logbook; a store that is away for a while says it later."""
    with suppress(StoreError):
        for entry in logbook.read():
            told({"entry": entry.wire()})


def _resume(cluster: LocalCluster, status: dict[str, Any]) -> bool:
    """Whoever starts a paused run again has looked at it."""
    if status["pausedFor"] or status.get("suspend"):
        cluster.ask("/resume", {"reason": "started again by optctl run"})
        return False
    return True


def _save_and_stop(cluster: LocalCluster) -> Ending:
    deadline = time.monotonic() + SAVE_PATIENCE_S
    with suppress(KeyboardInterrupt, Gone):
        cluster.ask("/suspend", {"reason": "interrupted from the keyboard"})
        while time.monotonic() < deadline and not cluster.finished():
            status = cluster.status()
            if status and status["pausedFor"]:
                break
            time.sleep(POLL_S)
    return Ending("Suspended")


@contextmanager
def _started(cluster: LocalCluster, directory: Path) -> Iterator[None]:
    cluster.start()
    address = directory / ADDRESS_FILE
    address.write_text(json.dumps({"address": cluster.address, "store": cluster.store}))
    try:
        yield
    finally:
        cluster.stop()
        address.unlink(missing_ok=True)
        for host in cluster.hosts:
            shutil.rmtree(directory / host / "shards", ignore_errors=True)


def _with_hosts(wish: Wish) -> OPTTraining:
    if wish.hosts is None:
        return wish.training
    document = wish.training.wire()
    document["spec"]["parallelism"]["hosts"] = wish.hosts
    found = parse_mapping(document)  # whatever the spec's rules say of so many hosts
    assert isinstance(found, OPTTraining)
    return found


def _claim(store: Store, plan: Plan) -> None:
    """Write the plan beside the run, or find that the run there has the same identity.

    Raises:
        Problems: Another run has this name in this store.
    """
    stored = keep_plan(store, plan)
    if stored.identity != plan.identity:
        raise _problem(
            "metadata.name",
            f"{plan.name!r}, under which {store.url} holds a run that differs in {_differences(stored, plan)}",
            "the spec it was begun with, another name, or another store; the stored run is as it was",
        )


def _differences(stored: Plan, plan: Plan) -> str:
    names = ("architecture", "sequence_length", "data", "recipe", "precision", "min_learning_rate_ratio")
    return ", ".join(name for name in names if getattr(stored, name) != getattr(plan, name)) or "digest only"


def _problem(field_name: str, found: str, allowed: str) -> Problems:
    return Problems([Problem(field_name, found, allowed)])
