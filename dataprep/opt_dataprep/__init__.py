"""Raw text to verified, deduplicated, packed training shards."""
