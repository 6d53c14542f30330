"""What the model is trained on: raw text by URI, and how it becomes blocks of tokens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model, Rule, changes, exactly_one
from opt_api.lists import Unique
from opt_api.types import Count, Digest, Fraction, LongCount, LongWhole, Name, Positive, SourceUri, Whole

SourceFormat = Literal["auto", "jsonl", "parquet", "arrow", "text"]
"""`text` reads whole files as documents, manual pages (roff, gzipped) included."""
Normalisation = Literal["utf8", "unicode-nfc", "whitespace", "man"]


class Source(Model):
    """One named body of text."""

    name: Name
    """Name of the source in manifests, counters and validation losses."""
    uri: SourceUri
    """File, folder or prefix: `file:///...` (in the pod's image or volume) or `s3://bucket/prefix`."""
    format: SourceFormat = "auto"
    """How documents are framed; `auto` goes by the file name."""
    text_field: Name = "text"
    """Column or JSON key that holds the text."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How often a document of this source is seen in one epoch, relative to once; fractions take a fixed sample."""
    normalisation: Annotated[tuple[Normalisation, ...], Field(max_length=8)] | None = None
    """Normalisation of this source; the data set's when absent."""
    pattern: Annotated[str, Field(min_length=1, max_length=256)] = "**"
    """Glob below a folder or prefix."""


class QualityRules(Model):
    """Document rules after Gopher (arXiv 2112.11446, table A1). Absent rules do not run; each counts its drops."""

    min_words: Whole | None = None
    max_words: Count | None = None
    min_mean_word_length: Positive | None = None
    max_mean_word_length: Positive | None = None
    max_symbol_to_word_ratio: Fraction | None = None
    max_bullet_line_ratio: Fraction | None = None
    max_ellipsis_line_ratio: Fraction | None = None
    min_alphabetic_word_ratio: Fraction | None = None
    min_stop_words: Whole | None = None
    max_duplicate_line_ratio: Fraction | None = None
    max_document_bytes: LongCount = 100_000_000
    """Longer documents are dropped and counted, so that one line cannot take a worker's memory."""


class LanguageRule(Model):
    """Keep documents that look like one language, by stop words and script; no model is downloaded."""

    language: Literal["en"] = "en"
    min_score: Fraction = 0.5
    """Share of evidence needed: stop-word rate and share of letters in the language's script."""


class NearDuplicates(Model):
    """MinHash-LSH with exact verification. The paper gives the threshold only; the rest is declared here."""

    threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.95
    """Jaccard similarity of shingle sets from which on documents are duplicates (arXiv 2205.01068, 2.3)."""
    shingle_words: Annotated[Count, Field(le=32)] = 5
    bands: Annotated[Count, Field(le=64)] = 8
    rows: Annotated[Count, Field(le=64)] = 16


class Deduplication(Model):
    """What counts as the same document, across all sources."""

    exact: bool = True
    """Drop documents whose normalised text is byte-equal (xxh3-128)."""
    near: NearDuplicates = Field(default_factory=NearDuplicates)
    near_enabled: bool = True
    """Off switch of the near-duplicate step."""


class TrainedTokenizer(Model):
    """A byte-level BPE learned from the data, with OPT's four special ids; for small runs."""

    vocabulary_size: Annotated[Count, Field(ge=260, le=65536)]
    sample_bytes: LongCount = 100_000_000
    """How much normalised text it learns from."""


class TokenizerFiles(Model):
    """OPT's own vocabulary, or one in the same two-file format."""

    vocab_uri: SourceUri
    """vocab.json: token to id, OPT's order (ids 0-3 special)."""
    merges_uri: SourceUri
    """merges.txt of the same vocabulary."""
    vocab_digest: Digest | None = None
    """When given, the file must have this digest."""
    merges_digest: Digest | None = None


class Tokenizer(Model):
    """Where the vocabulary comes from."""

    files: TokenizerFiles | None = None
    train: TrainedTokenizer | None = None

    rules = (exactly_one("files", "train"),)


class Validation(Model):
    """The part held out, in proportion to the size of each source (OPT: 200 MB)."""

    max_bytes: LongWhole = 200_000_000
    """Upper bound of held-out text; 0 holds nothing out."""
    fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.001
    """Share of documents held out, below the bound."""


class BatchRange(Model):
    """Optimiser steps whose batches are left out, both ends included."""

    first: LongCount
    last: LongCount

    rules = (Rule("last", "must not be before first", "self.last >= self.first", lambda r: r.last >= r.first),)


class DataSpec(Model):
    """From raw text to training blocks, or a data set that is already there."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1, max_length=64), Unique("name")] | None = None
    """Raw text; prepared once, found again by digest."""
    dataset: SourceUri | None = None
    """A finished data set's manifest; nothing is prepared."""
    normalisation: Annotated[tuple[Normalisation, ...], Field(max_length=8)] = ("utf8", "whitespace")
    quality: QualityRules = Field(default_factory=QualityRules)
    language: LanguageRule | None = None
    deduplication: Deduplication = Field(default_factory=Deduplication)
    tokenizer: Tokenizer | None = None
    """Needed with sources; a finished data set carries its own."""
    sequence_length: Annotated[Count, Field(ge=8, le=131072)] = 2048
    """Tokens a block predicts."""
    validation: Validation = Field(default_factory=Validation)
    seed: Whole = 1
    """Seed of the shuffle and of the held-out choice."""
    part_bytes: Annotated[LongCount, Field(ge=1 << 20)] = 134217728
    """Size of one unit of preparation work; the number of workers may change between tries."""
    workers: Annotated[Count, Field(le=4096)] = changes("attempt", default=2)
    """Preparation workers at a time."""
    skip_batches: Annotated[tuple[BatchRange, ...], Field(max_length=256)] = changes("step", default=())
    """Batches never trained on; may be changed while running, for steps still to come."""

    rules = (
        exactly_one("sources", "dataset"),
        Rule(
            "tokenizer",
            "is needed with sources",
            "!has(self.sources) || has(self.tokenizer)",
            lambda d: d.sources is None or d.tokenizer is not None,
        ),
    )
