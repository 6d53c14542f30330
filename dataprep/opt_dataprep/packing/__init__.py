"""From documents of tokens to blocks in a fixed order, in shards."""
