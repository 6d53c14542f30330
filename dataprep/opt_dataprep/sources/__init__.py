"""Readers: from source objects to raw documents, each with its place in its object."""

from opt_dataprep.sources.document import Oversized, Rejected, SourceDocument
from opt_dataprep.sources.reading import read_part

__all__ = ["Oversized", "Rejected", "SourceDocument", "read_part"]
