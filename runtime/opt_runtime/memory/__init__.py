"""The first tier of checkpoints: the newest steps of every rank, in memory that outlives the workers."""
