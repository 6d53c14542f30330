"""The two resources as they stand in a file: apiVersion, kind, metadata, spec, status."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from opt_api.base import Model, changes
from opt_api.serving.spec import OPTServeSpec
from opt_api.serving.status import OPTServeStatus
from opt_api.training.spec import OPTTrainingSpec
from opt_api.training.status import OPTTrainingStatus
from opt_api.types import AnnotationKey, Label, LabelKey, LabelValue, LongWhole, ObjectName


class ObjectMeta(Model):
    """The part of Kubernetes' metadata that we read; the rest passes through untouched."""

    model_config = ConfigDict(extra="ignore")

    name: ObjectName
    namespace: Label = "default"
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    annotations: dict[AnnotationKey, str] = Field(default_factory=dict)
    uid: str = ""
    generation: LongWhole = 0
    resource_version: str = ""


class OPTTraining(Model):
    """A training: from raw text to a trained, evaluated model."""

    plural: ClassVar[str] = "opttrainings"
    short_names: ClassVar[tuple[str, ...]] = ("optt",)

    api_version: Literal["opt-operator.io/v1alpha1"]
    kind: Literal["OPTTraining"]
    metadata: ObjectMeta
    spec: OPTTrainingSpec
    status: OPTTrainingStatus | None = None


class OPTServe(Model):
    """A served model that follows its training."""

    plural: ClassVar[str] = "optserves"
    short_names: ClassVar[tuple[str, ...]] = ("opts",)

    api_version: Literal["opt-operator.io/v1alpha1"]
    kind: Literal["OPTServe"]
    metadata: ObjectMeta
    spec: OPTServeSpec = changes("roll")
    status: OPTServeStatus | None = None


Resource = OPTTraining | OPTServe
KINDS: dict[str, type[OPTTraining] | type[OPTServe]] = {"OPTTraining": OPTTraining, "OPTServe": OPTServe}
