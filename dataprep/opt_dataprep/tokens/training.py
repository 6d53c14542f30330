"""Learning a vocabulary from a sample of the documents, with OPT's special ids."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import tokenizers

from opt_dataprep.tokens.vocabulary import SPECIAL, Vocabulary


def train_vocabulary(texts: Iterator[str], size: int) -> Vocabulary:
    """Learn at most `size` tokens; the same texts in the same order give the same vocabulary."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return Vocabulary(dict(model["vocab"]), [(a, b) for a, b in model["merges"]])
