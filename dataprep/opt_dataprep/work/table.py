"""All stages in order: what the local driver runs, and what Indexed Jobs are made from."""

from __future__ import annotations

from opt_dataprep.dedup.bands_stage import BANDS_STAGE
from opt_dataprep.dedup.cluster_stage import CLUSTER
from opt_dataprep.dedup.drops import DROPS_STAGE
from opt_dataprep.dedup.exact import EXACT
from opt_dataprep.dedup.shingle_stage import SHINGLE
from opt_dataprep.dedup.sketch_stage import SKETCH
from opt_dataprep.dedup.verify_stage import VERIFY
from opt_dataprep.manifest_stage import MANIFEST
from opt_dataprep.packing.scatter_stage import SCATTER
from opt_dataprep.packing.select_stage import SELECT
from opt_dataprep.packing.shard_stages import SHARDS, VALIDATION
from opt_dataprep.report import REPORT
from opt_dataprep.steps.read_stage import READ
from opt_dataprep.tokens.tokenise_stage import TOKENISE
from opt_dataprep.tokens.tokenizer_stage import TOKENIZER
from opt_dataprep.work.results import register
from opt_dataprep.work.stage import Stage

STAGES: tuple[Stage, ...] = (
    READ,
    EXACT,
    SKETCH,
    BANDS_STAGE,
    CLUSTER,
    SHINGLE,
    VERIFY,
    DROPS_STAGE,
    TOKENIZER,
    TOKENISE,
    SELECT,
    SCATTER,
    SHARDS,
    VALIDATION,
    REPORT,
    MANIFEST,
)
register(*STAGES)
BY_NAME = {stage.name: stage for stage in STAGES}
