"""One worker's life: check, join, load, train, save, report. Callable in a forked child that has torch imported."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from threading import Thread

import torch

from opt_api.documents.exit_report import EXIT_CODES, ExitCause, ExitReport
from opt_api.documents.manifests import Lineage
from opt_store import StoreError, open_object
from opt_trainer.checkpoint.errors import Fenced
from opt_trainer.checkpoint.fence import hold
from opt_trainer.checkpoint.job import ExportRequest
from opt_trainer.checkpoint.peers import Alone, GroupPeers, Peers
from opt_trainer.checkpoint.restore import CheckpointRestorer
from opt_trainer.checkpoint.saver import CheckpointSaver, SaveSettings
from opt_trainer.data.dataset import Dataset, open_dataset
from opt_trainer.data.loader import BlockLoader
from opt_trainer.data.order import DataOrder
from opt_trainer.loop.evaluation import Evaluation
from opt_trainer.loop.loop import End, Loop, Parts
from opt_trainer.loop.memory import Kept, MemoryTier, fill, first_save
from opt_trainer.loop.running import fresh, resumed
from opt_trainer.loop.step import TrainStep
from opt_trainer.loop.tensors import saved_tensors
from opt_trainer.parallelism.build import WorkerModel, build, initial_values
from opt_trainer.program import ending
from opt_trainer.program.config import WorkerConfig
from opt_trainer.program.gang import joined
from opt_trainer.program.inbox import ChangeFolder, NoChanges
from opt_trainer.program.preflight import check_plan
from opt_trainer.program.stopping import StopFlag, listening
from opt_trainer.recipe.optimiser import Optimiser, optimiser_of
from opt_trainer.state import LocalTensor, RunIdentity, Telemetry
from opt_trainer.telemetry.hub import open_telemetry

MakeTelemetry = Callable[[WorkerConfig, RunIdentity], Telemetry]

CLOSE_SECONDS = 10.0
"""What a worker that failed gives a save that is under way."""


@dataclass(slots=True)
class _Progress:
    """What the report says, whenever it must be written."""

    step: int = 0
    saved_step: int | None = None


@dataclass(slots=True)
class _Life:
    """What the steps of a worker's life hand on."""

    config: WorkerConfig
    flag: StopFlag
    telemetry: Telemetry
    identity: RunIdentity
    progress: _Progress = field(default_factory=_Progress)


def telemetry_of(config: WorkerConfig, identity: RunIdentity) -> Telemetry:
    """Records in the work folder, heartbeats and metrics as configured."""
    port = None if config.metrics_port is None else config.metrics_port + config.local_rank
    return open_telemetry(config.plan, identity, config.work, heartbeat=config.heartbeat, metrics_port=port)


def run(config: WorkerConfig, make_telemetry: MakeTelemetry = telemetry_of) -> ExitReport:
    """Train until the plan's end or until stopped; the report is also written to `config.report_path`.

    Never raises for what goes wrong in the run: that is what the report is for. Call it in the main thread, since it
    listens for SIGTERM.
    """
    progress = _Progress()
    flag = StopFlag(config.stop_seconds, lambda: _end_now(config, progress))
    identity = RunIdentity(config.plan.name, config.attempt, config.rank, config.world_size, _lineage(config))
    with listening(flag):
        try:
            check_plan(config.plan, config.world_size)
            _settle(config)
            telemetry = make_telemetry(config, identity)
            try:
                end = _train(_Life(config, flag, telemetry, identity, progress))
            finally:
                telemetry.close()
            report = _ended(config, progress, end)
        except Exception as problem:  # noqa: BLE001 - every end has a report
            report = _report(config, progress, ending.cause_of(problem), ending.message_of(problem))
        ending.write(report, config.report_path)
    return report


def _train(life: _Life) -> End:
    config, plan = life.config, life.config.plan
    with ExitStack() as open_things:
        with life.telemetry.section("init"):
            open_things.enter_context(joined(config))
            dataset = _dataset(config)
            worker = build(plan, config.rank)
            optimiser = optimiser_of(worker, plan)
            tensors = saved_tensors(worker, optimiser)
        loader = _loader(config, worker, dataset)
        open_things.callback(loader.close)
        with life.telemetry.section("load"):
            begun = _load(life, worker, optimiser, tensors)
            loader.fetch(begun.state.step + 1, life.telemetry.progress)
        state, saved = begun.state, begun.saved
        life.progress.step, life.progress.saved_step = state.step, saved.step if saved.manifest else None
        after_fault = config.memory_step is not None
        saver = _saver(life, dataset, saved.manifest, at_once=not after_fault)
        open_things.callback(saver.close, CLOSE_SECONDS)
        if not after_fault:  # then the first step is worth more than a short first save
            saver.prepare(tensors)
        parts = Parts(
            train=TrainStep(plan, worker, optimiser),
            evaluation=Evaluation(plan, worker, loader, loader.sources),
            loader=loader,
            tensors=tensors,
            saver=saver,
            telemetry=life.telemetry,
            changes=ChangeFolder(config.changes) if config.changes else NoChanges(),
            stop=life.flag,
            memory=MemoryTier(config.memory, plan.checkpointing.memory_interval_steps, tensors, saved, saver),
            workers=config.world_size,
            rank=config.rank,
        )
        end = _loop(life, Loop(plan, parts, state))
        with life.telemetry.section("shutdown"):
            _wait(life, saver, stopped=end.stopped)
        return end


def _loop(life: _Life, loop: Loop) -> End:
    try:
        return loop.run()
    finally:
        life.progress.step = loop.state.step


def _wait(life: _Life, saver: CheckpointSaver, *, stopped: bool) -> None:
    """Until the last save is durable; a stop leaves it the bound, less what the process needs to end."""
    config = life.config
    bound = config.stop_seconds * 0.9 if stopped else config.plan.resilience.section_deadlines.save
    try:
        saved = saver.wait(bound)
    finally:
        for outcome in saver.outcomes():
            life.telemetry.outcome(outcome)
    life.progress.saved_step = saved if saved is not None else life.progress.saved_step


def _dataset(config: WorkerConfig) -> Dataset:
    store, key = open_object(config.dataset)
    after_fault = config.memory_step is not None  # which the store, too, may have had a part in
    folder = config.work / "shards"
    return open_dataset(store, key, folder, config.plan, config.dataset_digest, again=after_fault, disk=config.disk)


def _loader(config: WorkerConfig, worker: WorkerModel, dataset: Dataset) -> BlockLoader:
    plan, place = config.plan, worker.place
    order = DataOrder(dataset.manifest.train_blocks, plan.recipe.batch_sequences, plan.data.seed)
    return BlockLoader(dataset, order, place.data_rank, place.data_parallel)


def _load(life: _Life, worker: WorkerModel, optimiser: Optimiser, tensors: list[LocalTensor]) -> Kept:
    """From memory, if so told; else from the newest good checkpoint, or as a fresh run where there is none."""
    config = life.config
    if config.memory is None or config.memory_step is None:
        return _from_store(life, worker, optimiser, tensors)
    kept = fill(config.memory, config.memory_step, tensors)
    optimiser.restored()
    if config.rank == 0:
        Thread(target=_hold_quietly, args=(life,), name="fence", daemon=True).start()
    return kept


def _hold_quietly(life: _Life) -> None:
    """Fence older attempts off; the store may be down, and recovery from memory does not wait for it.

    Whoever writes a manifest asks again before, so that nothing hangs on this one.
    """
    with suppress(StoreError, Fenced):
        hold(life.config.store.open(), life.identity.run, life.config.attempt)


def _from_store(life: _Life, worker: WorkerModel, optimiser: Optimiser, tensors: list[LocalTensor]) -> Kept:
    config, plan = life.config, life.config.plan
    store = config.store.open()
    peers: Peers = Alone() if config.world_size == 1 else GroupPeers()
    if peers.first:
        hold(store, life.identity.run, config.attempt)
    restorer = CheckpointRestorer(
        store, life.identity, plan.architecture, peers=peers, progress=life.telemetry.progress
    )
    restored = restorer.restore(tensors)
    if restored is None:
        initial_values(worker, plan.recipe.seed)
        state = fresh(plan)
        return Kept(state, first_save(state, None))
    optimiser.restored()
    state = resumed(plan, restored.state)
    return Kept(state, first_save(state, restored.lineage_parent))


def _saver(life: _Life, dataset: Dataset, parent: str | None, *, at_once: bool) -> CheckpointSaver:
    plan = life.config.plan
    lineage = life.identity.lineage.model_copy(update={"dataset": dataset.digest, "parent": parent})
    wanted = plan.checkpointing.export and life.config.rank == 0
    export = ExportRequest(tokenizer=str(dataset.tokenizer()) if wanted else None)
    settings = SaveSettings(plan.architecture, life.config.store, plan.checkpointing, export=export, at_once=at_once)
    return CheckpointSaver(replace(life.identity, lineage=lineage), settings)


def _lineage(config: WorkerConfig) -> Lineage:
    return Lineage(code_version=version("opt-operator"), plan=config.plan.digest(), identity=config.plan.identity)


def _settle(config: WorkerConfig) -> None:
    """Threads and determinism. On CUDA atomic sums are off, so that a resumed run is bit-equal there, too."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.plan.layout.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(True)


def _ended(config: WorkerConfig, progress: _Progress, end: End) -> ExitReport:
    total = config.plan.recipe.total_steps
    if end.stopped:
        return _report(config, progress, "Stopped", f"asked to stop after step {end.state.step} of {total}")
    return _report(config, progress, "Completed", f"all {total} steps are done")


def _report(config: WorkerConfig, progress: _Progress, cause: ExitCause, message: str) -> ExitReport:
    return ExitReport(
        cause=cause,
        message=message,
        attempt=config.attempt,
        rank=config.rank,
        step=progress.step,
        saved_step=progress.saved_step,
    )


def _end_now(config: WorkerConfig, progress: _Progress) -> None:
    """The bound of a stop is over: report, and end without cleaning up."""
    message = f"asked to stop, and did not end within {config.stop_seconds:.0f} s; the step under way is lost"
    ending.write(_report(config, progress, "Stopped", message), config.report_path)
    os._exit(EXIT_CODES["Stopped"])
