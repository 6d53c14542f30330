"""From a training's spec to its plan."""

from __future__ import annotations

from opt_api.architecture import Architecture
from opt_api.documents.plan import EvaluationPlan, LayoutPlan, Plan, PrecisionPlan, RecipePlan
from opt_api.estimate.layouts import Case
from opt_api.resolve.architecture import resolve_architecture
from opt_api.resolve.checkpointing import resolve_checkpointing
from opt_api.resolve.errors import Findings
from opt_api.resolve.identity import identity_digest
from opt_api.resolve.layout import resolve_layout, runs
from opt_api.resolve.recipe import resolve_recipe
from opt_api.resources import OPTTraining
from opt_api.training.spec import OPTTrainingSpec

EVALUATION_INTERVAL = 2000
"""Steps between validations in the released training code."""


def resolve(training: OPTTraining, hosts: int | None = None) -> Plan:
    """The plan of a training: every number filled in. Pure; equal specs give equal bytes on every machine.

    Args:
        training: the resource.
        hosts: size of a gang other than `parallelism.hosts`, such as what is left of it; the identity stays.

    Raises:
        PlanError: the spec cannot run; carries every reason that could be found in one pass.
    """
    if hosts is not None:
        training = _with_hosts(training, hosts)
    findings = Findings()
    architecture, recipe, layout = _resolve(training.spec, findings)
    findings.raise_if_any()
    assert architecture is not None
    assert recipe is not None
    assert layout is not None
    return _assemble(training, architecture, recipe, layout)


def gang_sizes(training: OPTTraining) -> tuple[int, ...]:
    """Numbers of hosts that a gang may have, from `resilience.minHosts` to `parallelism.hosts`, smallest first.

    Raises:
        PlanError: as `resolve`; not even the full gang can run.
    """
    full = resolve(training)
    spec = training.spec
    case = case_of(spec, full.architecture, full.recipe)
    sizes = range(spec.resilience.min_hosts or full.layout.hosts, full.layout.hosts + 1)
    return tuple(size for size in sizes if size == full.layout.hosts or runs(_with_hosts(training, size).spec, case))


def _with_hosts(training: OPTTraining, hosts: int) -> OPTTraining:
    """The same training on a gang of another size; a given pass size is given up, as shares change."""
    changed = training.spec.parallelism.model_copy(update={"hosts": hosts, "micro_batch_sequences": None})
    return training.model_copy(update={"spec": training.spec.model_copy(update={"parallelism": changed})})


def _resolve(
    spec: OPTTrainingSpec, findings: Findings
) -> tuple[Architecture | None, RecipePlan | None, LayoutPlan | None]:
    architecture = resolve_architecture(spec, findings)
    recipe_findings = Findings()
    recipe = resolve_recipe(spec, recipe_findings)
    findings.extend(recipe_findings)
    if architecture is None or recipe is None:
        return architecture, recipe, None
    return architecture, recipe, resolve_layout(spec, case_of(spec, architecture, recipe), findings)


def case_of(spec: OPTTrainingSpec, architecture: Architecture, recipe: RecipePlan) -> Case:
    """What decides whether a layout fits."""
    return Case(
        architecture,
        spec.precision.compute,
        spec.data.sequence_length,
        recipe.batch_sequences,
        spec.pods.resources.memory,
        spec.checkpointing.memory_tier,
    )


def _assemble(training: OPTTraining, architecture: Architecture, recipe: RecipePlan, layout: LayoutPlan) -> Plan:
    spec, floor_ratio = training.spec, training.spec.optimisation.min_learning_rate_ratio
    precision = _precision(spec)
    return Plan(
        name=training.metadata.name,
        namespace=training.metadata.namespace,
        identity=identity_digest(architecture, spec.data, recipe, precision, floor_ratio),
        architecture=architecture,
        sequence_length=spec.data.sequence_length,
        data=spec.data,
        recipe=recipe,
        layout=layout,
        precision=precision,
        checkpointing=resolve_checkpointing(spec.checkpointing),
        resilience=spec.resilience,
        evaluation=_evaluation(spec),
        energy=spec.energy,
        storage=spec.storage,
        until=spec.until,
        skip_batches=spec.data.skip_batches,
        min_learning_rate_ratio=floor_ratio,
    )


def _precision(spec: OPTTrainingSpec) -> PrecisionPlan:
    scaled = spec.precision.compute == "float16"
    return PrecisionPlan(compute=spec.precision.compute, loss_scale=spec.precision.loss_scale if scaled else None)


def _evaluation(spec: OPTTrainingSpec) -> EvaluationPlan:
    e = spec.evaluation
    return EvaluationPlan(interval_steps=e.interval_steps or EVALUATION_INTERVAL, max_batches=e.max_batches)
