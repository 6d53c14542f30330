"""The rule of `decide` for a run that diverges: first the re-run, then the policy's acts."""

from __future__ import annotations

from opt_runtime.core.actions import Decision, Note, Pause, RememberFailure, Restore, StartAttempt
from opt_runtime.core.detect import lost_hosts
from opt_runtime.core.divergence import GiveUp, intervene, judge_rerun
from opt_runtime.core.placement import from_memory
from opt_runtime.core.snapshot import DivergenceView, GangSnapshot


def on_divergence(snapshot: GangSnapshot) -> Decision | None:
    """What the divergence policy wants; None while it wants nothing, or while hosts have to be recovered first."""
    view = snapshot.divergence
    if view is None or not snapshot.policy.divergence.enabled or lost_hosts(snapshot):
        return None
    if view.rerun == "running":
        return None
    if view.rerun == "done" and judge_rerun(view.first_loss, view.again_loss):
        words = f"run again from the same state it gave {view.again_loss} and not {view.first_loss}"
        return Decision((Note("SilentCorruption", (view.trigger.evidence, words)),))
    if view.rerun == "none" and snapshot.policy.divergence.rerun_first and (again := _rerun(snapshot, view)):
        return Decision((again,))
    return _intervention(snapshot, view)


def _rerun(snapshot: GangSnapshot, view: DivergenceView) -> StartAttempt | None:
    """The step once more from memory; None if the state before it is no longer there."""
    restore = from_memory(snapshot, step=view.trigger.step - 1)
    if restore is None:
        return None
    words = (view.trigger.evidence, f"step {view.trigger.step} is run once more to tell hardware from data")
    return StartAttempt(snapshot.attempt + 1, snapshot.gang, restore, 1, view.trigger.cause, words)


def _intervention(snapshot: GangSnapshot, view: DivergenceView) -> Decision:
    act = intervene(
        view.trigger,
        snapshot.policy.divergence,
        view.values,
        view.checkpoints,
        view.activations,
        view.past_steps,
    )
    remember = RememberFailure(view.trigger.cause, view.trigger.step)
    if isinstance(act, GiveUp):
        return Decision((remember, Pause(act.cause, act.evidence)))
    start = StartAttempt(
        snapshot.attempt + 1,
        snapshot.gang,
        Restore(act.to_step),
        3,
        act.cause,
        act.evidence,
        values=act.values,
        changes=act.changes,
        poison_after=act.to_step,
    )
    return Decision((remember, start))
