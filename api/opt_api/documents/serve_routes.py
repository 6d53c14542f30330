"""Where the gateway of a served model sends requests: written by the operator, read by every gateway."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model
from opt_api.documents.base import Document
from opt_api.types import Digest, LongWhole, Name, ShortText, Text, Whole


class Route(Model):
    """One revision: a checkpoint, served in one way."""

    revision: Name
    weight: Annotated[Whole, Field(le=1_000_000)]
    """Share of new requests among all weights; a revision of weight 0 gets none."""
    step: LongWhole | None = None
    digest: Digest | None = None
    uri: Text | None = None
    endpoints: Annotated[tuple[ShortText, ...], Field(max_length=2000)] = ()
    """`address:port` of its replicas, ready or not."""


class ServeRoutes(Document):
    """The newest generation counts, however a gateway comes by it."""

    kind: Literal["ServeRoutes"] = "ServeRoutes"
    version: Literal[1] = 1
    generation: LongWhole
    model_name: ShortText
    replicas: Whole = 0
    """How many replicas are wanted; 0 while the model sleeps."""
    routes: Annotated[tuple[Route, ...], Field(max_length=32)] = ()
