"""What every rule of a served model is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from opt_api.resources import OPTServe
from opt_api.serving.spec import OPTServeSpec
from opt_api.serving.status import OPTServeStatus, ServedCheckpoint
from opt_operator.core.builders.common import Parent
from opt_operator.core.serving.builders.common import Blueprint
from opt_operator.core.serving.builders.replicas import revision_of
from opt_operator.core.serving.snapshot import ServeSnapshot

Update = dict[str, Any]
"""Fields of the status that change."""


@dataclass(frozen=True)
class Case:
    """A served model that holds to its schema."""

    snapshot: ServeSnapshot
    serve: OPTServe

    @property
    def spec(self) -> OPTServeSpec:
        """Of the resource."""
        return self.serve.spec

    @property
    def status(self) -> OPTServeStatus:
        """What we wrote last."""
        return self.snapshot.status

    @cached_property
    def made(self) -> Blueprint:
        """What its objects are built from."""
        snapshot, spec = self.snapshot, self.spec
        assert snapshot.resource is not None
        key, settings = snapshot.key, snapshot.settings
        parent = Parent(key.name, key.namespace, snapshot.resource.metadata.uid, spec.pods, key.kind)
        own = spec.pods.image
        if spec.engine.name == "vllm":
            engine, image = own or settings.vllm_image, settings.serving_image
        else:
            engine = image = own or settings.serving_image
        return Blueprint(parent, self.serve, image, engine, snapshot.storage)

    @property
    def wanted(self) -> int:
        """Replicas asked for, as it was last written."""
        found = self.status.wanted_replicas
        return self.spec.replicas if found is None else found

    def revision(self, checkpoint: ServedCheckpoint) -> str:
        """How it would be called under the specification as it is now."""
        return revision_of(self.made, checkpoint)

    def as_served(self, checkpoint: ServedCheckpoint) -> ServedCheckpoint:
        """The same, under its name of now."""
        return checkpoint.model_copy(update={"revision": self.revision(checkpoint)})
